"""Layers and models compute the same on Keras' JAX backend as on TensorFlow's, and without TensorFlow."""

import inspect
import json
import os
import subprocess
import sys

import backends
import keras
import numpy as np
import pytest
import test_layers
import test_models
import test_starter_models
from conftest import ROOT
from sight_and_sound import MAPS
from three_streams import VECTORS

from starter import models as starters
from tfvc import names
from tfvc.models import mfb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # 100 networks are compiled

TOLERANCE = 1e-4  # of the largest value of an output, or of 1; of the largest change of a step
CLIPS, CLASSES = 6, 3
_STEPS = [("SGD",), ("Adam",)]  # in turn: compiling one takes a second
_USUAL = "categorical_crossentropy"

# Beside the rows of test_models.SMALL: each fusion, attention, conditioning, pooling and number of streams.
_MFB = [("average", fusion) for fusion in mfb.CHOICES["fusion"] if fusion != "mfb"] + [("dbof", "mfb")]
_MAFNET = [
    {"attention": "temporal", "fusion": "addition", "film": "visual", "masked": True},
    # So few places that none of the sketch stays empty: there rounding alone is left, and its root is steep.
    {"attention": "modality", "fusion": "mcb", "film": "both", "mcb_dim": 4},
    {"attention": "none", "fusion": "dmr", "film": "block", "masked": True},
    {"attention": "both", "film": "none", "score": "paper"},
    {"modality": "audio", "attention": "temporal", "film": "block", "masked": True},
]
_RAF = [
    {"modality": "visual_text", "attention": "late", "blocks": 1},
    {"modality": "text", "attention": "none", "pool": "last", "blocks": 1, "standardize": True},
    {"modality": "audio", "attention": "full", "multi_label": False},
]
_RESBILSTM = [
    {"modality": "visual_text", "fusion": "early", "blocks": 1},
    {"modality": "audio", "pool": "last", "blocks": 2},
    {"temporal": False, "fusion": "late", "standardize": True},
]


def _layer(case):
    layer = case.layer()
    shapes = case.shapes if case.several else (case.shapes,)
    inputs = {f"x{k}": (shape, case.dtype) for k, shape in enumerate(shapes)}
    if case.has_time() and "mask" in inspect.signature(layer.call).parameters:
        inputs["mask"] = (shapes[0][:1], "bool")
    config = keras.saving.serialize_keras_object(layer)
    return {"layer": config, "inputs": inputs, "optimizers": ()}


def _model(model, rows, args, loss, optimizers=()):
    """A model without what it drops at random, which each backend draws in its own way."""
    usual, parts = names.keyword_defaults(model), names.literal(model, "PARTS")
    chosen = usual | args
    for name in {"dropout", "head_dropout"} & set(usual):
        decides, values = parts.get(name, ("", ("",)))
        if chosen.get(decides, "") in values:  # else there is no such part, and no such argument
            args = args | {name: 0.0}
    read = names.literal(model, "STREAMS").get(chosen.get("modality", ""))
    rows = [row for row in rows if not read or row.name in read]
    scores = "attention" in chosen.get("mode", "") or model == "mafnet" and chosen["attention"] != "none"
    spec = {"model": model, "args": args, "scores": scores} | _rows(rows)
    return spec | {"loss": loss, "optimizers": optimizers}


def _starter(name):
    args = test_starter_models.SMALL | {"gating": True, "lstm_layers": 1}
    spec = {"starter": name, "args": args} | _rows(test_starter_models.rows(name))
    return spec | {"loss": "cross_entropy", "optimizers": ("SGD",)}


def _rows(rows):
    listed = [(row.name, row.shape, row.dtype, row.quantized) for row in rows]
    inputs = {row.name: (row.shape, row.dtype) for row in rows}
    if any(row.quantized for row in rows):
        inputs |= {f"{row.name}_length": ((), "int32") for row in rows}
    return {"rows": listed, "inputs": inputs, "classes": CLASSES}


