"""The best predictions of each video, found on the device: all that a metric of many classes looks at.

Labels and predictions are (B, C). A label above 0 is a label. Of equal predictions the lower class is first.
Everything here runs eagerly and in a graph.
"""

import tensorflow as tf

TOP = 20  # predictions of a video that GAP and MAP look at, in the original program and here
_FEW = 20  # few videos of YouTube-8M have more labels: so many predictions are sorted at first


def top_pairs(y_true, y_pred, top_k):
    """The best predictions of each video, and whether they are right. Graph or eager.

    Args:
        y_true: labels (B, C), any dtype; above 0 = a label.
        y_pred: predictions (B, C).
        top_k: how many, at most C; None = all.

    Returns:
        `(scores, classes, hits, positives, bad)`: float32, int32 and bool (B, K), best first, the lower
        class first of equals; int32 (C,), the labels of each class; int32, the videos with a NaN.

    Example:
        >>> scores, classes, hits, positives, bad = top_pairs([[0, 0, 1]], [[0.5, 0.25, 0.75]], 2)
        >>> classes.numpy().tolist(), hits.numpy().tolist(), positives.numpy().tolist(), int(bad)
        ([[2, 0]], [[True, False]], [0, 0, 1], 0)
    """
    labels, scores = labels_of(y_true), tf.cast(tf.convert_to_tensor(y_pred), tf.float32)
    return (*best(labels, scores, top_k), _positives(labels), _bad(scores))


def summary(y_true, y_pred, top_k):
    """What every evaluation of YouTube-8M asks of a batch, with one search for the best predictions.

    Args:
        y_true, y_pred, top_k: of `top_pairs`.

    Returns:
        `(hit_at_one, perr, pairs)`: float64 (B,) of `hit_at_one` and `precision_at_equal_recall`, and what
        `top_pairs` returns.
    """
    labels, scores = labels_of(y_true), tf.cast(tf.convert_to_tensor(y_pred), tf.float32)
    found = best(labels, scores, top_k)
    right, share = _first(labels, found[1]), _share(labels, scores, found)
    pairs = (*found, _positives(labels), _bad(scores))
    return spoilt(right, scores), spoilt(share, scores), pairs


def hit_at_one(y_true, y_pred):
    """Float64 (B,): 1 where the best prediction of a video is a label. NaN where a prediction is NaN."""
    labels, scores = labels_of(y_true), tf.convert_to_tensor(y_pred)
    return spoilt(_first(labels, tf.argmax(scores, -1)[:, None]), scores)


def precision_at_equal_recall(y_true, y_pred):
    """Float64 (B,): of a video with n labels, the share of the n best predictions that are labels and above
    0; 0 for a video without labels. NaN where a prediction is NaN."""
    labels, scores = labels_of(y_true), tf.convert_to_tensor(y_pred)
    return spoilt(_share(labels, scores, best(labels, scores, _FEW)), scores)


def labels_of(y_true):
    """Bool (B, C): which labels are there."""
    y_true = tf.convert_to_tensor(y_true)
    return y_true if y_true.dtype == tf.bool else y_true > 0


def best(labels, scores, k):
    """The k best of each video: `(scores, classes, hits)`, (B, K), best first; of equals the lower class.

    Args:
        labels: bool (B, C).
        scores: (B, C), any float dtype.
        k: how many, at most C; None = all.
    """
    count = scores.shape[-1] if scores.shape[-1] is not None else tf.shape(scores)[-1]
    if k is not None:  # a plain number where C is known: XLA wants one
        count = min(k, count) if isinstance(count, int) else tf.minimum(k, count)
    top, classes = tf.math.top_k(scores, count)
    return top, classes, tf.gather(labels, classes, batch_dims=1)


def _positives(labels):
    return tf.reduce_sum(tf.cast(labels, tf.int32), 0)


def _first(labels, classes):
    return tf.cast(tf.gather(labels, classes[:, :1], batch_dims=1)[:, 0], tf.float64)


def _share(labels, scores, found):
    wanted = tf.reduce_sum(tf.cast(labels, tf.int32), -1)

    def right(top, _, hits):
        counts = hits & (top > 0) & (tf.range(tf.shape(top)[1]) < wanted[:, None])
        return tf.reduce_sum(tf.cast(counts, tf.float64), -1)

    def within(found):
        # Sorting all classes is slow and hardly ever needed: only as far as a video of the batch asks for.
        size = found[0].shape[1]
        if size == scores.shape[1]:
            return right(*found)
        enough = tf.reduce_max(wanted) <= size
        return tf.cond(enough, lambda: right(*found), lambda: within(best(labels, scores, 4 * size)))

    if scores.shape[1] is None:
        found = best(labels, scores, None)
    return within(found) / tf.cast(tf.maximum(wanted, 1), tf.float64)


def _bad(scores):
    return tf.reduce_sum(tf.cast(tf.reduce_any(tf.math.is_nan(scores), -1), tf.int32))


def spoilt(values, scores):
    """Values (B,), NaN where a score of the video is NaN, so that it is not overlooked."""
    nan = tf.reduce_any(tf.math.is_nan(scores), -1)
    return tf.where(nan, tf.constant(float("nan"), tf.float64), values)
