"""How sure a difference between two runs on the same clips is: their measures over resampled clips.

A resample is a list of weights: how often each clip was drawn. Every measure here is a function of weights
(B, N), float64 whole numbers, to `{name: (B,)}`; with all weights 1 it gives what `evaluate` gives.
"""

import numpy as np

RESAMPLES = 2000
LEAST = 6  # groups: all of five agree by chance in 2 ** -4 of all cases, which is over 1 - LEVEL
LEVEL = 0.95
_CELLS = 1 << 21  # float64 numbers of an array that a block of resamples makes


def differences(first, second, groups, cells=1, seed=0, resamples=RESAMPLES):
    """Measures of two runs on the same clips, and the interval of their differences.

    The percentile interval of the paired bootstrap: whole groups are drawn with replacement, as many as there
    are, and both runs are measured on the same draw. Clips of one group, cut from one video, are alike: drawn
    singly, they would feign more evidence than there is.

    **Source**: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13; groups:
    Davison & Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8.

    Args:
        first, second: functions of weights (B, N), as `of_one_label` gives.
        groups: (N,), the group of each clip; N different ones: each clip by itself.
        cells: numbers that a measure makes of each weight; so that a block of resamples stays small.
        seed, resamples: of the draws.

    Returns:
        dict, measure -> dict of `first`, `second`, `difference` (second minus first), `low`, `high` and
        `resamples`, those in which the measure exists: without any label there is no average precision.

    Raises:
        ValueError: fewer than two groups.

    Example:
        >>> truth = np.array([0, 0, 1, 1])
        >>> worse, better = (of_one_label(truth, guess, 2) for guess in ([0, 1, 0, 0], [0, 0, 1, 0]))
        >>> found = differences(worse, better, range(4))["accuracy"]
        >>> found["difference"], found["low"], found["high"]
        (0.5, 0.0, 1.0)
    """
    groups = np.unique(np.asarray(groups), return_inverse=True)[1]
    count, clips = int(groups.max(initial=-1)) + 1, len(groups)
    if count < 2:
        raise ValueError(f"{clips} clips of {count} group: nothing to resample; expected two groups or more")
    whole = np.ones((1, clips))
    values = [
        {name: float(value[0]) for name, value in measure(whole).items()} for measure in (first, second)
    ]
    rng, drawn, done = np.random.default_rng(seed), [], 0
    while done < resamples:  # the draws do not depend on the size of the blocks
        size = min(max(1, _CELLS // (clips * cells)), resamples - done)
        weights = rng.multinomial(count, np.full(count, 1 / count), size)[:, groups].astype("float64")
        one, other = first(weights), second(weights)
        drawn.append({name: other[name] - one[name] for name in one})
        done += size
    found = {}
    for name, before in values[0].items():
        after, spread = values[1][name], np.concatenate([block[name] for block in drawn])
        spread = spread[np.isfinite(spread)]
        tails = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(spread) else [np.nan] * 2
        found[name] = {"first": before, "second": after, "difference": after - before}
        found[name] |= {"low": float(tails[0]), "high": float(tails[1]), "resamples": len(spread)}
    return found


def of_one_label(truth, guess, classes):
    """Accuracy, balanced accuracy and macro F1 as `evaluate.measures`, under weights.

    Args:
        truth, guess: (N,), numbers of classes.
        classes: C.
    """
    truth, guess = np.eye(classes)[np.asarray(truth)], np.eye(classes)[np.asarray(guess)]
    sums = _sums(truth, guess)

    def measures(weights):
        there, given, right = sums(weights)
        return {
            "accuracy": right.sum(1) / there.sum(1),
            "balanced_accuracy": _mean(right / np.maximum(there, 1), there > 0),
            "macro_f1": _mean(2 * right / np.maximum(there + given, 1), there > 0),
        }

    return measures


def of_labels(truth, labels, scores):
    """Micro F1, Hamming loss, MAP, MAP over labels and macro F1 as `multilabel.measures`, under weights.

    Args:
        truth, labels: (N, C), 1 where the clip has the label, and where it was decided on; else 0.
        scores: (N, C), finite.
    """
    truth, labels, scores = (np.asarray(x, "float64") for x in (truth, labels, scores))
    sums, known = _sums(truth, labels), truth.any(axis=1)
    one = np.ones((1, truth.shape[1]))
    of_clip = np.zeros(len(truth))
    for i in np.flatnonzero(known):
        of_clip[i] = _average_precision(truth[i], scores[i])(one)[0]
    of_label = [_average_precision(*columns) for columns in zip(truth.T, scores.T, strict=True)]

    def measures(weights):
        there, given, right = sums(weights)
        both = there + given
        precision = np.stack([of(weights) for of in of_label], axis=1)
        clips = weights @ known
        return {
            "micro_f1": 2 * right.sum(1) / np.maximum(both.sum(1), 1),
            "hamming_loss": (both - 2 * right).sum(1) / (weights.sum(1) * truth.shape[1]),
            "map": np.where(clips > 0, weights @ of_clip / np.maximum(clips, 1), np.nan),
            "map_labels": _mean(precision, there > 0),
            "macro_f1": _mean(2 * right / np.maximum(both, 1), there > 0),
        }

    return measures


def of_rankings(hit_at_one, perr, scores, classes, hits, labels):
    """GAP, Hit@1, PERR and mAP as `tfvc.metrics`, under weights.

    Args:
        hit_at_one, perr: float (N,), of each video.
        scores, classes, hits: (N, K), the best predictions of each video, as `topk.top_pairs` gives them.
        labels: int (L, 2), video and class of each label there is.
    """
    videos = np.repeat(np.arange(len(hits)), hits.shape[1])
    scores, classes, hits = (np.ravel(x) for x in (np.asarray(scores, "float32"), classes, hits))
    labels = labels[np.argsort(labels[:, 1], kind="stable")]
    everything, by_class = (
        _Ranking(videos, scores, keys, hits) for keys in (np.zeros_like(classes), classes)
    )

    def measures(weights):
        videos_drawn, positives = weights.sum(1), weights[:, labels[:, 0]]
        total, (there, each) = positives.sum(1), _by(positives, labels[:, 1])
        found, precision = by_class(weights)
        sums = np.zeros_like(each)
        place = np.searchsorted(there, found)  # a right prediction is of a class that has labels
        sums[:, place] = precision
        gap = everything(weights)[1].sum(1)
        return {
            "gap": np.divide(gap, total, where=total > 0, out=np.zeros_like(total)),
            "hit_at_one": weights @ hit_at_one / videos_drawn,
            "perr": weights @ perr / videos_drawn,
            "map": _mean(sums / np.maximum(each, 1), each > 0),
        }

    return measures


class _Ranking:
    """Of each key a ranking of its pairs, wrong ones before right ones of equal scores (`tfvc.ranking`).

    Called with weights it gives the keys that have a right pair, and for each the sum of the precisions at
    its right places. A pair drawn m times takes m places.
    """

    def __init__(self, videos, scores, keys, hits):
        order = np.lexsort((hits, -scores, keys))
        self.videos, keys = videos[order], keys[order]
        self.right = np.flatnonzero(hits[order])
        self.keys = keys[self.right]
        self.begins = np.searchsorted(keys, self.keys)  # where the ranking of a right pair begins
        self.among = np.searchsorted(self.keys, self.keys)  # ... among the right pairs alone

    def __call__(self, weights):
        if not len(self.right):
            return self.keys, np.zeros((len(weights), 0))
        drawn = weights[:, self.videos]
        times = drawn[:, self.right]
        places = _before(drawn)
        places = places[:, self.right] - places[:, self.begins]
        rights = _before(times)
        rights = rights - rights[:, self.among]
        total = np.zeros_like(times)
        for again in range(1, int(times.max(initial=0)) + 1):
            total += np.where(times >= again, (rights + again) / (places + again), 0)
        return _by(total, self.keys)


def _before(values):
    """Along the last axis, the sum of all that stand before."""
    return np.cumsum(values, axis=1) - values


def _by(values, keys):
    """Sums of (B, M) over equal keys (M,), which are sorted: the different keys, and (B, keys)."""
    there, starts = np.unique(keys, return_index=True)
    return there, np.add.reduceat(values, starts, axis=1) if len(starts) else values[:, :0]


def _sums(truth, given):
    """A function: weights (B, N) -> of each class (B, C) the clips that have it, are given it, and both."""
    both = truth * given
    return lambda weights: (weights @ truth, weights @ given, weights @ both)


def _mean(values, there):
    """Mean of each row of (B, C) over the classes that are there; NaN where none is."""
    count = there.sum(1)
    return np.where(count > 0, np.where(there, values, 0).sum(1) / np.maximum(count, 1), np.nan)


def _average_precision(truth, scores):
    """A function of weights (B, N): average precision (B,), 0 where none is right.

    Equal scores share a place, as in scikit-learn.
    """
    order = np.argsort(-scores, kind="stable")
    truth, scores = truth[order], scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # the last of equal ones

    def of(weights):
        weights = weights[:, order]
        places, rights = (np.cumsum(x, axis=1)[:, ends] for x in (weights, weights * truth))
        gained = np.diff(rights, axis=1, prepend=0)
        return (gained * rights / np.maximum(places, 1)).sum(1) / np.maximum(rights[:, -1], 1)

    return of
