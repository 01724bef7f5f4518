"""The fusions of two vectors against the papers' equations, and what `present` promises."""

import json

import golden_mfb
import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from golden import read

from tfvc.layers import MFB, MLB, CompactBilinear, DualMultimodalResidual

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 6)).astype("float32"), RNG.normal(size=(5, 3)).astype("float32")
HAS_X = np.array([True, True, False, False, True])
HAS_Y = np.array([True, False, True, False, True])
LAYERS = {
    "MFB": lambda **more: MFB(k=2, o=4, **more),
    "MFB of roots": lambda **more: MFB(k=2, o=4, power="signed_sqrt", **more),
    "CompactBilinear": lambda **more: CompactBilinear(8, **more),
    "MLB": lambda **more: MLB(5, 4, **more),
}


def built(layer):
    """The layer with drawn weights, biases too."""
    layer.build([X.shape, Y.shape])
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def weights_of(layer):
    return {"/".join(w.path.split("/")[-2:]): np.asarray(w).astype("float64") for w in layer.weights}


def ones_in_place_of(w, side):
    """Weights with which a side projects to ones, whatever it holds."""
    return w | {f"{side}/kernel": 0 * w[f"{side}/kernel"], f"{side}/bias": np.ones_like(w[f"{side}/bias"])}


# --- the equations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", ("relu", "signed_sqrt", None))
def test_mfb_is_the_equation(power):
    layer = built(MFB(3, 4, power=power))
    z, f = oracles.mfb(X.astype("float64"), Y.astype("float64"), weights_of(layer), 3, power)
    np.testing.assert_allclose(layer.sumpool([X, Y]), z, atol=2e-5)
    np.testing.assert_allclose(layer([X, Y]), f, atol=2e-5)
    scaled = MFB(3, 4, power=power, scale=True)
    scaled.build([X.shape, Y.shape])
    scaled.set_weights(layer.get_weights())
    np.testing.assert_allclose(scaled([X, Y]), 2.0 * f, atol=4e-5)  # sqrt(4)


def test_mfb_sums_consecutive_units():
    layer = MFB(k=3, o=2, power=None)
    layer.build([(None, 1), (None, 1)])
    layer.set_weights([np.ones((1, 6)), np.zeros(6), np.array([[1.0, 2, 3, 40, 50, 60]]), np.zeros(6)])
    np.testing.assert_allclose(layer.sumpool([np.ones((1, 1)), np.ones((1, 1))]), [[6, 150]])


