"""Which frames are looked at: the original's formula, and what it leaves open."""

import keras
import numpy as np
import pytest

from tfvc.layers import SampleFrames


def original(frames, samples, draws, random_frames):
    """Clip by clip; NumPy float32, for the truncation is part of the definition."""
    rows = []
    for n, u in zip(frames, draws.astype("float32"), strict=True):
        if random_frames:
            rows.append([int(v * np.float32(n)) for v in u])
        else:
            first = int(u[0] * np.float32(max(n - samples, 0) + 1))
            rows.append([min(first + s, n - 1) for s in range(samples)])
    return rows


@pytest.mark.parametrize("random_frames", (True, False))
def test_frames_are_the_originals_given_its_draws(random_frames):
    rng = np.random.default_rng(0)
    frames = np.array([300, 299, 31, 30, 29, 2, 1])
    draws = rng.random((7, 30 if random_frames else 1)).astype("float32")
    draws[0], draws[1] = 0.0, np.float32(1 - 2**-24)
    index = SampleFrames(30, random_frames)(frames, draws=draws)
    assert np.asarray(index).tolist() == original(frames, 30, draws, random_frames)


@pytest.mark.parametrize("random_frames", (True, False))
def test_training_draws_anew_within_the_clip_and_evaluation_does_not(random_frames):
    layer, frames = SampleFrames(8, random_frames, seed=3), np.array([200, 5, 0, 200])
    first, second = (np.asarray(layer(frames, training=True)) for _ in range(2))
    assert (first != second).any() and (first[0] != first[3]).any()
    assert (first >= 0).all() and (first < np.maximum(frames, 1)[:, None]).all()
    again = SampleFrames(8, random_frames, seed=3)
    np.testing.assert_array_equal(again(frames, training=True), first)
    fixed = np.asarray(layer(frames))
    np.testing.assert_array_equal(layer(frames[:1])[0], fixed[0])  # whatever else is in the batch
    np.testing.assert_array_equal(layer(frames), fixed)


def test_draws_cover_a_clip_evenly_and_a_run_is_consecutive():
    index = np.asarray(SampleFrames(4000, seed=0)(np.array([4]), training=True))
    assert (np.abs(np.bincount(index[0], minlength=4) / 4000 - 0.25) < 0.03).all()
    runs = np.asarray(SampleFrames(3, random_frames=False, seed=0)(np.full(500, 5), training=True))
    assert (np.diff(runs, axis=1) == 1).all() and set(runs[:, 0]) == {0, 1, 2}


def test_evaluation_spaces_frames_evenly_and_takes_the_run_in_the_middle():
    assert np.asarray(SampleFrames(3)(np.array([9, 2]))).tolist() == [[1, 4, 7], [0, 1, 1]]
    assert np.asarray(SampleFrames(3, False)(np.array([9, 2, 0]))).tolist() == [
        [3, 4, 5],
        [0, 1, 1],
        [0, 0, 0],
    ]


def test_the_seed_of_keras_is_followed():
    def drawn():
        keras.utils.set_random_seed(7)
        return np.asarray(SampleFrames(5)(np.array([100]), training=True))

    np.testing.assert_array_equal(drawn(), drawn())


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="num_samples=0: expected at least 1"):
        SampleFrames(0)
