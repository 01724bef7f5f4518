"""The starter code's names for the metrics: their values, their golden numbers, what they refuse."""

import json

import golden_metrics
import numpy as np
import oracles
import pytest
import tensorflow as tf
from golden import read

from starter import eval_util
from starter.average_precision_calculator import AveragePrecisionCalculator
from starter.mean_average_precision_calculator import MeanAveragePrecisionCalculator
from tfvc import topk


def drawn(videos=23, classes=30, seed=0):
    rng = np.random.default_rng(seed)
    predictions = rng.permutation(videos * classes).reshape(videos, classes) / (videos * classes)
    labels = rng.random((videos, classes)) < 0.2 * (1 + predictions)
    labels[:3], labels[:, 4] = False, False
    return predictions.astype("float32"), labels


def test_the_functions_are_the_definitions():
    predictions, labels = drawn()
    for given in (labels, labels.astype("float32"), tf.constant(labels)):
        found = (
            eval_util.calculate_hit_at_one(predictions, given),
            eval_util.calculate_precision_at_equal_recall_rate(predictions, given),
            eval_util.calculate_gap(predictions, given, top_k=7),
        )
        oracle = oracles.hit_at_one, oracles.perr, lambda p, y: oracles.gap(p, y, 7)
        np.testing.assert_allclose(found, [f(predictions, labels) for f in oracle], rtol=0, atol=1e-12)
        assert all(isinstance(value, float) for value in found)
    assert eval_util.calculate_hit_at_one(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


def test_gap_of_float64_ranks_what_float32_cannot_tell_apart():
    predictions = np.array([[0.5, 0.5 + 1e-12]])
    assert eval_util.calculate_gap(predictions, np.array([[0, 1]])) == 1.0
    assert eval_util.calculate_gap(predictions.astype("float32"), np.array([[0, 1]])) == 0.5


def test_top_k_by_class_gives_lists_that_the_calculators_take():
    predictions, labels = drawn()
    lists = eval_util.top_k_by_class(predictions, labels, k=6)
    assert [len(part) for part in lists] == [30] * 3 and sum(map(len, lists[0])) == 23 * 6
    assert lists[2] == labels.sum(0).tolist()
    calculator = MeanAveragePrecisionCalculator(30)
    calculator.accumulate(*lists)
    expected = oracles.class_average_precisions(predictions, labels, 6)
    np.testing.assert_allclose(calculator.peek_map_at_n(), expected[~np.isnan(expected)], atol=1e-12)
    empty = eval_util.top_k_by_class(predictions[:2], labels[:2], k=100)
    assert all(len(part) == 2 for part in empty[0])


@pytest.mark.parametrize("top_n", [None, 3])
def test_evaluation_does_not_depend_on_batches(top_n):
    predictions, labels = drawn()
    losses = np.random.default_rng(1).random(23)
    whole = []
    for sizes in ((23,), (1, 9, 0, 13)):
        metrics, at = eval_util.EvaluationMetrics(30, 8, top_n), 0
        metrics.accumulate(1 - predictions, labels, 9.0)
        metrics.clear()
        for size in sizes:
            rows = slice(at, at + size)
            batch = metrics.accumulate(predictions[rows], labels[rows], losses[rows])
            if size:
                assert batch["loss"] == pytest.approx(losses[rows].mean())
                assert batch["perr"] == pytest.approx(oracles.perr(predictions[rows], labels[rows]))
                assert batch["hit_at_one"] == oracles.hit_at_one(predictions[rows], labels[rows])
            at += size
        whole.append(metrics.get())
    first, second = whole
    assert set(first) == {"avg_hit_at_one", "avg_perr", "avg_loss", "aps", "gap"}
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=0, atol=1e-12)
    aps = oracles.class_average_precisions(predictions, labels, 8, top_n)
    np.testing.assert_allclose(first["aps"], aps[~np.isnan(aps)], atol=1e-12)
    assert first["gap"] == pytest.approx(oracles.gap(predictions, labels, 8), abs=1e-12)
    assert first["avg_loss"] == pytest.approx(losses.mean())


def test_a_summary_from_the_device_is_as_good_as_a_batch():
    predictions, labels = drawn()
    given, found = (eval_util.EvaluationMetrics(30, top_k=20) for _ in range(2))
    expected = given.accumulate(predictions, labels, 1.5)
    assert found.accumulate_summary(topk.summary(labels, predictions, 20), 1.5) == expected
    assert found.get() == given.get()


def test_what_evaluation_refuses():
    metrics = eval_util.EvaluationMetrics(3)
    with pytest.raises(ValueError, match="no video to evaluate"):
        metrics.get()
    with pytest.raises(ValueError, match=r"labels of shape \(1, 2\); expected \(videos, 3 classes\)"):
        metrics.accumulate(np.zeros((1, 3)), np.zeros((1, 2)), 0.0)
    with pytest.raises(ValueError, match="1 videos of a batch have a prediction that is NaN"):
        metrics.accumulate(np.array([[0.5, np.nan, 0.25]]), np.zeros((1, 3)), 0.0)
    with pytest.raises(ValueError, match="no video"):  # nothing of a refused batch stays
        metrics.get()
    for arguments in ((0,), (3, 0), (3, 1, 0)):
        with pytest.raises(ValueError, match="=0: expected at least 1"):
            eval_util.EvaluationMetrics(*arguments)
    for function in (eval_util.calculate_gap, eval_util.top_k_by_class):
        with pytest.raises(ValueError, match="k=0"):
            function(np.zeros((1, 3)), np.zeros((1, 3)), 0)
        with pytest.raises(ValueError, match="NaN"):
            function(np.full((1, 3), np.nan), np.zeros((1, 3)), 2)


