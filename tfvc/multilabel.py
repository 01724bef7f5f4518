"""Clips with several labels: how well decisions and scores fit them, and where a score should decide."""


def measures(truth, labels, scores, classes):
    """The measures of a multi-label classifier, by scikit-learn.

        hamming_loss      mean over clips and classes of [decided is not true]
        micro_f1          2 tp / (2 tp + fp + fn) over all decisions together
        macro_f1          mean of the classes' F1, over the classes that occur
        map               mean over clips of the average precision of the ranking of the clip's classes
        map_labels        mean over classes that occur of the average precision of the ranking of the clips
        subset_accuracy   share of clips whose set of labels is exactly right

    **Source**: spec/resbilstm.md, Metrics (Hamming loss, micro F1, MAP over instances); scikit-learn's
    `hamming_loss`, `f1_score`, `average_precision_score(average="samples")`, `accuracy_score`.
    **Differs**: a clip without a label is left out of `map`, where scikit-learn counts it as 0.

    Precision of a class that is never decided, and recall of one that never occurs, are 0. The average
    precision of a class that never occurs is None. Equal scores share a place, as in scikit-learn.

    Args:
        truth: (N, C), 1 where the clip has the label, else 0.
        labels: (N, C), 1 where the label was decided on.
        scores: (N, C), finite; higher is likelier.
        classes: C names.

    Returns:
        dict of the measures above, floats, and `classes`: a list of class, precision, recall, f1, ap, clips.

    Raises:
        ValueError: not three arrays of one shape, fewer than two classes, no clip, no label at all, anything
            but 0 and 1 in `truth` or `labels`, or a score that is not finite.

    Example:
        >>> found = measures([[1, 0], [1, 1]], [[1, 0], [1, 0]], [[0.9, 0.2], [0.8, 0.4]], ["flood", "storm"])
        >>> found["hamming_loss"], found["map"], found["classes"][1]["recall"]
        (0.25, 1.0, 0.0)
    """
    import numpy as np
    from sklearn import metrics

    truth, labels, scores = _checked(truth, labels, scores, len(classes))
    columns = metrics.precision_recall_fscore_support(truth, labels, average=None, zero_division=0)
    rows = []
    for j, (name, *values, clips) in enumerate(zip(classes, *columns, strict=True)):
        precision, recall, f1 = map(float, values)
        ap = float(metrics.average_precision_score(truth[:, j], scores[:, j])) if clips else None
        row = {"class": name, "precision": precision, "recall": recall, "f1": f1, "ap": ap}
        rows.append(row | {"clips": int(clips)})
    occur = [row for row in rows if row["clips"]]
    known = truth.any(axis=1)
    return {
        "hamming_loss": float(metrics.hamming_loss(truth, labels)),
        "micro_f1": float(metrics.f1_score(truth, labels, average="micro", zero_division=0)),
        "macro_f1": float(np.mean([row["f1"] for row in occur])),
        "map": float(metrics.average_precision_score(truth[known], scores[known], average="samples")),
        "map_labels": float(np.mean([row["ap"] for row in occur])),
        "subset_accuracy": float(metrics.accuracy_score(truth, labels)),
        "classes": rows,
    }


def thresholds(truth, scores):
    """The threshold of each label that is best for its F1; a score above it gives the label.

    It lies midway between the two neighbouring scores that it parts. Of equally good ones the highest is
    taken; below the lowest score it lies by a half. A label that no clip has keeps 0.5.

    Args:
        truth: (N, C), 1 where the clip has the label, else 0: of a part that was not trained on.
        scores: (N, C), finite.

    Returns:
        float64 (C,).

    Raises:
        ValueError: as `measures`, but for the number of classes and the labels.

    Example:
        >>> thresholds([[1, 0], [0, 0], [1, 0]], [[0.9, 0.1], [0.2, 0.3], [0.6, 0.2]]).tolist()
        [0.4, 0.5]
    """
    import numpy as np

    truth, _, scores = _checked(truth, truth, scores, least=0)
    return np.array([_threshold(*columns) for columns in zip(truth.T, scores.T, strict=True)])


def _threshold(truth, scores):
    import numpy as np

    if not truth.any():
        return 0.5
    values, place = np.unique(scores, return_inverse=True)
    # Of each value: how many clips have at least this score, and how many of those are right.
    taken = np.cumsum(np.bincount(place)[::-1])[::-1]
    right = np.cumsum(np.bincount(place, weights=truth)[::-1])[::-1]
    f1 = 2 * right / (taken + truth.sum())
    best = np.flatnonzero(f1 == f1.max())[-1]
    below = values[best - 1] if best else values[0] - 1
    return (values[best] + below) / 2


def _checked(truth, labels, scores, count=None, least=1):
    """Three arrays (N, C): int, int, float64."""
    import numpy as np

    truth, labels, scores = np.asarray(truth), np.asarray(labels), np.asarray(scores, "float64")
    shapes = {truth.shape, labels.shape, scores.shape}
    if len(shapes) > 1 or truth.ndim != 2 or not len(truth) or count not in (None, truth.shape[1]):
        expected = "one shape (clips, classes)" + (f" of {count} classes" if count is not None else "")
        raise ValueError(
            f"truth {truth.shape}, labels {labels.shape}, scores {scores.shape}: expected {expected}"
        )
    if least and truth.shape[1] < 2:
        raise ValueError(f"{truth.shape[1]} class: expected two or more to rank")
    for name, values in (("truth", truth), ("labels", labels)):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name}: expected 1 where a clip has the label, else 0")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number; look at the model's weights and its input")
    if truth.sum() < least:
        raise ValueError("no clip has a label; expected clips with labels to measure by")
    return truth.astype("int64"), labels.astype("int64"), scores
