"""What is reached without looking at a video."""

import numpy as np


def class_prior(parts, num_classes, rows):
    """Every video gets the share of training videos that have each class.

    All videos have the same scores then; `GlobalAveragePrecision` puts wrong ones first among equals, so
    its value is the lowest that this prediction can get.

    Args:
        parts: `study.Parts`.
        num_classes: C.
        rows: `recipe.Feature` rows that the records hold; one is enough, only labels are used.

    Returns:
        dict, `gap` and `hit_at_one` over the test part, and `clips`.
    """
    from tfvc import metrics
    from tfvc.data import records

    def labels_of(patterns):
        for _, labels, _ in records.batches(records.Records(patterns, rows, num_classes), 512):
            yield labels.numpy()

    measures = [metrics.GlobalAveragePrecision(), metrics.HitAtOne()]
    with records.readable():
        sums, count = np.zeros(num_classes), 0
        for labels in labels_of(parts.train):
            sums, count = sums + labels.sum(0), count + len(labels)
        prior, clips = (sums / count).astype("float32"), 0
        for labels in labels_of(parts.test):
            clips += len(labels)
            for measure in measures:
                measure.update_state(labels, np.broadcast_to(prior, labels.shape))
    return {measure.name: float(measure.result()) for measure in measures} | {"clips": clips}
