"""Small clips with sound, and models on them, for the tests of mafnet and of the two compared with it."""

import keras
import numpy as np
import oracles

from tfvc.models import mafnet
from tfvc.recipe import Feature

CLASSES, CLIPS, T, UNITS = 3, 6, 4, 6
MAPS = [Feature("frames", (T, 7)), Feature("audio", (T, 3, 2, 5))]
VECTORS = [MAPS[0], Feature("audio", (T, 5))]
LABELS = np.eye(CLASSES, dtype="float32")[[0, 1, 2, 0, 1, 2]]


def build(rows=MAPS, module=mafnet, **args):
    keras.utils.set_random_seed(0)
    if module is mafnet:
        args = {"units": UNITS, "mcb_dim": 16, "momentum": 0.5} | args
        args |= {} if args.get("fusion") == "mcb" else {"mcb_dim": 8192}
        rows = [row for row in rows if row.name in mafnet.STREAMS[args.get("modality", "both")]]
    return module.build_model(rows, CLASSES, **args)


def batch(net, seed=0):
    """Clip 0 lacks its last two seconds, clip 1 its sound."""
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(size=(CLIPS, *x.shape[1:])).astype("float32") for name, x in net.input.items()}
    for x in inputs.values():
        x[0, 2:] = 0
    if len(inputs) == 2:
        inputs["audio"][1] = 0
    return inputs


def moved(net, seed=1):
    """Every float weight off its first value; variances stay positive."""
    rng = np.random.default_rng(seed)
    for weight in net.weights:
        if "float" in weight.dtype:
            by = rng.normal(scale=0.2, size=weight.shape)
            weight.assign(weight + (np.abs(by) if "variance" in weight.name else by))
    return net


def weights_of(net):
    """Layer -> {path of a weight below it: value}."""
    return {
        layer.name: {w.path.split(f"{layer.name}/", 1)[1]: np.float64(w) for w in layer.weights}
        for layer in net.layers
        if layer.weights
    }


def mean_of_maps(x):
    return x.mean(axis=(2, 3)) if x.ndim == 5 else x


def time_mean(x, mask):
    return oracles.pool(x, mask, "mean")
