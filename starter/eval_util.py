"""The measures of the YouTube-8M programs under the starter code's names; the arithmetic is tfvc's.

Hit@1, PERR, mAP and GAP of a batch or of a whole set. Where equal predictions leave a choice, the rules of
`tfvc.metrics` hold: within a video the lower class comes first, between videos the wrong one.
"""

import functools

import numpy as np
import tensorflow as tf

from tfvc import topk
from tfvc.ranking import Ranking, average_precision


def calculate_hit_at_one(predictions, actuals):
    """The share of videos whose best prediction is one of their labels.

    **Source** `calculate_hit_at_one` of YouTube-8M's eval_util.py.
    **Differs** See `tfvc.metrics.HitAtOne`.

    Args:
        predictions: (B, C).
        actuals: (B, C), above 0 = a label.

    Returns:
        float; 0.0 without videos.

    Example:
        >>> calculate_hit_at_one([[0.75, 0.5], [0.25, 0.5]], [[1, 0], [1, 0]])
        0.5
    """
    return _mean(topk.hit_at_one(actuals, predictions))


def calculate_precision_at_equal_recall_rate(predictions, actuals):
    """PERR: of a video with n labels, the share of its n best predictions above 0 that are labels.

    **Source** `calculate_precision_at_equal_recall_rate` of YouTube-8M's eval_util.py.
    **Differs** See `tfvc.metrics.PrecisionAtEqualRecall`.

    Args:
        predictions: (B, C).
        actuals: (B, C), above 0 = a label. A video without labels counts 0.

    Returns:
        float; 0.0 without videos.

    Example:
        >>> calculate_precision_at_equal_recall_rate([[0.75, 0.25, 0.5]], [[1, 1, 0]])
        0.5
    """
    return _mean(topk.precision_at_equal_recall(actuals, predictions))


def calculate_gap(predictions, actuals, top_k=topk.TOP):
    """GAP@k: average precision of one ranking of the k best predictions of all videos.

    **Source** `calculate_gap` of YouTube-8M's eval_util.py.
    **Differs** See `tfvc.metrics.GlobalAveragePrecision`. float64 predictions are ranked as float64.

    Args:
        predictions: (B, C).
        actuals: (B, C), above 0 = a label.
        top_k: k.

    Returns:
        float; 0.0 without labels.

    Raises:
        ValueError: a prediction is NaN; top_k below 1.

    Example:
        >>> calculate_gap([[0.75, 0.5], [0.25, 0.125]], [[1, 0], [0, 1]], top_k=1)
        0.5
    """
    best, _, hits = _best(predictions, actuals, top_k)
    return average_precision(np.ravel(best), np.ravel(hits), positives=int(np.sum(np.asarray(actuals) > 0)))


