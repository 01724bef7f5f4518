"""Golden checks of losses, metrics and the segment evaluation; see test_golden.py."""

import json

import numpy as np
import oracles
import tensorflow as tf
from golden import read

from starter import eval_util, losses, segment_eval_inference
from starter.average_precision_calculator import AveragePrecisionCalculator

SLACK = 1e-9  # of numbers in float64


def same(ours, golden, what, **tolerance):
    np.testing.assert_allclose(ours, golden, err_msg=what, **tolerance)


def between(value, bounds, what):
    assert min(bounds) - SLACK <= value <= max(bounds) + SLACK, f"{what}: {value} outside {bounds}"


# --- losses -------------------------------------------------------------------------------------------------


def yt8m_losses(path, tmp_path):
    golden, _ = read(path)
    predictions, labels, scores = (golden[name] for name in ("predictions", "labels", "scores"))
    tolerance = {"rtol": 1e-4 if "hedge" in path.name else 1e-5, "atol": 1e-7}
    xent, hinge = losses.CrossEntropyLoss(), losses.HingeLoss()
    ours = {
        "out_xent": xent.calculate_loss(predictions, labels),
        "out_xent_weighted": xent.calculate_loss(predictions, labels, label_weights=golden["label_weights"]),
        "out_hinge": hinge.calculate_loss(predictions, labels),
        "out_hinge_on_scores": hinge.calculate_loss(scores, labels),
        "out_hinge_b05": hinge.calculate_loss(scores, labels, b=0.5),
        "out_softmax": losses.SoftmaxLoss().calculate_loss(scores, labels),
    }
    x = tf.constant(predictions)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = xent.calculate_loss(x, labels)
    ours["xent_grad_predictions"] = tape.gradient(loss, x)
    assert set(golden) - set(ours) == {"predictions", "labels", "scores", "label_weights"}
    for name, value in ours.items():
        assert np.isfinite(value).all(), f"{name} is not finite"
        if np.isfinite(golden[name]).all():  # the original's softmax loss is NaN where a softmax underflows
            same(value, golden[name], name, **tolerance)


# --- metrics ------------------------------------------------------------------------------------------------


def metrics(path, tmp_path):
    golden, meta = read(path)
    predictions, labels, batch_losses = (golden[name] for name in ("predictions", "labels", "losses"))
    if not np.isin(labels, (0, 1)).all():
        return _soft(predictions, labels, golden)
    measured = eval_util.EvaluationMetrics(meta["num_class"], meta["top_k"], meta["top_n"])
    batches, at = [], 0
    for size in golden["batch_sizes"]:
        rows = slice(at, at + size)
        given = labels[rows].astype(str(golden["labels_dtype"]))
        batches.append(measured.accumulate(predictions[rows], given, batch_losses[rows]))
        at += size
    assert at == len(predictions), "the batches are not all videos"
    whole = measured.get()
    once = eval_util.calculate_gap(predictions, labels, meta["top_k"])
    exact = {"rtol": 0, "atol": 1e-6}
    for key in ("hit_at_one", "loss", *([] if meta["has_ties"] else ["perr"])):
        same([batch[key] for batch in batches], golden[f"f64_batch_{key}"], key, **exact)
        same(whole[f"avg_{key}"], golden[f"f64_avg_{key}"], f"avg_{key}", **exact)
    bounds = golden["f64_gap_tie_bounds_best_worst"]
    if meta["has_ties"] and not meta["topk_covers_all_classes"]:
        # Chance says there which pairs the original ranks at all: the bounds of all its choices.
        nudged = [predictions.astype("float64") + nudge * labels for nudge in (1e-9, -1e-9)]
        bounds = [oracles.gap(p, labels, meta["top_k"]) for p in nudged]
    between(whole["gap"], bounds, "gap")
    between(once, bounds, "gap of a single call")
    same(whole["gap"], oracles.gap(predictions, labels, meta["top_k"]), "gap, the oracle's", rtol=1e-6)
    arguments = predictions, labels, meta["top_k"], meta["top_n"]
    worst, best = (oracles.class_average_precisions(*arguments, ties=t) for t in ("worst", "best"))
    has_positive = golden["class_has_positive"]
    assert (~np.isnan(worst) == has_positive).all() and len(whole["aps"]) == has_positive.sum()
    same(whole["aps"], worst[has_positive], "aps, the oracle's", **exact)
    if not meta["has_ties"]:
        same(whole["gap"], golden["f64_gap"], "gap", **exact)
        same(once, golden["f64_gap_single_call"], "gap of a single call", **exact)
        same(whole["aps"], golden["f64_aps"], "aps", **exact)
        mean = np.mean(whole["aps"]) if whole["aps"] else np.nan
        same(mean, golden["f64_map"], "map", equal_nan=True, **exact)
    elif meta["topk_covers_all_classes"]:
        for ours, theirs, high in zip(whole["aps"], golden["f64_aps"], best[has_positive], strict=True):
            between(theirs, (ours, high), "an AP of the original")


def _soft(predictions, labels, golden):
    """Soft labels: the original sums them, ours take any above 0 as a label. Only the bounds hold."""
    measured = eval_util.EvaluationMetrics(predictions.shape[1])
    batch = measured.accumulate(predictions, labels, golden["losses"])
    whole = measured.get()
    assert all(0 <= whole[key] <= 1 for key in ("avg_hit_at_one", "avg_perr", "gap"))
    same(batch["hit_at_one"], oracles.hit_at_one(predictions, labels > 0), "hit_at_one", rtol=1e-6)
    same(whole["gap"], oracles.gap(predictions, labels > 0, 20), "gap", rtol=1e-6)


