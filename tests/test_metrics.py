"""Metrics against their definitions; the same under any batching, order and number of replicas."""

import json
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from conftest import ROOT
from sklearn.metrics import f1_score, hamming_loss

from experiments.benchmarks import metrics as benchmark
from tfvc import metrics, ranking, topk


def drawn(videos=37, classes=50, seed=0, ties=None):
    """Predictions, all different or of `ties` values, and labels: rows without any, a class without any."""
    rng = np.random.default_rng(seed)
    count = videos * classes
    numbers = rng.permutation(count) if ties is None else rng.integers(0, ties, count)
    predictions = (numbers / numbers.max()).reshape(videos, classes).astype("float32")
    labels = rng.random((videos, classes)) < 0.1 + 0.4 * predictions**2
    labels[::5], labels[:, 3] = False, False
    return predictions, labels


def mean_ap(predictions, labels, k):
    return np.nanmean(oracles.class_average_precisions(predictions, labels, k))


MAKE = {
    "gap": (lambda: metrics.GlobalAveragePrecision(top_k=20), lambda p, y: oracles.gap(p, y, 20)),
    "gap, all": (lambda: metrics.GlobalAveragePrecision(top_k=None), lambda p, y: oracles.gap(p, y, 50)),
    "map": (lambda: metrics.MeanAveragePrecision(50), lambda p, y: mean_ap(p, y, 20)),
    "map, all": (lambda: metrics.MeanAveragePrecision(50, None), lambda p, y: mean_ap(p, y, 50)),
    "hit_at_one": (metrics.HitAtOne, oracles.hit_at_one),
    "perr": (metrics.PrecisionAtEqualRecall, oracles.perr),
    "micro_f1": (
        lambda: metrics.MicroF1(0.6),
        lambda p, y: f1_score(y, p > np.float32(0.6), average="micro", zero_division=0),
    ),
    "hamming_loss": (lambda: metrics.HammingLoss(0.6), lambda p, y: hamming_loss(y, p > np.float32(0.6))),
}
RANKED = [name for name in MAKE if name.startswith(("gap", "map"))]
every = pytest.mark.parametrize("name", MAKE)
ranked = pytest.mark.parametrize("name", RANKED)


def fed(name, predictions, labels, sizes=(37,)):
    metric, at = MAKE[name][0](), 0
    for size in sizes:
        metric.update_state(labels[at : at + size], predictions[at : at + size])
        at += size
    return float(metric.result())


@every
@pytest.mark.parametrize("ties", [None, 6, 1])
def test_is_what_its_definition_says(name, ties):
    for seed in range(3):
        predictions, labels = (
            drawn(seed=seed, ties=ties) if ties != 1 else (np.ones((37, 50), "f4"), drawn()[1])
        )
        value = fed(name, predictions, labels)
        np.testing.assert_allclose(value, MAKE[name][1](predictions, labels), rtol=0, atol=1e-12)


@every
@pytest.mark.parametrize("ties", [None, 6])
def test_batches_and_their_order_change_nothing(name, ties):
    predictions, labels = drawn(ties=ties)
    whole, rng = fed(name, predictions, labels), np.random.default_rng(1)
    for _ in range(4):
        order = rng.permutation(37)
        sizes = np.diff([0, *np.sort(rng.integers(0, 37, 4)), 37])  # empty batches too
        np.testing.assert_allclose(fed(name, predictions[order], labels[order], sizes), whole, atol=1e-12)


@every
def test_in_a_graph_of_unknown_shape_it_is_the_same(name):
    predictions, labels = drawn()
    metric = MAKE[name][0]()
    update = tf.function(metric.update_state, input_signature=[tf.TensorSpec([None, None])] * 2)
    for part in (slice(0, 8), slice(8, 37)):
        update(labels[part].astype("float32"), predictions[part])
    np.testing.assert_allclose(metric.result(), fed(name, predictions, labels), rtol=0, atol=1e-12)


@every
def test_is_registered_and_keeps_its_arguments(name):
    metric = MAKE[name][0]()
    tree = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    again = keras.saving.deserialize_keras_object(tree, safe_mode=True)
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
    predictions, labels = drawn()
    again.update_state(labels, predictions)
    assert float(again.result()) == fed(name, predictions, labels)


