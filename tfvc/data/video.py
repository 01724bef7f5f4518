"""Video files in: frames at a given rate, decoded forward in one pass, resized inside the decoder.

A file that cannot give one good frame is a `MediaError`; one that breaks in the middle gives its good
frames and a warning. Bounds on pixels and seconds keep a hostile file from eating the machine. PyAV
releases the interpreter's lock while it decodes and converts, so files can be read by threads.
"""

import contextlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation, VideoReformatter

from tfvc.data import clock
from tfvc.data.clock import header_seconds, pictures_start, video_stream

MAX_SECONDS = 3600.0
MAX_PIXELS = 3840 * 2160

_INTERPOLATION = {
    "area": Interpolation.AREA,
    "bilinear": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "nearest": Interpolation.POINT,
}
_FORMAT = {"rgb": "rgb24", "bgr": "bgr24"}
# FFmpeg "plays" a text file as a terminal, and a list by opening the files that it names: itself, say.
_TEXT = "tty"
_LISTS = {b"ffconcat": "a list of files", b"#EXTM3U": "a play list", b"<MPD": "a play list"}
_FORMATS = ",".join(sorted(av.formats_available - {"concat", "hls", "dash", "imf"}))


class MediaError(ValueError):
    """A file that gives no video or no sound, and why.

    Args:
        path: the file.
        reason: what is wrong with it, in a few words.

    Example:
        >>> str(MediaError("a.mp4", "the file is empty"))
        'a.mp4: the file is empty'
    """

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self):  # args hold one text, the constructor takes two
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class Frames:
    """Kept frames of one file: `frames` uint8 (N, h, w, 3), `times` float64 (N,) in seconds, `warning`."""

    frames: np.ndarray
    times: np.ndarray
    warning: str = ""


@dataclass(frozen=True)
class Probe:
    """What a file's header says: 0 where it does not say. Width and height are as
    stored, before any rotation."""

    seconds: float
    width: int
    height: int
    fps: float
    has_video: bool
    has_audio: bool
    audio_rate: int


@contextlib.contextmanager
def opened(path):
    """An open PyAV container; closed at the end.

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: a folder, an empty file, no permission, or no format that FFmpeg reads.
    """
    path = Path(path)
    if path.is_dir():
        raise MediaError(path, "a folder, expected a media file")
    try:
        regular, size = path.is_file(), path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from None
    if not regular:  # a pipe would block for ever
        raise MediaError(path, "not a regular file")
    if not size:
        raise MediaError(path, "the file is empty")
    try:
        container = av.open(
            f"file:{path.absolute()}",
            metadata_errors="ignore",
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
        )
    except PermissionError:
        raise MediaError(path, "no permission to read it") from None
    except (FFmpegError, OSError) as error:
        with open(path, "rb") as f:
            head = f.read(1024)
        if known := next((words for mark, words in _LISTS.items() if mark in head), ""):
            raise MediaError(path, f"{known}, expected a media file") from None
        raise MediaError(path, f"cannot be opened: truncated, or no media file ({_words(error)})") from None
    with container:
        if container.format.name == _TEXT:
            raise MediaError(path, "a text file, expected a media file")
        yield container


def streams(path):
    """Reads the header only.

    Raises:
        FileNotFoundError, MediaError: as `opened`.
    """
    with opened(path) as container:
        video, audio = video_stream(container), container.streams.best("audio")
        return Probe(
            seconds=header_seconds(container, video or audio),
            width=video.width if video and video.codec_context else 0,
            height=video.height if video and video.codec_context else 0,
            fps=float(video.average_rate or video.guessed_rate or 0) if video else 0.0,
            has_video=video is not None,
            has_audio=audio is not None,
            audio_rate=audio.rate or 0 if audio and audio.codec_context else 0,
        )


def read_frames(path, **options):
    """All kept frames of a file, as arrays; arguments and errors as `iter_frames`.

    Example:
        >>> read_frames("clip.mp4", fps=1, size=(224, 224)).frames.shape
        (7, 224, 224, 3)
    """
    warnings = []
    pairs = list(iter_frames(path, warnings=warnings, **options))
    times, frames = zip(*pairs, strict=True)
    try:
        stacked = np.stack(frames)
    except ValueError:
        raise MediaError(path, "the frame size changes within the file; give a size") from None
    return Frames(stacked, np.asarray(times), " ".join(warnings))


