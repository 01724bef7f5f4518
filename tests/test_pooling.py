"""MaskedPooling: each mode, masks, empty clips, half precision."""

import keras
import numpy as np
import oracles
import pytest

from tfvc.layers import MaskedPooling

MODES = ("mean", "max", "sum")
X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
MASK = np.arange(5) < np.array([[5], [3], [1], [0]])


@pytest.mark.parametrize("mode", MODES)
def test_pooling_sees_the_real_frames_only(mode):
    layer = MaskedPooling(mode)
    np.testing.assert_allclose(layer(X), oracles.pool(X, MASK | True, mode), atol=1e-6)
    junk = np.where(MASK[..., None], X, np.float32(np.nan))
    ours = layer(junk, mask=MASK)
    np.testing.assert_allclose(ours, oracles.pool(X, MASK, mode), atol=1e-6)
    assert not np.any(ours[3])  # the clip without real frames


def test_literal_numbers():
    x, mask = np.array([[[-1.0], [-3.0], [9.0]]], "float32"), np.array([[True, True, False]])
    pooled = [float(MaskedPooling(mode)(x, mask=mask)[0, 0]) for mode in MODES]
    assert pooled == [-2.0, -1.0, -4.0]


@pytest.mark.parametrize("mode", MODES)
def test_quantised_frames_and_an_unknown_length(mode):
    x = np.full((2, 300, 1), 200, "uint8")
    frames = keras.Input((None, 1), dtype="uint8")
    model = keras.Model(frames, MaskedPooling(mode)(frames))
    assert float(model(x)[0, 0]) == (60000 if mode == "sum" else 200)
    # float16 frames: the mean of what sums to more than float16 holds.
    half = MaskedPooling("mean", dtype="mixed_float16")(np.full((1, 300, 1), 300.0))
    assert float(half[0, 0]) == 300 and half.dtype == "float16"


def test_the_mask_ends_here_and_a_wrong_mode_or_shape_is_named():
    assert MaskedPooling().compute_mask(X, MASK) is None
    with pytest.raises(ValueError, match="mode='avg': expected one of mean, max, sum"):
        MaskedPooling("avg")
    with pytest.raises(ValueError, match="batch, T, D"):
        MaskedPooling()(X[0])
