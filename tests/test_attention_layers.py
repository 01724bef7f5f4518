"""MAFnet's three attentions and `AttentionCluster`: the equations, the masks, the shapes."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfvc.layers import AttentionCluster, ModalityAttention, ModalityTemporalAttention, TemporalAttention

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(4, 5, 6)).astype("float32") for _ in range(2)]
# The last clip has no sight, the last but one neither.
MASKS = [np.arange(5) < np.array([[5], [3], [0], [0]]), np.arange(5) < np.array([[5], [2], [0], [4]])]
AXES = {TemporalAttention: (0,), ModalityAttention: (1,), ModalityTemporalAttention: (0, 1)}
SCORES = ("code", "paper")


def built(layer, inputs):
    layer.build([x.shape for x in inputs] if isinstance(inputs, list) else inputs.shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def given(kind):
    """What the layer is called on, and its masks: the lists, or the first of each."""
    return (X[0], MASKS[0]) if kind is TemporalAttention else (X, MASKS)


def wanted(kind, layer, masks):
    """Scores and output, by the oracle."""
    one = kind is TemporalAttention
    weights = [w.astype("float64") for w in layer.get_weights()]
    xs = [x.astype("float64") for x in (X[:1] if one else X)]
    scores, cells = oracles.cell_attention(xs, weights, AXES[kind], masks and (masks[:1] if one else masks))
    cells = np.concatenate([cells[:, :, k] for k in range(len(xs))], axis=-1)
    return scores[..., 0] if one else scores, cells if kind is ModalityAttention else cells.sum(axis=1)


@pytest.mark.parametrize("masked", (False, True), ids=("whole", "masked"))
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", AXES)
def test_output_and_scores_are_the_equations(kind, score, masked):
    x, masks = given(kind)
    layer = built(kind(3, score), x)
    expected, output = wanted(kind, layer, MASKS if masked else None)
    y, scores = layer(x, mask=masks if masked else None, return_attention_scores=True)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(y, output, atol=1e-5)
    np.testing.assert_array_equal(layer(x, mask=masks if masked else None), y)


def test_the_score_decides_about_the_hidden_layer_and_modalities_share_their_network():
    paper, code = (built(ModalityTemporalAttention(3, score), X) for score in ("paper", "code"))
    assert [w.shape for w in paper.weights] == [(6, 1), (1,)]
    assert [w.shape for w in code.weights] == [(6, 3), (3,), (3, 1), (1,)]
    _, scores = code([X[0], X[0]], return_attention_scores=True)
    np.testing.assert_array_equal(scores[..., 0], scores[..., 1])


def test_the_papers_score_is_never_negative():
    layer = built(TemporalAttention(score="paper"), X[0])
    layer.set_weights([np.eye(6)[:, :1], np.array([-1.0])])
    x = np.zeros((1, 3, 6), "float32")
    x[0, :, 0] = [-5.0, 1.0, 1.0 + np.log(2)]  # z = 0, 0, log 2
    np.testing.assert_allclose(layer(x, return_attention_scores=True)[1], [[0.25, 0.25, 0.5]], atol=1e-6)


def test_one_mask_serves_all_and_a_missing_one_hides_nothing():
    layer = built(ModalityTemporalAttention(3), X)
    np.testing.assert_array_equal(layer(X, mask=MASKS[1]), layer(X, mask=[MASKS[1]] * 2))
    np.testing.assert_array_equal(
        layer(X, mask=[None, MASKS[1]]), layer(X, mask=[np.ones_like(MASKS[0]), MASKS[1]])
    )


@pytest.mark.parametrize("kind", (*AXES, AttentionCluster))
def test_what_is_under_the_mask_reaches_neither_output_nor_gradient(kind):
    x, masks = given(TemporalAttention if kind is AttentionCluster else kind)
    layer = built(kind(3), x)
    outputs = []
    for junk in (0.0, np.nan):
        hidden = tf.nest.map_structure(lambda a, m, junk=junk: np.where(m[..., None], a, junk), x, masks)
        with tf.GradientTape() as tape:
            y, scores = layer(hidden, mask=masks, return_attention_scores=True)
            loss = tf.reduce_sum(tf.square(y))
        outputs.append([y, scores, *tape.gradient(loss, [w.value for w in layer.weights])])
    for clean, dirty in zip(*outputs, strict=True):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean, dirty)
    assert not np.any(y[2]) and not np.any(scores[2])  # a clip without any real cell


@pytest.mark.parametrize("kind", (*AXES, AttentionCluster))
def test_a_model_knows_the_shapes_of_output_and_scores(kind):
    x, _ = given(TemporalAttention if kind is AttentionCluster else kind)
    inputs = tf.nest.map_structure(lambda a: keras.Input(a.shape[1:]), x)
    outputs = kind(3, dtype="mixed_bfloat16")(inputs, return_attention_scores=True)
    found = keras.Model(inputs, outputs)(x)
    for symbol, value, dtype in zip(outputs, found, ("bfloat16", "float32"), strict=True):
        assert symbol.shape[1:] == value.shape[1:] and symbol.dtype == value.dtype.name == dtype
    assert (
        kind(3)(tf.nest.map_structure(lambda _: keras.Input((None, 6)), x)).shape[-1] == outputs[0].shape[-1]
    )


def test_large_scores_stay_finite_in_half_precision():
    layer = built(ModalityTemporalAttention(64, dtype="mixed_float16"), X)
    y, scores = layer([3000 * x for x in X], return_attention_scores=True)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(np.sum(scores, axis=(1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("mask", (None, MASKS[0]), ids=("whole", "masked"))
def test_attention_cluster_is_the_equation(mask):
    layer = built(AttentionCluster(3), X[0])
    kernel, scale, shift = (w.astype("float64") for w in layer.get_weights())
    x = X[0].astype("float64")
    y, scores = layer(X[0], mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(y, oracles.attention_cluster(x, kernel, scale, shift, mask), atol=1e-5)
    first = oracles.softmax(x[0] @ kernel, axis=0)
    np.testing.assert_allclose(scores[0], first, atol=1e-5)


def test_attention_cluster_starts_without_shift_and_zeros_have_a_finite_gradient():
    layer = AttentionCluster(2)
    layer.build((None, 5, 6))
    assert [w.numpy().tolist() for w in layer.weights[1:]] == [[1, 1], [0, 0]]
    with tf.GradientTape() as tape:
        y = layer(np.zeros((1, 5, 6), "float32"))
    assert not np.any(y)
    assert all(np.isfinite(g).all() for g in tape.gradient(y, [w.value for w in layer.weights]))


def test_they_name_what_they_refuse():
    with pytest.raises(ValueError, match="units=0: expected at least 1"):
        TemporalAttention(0)
    with pytest.raises(ValueError, match="score='papers': expected one of 'code', 'paper'"):
        ModalityAttention(score="papers")
    with pytest.raises(ValueError, match="expected one sequence"):
        TemporalAttention().build([(None, 5, 6), (None, 5, 6)])
    for shapes in ((None, 5, 6), [(None, 5, 6)], [(None, 5, 6), (None, 5, 7)], [(None, 5, 6), (None, 4, 6)]):
        with pytest.raises(ValueError, match="a list of two or more sequences"):
            ModalityTemporalAttention().build(shapes)
    with pytest.raises(ValueError, match="1 masks for 2 sequences"):
        ModalityAttention(3)(X, mask=MASKS[:1])
    with pytest.raises(ValueError, match="clusters=0"):
        AttentionCluster(0)
    with pytest.raises(ValueError, match=r"input \(None, 6\)"):
        AttentionCluster(2).build((None, 6))
