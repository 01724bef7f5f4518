"""Ranked elimination: the loop of scikit-learn refits, and when it ends."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.svm import SVC

from experiments.benchmarks import elimination as benchmark
from tfvc.estimators import LabelPowersetClassifier, RankedElimination, WeightedLinearSVM
from tfvc.estimators import elimination as module


def loop(x, y, x_val, y_val, trees, step=1):
    """Oracle: the forest, then an SVC fitted anew on every set; (features left, score, features) a round."""
    importances = RandomForestClassifier(trees, random_state=0).fit(x, y).feature_importances_
    order = sorted(range(x.shape[1]), key=lambda d: (-importances[d], d))
    sets, numbers = np.unique(y, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    holds = np.column_stack([sets, sets.sum(axis=1) == 0])
    delta = 1 / np.maximum(holds[numbers].sum(axis=0), 1e-9)
    weights = np.array([np.mean(delta[np.flatnonzero(row)]) for row in holds])[numbers]
    scores, left = [], len(order)
    while True:
        kept = sorted(order[:left])
        svc = SVC(C=0.9, kernel="linear").fit(x[:, kept], numbers, weights / weights.mean())
        found = sets[svc.predict(x_val[:, kept])]
        scores.append((left, f1_score(y_val, found, average="micro", zero_division=0), kept))
        if left == 1:
            return scores
        left = max(1, left - step)


def normal(rng, shape):
    return rng.normal(size=shape)


def rectified(rng, shape):
    """As a ReLU's output: with fewer features more and more samples are alike."""
    return np.maximum(rng.normal(size=shape) - 0.5, 0).astype("float32")


def uneven(rng, shape):
    """Features of very different sizes: without the large ones, little of the Gram matrix is left."""
    return rng.normal(size=shape) * 10.0 ** rng.integers(-3, 2, shape[1])


def whole(rng, shape):
    """Few different values: equal samples, equal importances, decisions of exactly 0."""
    return rng.integers(0, 2, shape).astype(float)


@pytest.mark.parametrize("draw", [normal, rectified, uneven, whole])
def test_every_round_is_the_round_of_the_loop(draw):
    rng = np.random.default_rng(0)
    x = draw(rng, (240, 40))
    size = np.maximum(np.abs(x).max(axis=0), 1e-9)
    y = ((x / size) @ rng.normal(size=(40, 3)) + 0.3 * rng.normal(size=(240, 3)) > 0).astype(int)
    if draw is whole:
        x = np.unique(x, axis=0)  # equal samples are merged, which the loop does not do: see below
        y = y[: len(x)]
    cut = len(x) * 2 // 3
    given = x[:cut], y[:cut], x[cut:], y[cut:]
    ours = RankedElimination(trees=10, patience=99, random_state=0).fit(*given)
    expected = loop(*given, trees=10)
    assert ours.scores_ == [(left, score) for left, score, _ in expected]
    best = max(expected, key=lambda e: (e[1], e[0]))  # of equal ones the larger set: the first
    assert np.flatnonzero(ours.support_).tolist() == best[2] and ours.best_score_ == best[1]
    for left, _, kept in expected:
        assert np.flatnonzero(ours.ranking_ <= left).tolist() == kept
    assert f1_score(given[3], ours.predict(given[2]), average="micro") == best[1]  # of what is kept


def test_a_gram_matrix_that_lost_its_large_features_is_that_of_the_small_ones():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(2, 9, 100)) * np.where(np.arange(100) < 3, 1e8, 1.0)
    gram = module._Gram(x, other, np.arange(100))
    for first in range(1, 90):
        kept = np.arange(first, 100)
        gram.keep(kept)
        np.testing.assert_allclose(gram.train, x[:, kept] @ x[:, kept].T, rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(gram.test, other[:, kept] @ x[:, kept].T, rtol=1e-12, atol=1e-11)


def data(samples=80, features=8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features))
    y = (x[:, :2] + 0.5 * rng.normal(size=(samples, 2)) > 0).astype(int)
    half = samples // 2
    return x[:half], y[:half], x[half:], y[half:]


SCORES = {8: 0.5, 7: 0.6, 6: 0.6, 5: 0.7, 4: 0.65, 3: 0.68, 2: 0.9, 1: 0.1}
RULES = [  # options, features that were scored, features kept, best score
    ({}, [8, 7, 6], 7, 0.6),  # a tie is no improvement
    ({"patience": 2}, [8, 7, 6, 5, 4, 3], 5, 0.7),  # an improvement counts anew
    ({"patience": 3}, [8, 7, 6, 5, 4, 3, 2, 1], 2, 0.9),
    ({"step": 3}, [8, 5, 2, 1], 2, 0.9),  # the last step is shorter: one feature is left
    ({"step": 20}, [8, 1], 8, 0.5),
    ({"eliminate": False}, [8], 8, 0.5),
    ({"stop": "printed"}, [7, 6, 5, 4], 4, 0.65),  # not the full set; a tie goes on; the worse one
    ({"stop": "printed", "step": 2}, [6, 4, 2, 1], 1, 0.1),
    ({"stop": "printed", "eliminate": False}, [8], 8, 0.5),
]


@pytest.mark.parametrize("options, scored, left, best", RULES, ids=str)
def test_when_it_ends_and_what_it_returns(options, scored, left, best, monkeypatch):
    monkeypatch.setattr(module._GramRefit, "score", lambda self, kept: SCORES[len(kept)])
    found = RankedElimination(trees=3, random_state=0, **options).fit(*data())
    assert found.scores_ == [(n, SCORES[n]) for n in scored]
    assert found.support_.sum() == left and found.best_score_ == best
    np.testing.assert_array_equal(found.support_, found.ranking_ <= left)
    assert found.estimator_.n_features_in_ == left


