"""NetVLAD, NetRVLAD, NetFV, SoftDBoW, ContextGating: equations, masks, switches, memory, golden faults."""

import json

import golden_loupe
import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from golden import read
from golden_loupe import POOLINGS, named

from tfvc.layers import ContextGating, NetFV, NetVLAD, SlimBatchNormalization

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5, 6)).astype("float32")
MASK = np.arange(5) < np.array([[5], [3], [1], [0]])


def built(make, shape=X.shape):
    """Built, every weight moved off its initial value, and the weights by their original names, float64."""
    layer = make()
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(weight + RNG.uniform(0.05, 0.3, weight.shape))
    return layer, {name: w.numpy().astype("float64") for name, w in named(layer).items()}


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("norm", [True, False], ids=["batch norm", "biases"])
@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_is_the_equation(kind, norm, training, mask):
    layer, w = built(lambda: POOLINGS[kind](4, 7, add_batch_norm=norm))
    a, before, y = oracles.learnable_pooling(kind, X.astype("float64"), w, mask, training)
    np.testing.assert_allclose(layer.assignment(X, mask, training), a, atol=1e-5)
    np.testing.assert_allclose(layer.before_gating(X, mask, training), before, atol=3e-5)
    np.testing.assert_allclose(layer(X, mask=mask, training=training), y, atol=3e-5)


@pytest.mark.parametrize("kind", POOLINGS)
def test_a_masked_clip_is_the_short_clip_and_nan_under_the_mask_is_never_read(kind):
    layer, w = built(lambda: POOLINGS[kind](4, 7))
    junk = np.where(MASK[..., None], X, np.float32(np.nan))
    for clip, frames in enumerate(MASK.sum(axis=1)[:3]):
        ours = layer(junk[clip : clip + 1], mask=MASK[clip : clip + 1])
        np.testing.assert_allclose(ours, layer(X[clip : clip + 1, :frames]), atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(junk, mask=MASK, training=True)))
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, [v.value for v in layer.trainable_weights]))
    # The statistics are those of the real frames alone.
    logits = X[MASK].astype("float64") @ w["cluster_weights"]
    moved = w["cluster_bn/moving_variance"] * 0.999 + 0.001 * logits.var(axis=0, ddof=1)
    np.testing.assert_allclose(named(layer)["cluster_bn/moving_variance"], moved, atol=1e-5)


@pytest.mark.parametrize("kind", POOLINGS)
def test_no_tensor_of_frames_times_clusters_times_features_is_made(kind):
    layer, _ = built(lambda: POOLINGS[kind](4, 7))

    @tf.function
    def gradients(x, mask):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, mask=mask, training=True))
        return tape.gradient(loss, [v.value for v in layer.trainable_weights])

    graph = gradients.get_concrete_function(tf.constant(X), tf.constant(MASK)).graph
    shapes = [o.shape for op in graph.get_operations() for o in op.outputs if o.shape.rank]
    assert shapes and all(s.num_elements() is None or s.num_elements() < X.size * 4 for s in shapes)
    assert not any(s.rank > 3 for s in shapes)


@pytest.mark.parametrize("kind", POOLINGS)
def test_float16_stays_finite_over_many_large_frames(kind):
    layer = POOLINGS[kind](2, 7, dtype="mixed_float16")
    # 300 frames of 300 sum to 90,000; float16 ends at 65,504.
    assert np.isfinite(layer(np.full((1, 300, 6), 300.0, "float32"))).all()


def test_the_length_of_clips_may_be_unknown_and_the_mask_ends_here():
    x = keras.Input((None, 6))
    pool = NetVLAD(4, 7)
    assert keras.Model(x, pool(keras.layers.Masking()(x)))(X).shape == (4, 7)
    assert pool.compute_mask(X, MASK) is None


