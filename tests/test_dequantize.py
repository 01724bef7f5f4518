"""`Dequantize`: bytes to floats, what is no frame to zeros, streams joined and normalised."""

import keras
import numpy as np
import oracles
import pytest

from tfvc.layers import Dequantize

RNG = np.random.default_rng(0)
RGB, AUDIO = (RNG.integers(0, 256, (4, 6, d)).astype("uint8") for d in (5, 3))
LENGTHS = [np.array([6, 3, 0, 0]), np.array([5, 6, 2, 0])]


def expected(index=None):
    """Both streams, frame by frame, in float64."""
    frames = np.tile(np.arange(6), (4, 1)) if index is None else index
    out = np.zeros((4, frames.shape[1], 8))
    for b, row in enumerate(frames):
        for t, number in enumerate(row):
            parts = [
                oracles.dequantize(q[b, number].astype("float64")) * (number < n[b])
                for q, n in zip((RGB, AUDIO), LENGTHS, strict=True)
            ]
            out[b, t] = oracles.l2(np.concatenate(parts))
    return out


def test_streams_are_dequantised_cut_at_their_own_ends_joined_and_normalised():
    y = Dequantize(normalize=True)([RGB, AUDIO], lengths=LENGTHS)
    np.testing.assert_allclose(y, expected(), atol=1e-6)
    norms = np.linalg.norm(y, axis=-1)
    assert np.allclose(norms[:3][expected()[:3].any(axis=-1)], 1, atol=1e-6) and (norms[3] == 0).all()


def test_chosen_frames_are_the_same_as_taking_them_afterwards():
    index = RNG.integers(0, 6, (4, 9))
    y = Dequantize(normalize=True)([RGB, AUDIO], lengths=LENGTHS, index=index)
    np.testing.assert_allclose(y, expected(index), atol=1e-6)
    whole = np.asarray(Dequantize(normalize=True)([RGB, AUDIO], lengths=LENGTHS))
    np.testing.assert_array_equal(y, np.take_along_axis(whole, index[..., None], axis=1))


def test_a_mask_joins_the_lengths_and_follows_the_chosen_frames():
    mask = RNG.random((4, 6)) < 0.5
    layer = Dequantize()
    plain = np.asarray(layer(RGB, lengths=LENGTHS[0]))
    np.testing.assert_array_equal(layer(RGB, lengths=LENGTHS[0], mask=mask), plain * mask[..., None])
    index = RNG.integers(0, 6, (4, 3))
    y = layer(RGB, lengths=LENGTHS[0], mask=mask, index=index)
    np.testing.assert_array_equal(y, np.take_along_axis(plain * mask[..., None], index[..., None], axis=1))


def test_floats_pass_unscaled_and_only_normalised():
    x = RNG.normal(size=(2, 4, 3)).astype("float32")
    x[1, 2] = np.nan
    y = np.asarray(Dequantize()(x, lengths=np.array([4, 2])))
    np.testing.assert_array_equal(y[0], x[0])
    assert (y[1, 2:] == 0).all() and (y[1, :2] == x[1, :2]).all()
    vectors = [x[:, 0], np.zeros((2, 5), "float32")]
    y = np.asarray(Dequantize(normalize=True)(vectors))
    np.testing.assert_allclose(y[:, :3], oracles.l2(x[:, 0].astype("float64")), atol=1e-6)
    assert (y[:, 3:] == 0).all()
    assert (np.asarray(Dequantize(normalize=True)([v * 0 for v in vectors])) == 0).all()


def test_the_range_is_heeded():
    y = Dequantize(max_value=1.0, min_value=0.0)(np.array([[[0, 255]]], "uint8"))
    np.testing.assert_allclose(y, [[[1 / 512, 1 + 1 / 512]]], atol=1e-6)


def test_it_takes_any_number_of_frames_and_gives_the_compute_dtype():
    rows, number = keras.Input((None, 5), dtype="uint8"), keras.Input((), dtype="int32")
    model = keras.Model([rows, number], Dequantize(dtype="mixed_bfloat16")(rows, lengths=number))
    assert model.output_shape == (None, None, 5) and model.output.dtype == "bfloat16"
    assert model([RGB[:, :2], LENGTHS[0]]).shape == (4, 2, 5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="max_value=-2.0: expected more than min_value=2.0"):
        Dequantize(-2.0, 2.0)
    with pytest.raises(ValueError, match="1 lengths for 2 streams"):
        Dequantize()([RGB, AUDIO], lengths=LENGTHS[:1])