def iter_frames(
    path,
    *,
    fps=1.0,
    count=None,
    size=None,
    channel_order="rgb",
    interpolation="area",
    max_frames=None,
    max_seconds=MAX_SECONDS,
    max_pixels=MAX_PIXELS,
    warnings=None,
    track=None,
):
    """Frames of a video file at a given rate, or a given number of them, one by one, in bounded memory.

    The frame kept for t = k / fps, k = 0, 1, ..., is the first, in the order of display, whose time is at
    least t minus half a frame period (at most a second). None is kept where no such frame follows. A frame
    stands for several t where the file has fewer frames than were asked for.

    With `count` = T the times are t = k d / T, k = 0 .. T - 1, of pictures that last d seconds, by the header
    where it counts the frames, else by one pass over the packets, which decodes nothing. Exactly T are kept,
    the last frame as often as need be; fewer only of a file that breaks off before what was promised.

    Args:
        path: a video file.
        fps: frames a second that are kept; not looked at where `count` is given.
        count: frames that are kept of the whole file, evenly spaced; None: as many as `fps` says.
        size: (height, width) of the kept frames; None: as in the file. The whole picture is scaled.
        channel_order: `rgb` or `bgr`.
        interpolation: `area`, `bilinear`, `bicubic` or `nearest`.
        max_frames: stop (and stop decoding) after so many; None: no such limit.
        max_seconds: refuse a longer file, by its header and by its frames' times.
        max_pixels: refuse larger frames, by the header and by the frames.
        warnings: a list that gets one sentence if the file is only partly decodable.
        track: a `tfvc.data.audio.Track` that gets the sound in the same pass; None: no sound is decoded. It
            is ready when the frames have come to their end, or have ended in a MediaError. It never changes
            the frames: what is wrong with the sound is said by the track alone.

    Yields:
        (time in seconds since the first frame, uint8 array (height, width, 3)).

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: no video in it, no frame of it decodes, or it breaks a bound.
        ValueError: an argument out of range.

    Example:
        >>> [time for time, frame in iter_frames("clip.mp4", fps=1, size=(112, 112))][:3]
        [0.0, 1.0, 2.0]
    """
    if count is not None and count < 1:
        raise ValueError(f"count={count}: expected at least 1, or None")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps={fps}: expected a number above 0")
    if channel_order not in _FORMAT or interpolation not in _INTERPOLATION:
        raise ValueError(
            f"channel_order={channel_order!r}, interpolation={interpolation!r}: expected one of "
            f"{', '.join(_FORMAT)} and one of {', '.join(_INTERPOLATION)}"
        )
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames={max_frames}: expected at least 1, or None")
    if size is not None and (len(size) != 2 or any(n < 1 or n != int(n) for n in size)):
        raise ValueError(f"size={size}: expected (height, width), or None")
    convert = _converter(size, _FORMAT[channel_order], _INTERPOLATION[interpolation])
    # Not a generator itself: a wrong argument is told at once, not at the first frame.
    warnings = [] if warnings is None else warnings
    return _frames(path, fps, count, convert, max_frames, max_seconds, max_pixels, warnings, track)


def refuse_longer(path, seconds, max_seconds):
    """Raises MediaError for a file of more than `max_seconds`."""
    if seconds > max_seconds:
        raise MediaError(path, f"{seconds:.1f} s long, more than max_seconds={max_seconds:g}")


def damage(errors, last):
    """The warning of a partly decodable file: what broke, and how far it is good."""
    return f"partly decodable ({_list(errors)}); read to {last:.2f} s."


def nothing(what, errors):
    """The reason of a file that gave nothing."""
    return f"no {what} of it decodes" + (f" ({_list(errors)})" if errors else "")


def packets_of(container, streams, broken):
    """Packets of some streams, in the order of the file; what breaks the reading is told in `broken`."""
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:  # the file ends or breaks here; nothing can follow
            broken.append(f"reading stops ({_words(error)})")
            return
        if packet is None:
            return
        yield packet


def frames_of(packet, errors):
    """Frames of one packet; what does not decode is told in `errors`, not raised."""
    try:
        frames = packet.decode()
    except FFmpegError as error:  # this packet is lost; the next may be good
        errors.append(_words(error))
        return
    for frame in frames:
        if frame.is_corrupt:
            errors.append("a damaged frame")
        else:
            yield frame


def decoded(packets, stream, errors, track=None):
    """Frames of one stream in one forward pass; the packets of the other one are the track's."""
    for packet in packets:
        if packet.stream.index == stream.index:
            yield from frames_of(packet, errors)
        else:
            track.take(packet)


