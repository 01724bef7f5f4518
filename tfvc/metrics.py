"""Metrics of multi-label classifiers, the same under any batching, order and number of replicas.

A label above 0 is a label. Of equal predictions the lower class comes first in a video's list. There are
two kinds:

- means and counts: `HitAtOne`, `PrecisionAtEqualRecall`, `MicroF1`, `HammingLoss`. They keep sums in float64
  variables.
- rankings of all videos at once: `GlobalAveragePrecision`, `MeanAveragePrecision`. The device finds the
  `top_k` of each video; those pairs come to the host, 8 bytes each, and are ranked in `result()`.

All may be given to `compile(metrics=[...])`; `fit` and `evaluate` then report them, under a strategy too. A
ranking cannot be told inside the compiled step, so the progress bar shows nan for it until the pass ends. XLA
has no way to the host: on a GPU say `compile(..., jit_compile=False)`. In a loop of one's own,
`tfvc.topk.top_pairs` on the device and `update_pairs` on the host do the same.
"""

import threading

import keras
import numpy as np
import tensorflow as tf

from tfvc import topk
from tfvc.ranking import Ranking

# --- means and counts ---------------------------------------------------------------------------------------


class _Mean(keras.metrics.MeanMetricWrapper):
    """The mean of a function of each video, which a subclass names and no config need hold."""

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="tfvc")
class HitAtOne(_Mean):
    """The share of videos whose best prediction is one of their labels.

        mean over videos of [argmax_c p_c is a label]

    **Source**: calculate_hit_at_one of YouTube-8M's eval_util.py.
    **Differs**: soft labels count as labels where they are above 0; the original averages them.

    Ties: the lower class is the best. A video without labels counts 0. No videos: 0.0. A NaN prediction makes
    the result NaN.

    Args:
        name, dtype: of `keras.metrics.Metric`; the sums are kept in `dtype`.

    Input: labels (B, C), predictions (B, C); `sample_weight` None or (B,), for a weighted mean.
    Output: scalar of `dtype`, 0 to 1.
    Masking: none but weights of 0.

    Raises:
        Nothing of its own.

    Example:
        >>> from tfvc.metrics import HitAtOne
        >>> metric = HitAtOne()
        >>> metric.update_state([[1, 0], [1, 0]], [[0.75, 0.5], [0.25, 0.5]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, name="hit_at_one", dtype="float64"):
        super().__init__(topk.hit_at_one, name, dtype)


@keras.saving.register_keras_serializable(package="tfvc")
class PrecisionAtEqualRecall(_Mean):
    """PERR: of a video with n labels, the share of its n best predictions that are labels.

        mean over videos of (1/n) sum over its n best c of [c is a label and p_c > 0]

    **Source**: calculate_precision_at_equal_recall_rate of YouTube-8M's eval_util.py.
    **Differs**: ties at the n-th place go to the lower class; in the original they are chance. Soft labels
    count as labels where they are above 0.

    A video without labels counts 0 and stays in the mean. No videos: 0.0. A NaN prediction makes the result
    NaN.

    Args:
        name, dtype: as HitAtOne.

    Input: labels (B, C), predictions (B, C); `sample_weight` None or (B,), for a weighted mean.
    Output: scalar of `dtype`, 0 to 1.
    Masking: none but weights of 0.

    Raises:
        Nothing of its own.

    Example:
        >>> from tfvc.metrics import PrecisionAtEqualRecall
        >>> metric = PrecisionAtEqualRecall()
        >>> metric.update_state([[1, 1, 0], [0, 0, 0]], [[0.75, 0.25, 0.5], [0.75, 0.25, 0.5]])
        >>> float(metric.result())
        0.25
    """

    def __init__(self, name="perr", dtype="float64"):
        super().__init__(topk.precision_at_equal_recall, name, dtype)


class _Counts(keras.metrics.Metric):
    """Counts of decisions, kept in float64 (whole numbers up to 2^53)."""

    def __init__(self, threshold, name, dtype):
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold
        self._sums = [self.add_variable((), "zeros", self.dtype, name=part) for part in self._PARTS]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch; `sample_weight` None or (B,)."""
        labels, scores = topk.labels_of(y_true), tf.convert_to_tensor(y_pred)
        weights = tf.ones(tf.shape(scores)[:1], self.dtype)
        if sample_weight is not None:
            weights = tf.reshape(tf.cast(sample_weight, self.dtype), [-1])
        counts = self._count(labels, scores > tf.cast(self.threshold, scores.dtype))
        for total, count in zip(self._sums, counts, strict=True):
            number = tf.reduce_sum(tf.cast(count, self.dtype), -1)
            total.assign_add(tf.reduce_sum(weights * topk.spoilt(number, scores)))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="tfvc")
