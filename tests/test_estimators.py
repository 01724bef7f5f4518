"""The estimators: scikit-learn's own checks, scikit-learn's own SVC, weights, and what is out of the way."""

import warnings

import numpy as np
import oracles
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from sklearn.utils import estimator_checks

from tfvc.estimators import LabelPowersetClassifier, RankedElimination, WeightedLinearSVM
from tfvc.estimators.elimination import SCORES
from tfvc.estimators.powerset import label_sets, set_weights
from tfvc.estimators.svm import merged, one_vs_rest, winners

# The check shuffles the weighted samples and asks for 1e-7. libsvm stops within `tol` (1e-3) of the best
# wherever the order of the rows has led it; scikit-learn's SVC fails here for the same reason. With a small
# `tol` the check passes, and without the shuffle weights and repeats agree to the bit: tested below.
SHUFFLED = {"check_sample_weight_equivalence_on_dense_data": "libsvm stops within tol, by the order of rows"}
# The printed algorithm returns the set of features whose round was worse: here one of two, and with it less
# than the 83 % that the check asks for on its training samples.
WORSE = {"check_classifiers_train": "stop='printed' returns the worse set of features, as printed"}
ESTIMATORS = [
    (WeightedLinearSVM(), SHUFFLED),
    (WeightedLinearSVM(scores="probability"), SHUFFLED),
    (LabelPowersetClassifier(), SHUFFLED),
    (LabelPowersetClassifier(weights="label_set"), SHUFFLED),
    (RankedElimination(trees=3), {}),
    (RankedElimination(trees=3, stop="printed"), WORSE),
]


@pytest.mark.parametrize("estimator, expected", ESTIMATORS, ids=lambda v: type(v).__name__)
def test_scikit_learns_checks_pass(estimator, expected):
    estimator_checks.check_estimator(estimator, expected_failed_checks=expected, on_skip=None)


@pytest.mark.parametrize("wrap", [lambda svm: svm, LabelPowersetClassifier], ids=["svm", "powerset"])
def test_the_check_that_shuffles_passes_with_a_small_tolerance(wrap):
    check = estimator_checks.check_sample_weight_equivalence_on_dense_data
    check("", wrap(WeightedLinearSVM(tol=1e-8)))