# --- calculators --------------------------------------------------------------------------------------------


def test_a_calculator_collects_counts_and_forgets():
    calculator = AveragePrecisionCalculator(top_n=2)
    assert calculator.peek_ap_at_n() == 0 and calculator.heap_size == 0
    calculator.accumulate([0.9], [0])
    calculator.accumulate(np.array([0.8, 0.7]), np.array([True, True]), num_positives=5)
    assert calculator.heap_size == 2 and calculator.num_accumulated_positives == 5
    assert calculator.peek_ap_at_n() == 0.5 / 2  # two places, at most two positives wanted
    calculator.clear()
    assert calculator.heap_size == calculator.num_accumulated_positives == calculator.peek_ap_at_n() == 0
    assert AveragePrecisionCalculator.ap_at_n([0.9, 0.8], [0, 1], n=None, total_num_positives=2) == 0.25
    assert AveragePrecisionCalculator.ap([0.9], [0]) == 0


def test_classes_without_positives_are_left_out_unless_asked_for():
    lists = [[0.9, 0.8], [0.7], []], [[1, 0], [0], []]
    for keep, expected in ((True, [1.0]), (False, [1.0, 0.0, 0.0])):
        calculator = MeanAveragePrecisionCalculator(3, filter_empty_classes=keep)
        assert calculator.is_empty()
        calculator.accumulate(*lists)
        assert calculator.peek_map_at_n() == expected and not calculator.is_empty()
        calculator.clear()
        assert calculator.is_empty()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: AveragePrecisionCalculator(top_n=0), "top_n=0: expected a whole number above 0"),
        (lambda: AveragePrecisionCalculator(top_n=2.5), "top_n=2.5"),
        (lambda: AveragePrecisionCalculator.ap_at_n([1], [1], n=0), "n=0"),
        (lambda: AveragePrecisionCalculator.ap([1, 2], [1]), "the same length"),
        (lambda: AveragePrecisionCalculator().accumulate([1], [1, 2]), "1 predictions and 2 actuals"),
        (lambda: AveragePrecisionCalculator().accumulate([1], [1], -1), "num_positives=-1"),
        (lambda: MeanAveragePrecisionCalculator(0), "num_class=0"),
        (lambda: MeanAveragePrecisionCalculator(2).accumulate([[1]], [[1]]), "expected 2, one a class"),
    ],
)
def test_calculators_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the golden checks have teeth ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, array",
    [
        ("metrics_s_random.npz", "f64_gap"),
        ("metrics_s_random.npz", "f64_aps"),
        ("metrics_s_topn.npz", "f64_map"),
        ("metrics_s_topk5.npz", "f64_batch_perr"),
        ("metrics_s_float_labels.npz", "f64_avg_loss"),
        ("metrics_s_two_classes.npz", "f64_gap_single_call"),
        ("metrics_s_ties_all_classes_kept.npz", "f64_batch_hit_at_one"),
        ("apcalc_s_topn.npz", "f64_peek_ap_at_n"),
        ("apcalc_s_npos.npz", "f64_ap_at_20"),
        ("apcalc_s_ties.npz", "num_pos"),
    ],
)
def test_a_changed_number_fails_the_golden_check(name, array, shared, tmp_path):
    golden, meta = read(shared(f"golden/{name}"))
    golden[array] = golden[array].copy()
    golden[array][(0,) * golden[array].ndim] += 0.001
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError):
        golden_metrics.CHECKS[f"{name.split('_')[0]}_"](tmp_path / name, tmp_path)


def test_bounds_of_ties_are_held_to(shared, tmp_path):
    golden, meta = read(shared("golden/metrics_s_ties_all_classes_kept.npz"))
    golden["f64_gap_tie_bounds_best_worst"] = golden["f64_gap_tie_bounds_best_worst"] + 0.01
    np.savez(tmp_path / "metrics_s_ties.npz", meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError, match="gap"):
        golden_metrics.metrics(tmp_path / "metrics_s_ties.npz", tmp_path)


def test_soft_labels_and_a_cut_through_ties_are_held_to_what_can_be_held(shared, tmp_path):
    """Kinds of golden files that LOADER.md speaks of and that the shared folder does not hold."""
    golden, meta = read(shared("golden/metrics_s_few_classes.npz"))
    golden["labels"] = golden["labels"] * np.float32(0.4)
    np.savez(tmp_path / "metrics_s_soft_labels.npz", meta=json.dumps(meta), **golden)
    golden_metrics.metrics(tmp_path / "metrics_s_soft_labels.npz", tmp_path)
    golden, meta = read(shared("golden/metrics_s_ties_all_classes_kept.npz"))
    meta |= {"top_k": 5, "topk_covers_all_classes": False}
    golden["f64_gap_tie_bounds_best_worst"] = np.zeros(2)  # of other choices than ours
    np.savez(tmp_path / "metrics_s_ties_cross_topk.npz", meta=json.dumps(meta), **golden)
    golden_metrics.metrics(tmp_path / "metrics_s_ties_cross_topk.npz", tmp_path)