@every
def test_any_dtype_of_labels_and_half_precision_predictions(name):
    predictions, labels = drawn()
    half = tf.cast(predictions, tf.bfloat16)
    rounded = tf.cast(half, tf.float32).numpy()
    for dtype in ("bool", "int64", "float32", "bfloat16"):
        metric = MAKE[name][0]()
        metric.update_state(tf.cast(labels, dtype), half)
        # A threshold is rounded like the predictions.
        if name not in ("micro_f1", "hamming_loss"):
            np.testing.assert_allclose(metric.result(), MAKE[name][1](rounded, labels), rtol=0, atol=1e-12)
        assert keras.backend.standardize_dtype(metric.result().dtype) == "float64"


@every
def test_reset_forgets_and_weight_0_leaves_a_video_out(name):
    predictions, labels = drawn()
    metric, kept = MAKE[name][0](), np.arange(37) % 3 > 0
    metric.update_state(labels, 1 - predictions)
    metric.reset_state()
    metric.update_state(labels, predictions, sample_weight=kept.astype("float32"))
    expected = MAKE[name][1](predictions[kept], labels[kept])
    np.testing.assert_allclose(metric.result(), expected, rtol=0, atol=1e-12)


def test_means_take_any_weights():
    predictions, labels = drawn()
    weights = np.random.default_rng(2).random(37)
    metric = metrics.HitAtOne()
    metric.update_state(labels, predictions, sample_weight=weights)
    hits = [y[p.argmax()] for p, y in zip(predictions, labels, strict=True)]
    np.testing.assert_allclose(metric.result(), np.average(hits, weights=weights), rtol=1e-7)
    f1 = metrics.MicroF1()
    f1.update_state(labels, predictions, sample_weight=weights)
    expected = f1_score(  # scikit-learn weights samples of single-label tasks: one decision a row
        labels.ravel(), predictions.ravel() > 0.5, sample_weight=np.repeat(weights, 50)
    )
    np.testing.assert_allclose(f1.result(), expected, rtol=1e-7)


# --- edges --------------------------------------------------------------------------------------------------


@every
def test_no_videos_no_labels_one_class(name):
    none = {"map": np.nan, "map, all": np.nan}.get(name, 0.0)  # the mean of no classes is NaN
    metric = MAKE[name][0]()
    np.testing.assert_equal(float(metric.result()), none)
    metric.update_state(np.zeros((0, 50)), np.zeros((0, 50), "float32"))
    np.testing.assert_equal(float(metric.result()), none)
    metric.update_state(np.zeros((4, 50)), drawn(4)[0])
    value = float(metric.result())
    assert value > 0 if name == "hamming_loss" else np.array_equal(value, none, equal_nan=True)
    if "map" in name:
        metric = metrics.MeanAveragePrecision(num_classes=1)
    metric.reset_state()
    metric.update_state([[1], [0], [1]], [[0.75], [0.7], [0.25]])
    expected = {"hit_at_one": 2 / 3, "perr": 2 / 3, "micro_f1": 0.5, "hamming_loss": 2 / 3}
    np.testing.assert_allclose(metric.result(), expected.get(name, (1 + 2 / 3) / 2))


def test_the_oracle_rule_for_ties_is_the_lowest_value_of_all_orders():
    scores, hits = [0.5, 0.5, 0.5, 0.25, 0.25], [1, 0, 1, 1, 0]
    found = {
        ranking.average_precision(np.array(scores) - 1e-6 * np.random.default_rng(s).permutation(5), hits)
        for s in range(300)
    }
    assert ranking.average_precision(scores, hits) == pytest.approx(min(found)) and len(found) > 4


def test_perr_counts_no_prediction_of_0_and_looks_at_as_many_as_there_are_labels():
    metric = metrics.PrecisionAtEqualRecall()
    metric.update_state([[1, 1, 0, 0]], [[0.5, 0.0, 0.0, 0.0]])
    assert float(metric.result()) == 0.5
    many = np.arange(200, dtype="float32")[None] / 200  # more labels than are sorted at first
    labels = np.zeros((1, 200))
    labels[0, 20:] = 1
    np.testing.assert_allclose(topk.precision_at_equal_recall(labels, many), [1.0])
    labels[0, :160] = 1 - labels[0, :160]
    np.testing.assert_allclose(topk.precision_at_equal_recall(labels, many), oracles.perr(many, labels))
    compiled = tf.function(topk.precision_at_equal_recall, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(labels), many), oracles.perr(many, labels))