class MicroF1(_Counts):
    """F1 over all decisions of all videos and classes together.

        2 tp / (2 tp + fp + fn), a class being predicted where p > threshold

    **Source**: scikit-learn's f1_score(average="micro"), which the tests compare with.
    **Differs**: nothing on the same decisions.

    No label and no predicted class at all: 0.0. A NaN prediction makes the result NaN.

    Args:
        threshold: above it a class is predicted.
        name, dtype: as HitAtOne.

    Input: labels (B, C), predictions (B, C); `sample_weight` None or (B,).
    Output: scalar of `dtype`, 0 to 1.
    Masking: none but weights of 0.

    Raises:
        Nothing of its own.

    Example:
        >>> from tfvc.metrics import MicroF1
        >>> metric = MicroF1(threshold=0.5)
        >>> metric.update_state([[1, 1, 0]], [[0.75, 0.25, 0.75]])
        >>> float(metric.result())
        0.5
    """

    _PARTS = ("true_positives", "predicted", "labels")

    def __init__(self, threshold=0.5, name="micro_f1", dtype="float64"):
        super().__init__(threshold, name, dtype)

    def _count(self, labels, predicted):
        return labels & predicted, predicted, labels

    def result(self):
        """F1 of all that was taken in."""
        right, predicted, labels = self._sums
        return tf.math.divide_no_nan(2 * right, predicted + labels)


@keras.saving.register_keras_serializable(package="tfvc")
class HammingLoss(_Counts):
    """The share of wrong decisions among all, over videos and classes.

        mean over videos and classes of [(p > threshold) is not y]

    **Source**: scikit-learn's hamming_loss, which the tests compare with.
    **Differs**: nothing on the same decisions.

    No videos: 0.0. A NaN prediction makes the result NaN.

    Args:
        threshold: above it a class is predicted.
        name, dtype: as HitAtOne.

    Input: labels (B, C), predictions (B, C); `sample_weight` None or (B,).
    Output: scalar of `dtype`, 0 to 1; lower is better.
    Masking: none but weights of 0.

    Raises:
        Nothing of its own.

    Example:
        >>> from tfvc.metrics import HammingLoss
        >>> metric = HammingLoss(threshold=0.5)
        >>> metric.update_state([[1, 1, 0, 0]], [[0.75, 0.25, 0.25, 0.25]])
        >>> float(metric.result())
        0.25
    """

    _PARTS = ("wrong", "decisions")

    def __init__(self, threshold=0.5, name="hamming_loss", dtype="float64"):
        super().__init__(threshold, name, dtype)

    def _count(self, labels, predicted):
        return labels ^ predicted, tf.ones_like(labels)

    def result(self):
        """The share of all that was taken in."""
        return tf.math.divide_no_nan(*self._sums)


# --- rankings -----------------------------------------------------------------------------------------------


