"""Files through decoder and network: decoded in threads, in order, ahead of the network that takes them."""

import collections
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tfvc.data import video

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
    """

    def __init__(self, paths, options, budget, threads=None):
        self._paths, self._options, self._budget = list(paths), options, max(2, budget)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._changed = threading.Condition()
        self._jobs = {}  # index -> (future, queue of frames that wait, warnings)
        self._submitted = self._waiting = self._head = 0
        self._closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, index, warnings):
        """Yields `(seconds, frame)` of file `index`; extends the list `warnings`.

        Raises:
            MediaError: the file gave no frame.
        """
        with self._changed:
            self._head = index
            self._changed.notify_all()
        while self._submitted < min(len(self._paths), index + self._budget):
            queue, found = collections.deque(), []
            job = self._pool.submit(self._decode, self._submitted, queue, found)
            job.add_done_callback(self._wake)
            self._jobs[self._submitted] = (job, queue, found)
            self._submitted += 1
        job, queue, found = self._jobs.pop(index)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: queue or job.done())
                if not queue:
                    break
                item = queue.popleft()
                self._waiting -= 1
                self._changed.notify_all()
            yield item
        job.result()  # raises what the decoder raised
        warnings.extend(found)

    def _decode(self, index, queue, found):
        def may_go_on():
            own = index == self._head and len(queue) < max(1, self._budget // 2)
            return self._closed or self._waiting < self._budget or own

        for item in video.iter_frames(self._paths[index], **self._options, warnings=found):
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
    """One file through decoder and network: all its features, none of its pictures (but for `frames`)."""

    index: int
    times: list = field(default_factory=list)  # seconds, one a frame
    rows: list = field(default_factory=list)  # features, one a frame
    warnings: list = field(default_factory=list)
    reason: str = ""  # why there is nothing
    decoded: bool = False


def encode_all(decoder, indices, encoder, batch_size):
    """Yields `Encoded` for each index, in order; network calls of `batch_size` frames across files.

    The last call holds what remains: no call spans two of these loops.
    """
    frames, owners, line = [], [], collections.deque()

    def flush():
        for owner, row in zip(owners, encoder.encode(np.stack(frames)), strict=True):
            owner.rows.append(row)
        frames.clear()
        owners.clear()

    for index in indices:
        one = Encoded(index)
        line.append(one)
        try:
            for seconds, frame in decoder.take(index, one.warnings):
                one.times.append(seconds)
                frames.append(frame)
                owners.append(one)
                if len(frames) == batch_size:
                    flush()
        except (video.MediaError, FileNotFoundError) as error:  # the latter: removed since it was listed
            one.reason = getattr(error, "reason", "no such file")
        one.decoded = True
        if not (one.times or one.reason):
            one.reason = "no frame in it"
        while line and line[0].decoded and len(line[0].rows) == len(line[0].times):
            yield line.popleft()
    if frames:
        flush()
    yield from line