def made(samples=90, features=6, labels=3, seed=0):
    """Features, an indicator that follows them (empty sets among it), weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features))
    y = (x[:, :labels] + 0.7 * rng.normal(size=(samples, labels)) > 0.4).astype(int)
    y[:2] = 0  # clips without a label
    return x, y, rng.uniform(0.5, 2, samples)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_svm_is_scikit_learns_svc(classes):
    x, _, weights = made()
    y = np.array(list("abcd"))[np.argmax(x[:, :classes], axis=1)]
    ours = WeightedLinearSVM(C=0.7, class_weight={"a": 2.0}).fit(x, y, weights)
    theirs = SVC(C=0.7, kernel="linear", class_weight={"a": 2.0}).fit(x, y, weights)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), atol=1e-12)


def test_the_powerset_is_an_svc_of_the_label_sets_and_scores_are_the_equation():
    x, y, _ = made()
    ours = LabelPowersetClassifier().fit(x, y)
    sets, numbers = np.unique(y, axis=0, return_inverse=True)
    svc = SVC(C=0.9, kernel="linear").fit(x, numbers.reshape(-1), oracles.set_weights(y))
    np.testing.assert_array_equal(ours.predict(x), sets[svc.predict(x)])
    machine = ours.estimator_
    labels, scores = oracles.powerset_votes(x, machine.coef_, machine.intercept_, sets)
    np.testing.assert_array_equal(ours.predict(x), labels)
    np.testing.assert_allclose(ours.label_scores(x), scores, atol=1e-12)
    decided = ours.decision_function(x)
    assert decided.shape == y.shape and np.mean((decided > 0) == ours.predict(x)) > 0.98  # votes may be equal


def test_weights_of_label_sets_are_the_equation():
    _, y, _ = made()
    _, sets, numbers, several = label_sets(y)
    np.testing.assert_allclose(
        set_weights(sets, numbers, np.ones(len(y)), "concepts")[numbers], oracles.set_weights(y)
    )
    count = np.bincount(numbers)
    by_set = set_weights(sets, numbers, np.ones(len(y)), "label_set")
    np.testing.assert_allclose(by_set * count, np.full(len(sets), len(y) / len(sets)))
    assert several and (set_weights(sets, numbers, np.ones(len(y)), "none") == 1).all()
    found = [
        LabelPowersetClassifier(weights=w).fit(*made()[:2]).estimator_.coef_ for w in ("concepts", "none")
    ]
    assert np.abs(found[0] - found[1]).max() > 1e-3


WEIGHED = [
    WeightedLinearSVM(),
    WeightedLinearSVM(class_weight="balanced", scores="probability", random_state=0),
    LabelPowersetClassifier(),
    LabelPowersetClassifier(weights="label_set"),
    RankedElimination(trees=5, random_state=0, patience=3),
    RankedElimination(LogisticRegression(), trees=5, random_state=0),
]


@pytest.mark.parametrize("estimator", WEIGHED, ids=str)
def test_weight_2_is_the_sample_given_twice_and_weight_0_the_sample_left_out(estimator):
    x, y, _ = made()
    if "weights" not in estimator.get_params() and estimator.get_params().get("estimator", 0) is not None:
        y = y @ [1, 2, 4]  # classes, for those that take no indicator
    weights = np.random.default_rng(1).integers(0, 3, len(x))
    once = estimator.fit(x, y, sample_weight=weights)
    names = ("predict", "decision_function", "label_scores")
    names = [name for name in names if hasattr(once, name)]
    first = [getattr(once, name)(x) for name in names]
    kept = getattr(once, "importances_", None), getattr(once, "scores_", None)
    order = np.concatenate([np.flatnonzero(weights), np.flatnonzero(weights == 2)])  # the second ones behind
    twice = estimator.fit(x[order], y[order])
    for name, expected in zip(names, first, strict=True):
        np.testing.assert_array_equal(getattr(twice, name)(x), expected, err_msg=name)
    np.testing.assert_array_equal(getattr(twice, "importances_", None), kept[0])
    assert getattr(twice, "scores_", None) == kept[1]


def test_samples_that_are_alike_are_merged_in_the_order_of_the_first():
    x = np.array([[1.0], [2.0], [-0.0], [1.0], [0.0], [2.0]])
    rows, weights, like = merged(x, np.array([0, 1, 0, 0, 0, 1]), weights=np.array([1, 0, 2, 3, 4, 5.0]))
    assert rows.tolist() == [0, 2, 5] and weights.tolist() == [4, 6, 5]
    assert like.tolist() == [0, -1, 1, 0, 1, 2]


def test_equal_votes_go_to_the_lower_class_and_a_value_of_zero_to_the_second():
    circle = np.array([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])  # 0 beats 1, 2 beats 0, 1 beats 2
    assert winners(circle, 3).tolist() == [0, 2]
    np.testing.assert_allclose(one_vs_rest(circle, 3)[0].sum(), 3, atol=0.5)
    assert one_vs_rest(np.zeros((2, 0)), 1).tolist() == [[0.0], [0.0]]


def test_calibrated_scores_are_likelier_on_other_samples():
    x, y, _ = made(400, seed=3)
    train, test = slice(200), slice(200, None)
    classes = y @ [1, 2, 4]
    raw = WeightedLinearSVM().fit(x[train], classes[train])
    ours = WeightedLinearSVM(scores="probability", random_state=0).fit(x[train], classes[train])
    place = np.searchsorted(ours.classes_, classes[test])
    surprise = [-np.log(e.label_scores(x[test])[np.arange(200), place]).mean() for e in (raw, ours)]
    assert surprise[1] < surprise[0] and not hasattr(raw, "predict_proba")
    np.testing.assert_array_equal(ours.predict_proba(x), ours.label_scores(x))
    np.testing.assert_array_equal(ours.predict(x), raw.predict(x))


# --- out of the way -----------------------------------------------------------------------------------------


def test_one_label_set_alone_is_always_predicted():
    x = made()[0]
    for rows in (np.tile([1, 0, 1], (len(x), 1)), np.zeros((len(x), 3), int)):
        for estimator in (LabelPowersetClassifier(), RankedElimination(trees=2, random_state=0)):
            assert (estimator.fit(x, rows).predict(x) == rows).all()
            assert (estimator.label_scores(x) == rows).all() and np.isfinite(
                estimator.decision_function(x)
            ).all()
    one = WeightedLinearSVM(scores="probability").fit(x, ["a"] * len(x))
    assert set(one.predict(x)) == {"a"} and (one.label_scores(x) == 1).all()


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_constant_features_predict_one_set_for_all(fill):
    _, y, _ = made()
    x = np.full((len(y), 4), fill)
    for estimator in (LabelPowersetClassifier(), RankedElimination(trees=2, random_state=0)):
        found = estimator.fit(x, y).predict(x)
        assert (found == found[0]).all() and (found[0] == y).all(axis=1).any()
    assert not estimator.importances_.any() and estimator.ranking_.tolist() == [1, 2, 3, 4]
    assert not LabelPowersetClassifier().fit(x, y).estimator_.coef_.any()  # 0, and no rounding


def test_an_unseen_label_set_is_not_predicted_but_its_labels_have_scores():
    x, y, _ = made()
    seen = y.sum(axis=1) < 3
    found = LabelPowersetClassifier().fit(x[seen], y[seen])
    assert (found.predict(x).sum(axis=1) < 3).all() and (found.label_scores(x[~seen]) > 0).all()
    never = LabelPowersetClassifier().fit(x, y * [1, 1, 0])
    assert not never.predict(x)[:, 2].any() and not never.label_scores(x)[:, 2].any()


def test_one_feature_and_a_clip_without_labels():
    x, y, _ = made(features=3)
    found = RankedElimination(trees=3, random_state=0).fit(x[:, :1], y[:, :2])
    assert found.support_.tolist() == [True] and len(found.scores_) == 1
    alone = LabelPowersetClassifier().fit([[0.0], [5.0]], [[0, 0], [1, 0]])
    assert alone.predict([[0.0], [5.0]]).tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("estimator", [WeightedLinearSVM(), LabelPowersetClassifier(), RankedElimination()])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_when_fitted_and_when_asked(estimator, bad):
    x, classes = made(12)[0], np.arange(12) % 2
    wrong = np.where(x == x[3, 1], bad, x)
    with pytest.raises(ValueError, match="NaN|infinity"):
        estimator.fit(wrong, classes)
    with pytest.raises(ValueError, match="NaN|infinity"):
        WeightedLinearSVM().fit(x, classes).predict(wrong)


@pytest.mark.parametrize(
    "estimator, message",
    [
        (WeightedLinearSVM(C=0), "C=0"),
        (WeightedLinearSVM(C="a"), "C='a': expected a number"),
        (WeightedLinearSVM(C=np.nan), "C=nan"),
        (WeightedLinearSVM(C=1e308, class_weight={0: 1e9}), "not finite"),
        (WeightedLinearSVM(max_iter=0), "max_iter=0"),
        (WeightedLinearSVM(max_iter=-1), "max_iter=-1"),
        (WeightedLinearSVM(shrinking="no"), "shrinking='no'"),
        (WeightedLinearSVM(class_weight={1: -2}), "-2 for class 1"),
        (WeightedLinearSVM(class_weight={1: np.nan}), "nan for class 1"),
        (WeightedLinearSVM(class_weight={0: 0}), "0 for class 0"),
        (WeightedLinearSVM(class_weight={0: "x"}), "'x' for class 0"),
        (RankedElimination(eliminate="no"), "eliminate='no'"),
        (WeightedLinearSVM(tol=-1), "tol=-1"),
        (WeightedLinearSVM(scores="votes"), "scores='votes'"),
        (WeightedLinearSVM(class_weight="fair"), "class_weight='fair'"),
        (LabelPowersetClassifier(weights="equal"), "weights='equal'"),
    ],
)
def test_an_argument_out_of_range_is_named(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(*made(12)[:1], np.arange(12) % 2)


def test_targets_and_weights_that_do_not_fit_are_named():
    x, y, _ = made(12)
    with pytest.raises(ValueError, match="expected 0 and 1 only"):
        LabelPowersetClassifier().fit(x, y + 1)
    with pytest.raises(ValueError, match="at least 0"):
        LabelPowersetClassifier().fit(x, y, -np.ones(12))
    with pytest.raises(ValueError, match="non-zero|above 0"):
        WeightedLinearSVM().fit(x, y[:, 0], np.zeros(12))


@pytest.mark.parametrize("estimator", [WeightedLinearSVM(), LabelPowersetClassifier(), RankedElimination()])
def test_sparse_targets_and_weights_without_measure_are_refused(estimator):
    x, y, _ = made(12)
    with pytest.raises(ValueError, match=r"sparse data was passed.*toarray"):
        estimator.fit(x, csr_matrix(y))
    for weight in (1e300, 1e308, 1e-300):
        with pytest.raises(ValueError, match="the sum is .*; expected 1e-12 to 1e"):
            estimator.fit(x, y[:, 0], sample_weight=np.full(12, weight))


def test_libsvm_ends_at_max_iter_with_one_line_and_both_ways_agree(capsys):
    x, y, weights = made()
    given = 1e4 * x[:60], y[:60], 1e4 * x[60:], y[60:]
    fits = WeightedLinearSVM(max_iter=9, scores="probability").fit, LabelPowersetClassifier().fit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits[0](1e4 * x, y @ [1, 2, 4], weights)
        told = capsys.readouterr().err
        assert told.startswith("warning: libsvm stopped at max_iter=9 ") and told.count("\n") == 1
        fits[1](x, y)
        powerset = LabelPowersetClassifier(WeightedLinearSVM(max_iter=9))
        fast = RankedElimination(powerset, trees=3, patience=9, random_state=0).fit(*given)
        assert capsys.readouterr().err.count("\n") == 1
        for left, score in fast.scores_:
            kept = fast.ranking_ <= left
            plain = LabelPowersetClassifier(WeightedLinearSVM(max_iter=9)).fit(given[0][:, kept], y[:60])
            assert plain.estimator_.n_iter_.max() == 9
            assert score == SCORES["f1_micro"](y[60:], plain.predict(given[2][:, kept]))
    with pytest.raises(ValueError, match="NaN"):
        powerset.fit(x * np.nan, y)
    capsys.readouterr()
    powerset.fit(1e4 * x, y)  # the fit that failed left nothing behind
    assert "max_iter=9 before it converged (fits: 1)" in capsys.readouterr().err


def test_many_label_sets_for_few_samples_are_no_warning_and_others_stay():
    x, y, _ = made(20)
    sets = np.arange(20) // 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in (
            WeightedLinearSVM(),
            LabelPowersetClassifier(),
            RankedElimination(trees=2, random_state=0),
            RankedElimination(WeightedLinearSVM(), trees=2, random_state=0, scoring="accuracy"),
        ):
            estimator.fit(x, sets.astype(int)).predict(x)
        RankedElimination(trees=2, random_state=0).fit(x, np.unpackbits(np.uint8(sets)[:, None], axis=1))
    with pytest.warns(Warning, match="column-vector"):
        WeightedLinearSVM().fit(x, y[:, :1])