@pytest.mark.parametrize("power", ("relu", "signed_sqrt"))
def test_the_gradient_of_mfb_is_that_of_the_equation(power):
    layer = built(MFB(3, 4, power=power))
    direction = np.random.default_rng(2).normal(size=(5, 4))
    x, y, w = X.astype("float64"), Y.astype("float64"), weights_of(layer)
    inputs = [tf.constant(X), tf.constant(Y)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(layer(inputs) * direction)
    found = tape.gradient(loss, [*inputs, *(v.value for v in layer.trainable_weights)])
    for array, ours in zip([x, y, *w.values()], found, strict=True):
        wanted, step = np.zeros_like(array), 1e-6
        for place in np.ndindex(array.shape):
            ends, before = [], array[place]
            for array[place] in (before + step, before - step):
                ends.append((oracles.mfb(x, y, w, 3, power)[1] * direction).sum())
            array[place] = before
            wanted[place] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(ours, wanted, atol=2e-4, rtol=1e-3)


def test_at_zero_the_root_has_a_finite_gradient_and_stays_near():
    layer = MFB(k=1, o=41, power="signed_sqrt")
    z = tf.constant(np.linspace(-4e-8, 4e-8, 41)[None], tf.float32)
    np.testing.assert_allclose(layer.powered(z), oracles.signed_sqrt(z.numpy()), atol=2.6e-5)
    for values in (z, tf.zeros((2, 41))):
        with tf.GradientTape() as tape:
            tape.watch(values)
            f = layer.normalised(layer.powered(values))
        assert np.isfinite(tape.gradient(f, values)).all()
    np.testing.assert_array_equal(f, np.zeros((2, 41)))


@pytest.mark.parametrize("power, normalize", [("signed_sqrt", True), (None, False)])
def test_compact_bilinear_is_the_sketch_of_the_outer_product(power, normalize):
    layer = built(CompactBilinear(8, power=power, normalize=normalize))
    hashes = [[np.asarray(v) for v in side] for side in layer.hashes]
    z = oracles.outer_sketch(X.astype("float64"), Y.astype("float64"), hashes, 8)
    f = oracles.l2(oracles.signed_sqrt(z)) if normalize else z
    np.testing.assert_allclose(layer([X, Y]), f, atol=1e-4 if power else 1e-5)


def test_the_hashes_follow_the_stated_rule_and_are_saved(tmp_path):
    layer = built(CompactBilinear(8, seed=5))
    rng = np.random.default_rng(5)
    for (h, s), size in zip(layer.hashes, (6, 3), strict=True):
        np.testing.assert_array_equal(h, rng.integers(0, 8, size))
        np.testing.assert_array_equal(s, 2 * rng.integers(0, 2, size) - 1)
    other = built(CompactBilinear(8, seed=6))
    assert not layer.trainable_weights and np.any(other.get_weights()[0] != layer.get_weights()[0])
    inputs = [keras.Input((6,)), keras.Input((3,))]
    model = keras.Model(inputs, other(inputs))
    other.set_weights(layer.get_weights())  # as a file of another draw would
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(loaded([X, Y]), layer([X, Y]))


def test_compact_bilinear_estimates_the_products_of_outer_products():
    x, y = RNG.normal(size=(2, 6)), RNG.normal(size=(2, 3))
    exact = (x[0] @ x[1]) * (y[0] @ y[1])
    found = []
    for seed in range(40):
        layer = CompactBilinear(64, seed=seed, power=None, normalize=False)
        a, b = np.asarray(layer([x.astype("float32"), y.astype("float32")]))
        found.append(a @ b)
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / len(found) ** 0.5 + 1e-6


@pytest.mark.parametrize("activation, function", [("tanh", np.tanh), (None, lambda v: v)])
def test_mlb_is_the_equation(activation, function):
    layer = built(MLB(5, 4, activation))
    wanted = oracles.mlb(X.astype("float64"), Y.astype("float64"), weights_of(layer), function)
    np.testing.assert_allclose(layer([X, Y]), wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("sequences", (False, True), ids=("vectors", "sequences"))
@pytest.mark.parametrize("present", (None, [HAS_X, HAS_Y]), ids=("both", "absent"))
def test_the_residual_is_the_equation(sequences, present):
    """Also over sequences, with one word an example or one a step."""
    x, y = X, np.random.default_rng(3).normal(size=X.shape).astype("float32")
    shape = (1, 5, 6) if sequences else (5, 6)
    layer = DualMultimodalResidual()
    layer.build([shape, shape])
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    w = weights_of(layer)
    wanted = oracles.residual_fusion(x.astype("float64"), y.astype("float64"), w, present).reshape(shape)
    each = present and [p.reshape(shape[:-1]) for p in present]
    # What stands on an absent side never counts.
    x, y = (
        s if p is None else np.where(p[:, None], s, np.nan)
        for s, p in zip((x, y), present or (None, None), strict=True)
    )
    np.testing.assert_allclose(layer([x.reshape(shape), y.reshape(shape)], present=each), wanted, atol=1e-5)
    if sequences:
        whole = [np.array([True]), np.array([False])]
        alone = oracles.residual_fusion(X.astype("float64"), X, w, [[True] * 5, [False] * 5])
        np.testing.assert_allclose(layer([X[None], X[None]], present=whole)[0], alone, atol=1e-5)


def test_the_residual_refuses_two_widths():
    with pytest.raises(ValueError, match=r"inputs \(None, 6\) and \(None, 3\); expected two of equal shape"):
        DualMultimodalResidual().build([(None, 6), (None, 3)])


# --- dropout ------------------------------------------------------------------------------------------------


def test_dropout_is_of_the_products_in_training_only():
    layer = MFB(k=1, o=4000, dropout=0.25, power=None, seed=0)
    inputs = [np.ones((2, 6), "float32"), np.ones((2, 3), "float32")]
    kept = np.asarray(layer.sumpool(inputs, training=False))
    np.testing.assert_array_equal(layer.sumpool(inputs), kept)
    drawn = np.asarray(layer.sumpool(inputs, training=True))
    dropped = drawn == 0
    assert 0.2 < dropped.mean() < 0.3 and np.any(dropped[0] != dropped[1])
    np.testing.assert_allclose(drawn[~dropped], kept[~dropped] / 0.75, rtol=1e-5)
    assert np.any(np.asarray(layer.sumpool(inputs, training=True)) != drawn)
    again = MFB(k=1, o=4000, dropout=0.25, power=None, seed=0)
    again.build([x.shape for x in inputs])
    for ours, theirs in zip(again.trainable_weights, layer.trainable_weights, strict=True):
        ours.assign(theirs)
    np.testing.assert_array_equal(again.sumpool(inputs, training=True), drawn)


def test_the_two_draws_from_one_number_are_independent():
    rate, units = 0.3, 1001  # odd: the last number serves once
    dropped = np.asarray(MFB(k=1, o=units, dropout=rate, seed=0)._dropped(2000))
    assert dropped.shape == (2000, units)
    first, second = dropped[:, :500], dropped[:, 501:]
    for share, wanted in ((first, rate), (second, rate), (first & second, rate**2), (dropped[:, 500], rate)):
        deviation = (wanted * (1 - wanted) / share.size) ** 0.5
        assert abs(share.mean() - wanted) < 5 * deviation


# --- an absent side -----------------------------------------------------------------------------------------


def wanted_alone(layer, side):
    """What must come out where only one side is there, by the oracle."""
    x, y, w = X.astype("float64"), Y.astype("float64"), weights_of(layer)
    if isinstance(layer, CompactBilinear):
        h, s = (np.asarray(v) for v in layer.hashes[0 if side == "x" else 1])
        return oracles.l2(oracles.signed_sqrt(oracles.count_sketch(x if side == "x" else y, h, s, 8)))
    w = ones_in_place_of(w, "v" if side == "x" else "u")
    if isinstance(layer, MFB):
        return oracles.mfb(x, y, w, 2, layer.power)[1]
    kept, given = ("u", x) if side == "x" else ("v", y)
    return np.tanh(given @ w[f"{kept}/kernel"] + w[f"{kept}/bias"]) @ w["p/kernel"] + w["p/bias"]


@pytest.mark.parametrize("name", LAYERS)
def test_an_absent_side_lets_the_other_pass_and_two_give_zeros(name):
    layer = built(LAYERS[name]())
    both = np.asarray(layer([X, Y]))
    out = np.asarray(layer([X, Y], present=[HAS_X, HAS_Y]))
    np.testing.assert_allclose(out[[0, 4]], both[[0, 4]], atol=1e-6)
    np.testing.assert_allclose(out[1], wanted_alone(layer, "x")[1], atol=1e-4)
    np.testing.assert_allclose(out[2], wanted_alone(layer, "y")[2], atol=1e-4)
    assert np.abs(out[1] - both[1]).max() > 1e-3 < np.abs(out[2] - both[2]).max()
    np.testing.assert_array_equal(out[3], np.zeros_like(out[3]))
    np.testing.assert_allclose(layer([X, Y], present=[HAS_X | True] * 2), both, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_what_stands_in_an_absent_side_never_counts(name):
    layer = built(LAYERS[name]())
    found = []
    for junk in (0.0, 1e4, np.nan):
        inputs = [tf.constant(np.where(p[:, None], a, junk), tf.float32) for a, p in ((X, HAS_X), (Y, HAS_Y))]
        values = [w.value for w in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            out = layer(inputs, present=[HAS_X, HAS_Y], training=True)
            loss = tf.reduce_sum(out * np.arange(1.0, 1 + out.shape[-1]))
        found.append([out, *tape.gradient(loss, [*inputs, *values])])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.isfinite(b).all()
            np.testing.assert_array_equal(a, b)


def test_a_model_takes_present_as_inputs_and_is_reloaded_with_them(tmp_path):
    x, y = keras.Input((6,)), keras.Input((3,))
    has_x, has_y = keras.Input((), dtype="bool"), keras.Input((), dtype="bool")
    layer = MFB(k=2, o=4, dropout=0.1)
    model = keras.Model([x, y, has_x, has_y], layer([x, y], present=[has_x, has_y]))
    out = model([X, Y, HAS_X, HAS_Y])
    np.testing.assert_allclose(out, layer([X, Y], present=[HAS_X, HAS_Y]), atol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(loaded([X, Y, HAS_X, HAS_Y]), out)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MFB(k=0), "k=0, o=1000: expected at least 1 of each"),
        (lambda: MFB(dropout=1.0), "dropout=1.0: expected a share of at least 0 and below 1"),
        (lambda: MFB(power="sqrt"), "power='sqrt': expected one of 'relu', 'signed_sqrt', None"),
        (lambda: CompactBilinear(0), "output_dim=0: expected at least 1"),
        (lambda: CompactBilinear(4, power="relu"), "power='relu': expected one of 'signed_sqrt', None"),
        (lambda: MLB(0, 4), "units=0, o=4: expected at least 1 of each"),
        (lambda: MLB(4, 4, "tanhh"), "tanhh"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_that_are_not_two_vectors_are_refused(name):
    for inputs in (X, [X], [X, Y, Y], [X[:, None], Y]):
        with pytest.raises(ValueError, match="expected a list of two vectors"):
            LAYERS[name]()(inputs)
    with pytest.raises(ValueError, match="expected a list of two boolean tensors"):
        LAYERS[name]()([X, Y], present=HAS_X)


# --- the golden check has teeth -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("mfb_s0.npz", "mfb_s1.npz"))
@pytest.mark.parametrize("array", ("w/q_bias", "sumpool", "out_relu_l2", "out_relu_then_sqrt_l2"))
def test_a_changed_number_fails_the_golden_check(shared, name, array, tmp_path):
    golden, meta = read(shared(f"golden/{name}"))
    golden[array] = golden[array].copy()
    golden[array][(0,) * golden[array].ndim] += 0.01
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError):
        golden_mfb.mfb(tmp_path / name, tmp_path)
