"""Seconds a step of each model takes on the backend and the device that Keras has here.

    KERAS_BACKEND=jax python -m experiments.benchmarks backends --against=results/benchmarks/tensorflow.json

Forward alone and a whole training step (gradients, Adam), each called as `fit` calls it, from arrays of the
host; every call ends when its numbers are back. The rounds of all models alternate, medians; the first call
of each, which compiles, is in none. It imports no TensorFlow where the backend is another. With `--against`,
the file of an earlier run, also the ratio of that run's times to these.
"""

import json
from pathlib import Path

from experiments.benchmarks import Result, alternate, medians

OPTIONS = {
    "models": "",  # all
    "rounds": 5,
    "batch": 32,
    "frames": 30,
    "width": 512,  # of a frame; of sound and words a quarter
    "classes": 50,
    "jit": 0,  # 1: XLA on TensorFlow; JAX always compiles
    "against": "",
}
_THREE = ("frames", "audio", "text")
_READ = {"attention_boosted": _THREE[:1], "raf": _THREE, "resbilstm": _THREE}  # the others: sight and sound


def run(options):
    """Measures every model, or those of `models`; returns the list of results."""
    import keras

    backend, cases, earlier = keras.backend.backend(), {}, _earlier(options)
    for name in options["models"].split(",") if options["models"] else available():
        forward, step = _calls(name, options)
        cases |= {f"{name}: forward": forward, f"{name}: training step": step}
    for case in cases.values():  # warm: traced and compiled
        case()
    seconds = alternate(cases, options["rounds"])
    results = []
    for name, median in medians(seconds).items():
        note = f"milliseconds a batch of {options['batch']}"
        results.append(Result(f"{name}, {backend}", 1000 * median, None, note, {"seconds": seconds[name]}))
    return results + _ratios(results, backend, earlier)


def available():
    """Names: tfvc's models, then the starter's.

    Example:
        >>> [name for name in available() if name in ("raf", "MoeModel")]
        ['raf', 'MoeModel']
    """
    from starter import models
    from tfvc import names

    return [*names.available("models"), *models.available()]


def _calls(name, options):
    """A model's forward and its training step: functions without arguments."""
    import keras

    from tfvc.losses import CrossEntropyLoss

    net, inputs, labels = _model(name, options)
    out = net.output["probabilities"] if isinstance(net.output, dict) else net.output
    net = keras.Model(net.input, out)
    jit = keras.backend.backend() == "jax" or bool(options["jit"])
    net.compile(keras.optimizers.Adam(1e-4), CrossEntropyLoss(), jit_compile=jit)

    def step():
        loss = float(net.train_on_batch(inputs, labels))
        if loss != loss:
            raise ValueError(f"{name}: the loss is not a number; the time of such a step tells nothing")

    return lambda: net.predict_on_batch(inputs), step


def _model(name, options):
    import keras
    import numpy as np

    from starter import models
    from tfvc import names
    from tfvc.recipe import Feature

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    frames, width = options["frames"], options["width"]
    if name in names.available("models") and name != "mfb":
        read = _READ.get(name, _THREE[:2])
        rows = [Feature(row, (frames, width if row == "frames" else width // 4)) for row in read]
        net = names.load("models", name).build_model(rows, options["classes"])
    else:
        rows = [
            Feature(row, (frames, size), "uint8", True)
            for row, size in (("rgb", width), ("audio", width // 4))
        ]
        if name == "mfb":
            net = names.load("models", name).build_model(rows, options["classes"])
        else:
            if not models.find(name).frame_level:
                rows = [Feature(f"mean_{row.name}", row.shape[1:]) for row in rows]
            net = models.build_model(name, rows, options["classes"])
    inputs = {}
    for key, tensor in net.input.items():
        shape = (options["batch"], *tensor.shape[1:])
        kinds = {"uint8": lambda s: rng.integers(0, 256, s), "int32": lambda s: np.full(s, frames)}
        inputs[key] = kinds.get(tensor.dtype, lambda s: rng.normal(size=s))(shape).astype(tensor.dtype)
    labels = np.eye(options["classes"], dtype="float32")[
        rng.integers(0, options["classes"], options["batch"])
    ]
    return net, inputs, labels


def _earlier(options):
    """The run of `against`, of the same sizes; None without."""
    if not options["against"]:
        return None
    path = Path(options["against"])
    if not path.is_file():
        raise FileNotFoundError(f"against={path}: no such file; expected the .json that an earlier run wrote")
    run = json.loads(path.read_text(encoding="utf-8"))
    for key in ("batch", "frames", "width", "classes"):
        if run["options"].get(key) != options[key]:
            raise ValueError(
                f"against={path}: {key} {run['options'].get(key)}; expected {options[key]}, as here"
            )
    return run


def _ratios(results, backend, earlier):
    """Of an earlier run's times to these, name by name."""
    if earlier is None:
        return []
    other = earlier["machine"]["backend"]
    before, ratios = {row["name"]: row["value"] for row in earlier["results"]}, []
    for row in results:
        name = row.name.removesuffix(f", {backend}")
        if f"{name}, {other}" in before:
            value = before[f"{name}, {other}"] / row.value
            ratios.append(
                Result(f"{name}: {other} / {backend}", value, None, f"above 1: {backend} is faster")
            )
    return ratios
