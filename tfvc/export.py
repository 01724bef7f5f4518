"""A finished run as a SavedModel that serves without this package."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys

from tfvc import cli, encoders, evaluate, extract, files, second_stage, signatures, workdir

_DOC = """Exports a run as a SavedModel under <workdir>/export, for TensorFlow Serving or plain TensorFlow.

Signatures: serving_default (features), serialized (records), frames (uint8 RGB pictures and, where the
model hears or reads, samples and texts, the networks inside; a run on YouTube-8M's records has none).
Each gives probabilities and class names, and final labels where clips have several of them. It is loaded
again in a process that has no tfvc, and must give the same numbers. README.md there is the model card,
assets.extra/recipe.json the run's recipe."""

_TOLERANCE = 1e-5
_OURS = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", "README.md"}
CLIPS = 4  # clips compared

# Runs where tfvc cannot be imported: a path, each signature's inputs in a folder, the outputs into the same.
_RELOAD = """
import sys
sys.modules["tfvc"] = None  # importing it fails, even where it is installed
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import numpy as np
import tensorflow as tf
folder = sys.argv[2]
loaded = tf.saved_model.load(sys.argv[1])
for name, function in loaded.signatures.items():
    path = os.path.join(folder, name)
    if os.path.exists(path + ".npz"):
        with np.load(path + ".npz", allow_pickle=False) as file:
            value = {key: tf.convert_to_tensor(file[key]) for key in file.files}
    else:  # strings: NumPy would cut zeros off their ends
        value = {"examples": tf.data.TFRecordDataset(path).batch(1 << 20).get_single_element()}
    result = function(**value)
    classes = [c.decode() for c in result.pop("classes").numpy()]
    np.savez(path + ".out", **{key: v.numpy() for key, v in result.items() if v.dtype != tf.string})
assert not [name for name in sys.modules if name.startswith("tfvc.")]
print("\\n".join(classes))
"""


def export(run_folder):
    """Exports a run, loads it again elsewhere and compares.

    The SavedModel's signatures, for T frames a clip:

    - `serving_default`: the streams by name, `frames` (N, T, D) and, where the model hears, `audio`
      (N, T, ...), as extracted, zero rows behind a short clip. A missing stream is all zeros.
    - `serialized`: `examples` (N,) strings, records of `tfvc.data.schema`; gives `ids` besides.
    - `frames`: `frames` uint8 (N, T, height, width, 3), RGB, or (N, T * fps, ...) where a row is a second's
      mean (fill the last second up with its last frame). Black frames at the end of a clip are taken for
      padding, as a clip of fewer than T rows must be filled up with something (of data.sampling=even only
      where all are black: such clips have T pictures, or none). Where the model hears, also
      `samples` float32 (N, T, 15600): of each second at 16 kHz the first samples, in [-1, 1]; a second of
      zeros at the end is taken for padding. With SoundNet `samples` are float32 (N, S), whole clips at
      22,050 Hz, zeros behind. Where the model reads, also `text` (N,) strings, cleaned and looked up inside.
      The signature bears the name of its first input: `samples` or `text` where no picture is taken.

    Each gives `probabilities` (N, C) float32, `classes` (C,) strings, and what else the model gives, as
    `scores`; where clips have several labels, or a second stage decides, `labels` (N, C) int32 and
    `label_scores` (N, C). `assets/classes.txt` holds the classes too, `assets.extra` the run's recipe.json
    and the files of its second stage (`tfvc.estimators.store` loads them), `README.md` is the model card. Of
    a run on YouTube-8M's records the signatures are those of `tfvc.yt8m.export`.

    Returns:
        Path of the SavedModel.

    Raises:
        ValueError: the reloaded model differs by more than 1e-5, and an earlier export stays; another
            process is exporting this run.
        FileNotFoundError: no run there, or one that has not finished.
    """
    run = workdir.load(run_folder)
    if run.facts.kind == "yt8m":
        from tfvc.yt8m import export as of_records

        return of_records.export(run)
    model = portable(run.model())
    networks = None if encoders.ready_made(run) else encoders.of_run(run)
    return write(
        run,
        lambda path: save_model(path, run, signatures.served(run, model, networks)),
        lambda path: _compare(path, run, model, networks),
    )


def write(run, save, compare):
    """Writes an export that has been compared, with its card, into `<run>/export`; else an earlier one stays.

    Args:
        run: `tfvc.workdir.Run`.
        save: function of a path that writes the SavedModel there.
        compare: function of that path: each signature's largest difference after reloading.

    Returns:
        Path of the export.

    Raises:
        ValueError: a difference of more than 1e-5; another process is exporting this run; a damaged
            metrics.json.
    """
    from tfvc import card  # with the downloader's table of licences

    run.metrics()  # of the card, which is written last: what is damaged is told before minutes of work
    target = run.path / "export"
    with files.locked(target, "writing"):
        files.sweep(target.parent, target.name)
        _check_ours(target)
        with files.aside(target) as temporary:
            save(temporary)
            worst = compare(temporary)
            _check(target, worst)
            card.write(temporary, run, worst)
    print(f"exported: {files.shown(target)}")
    return target


def _check_ours(target):
    """An export is replaced as a whole: what else lies in its place would be lost."""
    strange = {path.name for path in target.iterdir()} - _OURS if target.is_dir() else {""}
    if strange and target.exists():
        raise ValueError(f"{target / min(strange)}: is of no export, and would be lost; move it away first")


def _check(target, worst):
    """Refuses an export that differs too much; `worst` has each signature's largest difference."""
    for name, difference in worst.items():
        print(f"{name}: reloaded without tfvc, maximum difference {difference:.2e}")
    far = {name: difference for name, difference in worst.items() if not difference <= _TOLERANCE}
    if far:
        name, difference = max(far.items(), key=lambda pair: pair[1])
        raise ValueError(
            f"{target}: signature {name} differs by {difference:.2e} after reloading; expected at most "
            f"{_TOLERANCE:g}; nothing was exported"
        )


def portable(model):
    """Keeps cuDNN's own kernels out of a model: traced where a GPU is, they would not run where none is."""
    for layer in model.layers:
        for part in (layer, getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)):
            if hasattr(part, "use_cudnn"):
                part.use_cudnn = False
    return model