def metrics_one_class(path, tmp_path):
    """The original refuses one class. Ours evaluates it."""
    golden = json.loads(path.read_text())
    assert golden["num_class"] == 1 and "num_class must be a positive integer" in golden["error"]
    predictions = np.array([[0.9], [0.8], [0.7], [0.6]], "float32")
    labels = np.array([[1], [0], [1], [0]])
    measured = eval_util.EvaluationMetrics(golden["num_class"])
    measured.accumulate(predictions, labels, 0.5)
    expected = {"avg_hit_at_one": 0.5, "avg_perr": 0.5, "avg_loss": 0.5, "gap": 5 / 6}
    for key, value in expected.items():
        same(measured.get()[key], value, key)
    same(measured.get()["aps"], [5 / 6], "aps")


def apcalc(path, tmp_path):
    golden, meta = read(path)
    predictions, actuals = golden["f64_predictions"], golden["actuals"]
    calculator = AveragePrecisionCalculator(top_n=meta["top_n"])
    at = 0
    for size in golden["batch_sizes"]:
        rows = slice(at, at + size)
        calculator.accumulate(predictions[rows], actuals[rows], meta["num_positives_per_call"])
        at += size
    assert at == len(predictions), "the batches are not all pairs"
    assert calculator.heap_size == golden["heap_size"]
    assert calculator.num_accumulated_positives == golden["num_pos"]
    whole = AveragePrecisionCalculator.ap(predictions, actuals)
    between(whole, golden["f64_tie_bounds"], "ap")
    found = {
        "f64_peek_ap_at_n": (calculator.peek_ap_at_n(), calculator.num_accumulated_positives, meta["top_n"]),
        "f64_ap": (whole, None, None),
        "f64_ap_at_5": (AveragePrecisionCalculator.ap_at_n(predictions, actuals, n=5), None, 5),
        "f64_ap_at_20": (AveragePrecisionCalculator.ap_at_n(predictions, actuals), None, 20),
    }
    for name, (ours, positives, n) in found.items():
        if len(set(predictions.tolist())) == len(predictions):
            same(ours, golden[name], name, rtol=0, atol=SLACK)
        bounds = [
            oracles.average_precision(predictions, actuals > 0, positives, n, t) for t in ("worst", "best")
        ]
        same(ours, bounds[0], f"{name}, wrong ones first", rtol=0, atol=SLACK)
        between(golden[name], bounds, f"{name} of the original")


# --- segments -----------------------------------------------------------------------------------------------


def segeval(path, tmp_path):
    """The three files of a case are checked together, under the name of the .json."""
    if path.suffix != ".json":
        stem = path.name.removesuffix("_labels.csv").removesuffix("_submission.csv")
        assert path.with_name(f"{stem}.json").is_file(), f"{path.name} has no .json beside it"
        return
    golden = json.loads(path.read_text())
    labels, submission = (path.with_name(f"{path.stem}_{part}.csv") for part in ("labels", "submission"))
    rated = segment_eval_inference.read_labels("", str(labels))
    ours = segment_eval_inference.evaluate(rated, str(submission), golden["top_n"])
    assert sorted(ours) == golden["classes_sorted"]
    expected = _segment_aps(labels, submission, golden["top_n"], loses_last=False)
    same([ours[c] for c in sorted(ours)], [expected[c] for c in sorted(expected)], "aps", atol=1e-9)
    if "error" in golden:  # the original cannot read the header that its inference writes
        assert golden["header"]
        return
    # The original loses the last id of a line that ends with a newline. Where that id is no hit, or the cut
    # comes before it, nothing changes; elsewhere its numbers are ours without that id.
    theirs = _segment_aps(labels, submission, golden["top_n"], loses_last=True)
    same([theirs[c] for c in sorted(theirs)], golden["aps"], "aps of the original", atol=1e-6)
    same(np.mean(golden["aps"]), golden["map"], "map", atol=1e-6)
    for c, value in zip(golden["classes_sorted"], golden["aps"], strict=True):
        if theirs[c] == expected[c]:
            same(ours[c], value, f"ap of class {c}", atol=1e-6)
    if theirs == expected:
        same(np.mean(list(ours.values())), golden["map"], "map", atol=1e-6)


def _segment_aps(labels, submission, top_n, loses_last):
    """class -> average precision, from the two files alone."""
    rated = {}
    for line in labels.read_text().splitlines():
        segment, number, score = line.split(",")
        rated[segment, int(number)] = float(score) > 0
    found = {}
    for line in submission.read_text().splitlines(keepends=True):
        if line.startswith("Class,"):
            continue
        number, ids = line.rstrip("\n").split(",")
        ids = ids.split(" ")
        if loses_last and line.endswith("\n") and not (top_n and top_n < len(ids)):
            ids = ids[:-1]
        hits = [rated[i, int(number)] for i in ids[: top_n or None] if (i, int(number)) in rated]
        positives = sum(hit for (_, c), hit in rated.items() if c == int(number))
        found[int(number)] = oracles.average_precision(range(len(hits), 0, -1), hits, positives)
    return found


CHECKS = {
    "yt8m_losses_": yt8m_losses,
    "metrics_": metrics,
    "metrics_s_one_class": metrics_one_class,
    "apcalc_": apcalc,
    "segeval_": segeval,
}
