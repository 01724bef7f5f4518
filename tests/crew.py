"""The same small trainings by one process, by two replicas in it, or by several workers, for
test_multiworker.py; by hand, and what it measured is printed as a table:

    python tests/crew.py FOLDER [CASE ...]

The child's part is `python tests/crew.py FOLDER STRATEGY CASE ...`: all cases one after the other, as a start
of TensorFlow costs seconds. What it found goes into `FOLDER/STRATEGY/CASE.npz`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import collector
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLASSES, BATCH, CLIPS, STEPS = 3, 8, 48, 10  # 20 steps in two epochs: the order begins anew in them

_FRAMES = {"frames": ((4, 6), "float32")}
_MAPS = _FRAMES | {"audio": ((4, 3, 2, 5), "float32")}
_WORDS = _FRAMES | {"audio": ((3, 5), "float32"), "text": ((5, 6), "float32")}
_BYTES = {"rgb": ((4, 6), "uint8"), "audio": ((4, 3), "uint8")}
_NORM = "train.sync_batch_norm=true"
# Of a gradient that is zero but for rounding, that of a bias which a norm or a softmax takes away again, Adam
# makes steps of its full rate, and the moving statistics lag behind them: val_loss moves by 2e-4, as much as
# for one process whose inputs are changed by 1e-7. So its losses are compared, and SGD's measures.
_SGD = ("train.optimizer=sgd", "train.learning_rate=0.1")
_PLAIN = ("attention_boosted", "original", _FRAMES, {"units": 5, "dense": 16, "dropout": 0.0})
_MAFNET = {"units": 8, "momentum": 0.5}
_THREE = {"units": 4, "dense": 16, "blocks": 1, "dropout": 0.0}
_SEPARATE = _THREE | {"head_dropout": 0.0}
_MFB = {"k": 2, "o": 16, "dropout": 0.0}

# Name -> model, fidelity, inputs, keywords, what else the recipe says.
CASES = {
    "attention_boosted": (*_PLAIN,),
    "accumulated": (*_PLAIN, "train.accumulate=2"),
    "clipped": (*_PLAIN, "train.clip_norm=0.01", "train.optimizer=sgd", "train.learning_rate=1"),
    "float16": (*_PLAIN, "train.precision=float16"),
    "bfloat16": (*_PLAIN, "train.precision=bfloat16"),
    "mafnet adam": ("mafnet", "original", _MAPS, _MAFNET, _NORM, "train.drop_audio=0.3"),
    "mafnet": ("mafnet", "corrected", _MAPS, _MAFNET, _NORM, *_SGD, "train.drop_visual=0"),
    "mafnet film both": ("mafnet", "corrected", _MAPS, _MAFNET | {"film": "both"}, _NORM, *_SGD),
    "mafnet published": ("mafnet", "original", _MAPS, _MAFNET, _NORM, *_SGD, "train.drop_audio=0.3"),
    "mafnet mended": ("mafnet", "corrected", _MAPS, _MAFNET, _NORM, *_SGD, "train.drop_audio=0.3"),
    "attention_cluster": ("attention_cluster", "original", _MAPS, {"clusters": 4}),
    "dmrn": ("dmrn", "original", _MAPS, {"units": 8}),
    "mfb": ("mfb", "original", _BYTES, _MFB),
    "mfb netvlad": (
        "mfb",
        "original",
        _BYTES,
        _MFB | {"aggregation": "netvlad", "clusters": 2},
        _NORM,
    ),
    "mfb dbof": ("mfb", "original", _BYTES, _MFB | {"aggregation": "dbof", "clusters": 4}, _NORM),
    "raf": ("raf", "original", _WORDS, _THREE),
    "resbilstm separate": ("resbilstm", "original", _WORDS, _SEPARATE),
    "resbilstm late": ("resbilstm", "original", _WORDS, _SEPARATE | {"fusion": "late"}),
}
# Trainings of test_updates.py, whose network has no norm: rule, precision, optimiser.
BY_PATHS = {"paths published": ("published", "float32", "adam"), "paths mended": ("mended", "float16", "sgd")}
GONE = "gone"  # no training: see `lose`


# ---- the child ----


def _arrays(streams, several):
    """Clips of these streams, some of them short; the class shows in every stream."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, CLIPS)
    inputs = {}
    for name, (shape, dtype) in streams.items():
        x = rng.normal(size=(CLIPS, *shape)) + labels.reshape(-1, *(1 for _ in shape)) - 1
        x = np.clip(128 + 30 * x, 1, 255) if dtype == "uint8" else x
        x[::5, -1] = 0
        inputs[name] = x.astype(dtype)
        if dtype == "uint8":
            inputs[f"{name}_length"] = np.where(np.arange(CLIPS) % 5, shape[0], shape[0] - 1).astype("int32")
    targets = np.eye(CLASSES, dtype="float32")[labels]
    return inputs, np.maximum(targets, np.roll(targets, 1, axis=0)) if several else targets


def _losses(folder):
    """Of each step, out of TensorBoard's file."""
    import tensorflow as tf

    found = {}
    for path in sorted(Path(folder, "logs", "train").glob("events*")):
        for blob in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(blob)
            for value in event.summary.value:
                if value.tag == "loss":
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return [found[step] for step in sorted(found)]


