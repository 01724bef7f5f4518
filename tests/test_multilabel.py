"""Measures and thresholds of clips with several labels, against the definitions written out."""

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score

from tfvc import multilabel

CLASSES = ["flood", "storm", "relief", "demo"]


def drawn(seed=0, clips=40):
    """Truth, labels, scores on a grid (so that some are equal); nobody has the last class."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((clips, 4)) < [0.6, 0.3, 0.2, 0.0]).astype(int)
    scores = rng.integers(0, 8, (clips, 4)) / 8 + 0.3 * truth
    return truth, (scores > 0.6).astype(int), scores


def f1(truth, labels):
    right, both = int(np.sum(truth & labels)), int(truth.sum() + labels.sum())
    return 2 * right / both if both else 0.0


def average_precision(truth, scores):
    """Mean over the right ones of the precision among all that score at least as high."""
    return np.mean([truth[scores >= s].mean() for s in scores[truth == 1]])


def test_measures_are_those_of_the_definitions():
    truth, labels, scores = drawn()
    found = multilabel.measures(truth, labels, scores, CLASSES)
    assert found["hamming_loss"] == pytest.approx(np.mean(truth != labels))
    assert found["micro_f1"] == pytest.approx(f1(truth, labels))
    assert found["macro_f1"] == pytest.approx(np.mean([f1(truth[:, j], labels[:, j]) for j in range(3)]))
    assert found["subset_accuracy"] == pytest.approx(np.mean((truth == labels).all(1)))
    known = [average_precision(t, s) for t, s in zip(truth, scores, strict=True) if t.any()]
    assert len(known) < len(truth) and found["map"] == pytest.approx(np.mean(known))
    by_class = [average_precision(truth[:, j], scores[:, j]) for j in range(3)]
    assert found["map_labels"] == pytest.approx(np.mean(by_class))
    rows = found["classes"]
    assert [row["class"] for row in rows] == CLASSES and rows[3]["ap"] is None
    assert [row["ap"] for row in rows[:3]] == pytest.approx(by_class)
    assert [row["clips"] for row in rows] == truth.sum(0).tolist()
    for j, row in enumerate(rows):
        right = np.sum(truth[:, j] & labels[:, j])
        assert row["precision"] == pytest.approx(right / max(1, labels[:, j].sum()))
        assert row["recall"] == pytest.approx(right / max(1, truth[:, j].sum()))
        assert row["f1"] == pytest.approx(f1(truth[:, j], labels[:, j]))


def test_map_without_bare_clips_is_scikit_learns():
    truth, labels, scores = drawn(1)
    known = truth.any(1)
    whole = multilabel.measures(truth, labels, scores, CLASSES)["map"]
    assert whole == pytest.approx(label_ranking_average_precision_score(truth[known], scores[known]))


def test_nothing_decided_is_no_warning_but_zero(recwarn):
    truth, labels, scores = drawn()
    found = multilabel.measures(truth, 0 * labels, scores, CLASSES)
    assert found["micro_f1"] == found["macro_f1"] == 0.0 and not recwarn.list


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, y, s: (t, y[:5], s), r"labels \(5, 4\).*expected one shape \(clips, classes\) of 4"),
        (lambda t, y, s: (t[:, :3], y[:, :3], s[:, :3]), "of 4 classes"),
        (lambda t, y, s: (t[:0], y[:0], s[:0]), "expected one shape"),
        (lambda t, y, s: (t, y * 2, s), "labels: expected 1 where"),
        (lambda t, y, s: (t, y, s * np.nan), "not a finite number"),
        (lambda t, y, s: (t * 0, y, s), "no clip has a label"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as error:
        multilabel.measures(*change(*drawn()), CLASSES)
    assert "\n" not in str(error.value)


def test_one_class_cannot_be_ranked():
    with pytest.raises(ValueError, match="expected two or more"):
        multilabel.measures([[1]], [[1]], [[0.5]], ["flood"])


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_is_better_than_the_one_found(seed):
    truth, _, scores = drawn(seed, clips=15)
    best = multilabel.thresholds(truth, scores)
    for j in range(3):
        values = np.unique(scores[:, j])
        every = [f1(truth[:, j], (scores[:, j] > t).astype(int)) for t in [-1, *values]]
        assert f1(truth[:, j], (scores[:, j] > best[j]).astype(int)) == pytest.approx(max(every))
        if truth[:, j].any():  # midway: rounding moves no clip to the other side
            assert best[j] not in values
    assert best[3] == 0.5


def test_of_equally_good_thresholds_the_highest_is_taken():
    # Both {0.9} (F1 2/3) and {0.9, 0.5, 0.4} (2 of 3 right, F1 4/5) beside each other, then an exact tie.
    assert multilabel.thresholds([[1], [0], [1]], [[0.9], [0.5], [0.4]]) == pytest.approx([-0.1])
    tie = [[1], [0], [0], [1]]  # {0.9}: 2/3; all four: 4/6
    assert multilabel.thresholds(tie, [[0.9], [0.7], [0.5], [0.3]]) == pytest.approx([0.8])
