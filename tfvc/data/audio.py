"""Sound of a media file, one channel: float32 samples at a given rate, whole or second by second."""

import functools
import math

import av
import numpy as np
from av.error import FFmpegError

from tfvc.data.video import (
    MAX_SECONDS,
    MediaError,
    damage,
    decoded,
    frames_of,
    header_seconds,
    nothing,
    opened,
    packets_of,
    pictures_start,
    refuse_longer,
)

CHANNELS = ("mean", "first")
_FILLING = 0.15  # seconds: a last piece so short is what codecs fill their last block up with
_TOGETHER = 0.05  # seconds: streams whose starts lie no further apart start together, but for codecs' delays
_PLANES = 8  # so many a frame of FFmpeg holds itself; see `_values`
_HIGHEST_RATE = 768_000  # samples a second of a file that `Track` takes: a buffer holds one second
_UNFINISHED = "not read to its end"


class _Listener:
    """Takes the sound of one file, one channel, while the file is read. Who inherits makes something of it.

    `_begin(silent)` is told of silence in front, `_hear(samples)` gets what comes, both at the file's own
    rate; `_finish()` says whether there was any.
    """

    def __init__(self, seconds, rate, channels):
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"seconds={seconds}: expected a number above 0, or None")
        if rate < 1 or rate != int(rate):
            raise ValueError(f"rate={rate}: expected a whole number of samples a second")
        if channels not in CHANNELS:
            raise ValueError(f"channels={channels!r}: expected {' or '.join(CHANNELS)}")
        self.seconds, self.rate, self.channels = seconds, int(rate), channels
        self.reason = "not read yet"
        self._most = math.inf if seconds is None else seconds  # seconds that are enough
        self._reset()

    def _reset(self):
        self.warnings, self._stream = [], None
        self._errors, self._kept = [], bytearray()
        self._file_rate, self._heard = 0, 0
        self._origin, self._cut, self._early = None, 0, False

    @property
    def enough(self):
        """Whether no more packets are wanted: it has its seconds, or there is no more sound to be had."""
        return self._stream is None or 0 < self._file_rate * self._most <= self._heard

    def open(self, container, max_seconds):
        """Finds the sound of an open file. For the reader of the file, as `take` and `listen` are.

        Returns:
            the stream whose packets are wanted; None where there is none, and `reason` says why.
        """
        self._reset()
        stream = container.streams.best("audio") if container.streams.audio else None
        self.reason = _UNFINISHED
        if stream is None:
            self.reason = "no sound in it"
        elif stream.codec_context is None:
            self.reason = "no decoder for its sound"
        elif (seconds := header_seconds(container, stream)) > max_seconds:
            self.reason = f"{seconds:.1f} s of sound, more than max_seconds={max_seconds:g}"
        else:
            self._stream, self._limit = stream, max_seconds
            self._origin = pictures_start(container)
        return self._stream

    def take(self, packet):
        """Decodes one packet of the stream; errors are noted, not raised."""
        for frame in () if self.enough else frames_of(packet, self._errors):
            if not self.enough:
                self._add(frame)

    def listen(self, packets, broken):
        """Takes what is still wanted of the rest, and comes to its end; arguments of `video.packets_of`."""
        while not self.enough and (packet := next(packets, None)) is not None:
            if packet.stream.index == self._stream.index:
                self.take(packet)
        if self.reason != _UNFINISHED:
            return
        if not self.enough:  # the file came to its end
            self._errors += broken
        found = self._finish()
        none = "its sound ends before the pictures start" if self._early else nothing("sound", self._errors)
        self.reason = "" if found else none
        if found and self._errors:
            last = min(self._heard / self._file_rate, self._most)
            self.warnings.append(f"sound {damage(self._errors, last)}")
        self._stream = None

    def _add(self, frame):
        """One frame, from where the sound is to start."""
        first = not self._file_rate
        rate = self._file_rate = self._file_rate or frame.sample_rate
        if frame.sample_rate != rate or rate > _HIGHEST_RATE:
            self._errors.append(f"{frame.sample_rate} samples a second, expected {min(rate, _HIGHEST_RATE)}")
            self._stream = None
            return
        if first:
            self._place(frame)
            if self.enough:
                return
        samples = _channel(frame, self.channels, self._errors)
        cut = min(self._cut, samples.size)
        self._cut -= cut
        self._heard += samples.size - cut
        self._hear(samples[cut:])
        if min(self._heard // rate, self._most) > self._limit:
            self.reason = f"more than max_seconds={self._limit:g} of sound"
            self._stream, self._kept = None, bytearray()

    def _place(self, frame):
        """By the first frame: silence in front of sound that starts late, how much is cut of an early one."""
        late = 0.0 if self._origin is None or frame.time is None else frame.time - self._origin
        late = late if abs(late) > _TOGETHER else 0.0
        samples = round(late * self._file_rate)
        if samples >= min(self._most, self._limit) * self._file_rate or -late > self._limit:
            where = "behind" if late > 0 else "before"
            self.reason = f"its sound starts {abs(late):.1f} s {where} the start of the pictures"
            self._stream = None
            return
        self._early, self._cut, self._heard = late < 0, max(0, -samples), max(0, samples)
        self._begin(self._heard)


class Track(_Listener):
    """The sound of one file as the first samples of each of its seconds, taken while the file is read.

    Give it to `tfvc.data.video.iter_frames`, or to `read_track` where only sound is wanted. The channels are
    averaged, whole seconds are cut at the file's own rate, the last one is filled up with zeros, and only
    then is each second resampled by itself. Second 0 is where the video stream starts: sound that starts
    later has silence in front, what lies before the pictures is cut. From there on samples follow one
    another, whatever the clock of the file says.

    **Source**: MAFnet's extractor, by spec/mafnet.md.

    **Differs**: the resampler is SciPy's `resample_poly` (two versions of the original's differ from each
    other too). The original lays the sound at second 0 wherever it starts; here that is so for sound alone,
    for files without times, and where the streams start within 0.05 s of one another (codecs' delays).
    Lossy codecs overshoot: each channel is cut to [-1, 1], as the original's 16-bit file does. Behind whole
    seconds, a rest below 0.15 s is what the codec filled its last block up with: left out.

    Args:
        seconds: so many are enough: no more sound is decoded; None: to the end.
        rate: samples a second of what is kept.
        samples: how many of each second are kept, from its start: VGGish's patch takes 15600 of 16000.

    Attributes:
        pieces: float32 (S, samples) in about [-1, 1], a row a second; S >= 1, or 0 where `reason` is given.
        reason: why there is no sound; "" where there is.
        warnings: a list, with one sentence if the sound is only partly decodable.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> track = Track(seconds=10)
        >>> track.pieces.shape, track.reason
        ((0, 15600), 'not read yet')
    """

    def __init__(self, seconds=None, rate=16000, samples=15600):
        if not 1 <= samples <= rate:
            raise ValueError(f"rate={rate}, samples={samples}: expected whole numbers, 1 <= samples <= rate")
        self.samples = int(samples)
        super().__init__(seconds, rate, "mean")
        self._most = math.ceil(seconds) if seconds else math.inf

    def _reset(self):
        super()._reset()
        self.pieces = np.zeros((0, self.samples), "float32")
        self._count = self._silent = 0
        self._waiting, self._held = [], 0  # samples of the second that has begun, and how many they are

    def _begin(self, silent):
        self._silent, self._held = divmod(silent, self._file_rate)
        self._count, self._waiting = self._silent, [np.zeros(self._held)]
        self._kept += bytes(self._silent * self.samples * 4)  # float32 zeros

    def _hear(self, samples):
        """Cuts samples, behind those that wait, into seconds."""
        self._waiting.append(samples)
        self._held += samples.size
        if self._held < self._file_rate:
            return
        samples = np.concatenate(self._waiting)
        self._held = samples.size % self._file_rate
        for second in samples[: samples.size - self._held].reshape(-1, self._file_rate):
            self._keep(second)
        self._waiting = [samples[samples.size - self._held :]]

    def _finish(self):
        filling = self._count > self._silent and self._held < _FILLING * self._file_rate
        if self._held and not filling:
            self._keep(np.pad(np.concatenate(self._waiting), (0, self._file_rate - self._held)))
        self.pieces, self._waiting = np.frombuffer(self._kept, "float32").reshape(-1, self.samples), []
        return bool(self._count)

    def _keep(self, second):
        if self._count >= self._most:
            return
        common = math.gcd(self.rate, self._file_rate)
        up, down = self.rate // common, self._file_rate // common
        if up != down:
            from scipy.signal import resample_poly  # half a second: commands on pictures alone do without

            second = resample_poly(second, up, down, window=_low_pass(up, down))
        self._kept += second[: self.samples].astype("float32").tobytes()
        self._count += 1


class WholeTrack(_Listener):
    """The sound of one file as a whole, one channel at one rate, taken while the file is read.

    As `Track`, but neither cut into seconds nor filled up: the resampler runs on from the first sample to the
    last. Sample 0 is where the video stream starts, by the same rules.

    **Source**: SoundNet's front end, by spec/raf.md: 22,050 Hz, the first channel.

    **Differs**: the original reads the file's own rate, whatever it is, though its paper says 22,050 Hz. The
    resampler is FFmpeg's, as in `read_audio`.

    Args:
        rate: samples a second of what is kept.
        channels: the `first`, or the `mean` of all, before they are resampled.
        seconds: so many are enough: no more sound is decoded; None: to the end.

    Attributes:
        samples: float32 (N,) in [-1, 1]; N >= 1, or 0 where `reason` is given.
        reason, warnings: as of `Track`.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> track = WholeTrack()
        >>> track.samples.shape, track.reason
        ((0,), 'not read yet')
    """

    def __init__(self, rate=22050, channels="first", seconds=None):
        super().__init__(seconds, rate, channels)

    def _reset(self):
        super()._reset()
        self.samples, self._resampler = np.zeros(0, "float32"), None

    def _begin(self, silent):
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
        self._kept += bytes(round(silent * self.rate / self._file_rate) * 4)  # float32 zeros

    def _hear(self, samples):
        if samples.size:
            frame = av.AudioFrame.from_ndarray(samples[None].astype("float32"), format="flt", layout="mono")
            frame.sample_rate = self._file_rate
            self._keep(frame)

    def _finish(self):
        if self._resampler:
            self._keep(None)
        samples = np.frombuffer(self._kept, "float32")
        self.samples = samples if self._most == math.inf else samples[: math.ceil(self._most * self.rate)]
        return bool(self.samples.size)

    def _keep(self, frame):
        for piece in self._resampler.resample(frame):
            self._kept += piece.to_ndarray()[0].clip(-1.0, 1.0).tobytes()  # the filter overshoots


def read_track(path, track, *, max_seconds=MAX_SECONDS):
    """The sound of a file alone, into a track; a video's pictures are not decoded.

    Args:
        path: a sound file, or a video file with sound.
        track: a `Track` or a `WholeTrack`; its `reason` says where the file has no sound, or too much.
        max_seconds: longer sound is refused, by the header and by its samples.

    Returns:
        the track.

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: a file that cannot be opened.

    Example:
        >>> read_track("clip.mp4", Track(seconds=5)).pieces.shape
        (5, 15600)
    """
    with opened(path) as container:
        stream, broken = track.open(container, max_seconds), []
        track.listen(packets_of(container, [stream], broken), broken)
    return track


def _channel(frame, channels, errors):
    """The first of a frame's channels, or their plain mean, float64 (samples,) in [-1, 1]."""
    values = _values(frame)
    if values.dtype.kind == "u":
        values = values.astype("float64") - 128
        values /= 128
    elif values.dtype.kind == "i":
        values = values / 2.0 ** (8 * values.itemsize - 1)
    elif np.isnan(values).any():
        errors.append("samples that are no numbers, taken as 0")
        values = np.nan_to_num(values)
    values = np.clip(values, -1.0, 1.0)
    return values[0].astype("float64") if channels == "first" else values.mean(0, dtype="float64")


def _values(frame):
    """A frame's samples (channels, samples), as they are stored.

    PyAV counts the planes of eight channels and more beyond the last, and reads memory that is not there; so
    these are put side by side in one plane first.
    """
    count = frame.layout.nb_channels
    if not frame.format.is_planar:
        return frame.to_ndarray().reshape(-1, count).T
    if count < _PLANES:
        return frame.to_ndarray()
    side_by_side = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
    pieces = [*side_by_side.resample(frame), *side_by_side.resample(None)]
    return np.concatenate([piece.to_ndarray().reshape(-1, count).T for piece in pieces], 1)


@functools.lru_cache(4)
def _low_pass(up, down):
    """The filter that `resample_poly` would draw anew for each second."""
    from scipy.signal import firwin

    widest = max(up, down)
    return firwin(20 * widest + 1, 1 / widest, window=("kaiser", 5.0))


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
    if channels not in CHANNELS:
        raise ValueError(f"channels={channels!r}: expected {' or '.join(CHANNELS)}")
    with opened(path) as container:
        stream = container.streams.best("audio") if container.streams.audio else None
        if stream is None:
            raise MediaError(path, "no sound in it")
        if stream.codec_context is None:
            raise MediaError(path, "no decoder for its sound")
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
    broken = []
    for frame in decoded(packets_of(container, [stream], broken), stream, errors):
        if resampler is None:
            resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=rate)
        frame.pts = None  # a gap in the clock is no reason to fail; samples simply follow one another
        try:
            yield from map(_values, resampler.resample(frame))
        except (FFmpegError, ValueError) as error:  # the format changes in the middle
            errors.append(f"sound format changes ({error})")
            return
    errors += broken
    if resampler is not None:
        yield from map(_values, resampler.resample(None))