def save_model(path, run, functions):
    """Writes the SavedModel of what `signatures.served` gives, with the run's classes and recipe."""
    import tensorflow as tf

    module = functions.pop("module")
    with files.scratch() as folder:
        listing = folder / "classes.txt"
        listing.write_text("\n".join(run.facts.classes) + "\n", encoding="utf-8")
        module.classes_file = tf.saved_model.Asset(str(listing))
        tf.saved_model.save(module, str(path), signatures=functions)
    (path / "assets.extra").mkdir()
    for file in (run.path / "recipe.json", *second_stage.files_of(run)):
        shutil.copyfile(file, path / "assets.extra" / file.name)


def _compare(path, run, model, networks):
    """Largest difference of each signature, reloaded elsewhere, from model and networks in this process."""
    import numpy as np

    records, features, ids = _records(run)
    given = {"serving_default": features, "serialized": {"examples": records}}
    decision = second_stage.decide(run, model) if second_stage.decides(run) else None
    expected = {"serving_default": _answer(model, decision, features)}
    expected["serialized"] = expected["serving_default"]
    shapes = signatures.raw_shapes(run)
    if signatures.takes_clips(networks):
        raw, real = _raw(run, networks, shapes, ids)
        seen = _seen(networks, raw["frames"]) if "frames" in raw else [()] * len(real)
        inputs = {row.name: np.zeros((len(real), *row.shape), row.dtype) for row in run.facts.features}
        for k, one in enumerate(real):  # as extraction makes them
            for name, value in networks.features(_encoded(networks, one, seen[k])).items():
                inputs[name][k, : len(value)] = value
        if "frames" in raw and run.recipe.data.channel_order == "bgr":
            raw["frames"] = raw["frames"][..., ::-1]  # the signature takes RGB
        given[next(iter(shapes))] = {name: np.ascontiguousarray(value) for name, value in raw.items()}
        expected[next(iter(shapes))] = _answer(model, decision, inputs)
    return differences(path, run, given, expected)