def train(name, devices, crew, folder):
    """Trains a case; what it found: losses, measures of the last epoch, weights."""
    import tensorflow as tf

    from tfvc import names, training
    from tfvc import recipe as recipes
    from tfvc.layers.batch_norm import shared_by
    from tfvc.recipe import Feature

    model, fidelity, streams, arguments, *overrides = CASES[name]
    given = [f"train.batch_size={BATCH}", "train.epochs=2", "train.learning_rate=0.01"]
    recipe = recipes.get(model, fidelity, [*given, "train.best_from=1", *overrides])
    several = model in ("mfb", "raf", "resbilstm")
    rows = [Feature(n, shape, dtype, dtype == "uint8") for n, (shape, dtype) in streams.items()]
    rows = [row for row in rows if model != "attention_boosted" or row.name == "frames"]
    arrays = _arrays(streams, several)

    def batches(first_step):
        data = tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH, drop_remainder=True)
        return data.repeat().skip(first_step).map(lambda *batch: crew.share.cut(batch))

    training.start(0)
    shared = shared_by(devices.num_replicas_in_sync if recipe.train.sync_batch_norm else 1)
    with training.precision(recipe.train.precision), devices.scope(), shared:
        network = names.load("models", model).build_model(rows, CLASSES, **recipe.model_args | arguments)
    held = tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)
    paths = names.literal(model, "PATHS").get(recipe.train.drop_rule) or None
    given = {"multi_label": several, "paths": paths}
    bare, progress = training.fit(network, recipe.train, batches, STEPS, held, folder, **given)
    keep = ("loss", "val_", "accuracy", "hit")
    last = {k: v for k, v in progress.history[-1].items() if k.startswith(keep)}
    weights = {f"weight {i}": w for i, w in enumerate(bare.get_weights())}
    return {"losses": _losses(folder) if crew.chief else [], **last, **weights}


def by_paths(name, devices, folder):
    """Trains a network of which a path stands still in some steps; losses of the epochs, weights."""
    import test_updates

    weights, losses = test_updates.by_replicas(*BY_PATHS[name], devices, folder)
    return {"losses": losses, **{f"weight {i}": w for i, w in enumerate(weights)}}


def lose(crew):
    """All workers but the chief die; the chief waits for them."""
    if not crew.chief:
        os.kill(os.getpid(), signal.SIGKILL)
    with crew.standing("start all again"):
        crew.wait()


def light():
    """As conftest's: no search for a faster graph, few walks of the garbage collector."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    collector.walk_rarely()


def child(folder, strategy, chosen):
    from tfvc.start import spare

    spare()  # as commands do
    from tfvc import strategy as strategies
    from tfvc.layers import SampleFrames
    from tfvc.workers import Crew

    SampleFrames.draw = lambda self, count: self.spread()  # each replica draws for itself
    light()
    devices = strategies.scope(strategy)
    crew = Crew(devices)
    for name in chosen:
        if name == GONE:
            lose(crew)
        place = Path(folder, strategy, name)
        paths = name in BY_PATHS
        measured = by_paths(name, devices, place) if paths else train(name, devices, crew, place)
        if crew.chief:
            keep(folder, strategy, name, measured)
        print(name, flush=True)


# ---- the parent ----


def ports(count):
    """Addresses on this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("localhost", 0))
        return [f"localhost:{one.getsockname()[1]}" for one in taken]


def start(line, addresses=(), index=0, **options):
    """A process of `python LINE...`; with addresses, that worker of those."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("TF_CONFIG", None)
    if addresses:
        own = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(addresses)}, "task": own})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    return subprocess.Popen([sys.executable, *line], env=environment, **streams | options)


def ended(processes, seconds=300):
    """Their statuses and what they printed; those that do not end in time are killed."""
    try:
        texts = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], texts


def run(folder, strategy, chosen, workers=2, seconds=300):
    """The cases by a strategy: statuses of the processes, and what they printed."""
    line = [__file__, str(folder), strategy, *chosen]
    if strategy == "multiworker":
        addresses = ports(workers)
        processes = [start(line, addresses, index) for index in range(workers)]
    else:
        processes = [start(line)]
    return ended(processes, seconds)


def keep(folder, strategy, name, measured):
    """Writes what `train` found."""
    path = Path(folder, strategy, f"{name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **measured)


def found(folder, strategy, name):
    """What was measured, losses and weights as arrays."""
    with np.load(Path(folder, strategy, f"{name}.npz"), allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def distances(one, other):
    """Largest differences: of the loss curves, of the measures, of the weights."""
    assert one.keys() == other.keys() and len(one["losses"]) == len(other["losses"]) == 2 * STEPS
    apart = {
        key: float(np.max(np.abs(np.asarray(one[key], np.float64) - other[key]), initial=0)) for key in one
    }
    weights = max(value for key, value in apart.items() if key.startswith("weight"))
    measures = [v for k, v in apart.items() if k != "losses" and not k.startswith("weight")]
    return apart["losses"], max(measures), weights


def table(folder, chosen):
    """Runs all strategies; lines of Markdown."""
    strategies = ("default", "cpu:2", "multiworker")
    for strategy in strategies:
        statuses, texts = run(folder, strategy, chosen, seconds=3600)
        assert not any(statuses), "\n".join(texts)
    lines = ["| case | by | losses | measures | weights | last loss |", "|---|---|---|---|---|---|"]
    for name in chosen:
        one = found(folder, "default", name)
        for strategy in strategies[1:]:
            apart = " | ".join(f"{v:.1e}" for v in distances(one, found(folder, strategy, name)))
            lines.append(f"| {name} | {strategy} | {apart} | {one['losses'][-1]:.4f} |")
    return lines


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    if rest and rest[0] not in CASES:
        child(where, rest[0], rest[1:])
    else:
        print("\n".join(table(where, rest or CASES)))
