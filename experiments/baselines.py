"""What is reached without looking at a video."""

import numpy as np


def majority(parts, recipe, seeds=3):
    """Every clip gets the class that most training clips have (the first of equals).

    Args:
        parts: `study.Clips`.
        recipe: says how the clips are split.
        seeds: the split is drawn with seeds 0, 1, ...; the values are the means over them.

    Returns:
        dict, `accuracy` over the test part, and `clips`, those of all splits.
    """
    from tfvc.data import datasets, splits

    dataset = datasets.load(recipe.data, parts.source)
    label = {clip.id: dataset.classes.index(clip.labels[0]) for clip in dataset.clips}
    shares, clips = [], 0
    for seed in range(seeds):
        split = splits.split(dataset, recipe.data, seed)
        train, test = (np.array([label[i] for i in ids]) for ids in (split.train, split.test))
        shares.append(np.mean(test == np.bincount(train).argmax()))
        clips += len(test)
    return {"accuracy": float(np.mean(shares)), "clips": clips}


def label_prior(parts, recipe, seeds=3):
    """Every clip gets the labels that more than half of the training clips have; its scores are those shares.

    Args:
        parts: `study.Clips`, of several labels a clip.
        recipe: says how the clips are split.
        seeds: the split is drawn with seeds 0, 1, ...; the values are the means over them.

    Returns:
        dict, `micro_f1`, `hamming_loss` and `map` over the test part, and `clips`, those of all splits.
    """
    from tfvc import multilabel
    from tfvc.data import datasets, splits

    dataset = datasets.load(recipe.data, parts.source)
    hot = {clip.id: np.isin(dataset.classes, clip.labels).astype(int) for clip in dataset.clips}
    measured, clips = [], 0
    for seed in range(seeds):
        split = splits.split(dataset, recipe.data, seed)
        train, test = (np.array([hot[i] for i in ids]) for ids in (split.train, split.test))
        share = np.broadcast_to(train.mean(axis=0), test.shape)
        labels = (share > 0.5).astype(int)
        measured.append(multilabel.measures(test, labels, share, dataset.classes))
        clips += len(test)
    names = ("micro_f1", "hamming_loss", "map")
    return {name: float(np.mean([m[name] for m in measured])) for name in names} | {"clips": clips}


def class_prior(parts, recipe, rows):
    """Every video gets the share of training videos that have each class.

    All videos have the same scores then; `GlobalAveragePrecision` puts wrong ones first among equals, so
    its value is the lowest that this prediction can get.

    Args:
        parts: `study.Parts`.
        recipe: of a row; says how many classes there are.
        rows: `recipe.Feature` rows that the records hold; one is enough, only labels are used.

    Returns:
        dict, `gap` and `hit_at_one` over the test part, and `clips`.
    """
    from tfvc import metrics
    from tfvc.data import records

    num_classes = recipe.data.num_classes

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