def _specs():
    """Name -> what `backends.measure` reads, and "inputs": name -> shape and dtype."""
    found = {f"layer {name}": _layer(case) for name, case in test_layers.CASES.items()}
    for model, cases in test_models.SMALL.items():
        loss = test_models.LOSS.get(model, _USUAL)
        for k, (rows, args, _) in enumerate(cases):
            # Not Adam with learnt words: on TensorFlow Keras squares apart the gradients of a word that
            # occurs twice.
            found[f"{model} {k}"] = _model(model, rows, args, loss, _STEPS[k % 2])
    rows, args, _ = test_models.SMALL["attention_boosted"][2]
    args = args | {"recurrent_activation": "hard_sigmoid_keras2"}
    found["attention_boosted of hard gates"] = _model("attention_boosted", rows, args, _USUAL)
    sides = {"video": test_models._BYTES[0], "audio": test_models._BYTES[1]}
    for aggregation, fusion in _MFB:
        args = {"aggregation": aggregation, "fusion": fusion}
        args |= {"k": 2, "o": 6} if fusion in ("fc_concat", "mfb") else {}
        args |= {"clusters": 4, "samples": 3} if aggregation != "average" else {}
        rows = [sides[side] for side in mfb.sides(fusion)]
        found[f"mfb {aggregation} {fusion}"] = _model("mfb", rows, args, test_models.LOSS["mfb"])
    for k, args in enumerate(_MAFNET):
        args = {"units": 6, "momentum": 0.5} | args
        found[f"mafnet {k}, of the paper's tables"] = _model("mafnet", MAPS, args, _USUAL)
    for model, cases in (("raf", _RAF), ("resbilstm", _RESBILSTM)):
        loss = test_models.LOSS[model]
        for k, args in enumerate(cases):
            small = {"dense": 8} | ({} if args.get("temporal") is False else {"units": 4})
            name = " ".join([model, *(str(value) for value in args.values())])
            found[name] = _model(model, VECTORS, small | args, loss, () if k else ("Adam",))
    return found | {f"starter {name}": _starter(name) for name in test_starter_models.NAMES}


