"""Estimators as files: the same answers, nothing pickled, and every damage is one clear error."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from tfvc.estimators import LabelPowersetClassifier, RankedElimination, WeightedLinearSVM, store


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6))
    return x, (x[:, :3] > 0.3).astype(int)


CASES = {
    "svm": (WeightedLinearSVM(class_weight={0: 2.0, 3: 0.5}), False),
    "svm of words": (WeightedLinearSVM(scores="probability"), True),
    "powerset": (LabelPowersetClassifier(WeightedLinearSVM(C=2)), False),
    "elimination": (RankedElimination(trees=3, random_state=1), False),
    "calibrated elimination of words": (
        RankedElimination(
            LabelPowersetClassifier(WeightedLinearSVM(scores="probability")), trees=3, stop="printed"
        ),
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_loaded_answers_the_same_and_knows_its_parameters(name, tmp_path):
    estimator, words = CASES[name]
    x, y = data()
    if words or name == "svm":
        y = y @ [1, 2, 4]
        y = np.array([f"set {n}" for n in y], object) if words else y
    estimator.fit(x, y)
    store.save(estimator, tmp_path / "run.stage")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.stage.json", "run.stage.npz"]
    again = store.load(tmp_path / "run.stage")
    assert repr(again) == repr(estimator) and again.classes_.tolist() == estimator.classes_.tolist()
    for method in ("predict", "label_scores", "decision_function"):
        np.testing.assert_array_equal(getattr(again, method)(x), getattr(estimator, method)(x))
    for attribute in ("scores_", "best_score_"):
        assert getattr(again, attribute, None) == getattr(estimator, attribute, None)
    for attribute in ("support_", "ranking_", "importances_", "label_sets_"):
        np.testing.assert_array_equal(getattr(again, attribute, 0), getattr(estimator, attribute, 0))
    again.fit(x, y)  # still an estimator


@pytest.fixture
def saved(tmp_path):
    store.save(RankedElimination(trees=2, random_state=0).fit(*data()), tmp_path / "s")
    return tmp_path / "s"


def _edit(path, change):
    """A change with a digest that fits: no chance damage, but somebody's doing."""
    tree = json.loads(path.read_text())
    change(tree)
    tree.pop("digest")
    path.write_text(json.dumps(tree | {"digest": store._digest(tree)}))


def _replace(saved, **arrays):
    """Other arrays, with the digests that fit."""
    with np.load(saved.with_suffix(".npz")) as archive:
        found = dict(archive) | arrays
    np.savez(saved.with_suffix(".npz"), **found)
    digest = store.files.sha256(saved.with_suffix(".npz"))
    _edit(saved.with_suffix(".json"), lambda tree: tree.update(sha256=digest))


DAMAGES = {
    "cut short": (lambda s: s.with_suffix(".npz").write_bytes(b"PK"), "not the file that s.json describes"),
    "no JSON": (lambda s: s.with_suffix(".json").write_text("{"), "not a JSON file"),
    "another JSON": (lambda s: s.with_suffix(".json").write_text("[1]"), "not a stored estimator"),
    "newer": (
        lambda s: _edit(s.with_suffix(".json"), lambda t: t.update(version=3)),
        "version 3; this tfvc reads 2",
    ),
    "unknown kind": (
        lambda s: _edit(s.with_suffix(".json"), lambda t: t["estimator"].update(kind="os.system")),
        "damaged",
    ),
    "unknown parameter": (
        lambda s: _edit(s.with_suffix(".json"), lambda t: t["estimator"]["parameters"].update(run=1)),
        "damaged",
    ),
    "pickled": (lambda s: _replace(s, ranking_=np.array([{}, {}], object)), "damaged.*allow_pickle=False"),
    "other widths": (
        lambda s: _replace(s, support_=np.ones(9, bool)),
        r"support_ is \(9,\); expected \(6,\)",
    ),
    "other pairs": (
        lambda s: _replace(s, **{"estimator_.estimator_.intercept_": np.zeros(2)}),
        r"intercept_ is \(2,\)",
    ),
    "no machine": (
        lambda s: _edit(s.with_suffix(".json"), lambda t: t["estimator"]["inner"].pop("inner")),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_one_line_that_names_the_file(name, saved):
    damage, message = DAMAGES[name]
    damage(saved)
    with pytest.raises(ValueError, match=message) as caught:
        store.load(saved)
    assert str(saved.parent) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_file_that_is_not_there_is_named(saved, suffix):
    saved.with_suffix(suffix).unlink()
    with pytest.raises(FileNotFoundError, match=f"s{suffix}: no such file"):
        store.load(saved)


def test_what_cannot_be_stored_is_refused_before_a_file_is_written(tmp_path):
    x, y = data()
    cases = [
        (LogisticRegression().fit(x, y[:, 0]), "LogisticRegression: cannot be stored"),
        (LabelPowersetClassifier(LogisticRegression()).fit(x, y), "LogisticRegression: cannot be stored"),
        (
            RankedElimination(trees=2, random_state=np.random.RandomState(0)).fit(x, y),
            "random_state=.*cannot",
        ),
    ]
    for estimator, message in cases:
        with pytest.raises(ValueError, match=message):
            store.save(estimator, tmp_path / "s")
    with pytest.raises(NotFittedError):
        store.save(WeightedLinearSVM(), tmp_path / "s")
    assert not list(tmp_path.iterdir())
