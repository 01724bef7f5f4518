"""Files through decoder and network: decoded in threads, in order, ahead of the network that takes them."""

import collections
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tfvc.data import audio, video

BATCHES = 8  # decoded frames that wait for the network, in network batches


class DecodeAhead:
    """Decodes files in threads, in order, a bounded number of frames ahead of who takes them.

    The file being taken may always go on, up to half the budget of its own, whatever the later ones hold:
    so nothing waits in a circle, and of a video of an hour only so many pictures lie in memory. (What
    `encode_all` makes of them does so whole, clip by clip: `max_frames` among the options bounds it.)

    Args:
        paths: files, in the order in which they will be taken.
        options: of `video.iter_frames`.
        budget: decoded frames that may wait, over all files; half as many again for the file being taken.
        threads: decoders; None = one a processor.
        streams: which of `frames` and `audio` are wanted; both come out of one pass over the file. Of
            neither, no file is opened.
        track: function that gives what takes the sound of a file; None: `audio.Track`.
        texts: the words that go with each path; () = none.
    """

    def __init__(self, paths, options, budget, threads=None, streams=("frames",), track=None, texts=()):
        self._paths, self._options, self._budget = list(paths), options, max(2, budget)
        self._streams, self._track = streams, track or audio.Track
        self.texts = list(texts) or [""] * len(self._paths)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._changed = threading.Condition()
        self._jobs = {}  # index -> (future, queue of frames that wait, warnings, track of sound)
        self._submitted = self._waiting = self._head = 0
        self._closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, one):
        """Yields `(seconds, frame)` of the file `one.index`; extends `one.warnings`, and gives it its track.

        Args:
            one: an `Encoded`.

        Raises:
            MediaError: the file gave no frame, or, where only sound is wanted, no sound.
        """
        index = one.index
        if not {"frames", "audio"} & set(self._streams):
            return
        with self._changed:
            self._head = index
            self._changed.notify_all()
        while self._submitted < min(len(self._paths), index + self._budget):
            queue, found = collections.deque(), []
            track = self._track() if "audio" in self._streams else None
            job = self._pool.submit(self._decode, self._submitted, queue, found, track)
            job.add_done_callback(self._wake)
            self._jobs[self._submitted] = (job, queue, found, track)
            self._submitted += 1
        job, queue, found, one.track = self._jobs.pop(index)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: queue or job.done())
                if not queue:
                    break
                item = queue.popleft()
                self._waiting -= 1
                self._changed.notify_all()
            yield item
        one.warnings.extend(found)
        job.result()  # raises what the decoder raised

    def _decode(self, index, queue, found, track):
        def may_go_on():
            own = index == self._head and len(queue) < max(1, self._budget // 2)
            return self._closed or self._waiting < self._budget or own

        path = self._paths[index]
        if "frames" not in self._streams:
            with self._changed:  # sound makes no frames that could wait: bounded by files
                self._changed.wait_for(lambda: self._closed or index <= self._head + 2 * self._threads)
            if not self._closed:
                audio.read_track(path, track, max_seconds=self._options["max_seconds"])
            return
        given = self._options | ({"track": track} if track else {})
        for item in video.iter_frames(path, **given, warnings=found):
            with self._changed:
                self._changed.wait_for(may_go_on)
                if self._closed:
                    return
                queue.append(item)
                self._waiting += 1
                self._changed.notify_all()

    def _wake(self, _):
        with self._changed:
            self._changed.notify_all()


@dataclass
class Encoded:
    """One file through decoder and networks: all its features, none of its pictures (but for `frames`)."""

    index: int
    times: list = field(default_factory=list)  # seconds, one a frame
    rows: list = field(default_factory=list)  # features, one a frame
    sound: np.ndarray = field(default_factory=lambda: np.zeros(0))  # features, one a row
    text: np.ndarray = field(default_factory=lambda: np.zeros(0))  # rows, one a word
    track: audio.Track | None = None
    warnings: list = field(default_factory=list)
    reason: str = ""  # why there is nothing
    decoded: bool = False


def encode_all(decoder, indices, encoders, batch_size):
    """Yields `Encoded` for each index, in order; network calls of `batch_size` frames across files.

    The last call holds what remains: no call spans two of these loops. A clip that lacks one stream of
    several has a warning; one that lacks all has a `reason`, and so has one whose file gives neither pictures
    nor sound where they are wanted, words or not.

    Args:
        decoder: a `DecodeAhead`.
        indices: of its files.
        encoders: `tfvc.encoders.Encoders`.
        batch_size: frames a network call.
    """
    frames, owners, line = [], [], collections.deque()

    def flush():
        for owner, row in zip(owners, encoders.pictures.encode(np.stack(frames)), strict=True):
            owner.rows.append(row)
        frames.clear()
        owners.clear()

    for index in indices:
        one = Encoded(index)
        line.append(one)
        try:
            for seconds, frame in decoder.take(one):
                one.times.append(seconds)
                frames.append(frame)
                owners.append(one)
                if len(frames) == batch_size:
                    flush()
        except (video.MediaError, FileNotFoundError) as error:  # the latter: removed since it was listed
            one.reason = getattr(error, "reason", "no such file")
        _complete(one, encoders, decoder.texts[index])
        one.decoded = True
        while line and line[0].decoded and len(line[0].rows) == len(line[0].times):
            yield line.popleft()
    if frames:
        flush()
    yield from line


def _complete(one, encoders, text):
    """Encodes sound and words; says which stream is absent, or why there is nothing at all."""
    broken, one.reason = one.reason, ""
    track, one.track = one.track, None
    absent = {}
    if encoders.pictures and not one.times:
        absent["pictures are"] = broken or "no frame in it"
    if encoders.sound:
        one.warnings.extend(track.warnings if track else [])
        if track is not None and not track.reason:
            one.sound = encoders.heard(track)
        else:
            absent["sound is"] = broken if broken and not encoders.pictures else track.reason
    if absent and len(absent) == bool(encoders.pictures) + bool(encoders.sound):
        one.reason = next(iter(absent.values()))
        return
    if encoders.words:
        one.text = encoders.words.rows(text)
        if not len(one.text):
            absent["text is"] = "none of its words is known" if text.strip() else "no text"
    if len(absent) == len(encoders.streams):
        one.reason = absent["text is"]
        return
    one.warnings.extend(f"its {what} absent: {why}" for what, why in absent.items())