def _answer(model, decision, inputs):
    """What the model gives, as a graph: in half precision operation by operation is another rounding.

    And what the run decides (None: nothing), by scikit-learn, where the export does so by layers.
    """
    import tensorflow as tf

    answer = tf.function(lambda given: workdir.outputs_of(model, given), autograph=False)
    found = {name: value.numpy() for name, value in answer(inputs).items()}
    if decision:
        found["labels"], found["label_scores"] = decision(inputs)
    return found


def _seen(networks, frames):
    """Each clip's frames through the network, padding and all, of all clips at once as in the signature: in
    half precision the rounding depends on how many go together."""
    rows = networks.pictures.encode(frames.reshape(-1, *frames.shape[2:]), at_once=True)
    return rows.reshape(*frames.shape[:2], *rows.shape[1:])


def _encoded(networks, one, seen):
    """A clip's real frames, samples and text through the networks, as `ahead.encode_all` hands them on.

    `seen`: its frames are through already, with padding behind.
    """
    from types import SimpleNamespace

    from tfvc.data import ahead

    found = ahead.Encoded(0)
    if "frames" in one:
        found.rows = list(seen[: len(one["frames"])])
    if len(one.get("samples", ())):
        found.sound = networks.heard(SimpleNamespace(pieces=one["samples"], samples=one["samples"]))
    if networks.words:
        found.text = networks.words.rows(one.get("text", ""))
    return found


def differences(path, run, given, expected):
    """Each signature's largest difference from what is expected, reloaded in a process without tfvc.

    Args:
        path: of the SavedModel.
        run: whose classes it must name.
        given: signature -> inputs by name: arrays, or under `examples` a list of bytes.
        expected: signature -> outputs by name, `probabilities` and whatever else the model gives.

    Raises:
        ValueError: it cannot be loaded there, or names other classes.
    """
    import numpy as np
    import tensorflow as tf

    with files.scratch() as folder:
        for name, inputs in given.items():
            if "examples" not in inputs:
                np.savez(f"{folder}/{name}.npz", **inputs)
                continue
            with tf.io.TFRecordWriter(f"{folder}/{name}") as writer:
                for record in inputs["examples"]:
                    writer.write(record)
        command = [sys.executable, "-I", "-c", _RELOAD, str(path.absolute()), str(folder)]
        # On the processor: this process may hold all of a GPU's memory.
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{path}: cannot be loaded in a process without tfvc: {last}")
        if done.stdout.splitlines()[-len(run.facts.classes) :] != list(run.facts.classes):
            raise ValueError(f"{path}: the reloaded model names other classes than the run")
        return {name: _largest(f"{folder}/{name}.out.npz", outputs) for name, outputs in expected.items()}


def _largest(path, outputs):
    """The largest difference of any output from those of a file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as found:
        return max(float(np.max(np.abs(found[key] - value))) for key, value in outputs.items())


def _records(run):
    """A few of the test part's records: serialised, parsed, and their ids."""
    from tfvc.data import pipeline, raw, schema, shards

    folder, split, rows = evaluate.run_records(run), run.split(), run.facts.features
    wanted = set((split.get("test") or split.get("validation") or split["train"])[:CLIPS])
    manifest = shards.read_manifest(folder)
    used = [shard for shard in manifest.shards if any(r["id"] in wanted for r in shard["records"])]
    records, ids = [], []
    with pipeline.readable(folder):
        for shard in used:
            stored = raw.untuned(raw.stored(str(folder / shard["file"]), ""))
            for entry, record in zip(shard["records"], stored.as_numpy_iterator(), strict=True):
                if entry["id"] in wanted:
                    records.append(record)
                    ids.append(entry["id"])
    # The records' own classes: their labels may be numbered otherwise, and are not asked for here.
    inputs, *_ = schema.parse_batch(records, rows, len(manifest.classes), run.facts.multi_label)
    return records, {name: value.numpy() for name, value in inputs.items()}, ids


