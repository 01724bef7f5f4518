"""`check_layer`: what every public layer must satisfy. Each check is a function of a `Case`; see `CHECKS`.

A layer joins by one row in `CASES` of test_layers.py. Inputs are drawn from a fixed seed.
"""

import contextlib
import inspect
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Case:
    """One layer with one set of arguments.

    Args:
        make: builds a fresh layer, always with the same arguments.
        shapes: shape of one example's input, or a tuple of shapes for a layer that is called on a list. A
            shape of rank 2 and more has time first.
        dtype: of the inputs.
        precision_atol: how far half precision may lie from float32, on outputs of about 1.
        large: factor of large inputs, finite in half precision. Less where the output is a product of inputs.
        no_gradient: weights, by the end of their path, whose gradient is zero by the equation.
    """

    make: Callable
    shapes: tuple
    dtype: str = "float32"
    precision_atol: float = 0.05
    large: float = 300.0
    no_gradient: tuple = ()

    @property
    def several(self):
        return bool(self.shapes) and isinstance(self.shapes[0], tuple)

    def each(self, function):
        """`function(shape)`, once or as a list, as the layer is called."""
        return [function(s) for s in self.shapes] if self.several else function(self.shapes)

    def inputs(self, batch=3, scale=1.0, seed=0):
        rng = np.random.default_rng(seed)
        draw = {"uint8": lambda s: rng.integers(0, 256, s)}.get(
            self.dtype, lambda s: scale * rng.normal(size=s)
        )
        return self.each(lambda s: draw((batch, *s)).astype(self.dtype))

    def layer(self):
        """Built, with every float weight moved off its initial value (variances stay positive)."""
        keras.utils.set_random_seed(0)  # of the first weights and of what a layer draws
        layer = self.make()
        layer.build(self.each(lambda s: (None, *s)))
        rng = np.random.default_rng(1)
        for weight in layer.weights:
            if "float" in weight.dtype:
                weight.assign(weight + rng.uniform(0.05, 0.3, weight.shape))
        return layer

    def has_time(self):
        return any(len(s) >= 2 for s in (self.shapes if self.several else (self.shapes,)))


def check_layer(case):
    """Runs every check; the first that fails raises AssertionError."""
    for check in CHECKS.values():
        check(case)


def check_config(case):
    """Arguments are kept under their own names, and the config, through JSON, gives the same layer."""
    layer = case.layer()
    config = layer.get_config()
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            assert name in config, f"{name} is missing from get_config"
            assert hasattr(layer, name), f"argument {name} is not an attribute"
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    again.build(case.each(lambda s: (None, *s)))
    assert [(w.name, w.shape, w.trainable) for w in again.weights] == [
        (w.name, w.shape, w.trainable) for w in layer.weights
    ]


def check_shape(case):
    """Symbolic = declared = eager shape."""
    layer = case.layer()
    eager = layer(case.inputs())
    symbolic = layer(case.each(lambda s: keras.Input(s, dtype=case.dtype)))
    declared = layer.compute_output_shape(case.each(lambda s: (3, *s)))
    for shape, s, e in zip(_parts(declared), _parts(symbolic), _parts(eager), strict=True):
        assert tuple(shape) == tuple(e.shape), f"declared {shape}, eager {e.shape}"
        assert tuple(s.shape)[1:] == tuple(e.shape)[1:], f"symbolic {s.shape}, eager {e.shape}"
        assert keras.backend.standardize_dtype(s.dtype) == keras.backend.standardize_dtype(e.dtype)


def check_graph(case):
    """The same numbers inside a tf.function."""
    layer, x = case.layer(), case.inputs()
    eager = layer(x)
    graph = tf.function(lambda v: layer(v))(tf.nest.map_structure(tf.constant, x))
    np.testing.assert_allclose(_numpy(graph), _numpy(eager), atol=1e-5, rtol=1e-5)


def check_reload(case):
    """A saved model that holds the layer gives equal outputs when loaded, in safe mode."""
    x = case.inputs()
    symbolic = case.each(lambda s: keras.Input(s, dtype=case.dtype))
    model = keras.Model(symbolic, case.layer()(symbolic))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.keras"
        model.save(path)
        loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
    np.testing.assert_array_equal(_numpy(loaded(x)), _numpy(model(x)))