@pytest.mark.parametrize(
    "arguments, gone, come",
    [
        ({"gating": False}, "gating_", ()),
        ({"add_batch_norm": False}, "_bn/", ("cluster_biases", "gating_biases")),
        ({"output_dim": None}, "hidden1_", ()),
    ],
)
@pytest.mark.parametrize("kind", POOLINGS)
def test_each_switch_changes_the_weights(kind, arguments, gone, come):
    plain, _ = built(lambda: POOLINGS[kind](4, 7))
    other, _ = built(lambda: POOLINGS[kind](**{"clusters": 4, "output_dim": 7} | arguments))
    assert set(named(other)) == {n for n in named(plain) if gone not in n} | set(come)


@pytest.mark.parametrize("training", [False, True])
def test_gating_without_the_diagonal_is_the_equation(training):
    x = X[:, 0]
    layer, w = built(lambda: ContextGating(remove_diag=True), x.shape)
    expected = oracles.context_gating(x.astype("float64"), w, training, remove_diag=True)
    np.testing.assert_allclose(layer(x, training=training), expected, atol=1e-5)
    pool, w = built(lambda: NetVLAD(4, 7, gating_remove_diag=True))
    before = pool.before_gating(X).numpy().astype("float64")
    np.testing.assert_allclose(pool(X), oracles.context_gating(before, w, remove_diag=True), atol=1e-5)


def test_weights_start_as_loupes():
    layer = NetFV(16, 200)
    layer.build((None, None, 400))
    expected = {"cluster_weights": (0, 400), "cluster_weights2": (0, 400), "covar_weights": (1, 400)}
    expected |= {"hidden1_weights": (0, 16), "gating_weights": (0, 200)}
    for name, (mean, size) in expected.items():
        values = named(layer)[name].numpy()
        assert abs(values.mean() - mean) < 0.01 and abs(values.std() * size**0.5 - 1) < 0.05, name


def test_what_they_refuse():
    for arguments in ({"clusters": 0}, {"clusters": None}, {"output_dim": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            NetVLAD(**arguments)
    with pytest.raises(ValueError, match="expected gating=True"):
        NetVLAD(gating=False, gating_remove_diag=True)
    with pytest.raises(ValueError, match=r"expected \(batch, T, D\)"):
        NetVLAD()(X[0])
    with pytest.raises(ValueError, match="features to be known"):
        ContextGating()(keras.Input((None,)))


@pytest.mark.parametrize(
    "name, array",
    [
        ("loupe_ContextGating_s_bn.npz", "after/gating_bn/moving_variance"),
        ("loupe_ContextGating_s_nobn.npz", "w/gating_weights"),
        ("loupe_NetVLAD_s_bn_gate.npz", "train_mid/before_gating"),
        ("loupe_NetRVLAD_s_nobn_nogate.npz", "inf_mid/assignment_softmax"),
        ("loupe_NetFV_s_bn_gate.npz", "w/covar_weights"),
        ("loupe_SoftDBoW_s_bn_gate.npz", "w/cluster_bn/gamma"),
    ],
)
def test_a_changed_number_fails_the_golden_check(shared, name, array, tmp_path):
    golden, meta = read(shared(f"golden/{name}"))
    check = golden_loupe.gating if "Gating" in name else golden_loupe.pooling
    golden[array] = golden[array].copy()
    golden[array].flat[0] += 0.01
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError):
        check(tmp_path / name, tmp_path)


def test_an_array_that_is_not_checked_fails_the_golden_check(shared, tmp_path):
    golden, meta = read(shared("golden/loupe_NetVLAD_s_nobn_nogate.npz"))
    np.savez(tmp_path / "loupe_x.npz", meta=json.dumps(meta), inf_more=np.zeros(2), **golden)
    with pytest.raises(AssertionError, match="not checked: .'inf_more'"):
        golden_loupe.pooling(tmp_path / "loupe_x.npz", tmp_path)


def test_the_biased_variance_fails_the_golden_check(shared, tmp_path, monkeypatch):
    moments = SlimBatchNormalization.moments
    # n so large that n / (n - 1) is 1.
    monkeypatch.setattr(SlimBatchNormalization, "moments", lambda *a: (*moments(*a)[:2], 1e9))
    with pytest.raises(AssertionError, match="moving_variance"):
        golden_loupe.pooling(shared("golden/loupe_NetVLAD_s_bn_gate.npz"), tmp_path)
