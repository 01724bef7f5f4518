"""A finished run as a SavedModel that serves without this package."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tfvc import cli, evaluate, extract, files, workdir

_DOC = """Exports a run as a SavedModel under <workdir>/export, for TensorFlow Serving or plain TensorFlow.

Signatures: serving_default (features), serialized (records), frames (uint8 RGB pictures, the backbone
inside; a run on YouTube-8M's records has none). Each gives probabilities and class names. It is loaded again
in a process that has no tfvc, and must give the same numbers."""

_TOLERANCE = 1e-5
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
    np.save(path + ".npy", result["probabilities"].numpy(), allow_pickle=False)
    classes = [c.decode() for c in result["classes"].numpy()]
assert not [name for name in sys.modules if name.startswith("tfvc.")]
print("\\n".join(classes))
"""


def export(run_folder):
    """Exports a run, loads it again elsewhere and compares.

    The SavedModel's signatures, for T frames a clip:

    - `serving_default`: `frames` (N, T, D) as extracted, zero frames behind a short clip.
    - `serialized`: `examples` (N,) strings, records of `tfvc.data.schema`; gives `ids` besides.
    - `frames`: `frames` uint8 (N, T, height, width, 3), RGB. Black frames at the end of a clip are taken
      for padding, as a clip of fewer than T frames must be filled up with something.

    Each gives `probabilities` (N, C) float32 and `classes` (C,) strings. `assets/classes.txt` holds the
    classes too, `assets.extra/recipe.json` the run's recipe. Of a run on YouTube-8M's records the signatures
    are those of `tfvc.yt8m.export`.

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
    model, encoder = portable(run.model()), extract.run_encoder(run)
    return write(
        run.path / "export",
        lambda path: _save(path, run, model, encoder),
        lambda path: _compare(path, run, model, encoder),
    )


def write(target, save, compare):
    """Writes an export that has been compared; else an earlier one stays.

    Args:
        target: the folder.
        save: function of a path that writes the SavedModel there.
        compare: function of that path: each signature's largest difference after reloading.

    Returns:
        `target`.

    Raises:
        ValueError: a difference of more than 1e-5; another process is exporting this run.
    """
    with files.locked(target, "writing"):
        files.sweep(target.parent, target.name)
        with files.aside(target) as temporary:
            save(temporary)
            _check(target, compare(temporary))
    print(f"exported: {files.shown(target)}")
    return target


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


def _save(path, run, model, encoder):
    save_model(path, run, served(run, model, encoder))


def save_model(path, run, signatures):
    """Writes the SavedModel of signatures as `served` gives them, with the run's classes and recipe."""
    import tensorflow as tf

    module = signatures.pop("module")
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "classes.txt"
        listing.write_text("\n".join(run.facts.classes) + "\n", encoding="utf-8")
        module.classes_file = tf.saved_model.Asset(str(listing))
        tf.saved_model.save(module, str(path), signatures=signatures)
    (path / "assets.extra").mkdir()
    shutil.copyfile(run.path / "recipe.json", path / "assets.extra" / "recipe.json")


def served(run, model, encoder):
    """The signatures as `tf.function`s, and under "module" the `tf.Module` that holds their variables."""
    import tensorflow as tf

    from tfvc.data import schema

    row, facts = run.facts.features[0], run.facts
    height, width = run.recipe.backbone.size

    def answer(frames):
        names = tf.constant(facts.classes)
        return {"probabilities": model({row.name: frames}, training=False), "classes": names}

    def features(frames):
        return answer(frames)

    def serialized(examples):
        inputs, _, ids, _ = schema.parse_batch(examples, [row], len(facts.classes), facts.multi_label)
        return answer(inputs[row.name]) | {"ids": ids}

    def pictures(frames):
        flat = encoder.tensor(tf.reshape(frames, (-1, height, width, 3)))
        shape = tf.concat([tf.shape(frames)[:1], row.shape], 0)
        black = tf.reduce_all(frames == 0, axis=(2, 3, 4))
        padding = tf.math.cumprod(tf.cast(black, tf.int32), axis=1, reverse=True) == 1
        padding = tf.reshape(padding, tf.concat([tf.shape(padding), [1] * (len(row.shape) - 1)], 0))
        values = tf.ensure_shape(tf.reshape(tf.cast(flat, row.dtype), shape), (None, *row.shape))
        return answer(tf.where(padding, tf.zeros([], row.dtype), values))

    def function(body, shape, dtype, name):
        return tf.function(body, input_signature=[tf.TensorSpec(shape, dtype, name)], autograph=False)

    module = holder(model)
    if encoder.model is not None:
        module.held += [v.value for v in encoder.model.variables]
        module.loaded = [getattr(layer, "loaded", None) for layer in encoder.model.layers]
    return {
        "module": module,
        "serving_default": function(features, (None, *row.shape), row.dtype, "frames"),
        "serialized": function(serialized, (None,), tf.string, "examples"),
        "frames": function(pictures, (None, row.shape[0], height, width, 3), tf.uint8, "frames"),
    }


def holder(model):
    """A `tf.Module` of a model's variables and nothing else.

    The layers' own code stays out, so that no class is asked for on loading.
    """
    import tensorflow as tf

    module = tf.Module()
    module.held = [v.value for v in model.variables]
    return module


def _compare(path, run, model, encoder):
    """Largest difference of each signature, reloaded elsewhere, from model and encoder in this process."""
    import numpy as np

    row = run.facts.features[0]
    records, features, ids = _records(run)
    frames, real = _frames(run, ids)
    encoded = np.zeros((len(frames), *row.shape), row.dtype)
    for clip, pixels, count in zip(encoded, frames, real, strict=True):
        clip[:count] = encoder.encode(pixels[:count])
    expected = {"serving_default": features, "serialized": features, "frames": encoded}
    expected = {name: model.predict_on_batch({row.name: value}) for name, value in expected.items()}
    if run.recipe.data.channel_order == "bgr":
        frames = frames[..., ::-1]  # the signature takes RGB
    given = {
        "serving_default": {"frames": features},
        "serialized": {"examples": records},
        "frames": {"frames": np.ascontiguousarray(frames)},
    }
    return differences(path, run, given, expected)


def differences(path, run, given, expected):
    """Each signature's largest difference from what is expected, reloaded in a process without tfvc.

    Args:
        path: of the SavedModel.
        run: whose classes it must name.
        given: signature -> inputs by name: arrays, or under `examples` a list of bytes.
        expected: signature -> probabilities.

    Raises:
        ValueError: it cannot be loaded there, or names other classes.
    """
    import numpy as np
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        for name, inputs in given.items():
            if "examples" not in inputs:
                np.savez(f"{folder}/{name}.npz", **inputs)
                continue
            with tf.io.TFRecordWriter(f"{folder}/{name}") as writer:
                for record in inputs["examples"]:
                    writer.write(record)
        command = [sys.executable, "-I", "-c", _RELOAD, str(path.absolute()), folder]
        # On the processor: this process may hold all of a GPU's memory.
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{path}: cannot be loaded in a process without tfvc: {last}")
        if done.stdout.splitlines()[-len(run.facts.classes) :] != list(run.facts.classes):
            raise ValueError(f"{path}: the reloaded model names other classes than the run")
        found = {name: np.load(f"{folder}/{name}.npy", allow_pickle=False) for name in expected}
    return {name: float(np.max(np.abs(found[name] - expected[name]))) for name in expected}


def _records(run):
    """A few of the test part's records: serialised, parsed, and their ids."""
    import tensorflow as tf

    from tfvc.data import pipeline, schema, shards

    folder, split, row = evaluate.run_records(run), run.split(), run.facts.features[0]
    wanted = set((split.get("test") or split.get("validation") or split["train"])[:CLIPS])
    manifest = shards.read_manifest(folder)
    used = [shard for shard in manifest.shards if any(r["id"] in wanted for r in shard["records"])]
    records, ids = [], []
    with pipeline.readable(folder):
        for shard in used:
            stored = tf.data.TFRecordDataset(str(folder / shard["file"]))
            for entry, record in zip(shard["records"], stored.as_numpy_iterator(), strict=True):
                if entry["id"] in wanted:
                    records.append(record)
                    ids.append(entry["id"])
    # The records' own classes: their labels may be numbered otherwise, and are not asked for here.
    inputs, *_ = schema.parse_batch(records, [row], len(manifest.classes), run.facts.multi_label)
    return records, inputs[row.name].numpy(), ids


def _frames(run, ids):
    """uint8 (N, T, height, width, 3) in the run's channel order, and how many of each are real."""
    import numpy as np

    from tfvc.data import datasets, video

    length, size = run.facts.features[0].shape[0], run.recipe.backbone.size
    try:
        dataset = datasets.load(run.recipe.data, run.facts.source)
        paths = {clip.id: clip.path for clip in dataset.clips}
        options = extract.decode_options(run.recipe, length)
        found = [video.read_frames(paths[clip], **options).frames for clip in ids if paths.get(clip)]
        reason = "only its records are here"
    except (OSError, ValueError) as error:
        found, reason = [], error
    if not found:
        print(
            f"the videos of this run cannot be read ({reason}); signature frames is compared on drawn frames"
        )
        found = list(np.random.default_rng(0).integers(0, 256, (2, length, *size, 3), "uint8"))
    frames = np.zeros((len(found), length, *size, 3), "uint8")
    real = []
    for clip, pixels in zip(frames, found, strict=True):
        clip[: len(pixels)] = pixels
        lit = np.flatnonzero(clip.any(axis=(1, 2, 3)))
        real.append(int(lit[-1]) + 1 if len(lit) else 0)  # black frames at the end are padding
    return frames, real


def main(argv=None):
    def run(arguments):
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # compared to 1e-5, with a process on the processor
        path = export(arguments.workdir)
        print(f"try: saved_model_cli show --dir {shlex.quote(files.shown(path))} --all")

    cli.command("tfvc.export", _DOC, ("workdir",), run, argv)


if __name__ == "__main__":
    main()