def _given(spec):
    """Weights off their first values, inputs, a target, and the inputs of the step where they are others."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(2)
    given = {f"weight/{i}": _moved(w, rng) for i, w in enumerate(backends.build(spec).weights)}
    inputs = {
        name: _drawn(name, (CLIPS, *shape), dtype, rng) for name, (shape, dtype) in spec["inputs"].items()
    }
    for name, x in inputs.items():
        if x.ndim > 2 and "layer" not in spec:  # clip 0 is short, clip 1 lacks its sound
            x[0, -1] = 0
            if name == "audio" and len(inputs) > 1:
                x[1] = 0
    given |= {f"input/{name}": value for name, value in inputs.items()}
    given["target"] = np.eye(CLASSES, dtype="float32")[np.arange(CLIPS) % CLASSES]
    # Which frames training looks at is drawn by the backend's own generator: of one frame, always that one.
    one = {name: np.ones_like(value) for name, value in inputs.items() if name.endswith("_length")}
    return given | {f"train/{name}": value for name, value in (inputs | one).items() if one}


def _moved(weight, rng):
    """Its value and a little more, so that no bias is zero and no variance below it."""
    value = np.asarray(weight)
    if value.dtype.kind != "f":
        return value
    more = rng.uniform(0.05, 0.3, value.shape) * rng.choice([-1, 1], value.shape) ** (value.ndim > 1)
    return value + (more / np.sqrt(np.prod(value.shape[:-1]))).astype(value.dtype)


def _drawn(name, shape, dtype, rng):
    if dtype == "bool":  # the second clip is empty
        frames = np.array([shape[1], 0, *rng.integers(1, shape[1] + 1, CLIPS - 2)])
        return np.arange(shape[1]) < frames[:, None]
    if name.endswith("_length"):
        return np.array([4, 0 if name == "audio_length" else 2, 1, 3, 4, 2], dtype)
    if dtype == "uint8":
        return rng.integers(0, 256, shape).astype(dtype)
    return (rng.integers(1, 7, shape) if dtype == "int32" else rng.normal(size=shape)).astype(dtype)


# --- what both backends found -------------------------------------------------------------------------------

# As on a machine without TensorFlow: importing it raises ImportError.
CHILD = """
import pathlib, sys
sys.modules["tensorflow"] = None
from tfvc import start
start.spare()
import backends
backends.main(pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What TensorFlow found here, what JAX found in a process of its own, and what that says of itself."""
    folder = tmp_path_factory.mktemp("backends")
    specs = _specs()
    given = {name: _given(spec) for name, spec in specs.items()}
    (folder / "specs.json").write_text(json.dumps(specs), encoding="utf-8")
    backends.write(folder / "given.npz", given)
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    environment |= {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"
    }  # networks that run once: compiling is what takes time
    line = [sys.executable, "-W", "ignore", "-c", CHILD, str(folder)]
    child = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        ours = {name: backends.measure(spec, given[name]) for name, spec in specs.items()}
        _, errors = child.communicate()
    finally:
        child.kill()
    assert child.returncode == 0, errors[-3000:]
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return ours, backends.read(folder / "found.npz"), about, given


def _faults(name, ours, theirs, given, kind):
    """Lines: what of a kind, "output" or an optimiser, is not equal."""
    keys = [key for key in ours if key.startswith(f"{kind}/")]
    if set(keys) != {key for key in theirs if key.startswith(f"{kind}/")}:
        return [f"{name}: found {sorted(theirs)}; expected {sorted(ours)}"]
    before = {key: given[key.removeprefix(f"{kind}/")] for key in keys if "/weight/" in key}
    change = max((np.abs(ours[key] - value).max(initial=0) for key, value in before.items()), default=0)
    faults = [f"{name}: {kind} moved nothing"] if before and not change > 1e-3 else []
    for key in keys:
        a, b = ours[key], theirs[key]
        if a.shape != b.shape or a.dtype != b.dtype or not np.isfinite(a).all():
            faults.append(f"{name} {key}: {a.dtype}{a.shape}, {b.dtype}{b.shape}, or not finite")
            continue
        scale = change if key in before else max(np.abs(a).max(initial=0), 1)
        difference = np.abs(a.astype("float64") - b).max(initial=0)
        if not difference <= TOLERANCE * scale:  # not so a NaN
            faults.append(f"{name} {key}: differs by {difference:.2g} where the scale is {scale:.2g}")
    return faults


def _all_faults(both, kind, chosen):
    ours, theirs, _, given = both
    names_of = [n for n, found in ours.items() if chosen(n) and any(k.startswith(f"{kind}/") for k in found)]
    assert names_of and set(theirs) == set(ours)
    return [fault for n in names_of for fault in _faults(n, ours[n], theirs[n], given[n], kind)]


def test_every_layer_computes_the_same(both):
    assert not _all_faults(both, "output", lambda name: name.startswith("layer "))


def test_every_model_computes_the_same(both):
    known = [*names.available("models"), *(f"starter {name}" for name in starters.available())]
    assert not [name for name in known if not any(found.startswith(name) for found in both[0])]
    assert not _all_faults(both, "output", lambda name: not name.startswith("layer "))


@pytest.mark.parametrize("optimizer", backends.OPTIMIZERS)
def test_a_step_of_training_moves_every_weight_alike(both, optimizer):
    assert not _all_faults(both, optimizer, lambda name: True)


def test_the_other_process_ran_on_jax_without_tensorflow(both):
    assert both[2] == {"backend": "jax", "tensorflow": []} and keras.backend.backend() == "tensorflow"


@pytest.mark.parametrize("key", ["output/0", "SGD/loss", "SGD/weight/0"])
def test_a_changed_number_is_found(both, key):
    ours, theirs, _, given = both
    name, kind = "attention_boosted 2", key.split("/")[0]
    assert not _faults(name, ours[name], theirs[name], given[name], kind)
    changed = theirs[name] | {key: theirs[name][key] * np.float32(1.001)}
    (fault,) = _faults(name, ours[name], changed, given[name], kind)
    assert key in fault