@ranked
def test_a_nan_and_an_odd_weight_are_told_in_one_line(name):
    predictions, labels = drawn()
    predictions[4, 7] = predictions[6, 0] = np.nan
    metric = MAKE[name][0]()
    tf.function(metric.update_state)(labels, predictions)
    with pytest.raises(ValueError, match="2 videos have a prediction that is NaN") as error:
        metric.result()
    assert "\n" not in str(error.value)
    metric.reset_state()
    metric.update_state(*drawn()[::-1], sample_weight=[0.5] + [1.0] * 36)
    with pytest.raises(ValueError, match="1 videos have a weight that is neither 0 nor 1"):
        metric.result()


@pytest.mark.parametrize("name", sorted(set(MAKE) - set(RANKED)))
def test_a_nan_makes_the_mean_nan(name):
    predictions, labels = drawn()
    predictions[4, 7] = np.nan
    assert np.isnan(fed(name, predictions, labels))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: metrics.GlobalAveragePrecision(top_k=0), "gap: top_k=0; expected at least 1"),
        (lambda: metrics.MeanAveragePrecision(0), "map: num_classes=0; expected at least 1"),
        (
            lambda: metrics.MeanAveragePrecision(3).update_state([[1, 0]], [[0.5, 0.25]]),
            "2 classes; expected 3",
        ),
        (lambda: ranking.average_precision([1.0], [1, 0]), "the same length"),
        (lambda: ranking.average_precision([1.0], [1], n=0), "n=0: expected at least 1"),
        (lambda: ranking.average_precision([np.nan], [1]), "NaN"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the host side ------------------------------------------------------------------------------------------


def test_scores_of_any_sign_and_size_keep_their_order():
    values = np.float32([0.0, -0.0, 1e-45, -1e-45, 1, -1, np.inf, -np.inf, 3e38, -3e38, 1.0000001, 0.5])
    scores, hits = np.repeat(values, 2), np.tile([True, False], len(values))
    held = ranking.Ranking()
    held.add(scores, np.zeros(len(scores), int), hits, np.array([20]))
    expected = oracles.average_precision(scores.tolist(), hits, 20)
    assert held.global_average_precision() == pytest.approx(expected, abs=1e-15)
    assert held.average_precisions()[0] == pytest.approx(expected, abs=1e-15)


def test_small_blocks_and_parts_and_merged_rankings_give_the_same(monkeypatch):
    predictions, labels = drawn(ties=30)
    expected = [
        oracles.gap(predictions, labels, 20),
        oracles.class_average_precisions(predictions, labels, 20, 4),
    ]
    monkeypatch.setattr(ranking, "_BLOCK", 7)
    monkeypatch.setattr(ranking, "_PART", 5)
    pair = [ranking.Ranking(), ranking.Ranking()]
    for i in range(0, 37, 6):
        held = pair[i % 4 // 2]
        held.add(
            *(part.numpy() for part in topk.top_pairs(labels[i : i + 6], predictions[i : i + 6], 20)[:-1])
        )
        assert held.global_average_precision() <= 1  # asked in between
    held, other = pair
    held.merge(other)
    assert len(held) == 37 * 20 and not len(other) and other.positives is None
    for _ in range(2):
        np.testing.assert_allclose(held.average_precisions(n=4), expected[1], atol=1e-12)
        np.testing.assert_allclose(held.global_average_precision(), expected[0], atol=1e-12)
    with pytest.raises(ValueError, match="3 classes, before there were 50"):
        held.add(np.float32([1]), [0], [True], [1, 0, 0])


@ranked
def test_many_feeders_at_once_and_merged_metrics_give_the_same(name):
    predictions, labels = drawn()
    metric = MAKE[name][0]()
    update = tf.function(metric.update_state, reduce_retracing=True)
    batches = [slice(i, i + 4) for i in range(0, 37, 4)]
    threads = [threading.Thread(target=lambda b=b: update(labels[b], predictions[b])) for b in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = fed(name, predictions, labels)
    assert float(metric.result()) == whole
    halves = [MAKE[name][0]() for _ in range(2)]
    for half, part in zip(halves, (slice(0, 20), slice(20, 37)), strict=True):
        pairs = topk.top_pairs(labels[part], predictions[part], metric.top_k)
        half.update_pairs(*(a.numpy() for a in pairs))
    halves[0].merge(halves[1])
    assert float(halves[0].result()) == whole


def test_memory_grows_by_8_bytes_a_pair():
    """A tenth of the million videos: 2,000,000 pairs are 16 MB, and a block not yet full costs nothing."""
    assert benchmark._memory({"memory_videos": 100_000, "classes": 100, "batch": 4096, "top_k": 20}) < 60


# --- in fit and evaluate ------------------------------------------------------------------------------------

_TRAINED = """
import sys
sys.path[:0] = {paths!r}
from tfvc import start
start.spare()
import json, keras, numpy as np, tensorflow as tf
import test_metrics
from tfvc import strategy
with strategy.scope({name!r}).scope():
    print(json.dumps(test_metrics.evaluated()))
"""


def evaluated():
    """What `evaluate` reports for every metric, and the last validation of `fit`."""
    keras.utils.set_random_seed(0)
    predictions, labels = drawn()
    model = keras.Sequential([keras.Input((50,)), keras.layers.Activation("linear")])
    model.compile(loss="mse", metrics=[_named(name) for name in MAKE], jit_compile=False)
    labels = labels.astype("float32")  # Keras builds a model under a strategy by summing its data
    data = tf.data.Dataset.from_tensor_slices((predictions, labels)).batch(8)  # the last batch has 5
    return model.evaluate(data, verbose=0, return_dict=True)


def _named(name):
    metric = MAKE[name][0]()
    metric.name = name
    return metric


def test_evaluate_reports_them_on_one_device_and_on_two():
    predictions, labels = drawn()
    expected = {name: fed(name, predictions, labels) for name in MAKE}
    found = evaluated()
    code = _TRAINED.format(paths=[str(ROOT), str(ROOT / "tests")], name="cpu:2")
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    replicas = json.loads(result.stdout.splitlines()[-1])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-7), name  # Keras reports float32
        assert replicas[name] == pytest.approx(value, abs=1e-7), f"{name} on two replicas"


def test_fit_reports_each_epoch_afresh_and_a_saved_model_has_them(tmp_path):
    predictions, labels = drawn()
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(50, activation="sigmoid")])
    gap = metrics.GlobalAveragePrecision()
    model.compile("adam", "binary_crossentropy", metrics=[gap, metrics.HitAtOne()], jit_compile=False)
    data = (predictions, labels.astype("float32"))
    history = model.fit(*data, validation_data=data, epochs=2, batch_size=16, verbose=0).history
    assert len(history["gap"]) == 2 and all(0 < value < 1 for value in history["gap"])
    expected = oracles.gap(model.predict(predictions, verbose=0), labels, 20)
    assert history["val_gap"][-1] == pytest.approx(expected, abs=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert loaded.evaluate(*data, verbose=0, return_dict=True)["gap"] == pytest.approx(expected, abs=1e-6)


# --- the benchmark ------------------------------------------------------------------------------------------


def test_the_benchmark_measures_every_case(monkeypatch):
    monkeypatch.setattr(benchmark, "_memory", lambda options: 10.0)
    options = benchmark.OPTIONS | {
        "videos": 96,
        "classes": 60,
        "batch": 40,
        "rounds": 1,
        "memory_videos": 1000,
    }
    speed, ratio, agreement, memory = benchmark.run(options)
    assert set(speed.details["seconds"]) == {"ours", "original", "top_k"} and ratio.value > 0
    assert agreement.verdict == "met" and memory.bar is None
    monkeypatch.setattr(benchmark, "_ours", lambda batches, options: np.zeros(63))
    monkeypatch.setattr(benchmark, "_difference", lambda ours, original: 1e-8)
    assert benchmark.run(options)[2].verdict == "missed"