class _Ranked(keras.metrics.Metric):
    """Pairs on the host, fed from the device."""

    def __init__(self, top_k, name, dtype):
        super().__init__(name=name, dtype=dtype)
        if top_k is not None and top_k < 1:
            raise ValueError(f"{name}: top_k={top_k}; expected at least 1, or None for all classes")
        self.top_k = top_k
        self.ranking = Ranking()
        self._lock = threading.Lock()
        self._bad = self._odd = 0  # videos with a NaN; with a weight that is neither 0 nor 1

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch; `sample_weight` None or (B,), 0 = left out, 1 = counted."""
        odd = tf.constant(0)
        if sample_weight is not None:
            weights = tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
            odd = tf.reduce_sum(tf.cast((weights != 0) & (weights != 1), tf.int32))
            y_true, y_pred = (tf.boolean_mask(y, weights > 0) for y in (y_true, y_pred))
        pairs = (*topk.top_pairs(y_true, y_pred, self.top_k), odd)
        if tf.executing_eagerly():
            self.update_pairs(*(part.numpy() for part in pairs))
        else:
            tf.numpy_function(self.update_pairs, pairs, [])

    def update_pairs(self, scores, classes, hits, positives, bad=0, odd=0):
        """Takes in what `topk.top_pairs` found for a batch, as NumPy arrays. Any thread may call it.

        Args:
            scores, classes, hits, positives, bad: of `topk.top_pairs`.
            odd: how many videos have a weight that is neither 0 nor 1.
        """
        self.ranking.add(scores, classes, hits, positives)
        with (
            self._lock
        ):  # faults are told by `result`: an error in here would come out of TensorFlow as a page
            self._bad, self._odd = self._bad + int(bad), self._odd + int(odd)

    def merge(self, other):
        """Takes in the pairs of another metric of this kind, which is emptied."""
        self.ranking.merge(other.ranking)
        self._bad, self._odd = self._bad + other._bad, self._odd + other._odd
        other.reset_state()

    def reset_state(self):
        """Forgets all."""
        self.ranking.clear()
        self._bad = self._odd = 0

    def result(self):
        """The value over all videos; inside a compiled step, where it cannot be known yet, NaN."""
        if not tf.executing_eagerly():
            return tf.constant(float("nan"), self.dtype)
        if self._bad:
            raise ValueError(
                f"{self.name}: {self._bad} videos have a prediction that is NaN; it has no place in a "
                "ranking: look at the model's weights and its input"
            )
        if self._odd:
            raise ValueError(
                f"{self.name}: {self._odd} videos have a weight that is neither 0 nor 1; a ranking leaves a "
                "video out or counts it"
            )
        return tf.constant(self._value(), self.dtype)

    def get_config(self):
        return {**super().get_config(), "top_k": self.top_k}


@keras.saving.register_keras_serializable(package="tfvc")
class GlobalAveragePrecision(_Ranked):
    """GAP@k: average precision of one ranking of the k best predictions of all videos.

        (1 / all labels) sum over pairs i that are right (right ones up to i / i)

    **Source**: calculate_gap of YouTube-8M's eval_util.py; the measure of its first two challenges.
    **Differs**: ties. Between videos, wrong ones come first, so the value is the lowest that an order of
    equal scores can give; of equal scores within a video the lower class enters the list. In the original
    both are chance. Soft labels count as labels where they are above 0.

    Labels outside the k best count as positives that were not found. No label, or no video: 0.0.

    Args:
        top_k: k; None = all classes.
        name, dtype: of `keras.metrics.Metric`.

    Input: labels (B, C), predictions (B, C), ranked as float32; `sample_weight` None or (B,) of 0 and 1.
    Output: scalar of `dtype`, 0 to 1; NaN inside a compiled step.
    Masking: none but weights of 0.

    Raises:
        ValueError: top_k below 1; in `result`, a prediction was NaN or a weight not 0 or 1.

    Example:
        >>> from tfvc.metrics import GlobalAveragePrecision
        >>> metric = GlobalAveragePrecision(top_k=2)
        >>> metric.update_state([[1, 0, 0], [0, 1, 1]], [[0.75, 0.5, 0.0], [0.0, 0.25, 0.125]])
        >>> round(float(metric.result()), 3)  # right, wrong, right, right
        0.806
    """

    def __init__(self, top_k=topk.TOP, name="gap", dtype="float64"):
        super().__init__(top_k, name, dtype)

    def _value(self):
        return self.ranking.global_average_precision()


@keras.saving.register_keras_serializable(package="tfvc")
class MeanAveragePrecision(_Ranked):
    """mAP: average precision of a ranking of the videos for each class, mean over the classes.

        mean over classes with labels of (1 / its labels) sum over right videos i (right ones up to i / i)

    A video enters the rankings of the classes that are among its k best.

    **Source**: MeanAveragePrecisionCalculator of YouTube-8M, as its EvaluationMetrics feeds it.
    **Differs**: ties, as GlobalAveragePrecision. One class alone is taken; the original refuses it.

    A class without labels is left out of the mean. No class with labels: NaN, the mean of nothing.

    Args:
        num_classes: C.
        top_k: k; None = all classes: 8 C bytes a video are kept then.
        name, dtype: of `keras.metrics.Metric`.

    Input: labels (B, C), predictions (B, C), ranked as float32; `sample_weight` None or (B,) of 0 and 1.
    Output: scalar of `dtype`, 0 to 1; NaN inside a compiled step.
    Masking: none but weights of 0.

    Raises:
        ValueError: top_k or num_classes below 1; predictions of another number of classes; in `result`, a
            prediction was NaN or a weight not 0 or 1.

    Example:
        >>> from tfvc.metrics import MeanAveragePrecision
        >>> metric = MeanAveragePrecision(num_classes=2, top_k=None)
        >>> metric.update_state([[1, 0], [1, 1]], [[0.75, 0.5], [0.25, 0.25]])
        >>> metric.per_class().tolist(), float(metric.result())
        ([1.0, 0.5], 0.75)
    """

    def __init__(self, num_classes, top_k=topk.TOP, name="map", dtype="float64"):
        super().__init__(top_k, name, dtype)
        if num_classes < 1:
            raise ValueError(f"{name}: num_classes={num_classes}; expected at least 1")
        self.num_classes = num_classes

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch; `sample_weight` None or (B,), 0 = left out, 1 = counted."""
        found = tf.convert_to_tensor(y_pred).shape[-1]
        if found is not None and found != self.num_classes:
            raise ValueError(f"{self.name}: predictions of {found} classes; expected {self.num_classes}")
        super().update_state(y_true, y_pred, sample_weight)

    def per_class(self):
        """float64 (C,), the average precision of each class; NaN for one without labels."""
        return self.ranking.average_precisions() if len(self.ranking) else np.full(self.num_classes, np.nan)

    def _value(self):
        found = self.per_class()
        found = found[~np.isnan(found)]
        return found.mean() if len(found) else np.nan

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}
