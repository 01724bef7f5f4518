"""What each process of the scale benchmark does: make the data once, or go through them once and measure."""

import contextlib
import dataclasses
import os
import time
import types
from pathlib import Path

from experiments.benchmarks import memory

CLASSES = 3862
_NAMED = 100  # classes that the records name; those who train know no others, so that a step is small
_PICTURES, _MEANS = "rgb,audio", "mean_rgb,mean_audio"
_LEVELS = {  # what is in the records; frames of the longest, for training a tenth of YouTube-8M's
    "frame": (_PICTURES, 300),
    "short": (_PICTURES, 30),
    "video": (_MEANS, 0),
    "means": (_MEANS, 0),
    "few": (_MEANS, 0),
}
_SIZES = (1024, 128)
_HELD = 4  # shards that validate
_CLIP = (7, 4608)  # float32 rows of a clip of ours: 129 KB
_SHARD = 64  # clips
_SMALL = (7, 64)  # of those that are kept in memory: 1.8 KB


@dataclasses.dataclass(frozen=True)
class Case:
    """Something that is done with 1, 10 and 100 times the data, each time in a process of its own."""

    title: str
    unit: str  # what is counted
    size: str  # the option that says how many there are at 1x (of shards: in each)
    run: callable  # (folder of the data, factor, options) -> how many
    drawn_mb: int = 0  # shuffling draws from so much; 0 = the reader's own 256 MB
    keeps: int = 0  # bytes a unit that have to be kept, at most; all else must be flat
    why: str = ""
    needs: str = ""  # a run of `_runs`


def measure(name, folder, factor, options):
    """One process: rates, and memory as the system counts it, in MB (the peak is VmHWM: `ru_maxrss` of a
    child begins with the peak of its parent)."""
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    from tfvc.data import records

    case = CASES[name]
    records._DRAWN = case.drawn_mb << 20 or records._DRAWN
    before, start = memory("VmRSS"), time.perf_counter()
    with quiet():
        count = case.run(Path(folder), factor, options)
    seconds = time.perf_counter() - start
    found = {"count": count, "seconds": seconds, "rate": count / seconds}
    return found | {"before": before, "peak": memory("VmHWM"), "end": memory("VmRSS")}


@contextlib.contextmanager
def quiet():
    """A line a batch is for whoever watches."""
    with open(os.devnull, "w") as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
        yield


# --- the data -----------------------------------------------------------------------------------------------


def make(folder, factors, names, options):
    """Writes 1x of everything and links the rest to it: `<kind>/x<factor>`; trains what the cases need."""
    folder = Path(folder)
    with quiet():
        for level in _LEVELS:
            _records(folder / level, level, factors, options)
        _media(folder, factors, options)
        for name, shape in (("clips", _CLIP), ("small", _SMALL)):
            _clips(folder / name, shape, factors, options)
        for run in sorted({CASES[name].needs for name in names} - {""}):
            _runs(folder)[run]()


def _rows(level):
    from tfvc.recipe import Feature

    streams, frames = _LEVELS[level]
    named = zip(streams.split(","), _SIZES, strict=True)
    return [Feature(n, (frames, s), "uint8", True) if frames else Feature(n, (s,)) for n, s in named]


