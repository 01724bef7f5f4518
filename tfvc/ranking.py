"""Average precision of rankings: of one list of any length, and of very many predictions in little memory.

The rule for equal scores, everywhere: wrong ones stand before right ones. So a value depends on nothing but
the set of pairs, not on their order, and a model gains nothing by giving equal scores. It is the lowest of
the values that the orders of equal scores can give.
"""

import threading

import numpy as np

# A pair is 64 bits: class (31), score turned so that the highest comes first (32), whether it is right (1).
_SCORE_BITS, _CLASS_BITS = 33, 31  # the score's with the last bit
_BLOCK = (1 << 22) + 512  # pairs of 8 bytes; over 32 MiB, so that the C library hands a freed block back
_PART = 1 << 18  # pairs looked at in one go


def average_precision(scores, hits, positives=None, n=None):
    """Mean, over the positives, of the precision at the place of each hit.

        AP = sum over hits at places i (hits up to i / i) / min(positives, n)

    Ties: wrong ones first. No positives: 0.

    Args:
        scores: (N,), any float dtype, ranked as it is; higher is earlier.
        hits: (N,), above 0 = right.
        positives: how many right ones there are altogether; None = as many as in `hits`.
        n: look at the first n places only; None = all.

    Returns:
        float.

    Raises:
        ValueError: other lengths; n below 1; a score that is NaN.

    Example:
        >>> average_precision([0.9, 0.8, 0.7], [1, 0, 1])
        0.8333333333333333
    """
    scores, hits = np.asarray(scores), np.asarray(hits) > 0
    if scores.shape != hits.shape or scores.ndim != 1:
        raise ValueError(
            f"scores {scores.shape} and hits {hits.shape}; expected two lists of the same length"
        )
    if n is not None and n < 1:
        raise ValueError(f"n={n}: expected at least 1, or None")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; it has no place in a ranking")
    positives = int(hits.sum()) if positives is None else positives
    if not positives:
        return 0.0
    places = np.flatnonzero(hits[np.lexsort((hits, -scores))]) + 1
    precision = np.arange(1, len(places) + 1) / places
    wanted = positives if n is None else min(positives, n)
    return float(precision[places <= (n or len(hits))].sum() / wanted)