def test_the_printed_algorithm_returns_the_last_set_where_no_round_is_worse(monkeypatch):
    monkeypatch.setattr(module._GramRefit, "score", lambda self, kept: 1 / len(kept))
    found = RankedElimination(trees=3, random_state=0, stop="printed").fit(*data())
    assert found.support_.sum() == 1 and found.best_score_ == 1 and found.scores_[0][0] == 7
    one = RankedElimination(trees=3, stop="printed").fit(
        *(part[:, :1] if i % 2 == 0 else part for i, part in enumerate(data()))
    )
    assert one.scores_ == [(1, 1.0)]


def test_folds_are_the_mean_of_their_loops_and_the_classifier_is_fitted_on_all():
    x, y, *_ = data(160)
    splits = [(np.arange(0, 50), np.arange(50, 80)), (np.arange(30, 80), np.arange(0, 30))]
    ours = RankedElimination(trees=5, random_state=0, patience=99, cv=splits).fit(x, y)
    order = np.argsort(ours.ranking_)
    for left, score in ours.scores_:
        kept = np.sort(order[:left])
        plain = LabelPowersetClassifier()
        each = [
            f1_score(y[b], clone(plain).fit(x[a][:, kept], y[a]).predict(x[b][:, kept]), average="micro")
            for a, b in splits
        ]
        assert score == np.mean(each)
    again = LabelPowersetClassifier().fit(x[:, ours.support_], y)
    np.testing.assert_array_equal(ours.label_scores(x), again.label_scores(x[:, ours.support_]))
    third = RankedElimination(trees=5, random_state=0).fit(x, y)
    assert third.scores_ == RankedElimination(trees=5, random_state=0, cv=3).fit(x, y).scores_


def test_a_sample_given_twice_is_never_on_both_sides_of_a_fold(monkeypatch):
    x, y, *_ = data(24)
    seen = []
    monkeypatch.setattr(
        module._GramRefit, "score", lambda self, kept: seen.append((self.train, self.test)) or 0.0
    )
    RankedElimination(trees=2, random_state=0).fit(np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0))
    for train, test in seen[:3]:
        assert not {row.tobytes() for row in train.X} & {row.tobytes() for row in test.X}
        assert train.weights.sum() + test.weights.sum() == 24 and set(test.weights) == {2.0}


def test_any_classifier_can_be_eliminated_for_and_classes_may_be_words():
    x, y, x_val, y_val = data()
    words, words_val = (np.array(["no", "yes"])[part[:, 0]] for part in (y, y_val))
    ours = RankedElimination(LogisticRegression(), trees=5, patience=9, scoring="accuracy", random_state=0)
    ours.fit(x, words, x_val, words_val)
    for left, score in ours.scores_:
        kept = ours.ranking_ <= left
        plain = LogisticRegression().fit(x[:, kept], words)
        assert score == accuracy_score(words_val, plain.predict(x_val[:, kept]))
    assert set(ours.predict(x)) == {"no", "yes"} and ours.classes_.tolist() == ["no", "yes"]
    assert not hasattr(ours, "label_scores")
    fast, slow = (
        RankedElimination(e, trees=5, patience=9, random_state=0).fit(x, words, x_val, words_val)
        for e in (LabelPowersetClassifier(weights="none"), WeightedLinearSVM())
    )
    assert fast.scores_ == slow.scores_ and (fast.predict(x) == slow.predict(x)).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"step": 0}, "step=0"),
        ({"step": 0.5}, "step=0.5"),
        ({"patience": 0}, "patience=0"),
        ({"trees": 0}, "trees=0"),
        ({"stop": "never"}, "stop='never'"),
        ({"stop": "printed", "patience": 2}, "the printed algorithm has none"),
        ({"scoring": "f2"}, "scoring='f2'"),
        ({"cv": 1}, "cv=1"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        RankedElimination(**options).fit(*data())


def test_parts_that_do_not_fit_are_named():
    x, y, x_val, y_val = data()
    ranked = RankedElimination(trees=2)
    with pytest.raises(ValueError, match="one is given without the other"):
        ranked.fit(x, y, x_val)
    with pytest.raises(ValueError, match=r"y_val \(40,\): expected \(40, 2\)"):
        ranked.fit(x, y, x_val, y_val[:, 0])
    with pytest.raises(ValueError, match="features"):
        ranked.fit(x, y, x_val[:, :3], y_val)
    with pytest.raises(ValueError, match="2 different samples"):
        ranked.fit(x[:1], y[:1])
    with pytest.raises(ValueError, match="f1_samples"):
        RankedElimination(scoring="f1_samples").fit(x, y[:, 0])


def test_the_benchmark_measures_both_ways_and_finds_them_equal():
    small = {
        "samples": 90,
        "validation": 30,
        "features": 12,
        "sets": 6,
        "rounds": 4,
        "repeats": 1,
        "trees": 2,
    }
    ratio, equal = benchmark.run(benchmark.OPTIONS | small)
    assert ratio.value > 0 and ratio.bar == 3 and equal.value == 1 and equal.verdict == "met"
    assert set(ratio.details["seconds"]) == {"ours", "loop"} and ratio.details["label_sets"] == 6