def top_k_by_class(predictions, labels, k=20):
    """The k best predictions of each video, sorted into lists, one a class.

    **Source** `top_k_by_class` of YouTube-8M's eval_util.py.
    **Differs** Of equal predictions of a video the lower class is taken; in the original it is chance.

    Args:
        predictions: (B, C).
        labels: (B, C), above 0 = a label.
        k: how many a video; all where there are fewer classes.

    Returns:
        `(predictions, labels, positives)`: lists of C lists, in the order of the videos; list of C numbers,
        the labels of each class.

    Raises:
        ValueError: k below 1; a prediction is NaN.

    Example:
        >>> top_k_by_class([[0.75, 0.5, 0.25]], [[1, 0, 1]], k=2)
        ([[0.75], [0.5], []], [[1], [0], []], [1, 0, 1])
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    best, classes, _ = _best(predictions, labels, k)
    actuals = np.take_along_axis(labels, classes, 1)
    count = predictions.shape[1]
    out_predictions, out_labels = [[] for _ in range(count)], [[] for _ in range(count)]
    for c, p, y in zip(
        classes.ravel().tolist(), best.ravel().tolist(), actuals.ravel().tolist(), strict=True
    ):
        out_predictions[c].append(p)
        out_labels[c].append(y)
    return out_predictions, out_labels, labels.sum(axis=0).tolist()


class EvaluationMetrics:
    """Hit@1, PERR, mAP, GAP and the mean loss of a whole set, batch after batch.

    8 bytes a pair are kept: 1,000,000 videos with 20 pairs each are 160 MB. Predictions are ranked as
    float32.

    **Source**: EvaluationMetrics of YouTube-8M's eval_util.py.
    **Differs**: one class alone is taken; the original refuses it. The value does not depend on the batches,
    nor on chance where predictions are equal. top_n cuts when a value is asked for, not while collecting.

    Args:
        num_class: C.
        top_k: how many predictions a video count for GAP and mAP.
        top_n: how many of the pairs of a class count for its average precision; None = all.

    Raises:
        ValueError: num_class, top_k or top_n below 1.

    Example:
        >>> metrics = EvaluationMetrics(num_class=2, top_k=20)
        >>> metrics.accumulate([[0.75, 0.5]], [[1, 0]], [0.125])
        {'hit_at_one': 1.0, 'perr': 1.0, 'loss': 0.125}
        >>> metrics.get()["gap"], metrics.get()["aps"]
        (1.0, [1.0])
    """

    def __init__(self, num_class, top_k=topk.TOP, top_n=None):
        for name, value in (("num_class", num_class), ("top_k", top_k), ("top_n", top_n)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: expected at least 1")
        self.num_class, self.top_k, self.top_n = num_class, top_k, top_n
        self._ranking = Ranking()
        self._summary = _compiled(num_class, top_k)
        self.clear()

    def accumulate(self, predictions, labels, loss):
        """Takes in a batch.

        Args:
            predictions: (B, C), tensor or array.
            labels: (B, C), above 0 = a label.
            loss: a number for the batch, or (B,).

        Returns:
            dict of the batch: `hit_at_one`, `perr`, `loss`.

        Raises:
            ValueError: another number of classes; a prediction is NaN.
        """
        predictions, labels = tf.convert_to_tensor(predictions), topk.labels_of(labels)
        for name, value in (("predictions", predictions), ("labels", labels)):
            if value.shape.rank != 2 or value.shape[1] != self.num_class:
                raise ValueError(
                    f"{name} of shape {tuple(value.shape)}; expected (videos, {self.num_class} classes)"
                )
        return self.accumulate_summary(self._summary(labels, tf.cast(predictions, tf.float32)), loss)

    def accumulate_summary(self, summary, loss):
        """Takes in what `tfvc.topk.summary` found on a device (with this `top_k`), in place of a batch.

        Args:
            summary: `(hit_at_one, perr, pairs)`, tensors or arrays.
            loss: as for `accumulate`.

        Returns:
            dict of the batch: `hit_at_one`, `perr`, `loss`.

        Raises:
            ValueError: a prediction is NaN.
        """
        hit, perr, pairs = tf.nest.map_structure(np.asarray, summary)
        if pairs[-1]:
            raise ValueError(
                f"{int(pairs[-1])} videos of a batch have a prediction that is NaN; look at the weights"
            )
        self._ranking.add(*pairs[:-1])
        means = {"hit_at_one": _mean(hit), "perr": _mean(perr), "loss": _mean(np.atleast_1d(loss))}
        self._sums += len(hit) * np.array([1.0, *means.values()])
        return means

    def get(self):
        """The measures of all batches so far.

        Returns:
            dict: `avg_hit_at_one`, `avg_perr`, `avg_loss`, `aps` (list, a number for each class that has
            positives, in the order of the classes; it may be empty), `gap`.

        Raises:
            ValueError: no video came.
        """
        if not self._sums[0]:
            raise ValueError("no video to evaluate; expected at least one")
        hit, perr, loss = (self._sums[1:] / self._sums[0]).tolist()
        aps = self._ranking.average_precisions(self.top_n)
        return {
            "avg_hit_at_one": hit,
            "avg_perr": perr,
            "avg_loss": loss,
            "aps": aps[~np.isnan(aps)].tolist(),
            "gap": self._ranking.global_average_precision(),
        }

    def clear(self):
        """Forgets all."""
        self._ranking.clear()
        self._sums = np.zeros(4)  # videos; their hits, PERR and losses


@functools.cache  # a second set of the same sizes need not be traced again
def _compiled(num_class, top_k):
    shape = [None, num_class]
    return tf.function(
        lambda labels, predictions: topk.summary(labels, predictions, top_k),
        input_signature=[tf.TensorSpec(shape, tf.bool), tf.TensorSpec(shape, tf.float32)],
    )


def _best(predictions, labels, k):
    if k < 1:
        raise ValueError(f"k={k}: expected at least 1")
    predictions = tf.convert_to_tensor(predictions)
    if np.isnan(predictions).any():
        raise ValueError("a prediction is NaN; it has no place in a ranking")
    best, classes, hits = topk.best(topk.labels_of(labels), predictions, k)
    return best.numpy(), classes.numpy(), hits.numpy()


def _mean(values):
    return float(np.mean(values)) if len(values) else 0.0
