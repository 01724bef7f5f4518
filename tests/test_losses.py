"""Losses against their equations, their reduction, their weights, and in training."""

import json

import golden_metrics
import keras
import numpy as np
import oracles
import pytest
from golden import read

from starter import losses as starter_losses
from tfvc.losses import CrossEntropyLoss, HingeLoss, SoftmaxLoss


def drawn(videos=5, classes=7, seed=0):
    """Labels (some rows without any), probabilities, scores, weights."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((videos, classes)) < 0.3).astype("float64")
    labels[0] = 0
    return (
        labels,
        rng.random((videos, classes)),
        4 * rng.normal(size=(videos, classes)),
        rng.random(labels.shape),
    )


CASES = {
    "cross_entropy": (CrossEntropyLoss(), 1, oracles.cross_entropy),
    "hinge": (HingeLoss(), 2, lambda p, y: oracles.hinge(p, y, 1.0)),
    "hinge_half": (HingeLoss(b=0.5), 2, lambda p, y: oracles.hinge(p, y, 0.5)),
    "softmax": (SoftmaxLoss(), 2, oracles.softmax_cross_entropy),
}


@pytest.mark.parametrize("loss, of, oracle", CASES.values(), ids=CASES)
def test_sums_over_classes_and_means_over_the_batch(loss, of, oracle):
    data = drawn()
    labels, p, weights = data[0], data[of], data[3]
    terms = oracle(p, labels)
    per_class, per_example = weights, weights[:, 0]
    for given, expected in (
        (None, terms.sum(1)),
        (per_class, (terms * per_class).sum(1)),
        (per_example, terms.sum(1) * per_example),
        (per_example[:, None], terms.sum(1) * per_example),
    ):
        np.testing.assert_allclose(loss(labels, p, given), expected.mean(), rtol=1e-5)
        unreduced = type(loss).from_config({**loss.get_config(), "reduction": None})
        if given is None or given.ndim == 2:
            np.testing.assert_allclose(unreduced(labels, p, given), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss(labels.astype(bool), p), loss(labels, p))


@pytest.mark.parametrize("loss", [case[0] for case in CASES.values()], ids=CASES)
def test_is_registered_and_keeps_its_arguments(loss):
    tree = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    again = keras.saving.deserialize_keras_object(tree, safe_mode=True)
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    labels, p, *_ = drawn()
    assert float(again(labels, p)) == float(loss(labels, p))


@pytest.mark.parametrize("loss", [case[0] for case in CASES.values()], ids=CASES)
def test_half_precision_predictions_are_summed_in_float32(loss):
    labels, p, *_ = drawn(classes=3000)
    half = keras.ops.cast(p, "bfloat16")
    value = loss(labels, half)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    np.testing.assert_allclose(value, loss(labels, keras.ops.cast(half, "float32")), rtol=1e-6)


def test_softmax_is_finite_where_the_original_is_not():
    scores = np.array([[0.0, 200.0, -300.0], [1e4, -1e4, 0.0]])
    labels = np.array([[0, 1, 0], [1, 1, 0]])
    value = float(SoftmaxLoss()(labels, scores))
    np.testing.assert_allclose(value, oracles.softmax_cross_entropy(scores, labels).sum(1).mean(), rtol=1e-6)
    assert float(SoftmaxLoss()(np.zeros((1, 3)), scores[:1])) == 0


def test_cross_entropy_is_finite_at_0_and_1():
    value = float(CrossEntropyLoss()(np.array([[1, 0]]), np.array([[0.0, 1.0]])))
    np.testing.assert_allclose(value, -2 * np.log(1e-5), rtol=1e-4)


@pytest.mark.parametrize("labels, p", [((2, 3), (2, 4)), ((2,), (2, 3)), ((2, 1), (2, 3))])
def test_other_shapes_are_refused(labels, p):
    with pytest.raises(ValueError, match=r"cross_entropy: labels .* expected both to be \(batch, classes\)"):
        CrossEntropyLoss()(np.zeros(labels), np.zeros(p))


def test_trains_with_weights_for_each_class():
    """A class of weight 0 is not learnt, in `fit` too; the loss that Keras reports is the class sum."""
    labels, x, *_ = drawn(videos=16, classes=3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, activation="sigmoid")])
    model.compile("sgd", CrossEntropyLoss())
    before = model.get_weights()
    weights = np.tile([1.0, 0.0, 1.0], (16, 1))
    reported = model.evaluate(x, labels, sample_weight=weights, batch_size=8, verbose=0)
    expected = (
        (oracles.cross_entropy(oracles.sigmoid(x @ before[0] + before[1]), labels) * weights).sum(1).mean()
    )
    np.testing.assert_allclose(reported, expected, rtol=1e-5)
    model.fit(x, labels, sample_weight=weights, batch_size=8, verbose=0)
    moved = np.abs(model.get_weights()[0] - before[0]).max(axis=0)
    assert moved[1] == 0 and moved[0] > 0 and moved[2] > 0


# --- the starter code's names -------------------------------------------------------------------------------


def test_the_starters_losses_are_found_by_name():
    assert starter_losses.available() == ["CrossEntropyLoss", "HingeLoss", "SoftmaxLoss"]
    labels, p, scores, weights = drawn()
    for name in starter_losses.available():
        loss = starter_losses.find(name)
        assert isinstance(loss, keras.losses.Loss)
        ours = loss.calculate_loss(predictions=p, labels=labels.astype(bool), label_weights=weights)
        assert float(ours) == float(loss(labels, p, weights)) != float(loss.calculate_loss(p, labels))
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert type(again) is type(loss)
    hinge = starter_losses.HingeLoss()
    np.testing.assert_allclose(hinge.calculate_loss(scores, labels, b=0.5), HingeLoss(b=0.5)(labels, scores))
    with pytest.raises(ValueError, match="did you mean 'HingeLoss'"):
        starter_losses.find("HingLoss")


@pytest.mark.parametrize("array", ["out_xent", "out_xent_weighted", "out_softmax", "xent_grad_predictions"])
def test_a_changed_number_fails_the_golden_check(shared, array, tmp_path):
    golden, meta = read(shared("golden/yt8m_losses_s0.npz"))
    golden[array] = golden[array] * 1.001
    np.savez(tmp_path / "yt8m_losses_s0.npz", meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError, match=array):
        golden_metrics.yt8m_losses(tmp_path / "yt8m_losses_s0.npz", tmp_path)


def test_the_golden_check_takes_a_nan_of_the_original_and_none_of_ours(shared, tmp_path):
    golden, meta = read(shared("golden/yt8m_losses_s1.npz"))
    golden["scores"] = np.array([[0.0, 200.0, -300.0]], "float32")
    labels = np.array([[False, True, False]])
    golden |= {"labels": labels, "out_softmax": np.float32("nan")}
    for name in set(golden) - {"predictions", "labels", "scores", "label_weights"}:
        golden[name] = np.full_like(golden[name], np.nan)
    np.savez(tmp_path / "yt8m_losses_hedge.npz", meta=json.dumps(meta), **golden)
    golden_metrics.yt8m_losses(tmp_path / "yt8m_losses_hedge.npz", tmp_path)
    golden["scores"][0, 0] = np.nan
    np.savez(tmp_path / "yt8m_losses_hedge.npz", meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError, match="not finite"):
        golden_metrics.yt8m_losses(tmp_path / "yt8m_losses_hedge.npz", tmp_path)
