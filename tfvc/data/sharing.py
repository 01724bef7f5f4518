"""One training, several workers: which part of the data each of them reads."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

_FILES = 8  # a worker reads files of its own where there are so many for each: as many are open at once


@dataclass(frozen=True)
class Share:
    """Worker `index` of `count`, that share each batch in equal parts.

    Where there are files enough, a worker reads its own and makes its part of a batch of them: nothing is
    read twice. Else each reads all, makes the batch that one process would have, and takes its part of that:
    the order is the same for any number of workers.

    Args:
        index: of the worker.
        count: of workers.

    Example:
        >>> Share(1, 2).own(["a", "b", "c"]), Share(1, 2).by_file(15), Share(1, 2).by_file(16)
        (['b'], False, True)
    """

    index: int = 0
    count: int = 1

    def by_file(self, files):
        """Whether so many files are enough for each worker to have its own."""
        return self.count > 1 and files >= _FILES * self.count

    def own(self, items):
        """Every `count`-th, from the worker's own on."""
        return items[self.index :: self.count]

    def cut(self, batch):
        """The worker's part of a batch: a structure of tensors `(B, ...)`, B a multiple of `count`."""
        if self.count == 1:
            return batch
        return tf.nest.map_structure(lambda values: tf.split(values, self.count)[self.index], batch)

    def of(self, dataset):
        """A dataset of the worker's parts; alone, the dataset itself."""
        if self.count == 1:
            return dataset
        return dataset.map(lambda *batch: self.cut(batch if len(batch) > 1 else batch[0]))


ALONE = Share()


def sharers(replicas, pieces):
    """Who takes equal parts of a batch, in words.

    Example:
        >>> sharers(2, 1), sharers(2, 4)
        ('2 replicas', '2 replicas x 4 parts (train.accumulate)')
    """
    return f"{replicas} replicas" + f" x {pieces} parts (train.accumulate)" * (pieces > 1)


class Ending:
    """Tells with a worker's last batch, not after it, that it is the last: workers with files of their own
    come to the end at different steps, and one that stepped on alone would wait for the others for ever.

    Attributes:
        last: number of the last batch, counted from 1; None as long as it is not known.

    Example:
        >>> ending = Ending()
        >>> [int(x) for x in ending.wrap(tf.data.Dataset.range(2))], ending.last
        ([0, 1], 2)
    """

    def __init__(self):
        self.last = None

    def wrap(self, dataset):
        """The same batches, each held back until it is known whether one follows."""
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), dataset.element_spec
        )
        end = tf.data.Dataset.from_tensors((nothing, False))
        marked = tf.data.Dataset.zip((dataset, tf.data.Dataset.from_tensors(True).repeat())).concatenate(end)

        def follow(before, now):
            return now, (*before, now[1])

        def told(number, item):
            batch, _, more = item
            with tf.control_dependencies([tf.numpy_function(self._note, [number, more], tf.int64)]):
                return tf.nest.map_structure(tf.identity, batch)

        pairs = marked.scan((nothing, tf.constant(False)), follow)
        return pairs.filter(lambda batch, there, more: there).enumerate().map(told)

    def _note(self, number, more):
        if not more:
            self.last = int(number) + 1
        return np.int64(0)
