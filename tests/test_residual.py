"""The residual biLSTM, the attention over features and their block: the equations, masks, dropout, errors."""

import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfvc.layers import FeatureAttention, ResidualAttentionBiLSTM, ResidualBidirectionalLSTM

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5, 6)).astype("float32")
LENGTHS = [5, 3, 1, 0]
MASK = np.arange(5) < np.array(LENGTHS)[:, None]
JUNK = np.where(MASK[..., None], X, np.nan).astype("float32")  # what lies under the mask is never read


def built(layer):
    layer.build(X.shape)
    for weight in layer.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape))
    return layer, {w.path.split(f"{layer.name}/", 1)[1]: np.float64(w) for w in layer.trainable_weights}


@pytest.mark.parametrize("masked", (False, True))
def test_feature_attention_is_the_equations(masked):
    layer, w = built(FeatureAttention())
    scores, y = oracles.feature_attention(np.float64(X), w["kernel"], w["bias"], w["scale"])
    np.testing.assert_allclose(layer.scores(X), scores, atol=1e-6)
    np.testing.assert_allclose(np.sum(layer.scores(X), axis=-1), 1, atol=1e-6)
    found = layer(JUNK, mask=MASK) if masked else layer(X)
    np.testing.assert_allclose(found, y * MASK[..., None] if masked else y, atol=1e-6)


@pytest.mark.parametrize("masked", (False, True))
@pytest.mark.parametrize("units, project", [(4, "auto"), (3, "auto"), (3, "always")])
def test_the_residual_bilstm_is_the_equation(units, project, masked):
    layer, w = built(ResidualBidirectionalLSTM(units, project=project))
    assert ("shortcut/kernel" in w) == (units == 4 or project == "always")
    block = {f"bilstm/{name}": value for name, value in w.items()}
    y = oracles.rabl(np.float64(X), block, "none", LENGTHS if masked else [5] * 4)
    np.testing.assert_allclose(layer(JUNK, mask=MASK) if masked else layer(X), y, atol=1e-5)


@pytest.mark.parametrize("attention", ("residual", "plain", "none"))
def test_the_block_is_the_equations(attention):
    layer, w = built(ResidualAttentionBiLSTM(3, attention))
    y = oracles.rabl(np.float64(X), w, attention, LENGTHS)
    np.testing.assert_allclose(layer(JUNK, mask=MASK), y, atol=1e-5)
    assert any(name.startswith("attention") for name in w) == (attention != "none")


def test_gradients_are_finite_whatever_lies_under_the_mask():
    layer, _ = built(ResidualAttentionBiLSTM(4))
    for mask in (MASK, np.zeros_like(MASK)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(JUNK, mask=mask, training=True))
        gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
        assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)
        assert all(np.any(g) == mask.any() for g in gradients)


def test_dropout_takes_whole_channels_of_the_lstm_s_input_and_leaves_the_shortcut():
    layer, _ = built(ResidualBidirectionalLSTM(3, dropout=0.5))
    seen = np.array(layer.drop(np.ones((8, 5, 6), "float32"), training=True))
    assert set(np.unique(seen)) == {0.0, 2.0} and (seen == seen[:, :1]).all()
    np.testing.assert_array_equal(layer(X), layer(X, training=False))
    assert not np.allclose(layer(X, training=True), layer(X))
    for weight in layer.trainable_weights:
        weight.assign(0 * weight)  # then F(x) is 0
    np.testing.assert_array_equal(layer(X, training=True), X)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ResidualBidirectionalLSTM(0), "units=0: expected at least 1"),
        (
            lambda: ResidualBidirectionalLSTM(3, dropout=1.0),
            "dropout=1.0: expected at least 0 and less than 1",
        ),
        (lambda: ResidualBidirectionalLSTM(3, project="never"), "project='never': expected one of 'auto'"),
        (lambda: ResidualAttentionBiLSTM(3, "late"), "attention='late': expected one of 'residual', 'plain'"),
        (lambda: FeatureAttention().build((None, 6)), r"input \(None, 6\); expected \(batch, T, channels\)"),
        (lambda: ResidualBidirectionalLSTM(3).build((None, 5, None)), "channels known"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
