"""What a network computes, on whichever backend Keras has: the test and its child run this same code.

The child's part is `main`: networks, weights and inputs come from a folder, what it found goes there.
"""

import contextlib
import json
import sys
from unittest import mock

import collector
import keras
import numpy as np

import tfvc.layers  # noqa: F401  registers them
from starter import models
from tfvc import names
from tfvc.losses import CrossEntropyLoss
from tfvc.recipe import Feature

# Epsilon: Adam's first step is the gradient's sign, and a gradient that is zero by the equation has any.
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(1.0),  # the change of a weight is its gradient
    "Adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-3),
}
# TensorFlow is quicker without a graph, which would be traced for seconds and run once.
EAGER = keras.backend.backend() == "tensorflow"
# The weights that a network draws when it is built are replaced at once: JAX would compile a kernel for each
# shape of them.
_RNG = np.random.default_rng(0)
_DRAWS = {
    "uniform": lambda key, shape, dtype, minval, maxval: _RNG.uniform(minval, maxval, shape).astype(dtype),
    "normal": lambda key, shape, dtype: _RNG.normal(size=shape).astype(dtype),
}


class Around(keras.Model):
    """A model of one built layer. Inputs: x0, x1, ..., and the mask where it takes one."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.built = True

    def call(self, inputs, training=None):
        x = [value for name, value in inputs.items() if name != "mask"]
        mask = {"mask": inputs["mask"]} if "mask" in inputs else {}
        return self.layer(x[0] if len(x) == 1 else x, **mask)


def build(spec):
    """The network of a row of JSON: a layer of a config, a model of tfvc or one of the starter's."""
    if "layer" in spec:
        return Around(keras.saving.deserialize_keras_object(spec["layer"]))  # built, its config says how
    rows = [Feature(name, tuple(shape), dtype, quantized) for name, shape, dtype, quantized in spec["rows"]]
    if "starter" in spec:
        return models.build_model(spec["starter"], rows, spec["classes"], spec["args"])
    return names.load("models", spec["model"]).build_model(rows, spec["classes"], **spec["args"])


def measure(spec, given, building=contextlib.nullcontext):
    """Arrays by name: outputs outside training, then loss and all weights after a step of each optimiser.

    Args:
        spec: as `build` reads it; "optimizers": of the steps, "loss": of them.
        given: arrays, "weight/<i>" by position, "input/<name>", "target" and, where a step reads other
            inputs than the outputs are of, "train/<name>".
        building: makes a context, in which the network is built.
    """
    with building():
        net = build(spec)
    weights = _of(given, "weight/")
    assert len(weights) == len(net.weights), f"{net.name}: {len(weights)} weights for {len(net.weights)}"
    weights = [weights[str(i)] for i in range(len(weights))]
    net.set_weights(weights)  # refuses other shapes
    net.run_eagerly = EAGER
    inputs = _of(given, "input/")
    found = {f"output/{name}": value for name, value in _named(net.predict_on_batch(inputs)).items()}
    if spec.get("scores"):
        scores = names.load("models", spec["model"]).attention_scores(net)
        found["output/attention_scores"] = np.asarray(scores(inputs))
    for name in spec["optimizers"]:
        net.set_weights(weights)
        out = net.output["probabilities"] if isinstance(net.output, dict) else net.output
        trained = keras.Model(net.input, out)
        trained.compile(OPTIMIZERS[name](), _loss(spec["loss"]), run_eagerly=EAGER)
        loss = trained.train_on_batch(_of(given, "train/") or inputs, given["target"])
        found[f"{name}/loss"] = np.asarray(loss)
        found |= {f"{name}/weight/{i}": value for i, value in enumerate(net.get_weights())}
    return found


def _loss(name):
    return CrossEntropyLoss() if name == "cross_entropy" else name


def _of(given, prefix):
    return {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}


def _named(y):
    parts = y if isinstance(y, dict) else dict(enumerate(y if isinstance(y, (list, tuple)) else [y]))
    return {name: np.asarray(value) for name, value in parts.items()}


def write(path, arrays):
    """`arrays`: name of a network -> its arrays."""
    np.savez(path, **{f"{case}|{key}": v for case, found in arrays.items() for key, v in found.items()})


def read(path):
    """What `write` wrote."""
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            case, key = name.split("|")
            arrays.setdefault(case, {})[key] = file[name]
    return arrays


def main(folder):
    """Measures every network of `specs.json`, with few walks of the garbage collector."""
    collector.walk_rarely()
    specs = json.loads((folder / "specs.json").read_text(encoding="utf-8"))
    given = read(folder / "given.npz")

    def building():
        return mock.patch.multiple("jax.random", **_DRAWS)

    found = {name: measure(spec, given[name], building) for name, spec in specs.items()}
    write(folder / "found.npz", found)
    loaded = sorted(name for name, module in sys.modules.items() if module and name.startswith("tensorflow"))
    about = {"backend": keras.backend.backend(), "tensorflow": loaded}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