def _records(folder, level, factors, options):
    """Shards as YouTube-8M's, of drawn numbers."""
    import numpy as np
    import tensorflow as tf

    from tfvc.data import schema

    rng, rows, frames = np.random.default_rng(0), _rows(level), _LEVELS[level][1]
    (folder / "x1").mkdir(parents=True)
    for k in range(options["shards"]):
        with tf.io.TFRecordWriter(str(folder / "x1" / f"{k:05d}.tfrecord")) as writer:
            for number in range(options[level]):
                shape = (int(rng.integers(frames * 2 // 5, frames + 1)),) if frames else ()
                pools = [rng.integers(0, 256, (*shape, r.shape[-1]), "uint8") for r in rows]
                streams = {r.name: x.astype(r.dtype) for r, x in zip(rows, pools, strict=True)}
                labels = rng.choice(_NAMED, 3, replace=False).tolist()
                writer.write(schema.serialize(f"{k}-{number}", labels, streams, rows))
    whole = sorted((folder / "x1").iterdir())
    (folder / "held").mkdir()
    for file in whole[:_HELD]:
        os.link(file, folder / "held" / file.name)
    _linked(folder, whole, factors)


def _linked(folder, whole, factors):
    for factor in factors:
        (folder / f"x{factor}").mkdir(exist_ok=True)
        for k in range(factor * (factor > 1)):
            for file in whole:
                os.link(file, folder / f"x{factor}" / f"{k:03d}{file.name}")


def _clips(folder, shape, factors, options):
    """Folders of records of ours: the shards of 1x under other names, each clip with an id of its own."""
    import numpy as np

    from tfvc import files
    from tfvc.data import datasets, schema, shards
    from tfvc.recipe import Feature

    rng, rows = np.random.default_rng(0), [Feature("frames", (None, shape[1]))]
    settings = {"data.channel_order": "bgr", "backbone.weights": "random (seed 0)"}
    for factor in factors:
        count, one = options["clips"] * factor, folder / f"x{factor}"
        names = [f"{'ab'[k % 2]}/v_Clip_g{k // 8:06d}_c{k % 8:02d}" for k in range(count)]
        clips = [datasets.Clip(n, "", (n[0],), group=n.rpartition("_")[0]) for n in names]
        shards.open_folder(
            one, settings, datasets.Dataset("made", "folder", "", clips, ["a", "b"], False), rows, _SHARD
        )
        for k in range(0, count, _SHARD):
            some, number = clips[k : k + _SHARD], k // _SHARD
            if factor == 1:
                values = (rng.random(shape, "float32") for _ in some)
                made = (
                    schema.serialize(c.id, ["ab".index(c.labels[0])], {"frames": v}, rows)
                    for c, v in zip(some, values, strict=True)
                )
                shards.write_shard(
                    one, number, ((c.id, blob, shape[0]) for c, blob in zip(some, made, strict=True)), []
                )
                continue
            first = folder / "x1" / f"shard-{number % (options['clips'] // _SHARD):05d}"
            side, name = files.read_json(first.with_suffix(".json")), f"shard-{number:05d}"
            for record, clip in zip(side["records"], some, strict=True):
                record |= {"id": clip.id, "group": clip.group}
            os.link(first.with_suffix(".tfrecord"), one / f"{name}.tfrecord")
            files.write_json(one / f"{name}.json", side | {"file": f"{name}.tfrecord"})
        shards.finish(one)


def _media(folder, factors, options):
    """Many short clips, and one clip that is 1x, 10x, 100x as long: 32 x 32, four pictures a second."""
    import numpy as np

    from tfvc.data import demo

    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / "media/x1" / name).mkdir(parents=True)
        for k in range(options["media"] // 2):
            pictures = rng.integers(0, 256, (12, 32, 32, 3), "uint8")
            demo.write_clip(folder / "media/x1" / name / f"{k:04d}.mp4", pictures, fps=4)
    for factor in factors:
        for name in "ab":
            whole = sorted((folder / "media/x1" / name).iterdir())
            (folder / f"media/x{factor}/{name}").mkdir(parents=True, exist_ok=True)
            for k in range(factor * (factor > 1)):
                for file in whole:
                    os.link(file, folder / f"media/x{factor}/{name}/{k:03d}{file.name}")
        (folder / f"long/x{factor}/a").mkdir(parents=True)
        pictures = list(rng.integers(0, 256, (options["seconds"] * 4, 32, 32, 3), "uint8"))
        demo.write_clip(folder / f"long/x{factor}/a/0.mp4", pictures * factor, fps=4)


def _runs(folder):
    """Small runs to be measured and to predict with: name of the folder -> what trains it."""
    return {
        "starter": lambda: _starter_train(folder / "few/x1", folder / "starter", max_steps=1),
        "records_run": lambda: _tfvc_train(folder, "few", 1, folder / "records_run", steps=1),
        "clips_run": lambda: _clip_train(folder, "small", 1, folder / "clips_run", 1024),
    }


# --- what is done with them ---------------------------------------------------------------------------------


def _pattern(folder, level, factor):
    return f"{folder}/{level}/x{factor}/*.tfrecord"


def _read(level, batch):
    """Reading, parsing and shuffling, to batches."""

    def run(folder, factor, options):
        from tfvc.data import records

        source = records.Records(_pattern(folder, level, factor), _rows(level), CLASSES)
        return sum(len(ids) for _, _, ids in records.batches(source, batch, shuffle=True))

    return run


def _settings(program, **given):
    """What a command line gives a starter program: the defaults of its flags, and what is set."""
    values = {name: default for name, (_, default, _) in program.FLAGS.items()} | given
    return types.SimpleNamespace(**values, given=set(given))


def _starter_train(data, run, **given):
    from starter import train

    given |= {"feature_names": _MEANS, "feature_sizes": "1024,128", "model": "LogisticModel"}
    given |= {"train_dir": str(run), "train_data_pattern": f"{data}/*.tfrecord", "num_epochs": 1}
    return train.train(_settings(train, **given))


def _starter_pass(folder, factor, options):
    run, size = folder / f"starter-x{factor}", 128
    steps = _starter_train(folder / f"means/x{factor}", run, num_classes=_NAMED, batch_size=size)
    return min(steps * size, options["shards"] * options["means"] * factor)


def _tfvc_train(folder, level, factor, run, steps):
    from tfvc import recipe, train

    overrides = ["model_args.fusion=video", f"train.steps={steps}", f"train.evaluate_steps={steps}"]
    overrides += [f"data.num_classes={_NAMED}", f"data.validation={folder}/{level}/held/*.tfrecord"]
    overrides += [f"data.frames={_LEVELS[level][1] or 300}"]
    made = recipe.get("mfb", overrides=overrides)
    metrics = train.train(made, data=_pattern(folder, level, factor), workdir=run)
    return metrics["steps"] * metrics["batch_size"]


def _tfvc_pass(folder, factor, options):
    count = options["shards"] * options["short"] * factor
    return _tfvc_train(folder, "short", factor, folder / f"records_run-x{factor}", -(-count // 128))


def _starter_eval(folder, factor, options):
    from starter import eval as evaluation

    pattern = _pattern(folder, "few", factor)
    given = {"train_dir": str(folder / "starter"), "eval_data_pattern": pattern, "run_once": True}
    evaluation.evaluate(_settings(evaluation, batch_size=128, **given))
    return options["shards"] * options["few"] * factor


def _starter_inference(folder, factor, options):
    from starter import inference

    given = {"train_dir": str(folder / "starter"), "input_data_pattern": _pattern(folder, "few", factor)}
    given |= {"output_file": str(folder / f"starter{factor}.csv"), "batch_size": 128}
    return inference.predict(_settings(inference, **given))


def _tfvc_evaluate(folder, factor, options):
    from tfvc import evaluate

    return evaluate.evaluate(folder / "records_run", _pattern(folder, "few", factor))["clips"]


def _tfvc_predict(folder, factor, options):
    from tfvc import predict

    output = folder / f"predictions{factor}.csv"
    return len(predict.predict(folder / "records_run", [_pattern(folder, "few", factor)], output))


def _clip_batches(folder, factor, options):
    """An epoch of training batches of records of ours that are kept in memory."""
    from tfvc.data import pipeline, shards

    one = folder / f"small/x{factor}"
    (row,) = shards.read_manifest(one).features
    source = pipeline.Source(one, [dataclasses.replace(row, shape=_SMALL)], ["a", "b"])
    dataset, steps = pipeline.train_batches(source, 128, shuffle=True, drop_remainder=False)
    return sum(len(labels) for _, labels in dataset.take(steps))


def _clip_train(folder, name, factor, run, cache_mb):
    from tfvc import recipe, train

    # Of 128 the smallest set would have three batches: too few to fill what waits for the model.
    overrides = ["train.batch_size=32"]
    overrides += ["model_args.units=4", "model_args.dense=8", "train.epochs=1", f"data.cache_mb={cache_mb}"]
    made = recipe.get("attention_boosted", overrides=[*overrides, "train.shuffle=true"])
    return sum(train.train(made, data=str(folder / f"{name}/x{factor}"), workdir=run)["clips"].values())


def _clip_pass(folder, factor, options):
    return _clip_train(folder, "clips", factor, folder / f"clips_run-x{factor}", options["cache_mb"])


def _clip_evaluate(folder, factor, options):
    from tfvc import evaluate

    return evaluate.evaluate(folder / "clips_run", str(folder / f"small/x{factor}"))["clips"]


def _extract(kind, counted):
    def run(folder, factor, options):
        from tfvc import extract, recipe
        from tfvc.data import datasets, shards

        settings = ["name=mobilenet_v2", "weights=random", "size=32,32", "pooling=avg", "batch_size=8"]
        made = recipe.get("attention_boosted", "corrected", [f"backbone.{s}" for s in settings])
        dataset = datasets.load(made.data, f"{folder}/{kind}/x{factor}", least_classes=1)
        manifest = shards.read_manifest(extract.extract(dataset, made, out=folder / f"{kind}-x{factor}"))
        return sum(r["frames"] for r in manifest.records) if counted == "seconds" else len(manifest.records)

    return run


_PAIRS = "the measures: 8 of each of 20 pairs"
_MANIFEST = "the manifest: an entry a clip"
_KEPT = "the records themselves, 1,850 each, their strings, and the manifest"
CASES = {
    "read_frames": Case("frame level: read, parse, shuffle", "records", "frame", _read("frame", 128)),
    "read_videos": Case("video level: read, parse, shuffle", "records", "video", _read("video", 1024), 64),
    "starter_train": Case("video level: starter.train, logistic", "records", "means", _starter_pass, 16),
    "train": Case("frame level: tfvc.train, mfb of averages", "records", "short", _tfvc_pass, 32),
    "starter_eval": Case(
        "video level: starter.eval", "records", "few", _starter_eval, 0, 160, _PAIRS, "starter"
    ),
    "evaluate": Case(
        "video level: tfvc.evaluate", "records", "few", _tfvc_evaluate, 0, 320, _PAIRS, "records_run"
    ),
    "starter_inference": Case(
        "video level: starter.inference to CSV", "records", "few", _starter_inference, needs="starter"
    ),
    "predict": Case("video level: tfvc.predict to CSV", "records", "few", _tfvc_predict, needs="records_run"),
    "clips_train": Case("clips, streamed: tfvc.train", "clips", "clips", _clip_pass, 0, 2000, _MANIFEST),
    "clips_kept": Case("clips, kept in memory: batches", "clips", "clips", _clip_batches, 0, 4000, _KEPT),
    "clips_evaluate": Case(
        "clips: tfvc.evaluate", "clips", "clips", _clip_evaluate, 0, 1500, _MANIFEST, "clips_run"
    ),
    "extract": Case("tfvc.extract, short clips", "clips", "media", _extract("media", "clips")),
    "extract_long": Case(
        "tfvc.extract, one long clip",
        "seconds",
        "seconds",
        _extract("long", "seconds"),
        keeps=7 * 1280 * 4,
        why="a clip's features (5,120 bytes a second: list, array, message, bytes) until it is written",
    ),
}