def check_gradient(case):
    """Every trainable weight gets a gradient that is finite and not all zero."""
    layer, x = case.layer(), case.inputs()
    with tf.GradientTape() as tape:
        y = layer(x, training=True) if _takes(layer, "training") else layer(x)
        # A random direction: the sum of a softmax, say, has no gradient.
        rng = np.random.default_rng(2)
        loss = sum(tf.reduce_sum(tf.cast(p, "float32") * rng.normal(size=p.shape)) for p in _parts(y))
    weights = layer.trainable_weights
    for weight, gradient in zip(weights, tape.gradient(loss, [w.value for w in weights]), strict=True):
        assert gradient is not None, f"{weight.path} gets no gradient"
        gradient = _numpy(tf.convert_to_tensor(gradient))
        alive = np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-8
        if weight.path.endswith(case.no_gradient or "-"):
            alive = np.abs(gradient).max() < 1e-5
        assert alive, f"{weight.path}: gradient {gradient}"


def check_precision(case):
    """Half precision runs, stays near float32, and finite where a naive softmax or sum would overflow."""
    full, x = case.layer(), case.inputs()
    for policy in ("mixed_bfloat16", "mixed_float16"):
        with _policy(policy):
            half = case.layer()
        assert all(w.dtype in ("float32", "float64") for w in half.weights if "float" in w.dtype), (
            "weights must stay float32"
        )
        half.set_weights(full.get_weights())
        for y, expected in zip(_parts(half(x)), _parts(full(x)), strict=True):
            if "int" in keras.backend.standardize_dtype(y.dtype):  # a count: the same in any precision
                np.testing.assert_array_equal(y, expected)
                continue
            assert keras.backend.standardize_dtype(y.dtype) == half.compute_dtype, (
                f"{policy}: output is {y.dtype}"
            )
            np.testing.assert_allclose(_numpy(y), _numpy(expected), atol=case.precision_atol, err_msg=policy)
        assert np.isfinite(_numpy(half(case.inputs(scale=case.large)))).all(), (
            f"{policy}: not finite on large inputs"
        )


def check_mask(case):
    """What lies under the mask never changes the result, an empty row stays finite, a full mask is no mask.

    A layer that takes no mask must read no time, or say so under "Differs".
    """
    layer, x = case.layer(), case.inputs()
    if not case.has_time():
        return
    if not _takes(layer, "mask"):
        differs = (inspect.getdoc(type(layer)) or "").partition("**Differs**")[2].partition("\n\n")[0]
        assert "mask" in differs, "takes no mask, and its docstring does not say so under **Differs**"
        return
    frames = (case.shapes[0] if case.several else case.shapes)[0]
    mask = np.arange(frames) < np.array([[frames], [frames - 2], [0]])
    results = [_numpy(layer(_under(case, x, mask, junk), mask=mask)) for junk in (0.0, 1e4, -1e4)]
    assert np.isfinite(results[0]).all(), "not finite: an empty row must stay finite"
    for result in results[1:]:
        np.testing.assert_array_equal(
            result, results[0], err_msg="what lies under the mask changed the result"
        )
    full = _numpy(layer(x, mask=np.ones_like(mask)))
    np.testing.assert_allclose(full, _numpy(layer(x)), atol=1e-6, err_msg="a full mask changed the result")


CHECKS = {
    "config": check_config,
    "shape": check_shape,
    "graph": check_graph,
    "reload": check_reload,
    "gradient": check_gradient,
    "precision": check_precision,
    "mask": check_mask,
}


def _parts(y):
    """Outputs of a layer that gives one, or a dict of them."""
    return [y[name] for name in sorted(y)] if isinstance(y, dict) else [y]


def _numpy(y):
    parts = [keras.ops.convert_to_numpy(keras.ops.cast(part, "float32")) for part in _parts(y)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _takes(layer, name):
    return name in inspect.signature(layer.call).parameters


def _under(case, x, mask, junk):
    """x with `junk` in place of every frame under the mask."""

    def fill(a):
        if a.ndim < 3 or a.shape[1] != mask.shape[1]:
            return a
        return np.where(mask.reshape(*mask.shape, *[1] * (a.ndim - 2)), a, np.asarray(junk).astype(a.dtype))

    return [fill(a) for a in x] if case.several else fill(x)


@contextlib.contextmanager
def _policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
