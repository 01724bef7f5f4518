"""A stored estimator that was edited or damaged: one ValueError that names it, whatever the value."""

import json
import math

import numpy as np
import pytest
from test_store import _edit, _replace, data

from tfvc.estimators import LabelPowersetClassifier, RankedElimination, WeightedLinearSVM, store

SVM, POWERSET, RANKED = ("inner", "inner"), ("inner",), ()  # where they lie in the tree


@pytest.fixture
def saved(tmp_path):
    svm = WeightedLinearSVM(class_weight={0: 2.0}, random_state=3)
    ranked = RankedElimination(LabelPowersetClassifier(svm), trees=2, random_state=0)
    store.save(ranked.fit(*data()), tmp_path / "s")
    return tmp_path / "s"


def refused(saved, message):
    with pytest.raises(ValueError, match=message) as caught:
        store.load(saved)
    text = str(caught.value)
    assert text.startswith(str(saved)) and "\n" not in text and text.endswith(store._REMEDY)


WORDS = ("x", None, [], {}, True)
FITTED = [
    (SVM, "temperature_", [*WORDS, 0, 1, 0.0, -1.0, math.nan, math.inf]),
    (POWERSET, "multilabel_", [None, 0, 1, False, "x"]),
    (RANKED, "scores_", [None, "x", 0.5, [], [1], [[6, "x"]], [[6, math.nan]], [[0, 0.5]], [[True, 0.5]]]),
    (RANKED, "best_score_", [*WORDS, math.nan, 2.0, -0.5]),
    (RANKED, "n_features_in_", [*WORDS, 6.0, 0, -6]),
]
PARAMETERS = [
    (SVM, "C", ["a", None, True, 0, -1.0, math.nan, math.inf, []]),
    (SVM, "tol", ["a", 0]),
    (SVM, "max_iter", [0, 1.5, "a", True]),
    (SVM, "scores", ["votes", None, 1]),
    (SVM, "shrinking", ["x", None]),
    (SVM, "random_state", ["x", -1]),
    (SVM, "class_weight", ["fair", 1, {"pairs": [[0, -1.0]]}, {"pairs": [[0, "x"]]}, {"pairs": 1}, {}]),
    (POWERSET, "weights", ["equal", 1]),
    (RANKED, "step", ["x", 0, True]),
    (RANKED, "eliminate", [0, "x"]),
    (RANKED, "stop", [None]),
]
CASES = [
    (part, where, name, value)
    for part, rows in (("fitted", FITTED), ("parameters", PARAMETERS))
    for where, name, values in rows
    for value in values
]


def test_a_number_of_the_wrong_type_or_range_is_refused(saved):
    text = saved.with_suffix(".json").read_text()
    for part, where, name, value in CASES:

        def change(tree, part=part, where=where, name=name, value=value):
            tree = tree["estimator"]
            for step in where:
                tree = tree[step]
            tree[part][name] = value

        saved.with_suffix(".json").write_text(text)
        _edit(saved.with_suffix(".json"), change)
        refused(saved, "damaged")


@pytest.mark.parametrize("version", ["2", None, True, 2.0, [2]], ids=str)
def test_a_version_is_a_whole_number(version, saved):
    _edit(saved.with_suffix(".json"), lambda tree: tree.update(version=version))
    with pytest.raises(ValueError, match="s.json: version .*; this tfvc reads 2"):
        store.load(saved)


ARRAYS = {
    "estimator_.label_sets_": [
        lambda a: a * 7,
        lambda a: a - 1,
        lambda a: a.astype(float),
        lambda a: a.astype(bool),
    ],
    "estimator_.set_weights_": [lambda a: -a, lambda a: a * np.nan],
    "estimator_.estimator_.coef_": [lambda a: a * np.nan, lambda a: a + np.inf],
    "estimator_.estimator_.intercept_": [lambda a: a * np.nan, lambda a: a.astype(int)],
    "estimator_.estimator_.classes_": [lambda a: a + 1, lambda a: a * 0, lambda a: a * np.nan],
    "classes_": [
        lambda a: a + 0j,
        lambda a: a * np.nan,
        lambda a: a.astype("M8[D]"),
        lambda a: a.astype("S3"),
    ],
    "support_": [lambda a: a.astype(int), lambda a: a.astype(float), lambda a: ~a],
    "ranking_": [lambda a: a * 0, lambda a: a.astype(float)],
    "importances_": [lambda a: a * np.nan, lambda a: a - 2],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_the_wrong_type_or_range_is_refused(name, saved):
    before = saved.with_suffix(".npz").read_bytes()
    with np.load(saved.with_suffix(".npz")) as archive:
        array = archive[name]
    for change in (*ARRAYS[name], lambda a: a.astype(complex), lambda a: np.full(a.shape, "x")):
        _replace(saved, **{name: change(array)})
        refused(saved, "damaged")
    saved.with_suffix(".npz").write_bytes(before)


def test_any_edit_is_told_as_one(saved):
    path = saved.with_suffix(".json")
    text = path.read_text()
    tree = json.loads(text)
    tree["estimator"]["parameters"]["step"] = 2  # a value that could be
    for edited in (json.dumps(tree), json.dumps({k: v for k, v in tree.items() if k != "digest"})):
        path.write_text(edited)
        refused(saved, "s.json: edited or damaged")
    path.write_text("[" * 100_000)
    refused(saved, "s.json: not a JSON file")
    edited = json.dumps(tree | {"estimator": 0, "digest": None})
    for depth in (9, *range(860, 1000)):  # there are depths that JSON reads and does not write
        path.write_text(edited.replace('"estimator": 0', f'"estimator": {"[" * depth}{"]" * depth}'))
        refused(saved, "s.json: ")
    path.write_text(text)
    assert store.load(saved).step == 1
