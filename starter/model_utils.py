"""The original's helpers for frame-level models, under its names."""

from keras import ops

from tfvc.layers import Dequantize, SampleFrames
from tfvc.names import suggest


def SampleRandomSequence(model_input, num_frames, num_samples):  # noqa: N802  the original's name
    """A run of frames that starts at random; outside training the run in the middle.

    **Source**: YouTube-8M starter, model_utils.py. **Differs**: see `tfvc.layers.SampleFrames`.

    Args:
        model_input: (B, T, D).
        num_frames: (B,) or (B, 1).
        num_samples: S.

    Returns:
        (B, S, D).
    """
    return _take(model_input, num_frames, num_samples, False)


def SampleRandomFrames(model_input, num_frames, num_samples):  # noqa: N802
    """Frames at random, with replacement; outside training evenly spaced. Else as `SampleRandomSequence`."""
    return _take(model_input, num_frames, num_samples, True)


def FramePooling(frames, method):  # noqa: N802
    """(B, T, D) -> (B, D) by "average" or "max"; "none": (B T, D).

    **Source**: YouTube-8M starter, model_utils.py.

    Raises:
        ValueError: another method.

    Example:
        >>> import numpy as np
        >>> np.array(FramePooling(np.array([[[1.0], [3.0]]]), "average")).tolist()
        [[2.0]]
    """
    if method == "average":
        return ops.mean(frames, axis=1)
    if method == "max":
        return ops.max(frames, axis=1)
    if method == "none":
        return ops.reshape(frames, (-1, frames.shape[-1]))
    raise ValueError(suggest("pooling method", method, ("average", "max", "none")))


def _take(model_input, num_frames, num_samples, random_frames):
    frames = ops.reshape(num_frames, (-1,))
    return Dequantize()(model_input, index=SampleFrames(num_samples, random_frames)(frames))
