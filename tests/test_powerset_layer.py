"""The votes as a layer: the estimator's labels exactly, its scores to 1e-5, in a saved model too."""

import keras
import numpy as np
import oracles
import pytest
from sklearn.linear_model import LogisticRegression

from tfvc.estimators import LabelPowersetClassifier, RankedElimination, WeightedLinearSVM, layer_of
from tfvc.layers import PowersetVotes


def data(samples=120, features=7, labels=3):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(samples, features)), 0).astype("float32")
    return x, (x[:, :labels] + 0.4 * rng.normal(size=(samples, labels)) > 0.5).astype(int)


def agree(estimator, layer, x, labels):
    found = layer(x)
    np.testing.assert_array_equal(found["labels"], labels)
    np.testing.assert_allclose(found["scores"], estimator.label_scores(x), atol=1e-5)
    assert keras.backend.standardize_dtype(found["labels"].dtype) == "int32"
    assert keras.backend.standardize_dtype(found["scores"].dtype) == "float32"


@pytest.mark.parametrize("scores", ["decision", "probability"])
def test_the_layer_agrees_with_the_estimators(scores):
    x, y = data()
    powerset = LabelPowersetClassifier(WeightedLinearSVM(scores=scores, random_state=0))
    agree(powerset.fit(x, y), layer_of(powerset), x, powerset.predict(x))
    ranked = RankedElimination(powerset, trees=5, random_state=0, stop="printed").fit(x, y)
    assert not ranked.support_.all()
    agree(ranked, layer_of(ranked), x, ranked.predict(x))
    without = np.where(ranked.support_, x, np.nan).astype("float32")  # what was eliminated is not read
    np.testing.assert_array_equal(layer_of(ranked)(without)["labels"], ranked.predict(x))


def test_it_agrees_where_votes_and_decisions_are_equal():
    """Equal samples of two sets, features that never move, one set alone, classes that are words."""
    x, y = data()
    for rows, targets in (
        (np.repeat(x[:20], 2, axis=0), y[:40]),
        (np.full_like(x, 2), y),
        (x, y * 0 + [1, 0, 1]),
    ):
        powerset = LabelPowersetClassifier().fit(rows, targets)
        agree(powerset, layer_of(powerset), x, powerset.predict(x))
    words = np.array(["a", "b", "c"])[np.argmax(x[:, :3], axis=1)]
    powerset = LabelPowersetClassifier().fit(x, words)
    agree(powerset, layer_of(powerset), x, powerset.predict(x)[:, None] == ["a", "b", "c"])


def test_the_layer_is_the_equation():
    rng = np.random.default_rng(1)
    coef, intercept, x = rng.normal(size=(6, 5)), rng.normal(size=6), rng.normal(size=(30, 5))
    coef[2] = intercept[2] = 0  # a value of exactly 0
    sets = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    layer = PowersetVotes(4, 2)
    layer.build((None, 5))
    layer.set_machine(coef, intercept, sets)
    labels, scores = oracles.powerset_votes(x, coef, intercept, sets)
    np.testing.assert_array_equal(layer(x)["labels"], labels)
    np.testing.assert_allclose(layer(x)["scores"], scores, atol=1e-6)


def test_a_saved_model_gives_the_same_and_building_again_loses_nothing(tmp_path):
    x, y = data()
    ranked = RankedElimination(trees=3, random_state=0).fit(x, y)
    layer = layer_of(ranked, name="second_stage")
    layer.build((None, 7))
    inputs = keras.Input((7,))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False, safe_mode=True)
    agree(ranked, loaded, x, ranked.predict(x))


def test_what_does_not_fit_is_named():
    x, y = data()
    with pytest.raises(ValueError, match="LabelPowersetClassifier: no layer"):
        layer_of(LabelPowersetClassifier(LogisticRegression()).fit(x, y))
    with pytest.raises(ValueError, match="WeightedLinearSVM: no layer"):
        layer_of(WeightedLinearSVM().fit(x, y[:, 0]))
    with pytest.raises(ValueError, match="num_sets=0"):
        PowersetVotes(0, 2)
    with pytest.raises(ValueError, match="number of features"):
        PowersetVotes(2, 2).build((None, None))
    layer = PowersetVotes(2, 2)
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"expected \(\(1, 2\), \(1,\), \(2, 2\), \(3,\)\)"):
        layer.set_machine(np.zeros((1, 3)), [0.0], np.eye(2), [True, True, False])