def _frames(path, fps, count, convert, max_frames, max_seconds, max_pixels, warnings, track):
    with opened(path) as container:
        stream = video_stream(container)
        sound = None if track is None else track.open(container, max_seconds)
        broken = []
        packets = packets_of(container, [s for s in (stream, sound) if s is not None], broken)
        with _heard(track, packets, broken):
            if stream is None:
                raise MediaError(path, "no video in it" + (", only sound" if container.streams.audio else ""))
            if stream.codec_context is None:
                raise MediaError(path, "no decoder for its pictures")
            _refuse_larger(path, stream.width, stream.height, max_pixels)
            refuse_longer(path, header_seconds(container, stream), max_seconds)
            context = stream.codec_context
            context.thread_type, context.thread_count = "NONE", 1  # files, not frames, are read in parallel
            # The decoder itself refuses larger frames, before it allocates them. Room for its macroblocks.
            context.options = {"max_pixels": str(max_pixels + max_pixels // 8 + 65536)}
            period = clock.frame_seconds(stream)
            slack = min(period / 2, 1.0) + 1e-6  # a header may lie, a float rounds
            length = _length(path, container, stream, max_seconds) if count else 0.0
            if count:
                fps, max_frames = count / length, min(count, max_frames or count)
            errors, kept, last, origin = [], 0, -period, None
            for frame in decoded(packets, stream, errors, track):
                _refuse_larger(path, frame.width, frame.height, max_pixels)
                # Frames come in display order: a time that is missing or runs back is wrong, not the order.
                if frame.pts is not None:
                    time = float(frame.pts * frame.time_base)
                    origin = clock.origin(time, pictures_start(container)) if origin is None else origin
                    last = max(last, time - origin)
                else:
                    last += period
                refuse_longer(path, last, max_seconds)
                picture = None
                while last >= kept / fps - slack:
                    picture = convert(path, frame) if picture is None else picture
                    yield last, picture
                    kept += 1
                    if kept == max_frames:
                        break
                if kept == max_frames:
                    break
            else:  # read to its end
                errors += broken
                promised = clock.promised(container, stream)
                margin = max(0.5, 2 * period) if stream.duration else max(1.0, 0.1 * promised)
                if kept and last + period < promised - margin:
                    errors.append(f"truncated: the header promises {promised:.2f} s")
                # Of `count` the last frame stands for all that is left, but where the file breaks off before.
                if kept and count and not (errors and last + period < length - margin):
                    picture = convert(path, frame)
                    for _ in range(max_frames - kept):
                        yield last, picture
            if not kept:
                raise MediaError(path, nothing("frame", errors))
            if errors:
                warnings.append(damage(errors, last))


def _length(path, container, stream, max_seconds):
    """Seconds of pictures, above 0: by a header that can be trusted, else by a pass over the file."""
    seconds = clock.counted(container, stream)
    if not seconds:
        with opened(path) as again:  # not every format can be wound back
            same = [again.streams[stream.index]]
            seconds = clock.packet_seconds(packets_of(again, same, []), same[0], pictures_start(container))
            refuse_longer(path, seconds, max_seconds)
    return max(seconds, clock.frame_seconds(stream))


@contextlib.contextmanager
def _heard(track, packets, broken):
    """Behind the pictures, also where they end in a MediaError, the track gets the rest of its sound."""
    failure = None
    try:
        yield
    except MediaError as error:
        failure = error
    if track is not None:
        track.listen(packets, broken)
    if failure:
        raise failure


def _refuse_larger(path, width, height, max_pixels):
    if width * height > max_pixels:
        raise MediaError(path, f"{width} x {height} pixels a frame, more than max_pixels={max_pixels}")


def _converter(size, form, interpolation):
    """A function from a decoded frame to a uint8 array, upright, in one pass of the scaler."""
    scaler = VideoReformatter()  # keeps its context from frame to frame
    flags = interpolation | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

    def convert(path, frame):
        turns = round(frame.rotation / 90) % 4  # quarter turns counterclockwise
        height, width = size or (None, None)
        if turns % 2:
            height, width = width, height
        try:
            scaled = scaler.reformat(frame, width, height, form, interpolation=flags, threads=1)
            array = scaled.to_ndarray()
        except (FFmpegError, ValueError) as error:
            raise MediaError(
                path, f"frames of format {frame.format.name} cannot be converted ({error})"
            ) from None
        return np.ascontiguousarray(np.rot90(array, turns)) if turns else array

    return convert


def _list(errors):
    return ", ".join(f"{text} ({n} times)" if n > 1 else text for text, n in Counter(errors).items())


def _words(error):
    return (getattr(error, "strerror", None) or str(error)).lower()