class Ranking:
    """(class, score, hit) of very many predictions, for their average precisions.

    8 bytes a pair, and nothing else that grows: 1,000,000 videos with 20 pairs each are 160 MB. Several
    threads may add at the same time. Scores are ranked as float32.

    Example:
        >>> ranking = Ranking()
        >>> ranking.add(np.float32([0.9, 0.8]), np.array([0, 1]), np.array([True, False]), np.array([1, 1]))
        >>> ranking.global_average_precision(), ranking.average_precisions().tolist()
        (0.5, [1.0, 0.0])
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.clear()

    def clear(self):
        """Forgets all."""
        with self._lock:
            self._blocks, self._free = [], 0  # blocks of pairs; free places at the end of the last one
            self._positives = None

    def __len__(self):
        return sum(map(len, self._blocks)) - self._free

    @property
    def positives(self):
        """int64 (C,): how many right ones each class has, found or not; None before the first `add`."""
        return self._positives

    def add(self, scores, classes, hits, positives):
        """Takes in pairs.

        Args:
            scores: float32, any shape.
            classes: int, the same shape.
            hits: bool, the same shape; whether the video has this class.
            positives: int (C,), the labels of these videos, a number for each class.

        Raises:
            ValueError: another number of classes than before.
        """
        keys = _packed(np.ravel(scores), np.ravel(classes), np.ravel(hits))
        with self._lock:
            self._count(positives)
            self._append(keys)

    def merge(self, other):
        """Takes in the pairs of another ranking, which is emptied."""
        with other._lock:
            blocks, positives = other._blocks, other._positives
            if other._free:
                blocks[-1] = blocks[-1][: len(blocks[-1]) - other._free]
            other._blocks, other._free, other._positives = [], 0, None
        with self._lock:
            if positives is not None:
                self._count(positives)
            while blocks:
                self._append(blocks.pop())

    def global_average_precision(self):
        """One ranking of all pairs; the number of positives is that of all labels. No positives: 0.0."""
        with self._lock:
            positives = 0 if self._positives is None else int(self._positives.sum())
            if not positives:
                return 0.0
            keys, total, seen = self._joined(), 0.0, 0
            _rotate(keys, _CLASS_BITS)  # the score in front of the class
            keys.sort()
            for start in range(0, len(keys), _PART):
                right = keys[start : start + _PART] >> np.uint64(_CLASS_BITS) & np.uint64(1)
                places = start + np.flatnonzero(right) + 1
                total += float(np.sum(np.arange(seen + 1, seen + len(places) + 1) / places))
                seen += len(places)
            _rotate(keys, _SCORE_BITS)
            return total / positives

    def average_precisions(self, n=None):
        """A ranking for each class.

        Args:
            n: look at the first n places of each class, and divide by at most n; None = all.

        Returns:
            float64 (C,), NaN where a class has no positives; (0,) before the first `add`.
        """
        with self._lock:
            if self._positives is None:
                return np.zeros(0)
            keys, count = self._joined(), len(self._positives)
            keys.sort()
            first = np.searchsorted(keys, np.arange(count, dtype="uint64") << np.uint64(_SCORE_BITS))
            total, seen = np.zeros(count), np.zeros(count, "int64")
            for start in range(0, len(keys), _PART):
                part = keys[start : start + _PART]
                places = np.flatnonzero(part & np.uint64(1))
                classes = (part[places] >> np.uint64(_SCORE_BITS)).astype("int64")
                within = np.arange(len(classes)) - np.searchsorted(classes, classes)
                rank = start + places - first[classes] + 1
                precision = (seen[classes] + within + 1) / rank
                if n is not None:
                    precision[rank > n] = 0
                total += np.bincount(classes, precision, count)
                seen += np.bincount(classes, minlength=count)
            wanted = self._positives if n is None else np.minimum(self._positives, n)
            return np.where(wanted > 0, total / np.maximum(wanted, 1), np.nan)

    def _count(self, positives):
        positives = np.asarray(positives).astype("int64")
        if self._positives is not None and len(positives) != len(self._positives):
            raise ValueError(f"{len(positives)} classes, before there were {len(self._positives)}")
        self._positives = positives if self._positives is None else self._positives + positives

    def _append(self, keys):
        while len(keys):
            if not self._free:
                self._blocks.append(np.empty(_BLOCK, "uint64"))  # pages cost memory once they are written
                self._free = _BLOCK
            block, size = self._blocks[-1], min(len(keys), self._free)
            start = len(block) - self._free
            block[start : start + size] = keys[:size]
            keys, self._free = keys[size:], self._free - size

    def _joined(self):
        """All pairs in one array. Each block is freed once it is copied, so that nothing is there twice."""
        if len(self._blocks) == 1:  # places that were never written cost nothing
            self._blocks, self._free = [self._blocks[0][: len(self)]], 0
        else:
            whole, at = np.empty(len(self), "uint64"), 0
            self._blocks.reverse()
            while self._blocks:
                block = self._blocks.pop()
                size = min(len(block), len(whole) - at)
                whole[at : at + size] = block[:size]
                at += size
                del block
            self._blocks, self._free = [whole], 0
        return self._blocks[0]


def _packed(scores, classes, hits):
    bits = (np.asarray(scores, "float32") + np.float32(0)).view("uint32")  # + 0 makes -0.0 equal 0.0
    # Of a positive float more bits are more; of a negative one, less. Turned, so that the highest is lowest.
    falling = np.where(bits >> np.uint32(31), bits, bits ^ np.uint32(0x7FFFFFFF)).astype("uint64")
    keys = np.asarray(classes).astype("uint64") << np.uint64(_SCORE_BITS)
    keys |= falling << np.uint64(1)
    keys |= np.asarray(hits).astype("uint64")
    return keys


def _rotate(keys, places):
    """Turns the bits of each number to the left, in place, a part at a time."""
    left, right = np.uint64(places), np.uint64(64 - places)
    for start in range(0, len(keys), _PART):
        part = keys[start : start + _PART]
        part[:] = part << left | part >> right
