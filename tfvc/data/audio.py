"""Sound of a media file: float32 samples at a given rate, one channel."""

import math

import av
import numpy as np
from av.error import FFmpegError

from tfvc.data.video import (
    MAX_SECONDS,
    MediaError,
    damage,
    decoded,
    header_seconds,
    nothing,
    opened,
    refuse_longer,
)


def read_audio(path, *, rate=16000, channels="mean", max_seconds=MAX_SECONDS, stop_after=None, warnings=None):
    """Sound of a file, resampled.

    The channels stay apart in the resampler and are averaged after it: the plain mean, not the
    weighted downmix that FFmpeg makes of more than two channels.

    Args:
        path: a sound file, or a video file with sound.
        rate: samples a second, for example 16000, 22050 or 44100.
        channels: `mean` of all channels, or the `first`.
        max_seconds: refuse a longer file, by its header and by its samples.
        stop_after: seconds that are enough: stop decoding there; None: read to the end.
        warnings: a list that gets one sentence if the file is only partly decodable.

    Returns:
        float32 array (samples,) in [-1, 1].

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: no sound in it, none of it decodes, or it is too long.
        ValueError: an argument out of range.

    Example:
        >>> read_audio("clip.mp4", rate=16000).dtype
        dtype('float32')
    """
    if rate < 1 or rate != int(rate):
        raise ValueError(f"rate={rate}: expected a whole number of samples a second")
    if stop_after is not None and not stop_after > 0:
        raise ValueError(f"stop_after={stop_after}: expected seconds above 0, or None")
    if channels not in ("mean", "first"):
        raise ValueError(f"channels={channels!r}: expected mean or first")
    with opened(path) as container:
        stream = container.streams.best("audio") if container.streams.audio else None
        if stream is None:
            raise MediaError(path, "no sound in it")
        refuse_longer(path, header_seconds(container, stream), max_seconds)
        errors, pieces, count = [], [], 0
        limit = math.ceil((max_seconds + 1) * rate)
        enough = None if stop_after is None else math.ceil(stop_after * rate)
        for piece in _resampled(container, stream, int(rate), errors):
            pieces.append(piece[0] if channels == "first" else piece.mean(0, dtype=np.float32))
            count += pieces[-1].size
            if count > limit:
                raise MediaError(path, f"more than max_seconds={max_seconds:g} of sound")
            if enough is not None and count >= enough:
                break
    if not count:
        raise MediaError(path, nothing("sound", errors))
    if errors and warnings is not None:
        warnings.append(damage(errors, count / rate))
    return np.clip(np.concatenate(pieces)[:enough], -1.0, 1.0)  # lossy codecs overshoot


def _resampled(container, stream, rate, errors):
    """Float32 arrays (channels, samples); the layout and rate of the first frame hold for the file."""
    resampler = None
    for frame in decoded(container, stream, errors):
        if resampler is None:
            resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
        frame.pts = None  # a gap in the clock is no reason to fail; samples simply follow one another
        try:
            yield from (out.to_ndarray() for out in resampler.resample(frame))
        except (FFmpegError, ValueError) as error:  # the format changes in the middle
            errors.append(f"sound format changes ({error})")
            return
    if resampler is not None:
        yield from (out.to_ndarray() for out in resampler.resample(None))