def _raw(run, networks, shapes, ids):
    """Inputs of the raw signature, padded, and of each clip what of them is real."""
    import numpy as np

    try:
        found = _clips(run, networks, shapes, ids)
        reason = "only its records are here"
    except (OSError, ValueError) as error:
        found, reason = [], error
    if not found:
        name = next(iter(shapes))
        print(
            f"the videos of this run cannot be read ({reason}); signature {name} is compared on drawn clips"
        )
        rng = np.random.default_rng(0)
        draw = {
            "frames": lambda s: rng.integers(0, 256, s, "uint8"),
            "samples": lambda s: rng.normal(0, 0.1, [n or 5 * 22050 for n in s]).astype("float32"),
            "text": lambda s: " ".join(run.facts.vocabulary[:3]) or "water",
        }
        found = [{name: draw[name](shape) for name, (shape, _) in shapes.items()}] * 2
    raw, real = {}, [{} for _ in found]
    for name, (shape, dtype) in shapes.items():
        if name == "text":
            raw[name] = np.array([clip.get(name, "") for clip in found])
            continue
        # Only whole sounds have no length of their own: the longest counts.
        longest = [n or max(len(clip.get(name, ())) for clip in found) for n in shape]
        raw[name] = np.zeros((len(found), *longest), dtype)
    for k, clip in enumerate(found):
        for name, value in clip.items():
            if name == "text":
                real[k][name] = value
                continue
            raw[name][k, : len(value)] = value
            lit = np.flatnonzero(value.any(axis=tuple(range(1, value.ndim))))
            # Black frames and silent seconds at the end are padding; of evenly spaced ones all are real.
            last = lit.max(initial=-1) + 1
            if name == "frames":  # a row of several frames is real as a whole
                even = run.recipe.data.sampling == "even"
                last = len(value) if even else last + -last % encoders.frames_per_row(run.recipe)
            real[k][name] = value[: last if len(lit) else 0]
    return raw, real


def _clips(run, networks, shapes, ids):
    """The frames, samples and texts of those of some clips that can be found."""
    import numpy as np

    from tfvc.data import audio, datasets, video

    dataset = datasets.load(run.recipe.data, run.facts.source)
    there = {clip.id: clip for clip in dataset.clips}
    found = []
    for path, text in ((there[id].path, there[id].text) for id in ids if id in there):
        clip = {"text": text} if "text" in shapes else {}
        track = networks.track(shapes["samples"][0][0] or 0) if "samples" in shapes else None
        if "frames" in shapes:
            options = extract.decode_options(run.recipe, shapes["frames"][0][0])
            with contextlib.suppress(video.MediaError):  # a clip of sound alone
                frames = [frame for _, frame in video.iter_frames(path, **options, track=track)]
                short = -len(frames) % encoders.frames_per_row(run.recipe)
                clip["frames"] = np.stack(frames + frames[-1:] * short)
        elif track:
            audio.read_track(path, track, max_seconds=run.recipe.data.max_seconds)
        if track and not track.reason:
            clip["samples"] = track.samples if run.recipe.audio.name == "soundnet" else track.pieces
        found += [clip] if clip else []
    return found


def main(argv=None):
    def run(arguments):
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # compared to 1e-5, with a process on the processor
        path = export(arguments.workdir)
        print(f"try: saved_model_cli show --dir {shlex.quote(files.shown(path))} --all")

    cli.command("tfvc.export", _DOC, ("workdir",), run, argv)


if __name__ == "__main__":
    main()
