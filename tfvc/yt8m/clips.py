"""A raw clip -> the streams that YouTube-8M keeps of a video. The networks are in `tfvc.backbones.yt8m`."""

import itertools

import numpy as np

from tfvc.backbones.log_mel import RATE
from tfvc.backbones.yt8m import MAX_FRAMES, quantize
from tfvc.data.audio import read_audio
from tfvc.data.video import MAX_PIXELS, MAX_SECONDS, MediaError, iter_frames

_BATCH = 16  # frames a network call


def streams(
    path,
    networks,
    *,
    fps=1,
    max_frames=MAX_FRAMES,
    max_seconds=MAX_SECONDS,
    max_pixels=MAX_PIXELS,
    batch_size=_BATCH,
    notes=None,
):
    """The streams of a clip, frame by frame and as means.

    A frame has the sound of the second that it lies in; frames behind the sound's end have none. A clip
    without sound has no stream of it, and a note says why.

    **Source**: the main loop of YouTube-8M's `extract_tfrecords_main.py`.
    **Differs**: which frames are kept, see `tfvc.data.video.iter_frames` (the original's are those that
    OpenCV reports at least 1000 / frames_per_second ms after the last one kept). The original has no sound.

    Args:
        path: a video file; where only sound is wanted, a sound file too.
        networks: `tfvc.backbones.yt8m.Networks`.
        fps: frames a second.
        max_frames: no more is read.
        max_seconds, max_pixels: a longer or larger clip is refused.
        batch_size: frames a network call.
        notes: a list that gets a sentence for what is absent or cannot be decoded.

    Returns:
        dict of `rgb` uint8 (N, 1024), `mean_rgb` float64 (1024,), the mean before the frames are quantised,
        and where there is sound `audio` uint8 (M, 128), M <= N, and `mean_audio` float64 (128,).

    Raises:
        FileNotFoundError: no such file.
        MediaError: nothing of what is wanted can be decoded.
    """
    notes = [] if notes is None else notes
    found, count = {}, max_frames
    if networks.pictures:
        bounds = {"max_frames": max_frames, "max_seconds": max_seconds, "max_pixels": max_pixels}
        frames = iter_frames(path, fps=fps, size=networks.pictures.size, warnings=notes, **bounds)
        parts = []
        while batch := [frame for _, frame in itertools.islice(frames, batch_size)]:
            parts.append(networks.pictures.extract_frames(batch))
        values = np.concatenate(parts)
        found = {"rgb": quantize(values), "mean_rgb": values.mean(0, dtype="float64")}
        count = len(values)
    if networks.sound:
        enough = int((count - 1) // fps) + 1  # the second of the last frame is whole
        try:
            waveform = read_audio(path, rate=RATE, max_seconds=max_seconds, stop_after=enough, warnings=notes)
        except MediaError as error:
            if not found:
                raise
            notes.append(f"its audio stream is absent: {error.reason}")
        else:
            found["audio"], found["mean_audio"] = networks.sound.extract(waveform, count, fps)
    return found
