"""A linear support vector machine of libsvm, kept as the hyperplanes of its pairs of classes."""

import math
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.sparse import issparse
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.svm import SVC
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_random_state,
    column_or_1d,
    validate_data,
)

_FOLDS = 5  # of the calibration
_COLDEST, _HOTTEST = -4.0, 6.0  # natural logarithms of the temperatures looked at
_NOISE = 1e-12  # a sum this far below the sum of its absolute terms is rounding
_HEAVIEST = 1e12  # summed sample weights: libsvm adds penalties up in float64
_stopped = ContextVar("stopped", default=None)  # max_iter of the machines that stopped in this fit


@contextmanager
def told_once():
    """Around a `fit`, however many fits are in it: one line where libsvm stopped before it converged."""
    if _stopped.get() is not None:  # the fit around this one tells it
        yield
        return
    token = _stopped.set([])
    try:
        yield
        stopped = _stopped.get()
    finally:
        _stopped.reset(token)
    if stopped:
        print(
            f"warning: libsvm stopped at max_iter={stopped[0]} before it converged (fits: {len(stopped)});"
            " scale the features (as scikit-learn's StandardScaler does), lower C or raise max_iter",
            file=sys.stderr,
        )


@contextmanager
def many_classes():
    """Hides scikit-learn's remark on many classes for few samples: for label sets that is usual."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        yield


def solved(machine, X, numbers, weights):
    """Fits what `WeightedLinearSVM.solver` gave. Returns it; `told_once` tells where it stopped early."""
    with many_classes(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solver terminated early", ConvergenceWarning)
        machine.fit(X, numbers, weights)
    if machine.fit_status_ and _stopped.get() is not None:
        _stopped.get().append(machine.max_iter)
    return machine


def dense(y):
    """Targets as they are.

    Raises:
        ValueError: they are sparse.
    """
    if issparse(y):
        raise ValueError("y: sparse data was passed, but dense data is required; give y.toarray()")
    return y


def merged(X, *targets, weights):
    """Rows that are alike in features and targets become one row of their summed weight.

    The hinge loss adds up over samples, so the problem stays the same, and a sample of weight 2 and the
    sample given twice become one problem, to the bit. Rows of weight 0 are left out. The order is that of
    the first of its like, so that rows without a like stay as they were.

    Args:
        X: (N, D).
        *targets: arrays of N rows.
        weights: (N,), not negative.

    Returns:
        (row numbers of the first of each like (M,), their summed weights (M,), like's number of each row
        (N,), -1 where the weight is 0).

    Example:
        >>> merged(np.array([[1.0], [2.0], [1.0]]), np.array([0, 0, 0]), weights=np.array([1.0, 0.5, 2.0]))
        (array([0, 1]), array([3. , 0.5]), array([0, 1, 0]))
    """
    parts = [X + 0.0, *(t.reshape(len(t), -1) for t in targets)]  # + 0.0 makes -0.0 equal 0.0
    used = np.flatnonzero(weights > 0)
    numbers, like = {}, np.full(len(X), -1)
    for row in used:
        key = tuple(part[row].tobytes() for part in parts)
        like[row] = numbers.setdefault(key, len(numbers))
    first = np.zeros(len(numbers), int)
    first[like[used][::-1]] = used[::-1]
    return first, np.bincount(like[used], weights[used], len(numbers)), like


def checked_weights(sample_weight, X):
    """Sample weights as float64 (N,): given ones, else ones.

    Raises:
        ValueError: one is negative or not finite, or all are 0, or their sum is beyond 1e-12 to 1e12.
    """
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if (weights < 0).any() or not weights.any():
        raise ValueError("sample_weight: expected numbers of at least 0, and one above 0")
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not 1 / _HEAVIEST <= total <= _HEAVIEST:
        raise ValueError(
            f"sample_weight: the sum is {total:g}; expected {1 / _HEAVIEST:g} to {_HEAVIEST:g};"
            " divide by the mean"
        )
    return weights


def _above_0(value):
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < math.inf


def one_vs_rest(pairwise, classes):
    """Decision values of pairs of classes as one value a class: votes, and a share of the sums below a vote.

        value_k = votes_k + s_k / (3 (|s_k| + 1)),  s_k = sum of the values of k's pairs, each seen from k

    **Source**: scikit-learn's `decision_function_shape="ovr"`.
    **Differs**: two classes and one class give values too, (N, 2) and (N, 1).

    Args:
        pairwise: (N, classes (classes - 1) / 2), positive for the first of the pair; pairs as (0, 1),
            (0, 2), ..., (1, 2), ...
        classes: how many.

    Returns:
        float64 (N, classes).

    Example:
        >>> one_vs_rest(np.array([[1.0]]), 2).round(3).tolist()
        [[1.167, -0.167]]
    """
    first, second = incidence(classes)
    sums = pairwise @ (first - second)
    votes = (pairwise >= 0) @ first + (pairwise < 0) @ second
    return votes + sums / (3 * (np.abs(sums) + 1))


def winners(pairwise, classes):
    """Number of the class with most votes; of equal ones the lower. A value of 0 is a vote for the second.

    **Source**: libsvm's `svm_predict`.
    """
    first, second = incidence(classes)
    return np.argmax((pairwise > 0) @ first + (pairwise <= 0) @ second, axis=1)


def incidence(classes):
    """Two float64 (pairs, classes): which class is the first of a pair, and which the second."""
    first, second = np.triu_indices(classes, 1)
    return np.eye(classes)[first], np.eye(classes)[second]


class WeightedLinearSVM(ClassifierMixin, BaseEstimator):
    """Linear support vector machine (libsvm) whose samples weigh differently.

        J = 1/2 |w|^2 + C sum_i weight_i max(0, 1 - y_i (w x_i + b)), one w and b for each pair of classes

    The class with most votes of the pairs wins; of equal ones the lower. Scores of the classes are the
    softmax of the one-vs-rest decision values, divided by a temperature where they are to be calibrated.

    **Source**: Pouyanfar et al. 2019, section III-C and IV-B: linear kernel, C = 0.9, shrinking; libsvm by
    `sklearn.svm.SVC`.
    **Differs**: equal samples are merged, so weight 2 is the sample given twice, to the bit (another order of
    the rows gives the same only within `tol`, where libsvm stops). The hyperplanes are kept, not the support
    vectors. Calibration is by one temperature on values of held-out folds (Guo et al. 2017), not by
    libsvm's sigmoid for each pair, which scikit-learn gives up and which label sets of one clip cannot feed.
    One class alone is learnt too: it is always predicted.

    Args:
        C: penalty of the errors, above 0.
        class_weight: None, "balanced" (the inverse of a class's summed weight) or a dict, class -> factor.
        scores: "decision" or "probability": whether `label_scores` is calibrated. "probability" fits five
            more times and adds `predict_proba`.
        shrinking: libsvm's shrinking heuristic.
        tol: where libsvm stops. Below 1e-6, or with features of very different sizes, it may take very long.
        max_iter: of libsvm, for each pair of classes. Where it is reached, one line is printed that says so.
        random_state: of the folds of the calibration.

    Input: X (N, D) floats, y (N,) classes, sample_weight (N,) of at least 0.
    Output: `predict` (N,); `decision_function` (N,) for two classes, positive for the second, else
    float64 (N, classes); `label_scores` float64 (N, classes), each row adds up to 1.

    Attributes: classes_; coef_ (P, D) and intercept_ (P,), the hyperplanes of the pairs (0, 1), (0, 2), ...,
    positive for the first; n_iter_ (P,), libsvm's iterations; temperature_; n_features_in_.

    Raises:
        ValueError: NaN or infinity; sparse data; another width than in `fit`; an argument out of range.

    Example:
        >>> svm = WeightedLinearSVM().fit([[0.0], [1.0], [4.0], [5.0]], ["low", "low", "high", "high"])
        >>> svm.predict([[0.5], [9.0]]).tolist()
        ['low', 'high']
        >>> svm.label_scores([[9.0]]).round(2).tolist()
        [[0.82, 0.18]]
    """

    def __init__(
        self,
        C=0.9,
        class_weight=None,
        scores="decision",
        shrinking=True,
        tol=1e-3,
        random_state=None,
        max_iter=300_000,
    ):
        self.C = C
        self.class_weight = class_weight
        self.scores = scores
        self.shrinking = shrinking
        self.tol = tol
        self.random_state = random_state
        self.max_iter = max_iter

    @told_once()
    def fit(self, X, y, sample_weight=None):
        """Fits the hyperplanes. Returns self."""
        X, y = validate_data(self, X, dense(y), dtype=np.float64, order="C")
        y = column_or_1d(y, warn=True)
        with many_classes():
            check_classification_targets(y)
        weights = checked_weights(sample_weight, X)
        numbers = np.unique(y, return_inverse=True)[1]
        rows, weights, _ = merged(X, numbers, weights=weights)
        return self.fit_rows(X[rows], y[rows], weights)

    def fit_rows(self, X, y, weights):
        """`fit` for rows that are checked, and not merged: what the rounds of an elimination share."""
        self.n_features_in_ = X.shape[1]
        numbers, weights = self.learn_classes(y, weights)
        self.coef_, self.intercept_, self.n_iter_ = self._hyperplanes(X, numbers, weights)
        self.temperature_ = self._temperature(X, numbers, weights) if self.scores == "probability" else 1.0
        return self

    def learn_classes(self, y, weights):
        """Learns the classes; returns the class number of each row, and the weights with `class_weight`."""
        self.check_parameters()
        self.classes_, numbers = np.unique(y, return_inverse=True)
        factors = np.ones(len(self.classes_))
        if self._balanced():
            factors = weights.sum() / (len(factors) * np.bincount(numbers, weights))
        elif self.class_weight:
            factors = np.array([self.class_weight.get(c, 1.0) for c in self.classes_.tolist()])
        with np.errstate(over="ignore", invalid="ignore"):
            weights = weights * factors[numbers]
            total = self.C * weights.sum()
        if not np.isfinite(total):
            raise ValueError(
                f"C={self.C}: times the weights it is not finite; lower C, class_weight or weights"
            )
        return numbers, weights

    def check_parameters(self):
        """Raises ValueError where a parameter is out of range."""
        if self.scores not in ("decision", "probability"):
            raise ValueError(f"scores={self.scores!r}: expected 'decision' or 'probability'")
        for name in ("C", "tol"):
            if not _above_0(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a number above 0")
        if not isinstance(self.max_iter, Integral) or not _above_0(self.max_iter):
            raise ValueError(f"max_iter={self.max_iter!r}: expected a whole number of at least 1")
        if not isinstance(self.shrinking, bool | np.bool_):
            raise ValueError(f"shrinking={self.shrinking!r}: expected True or False")
        check_random_state(self.random_state)
        if isinstance(self.class_weight, dict):
            for name, factor in self.class_weight.items():
                if not _above_0(factor):
                    raise ValueError(
                        f"class_weight: {factor!r} for class {name!r}; expected a number above 0; to leave a"
                        " class out, leave its samples out"
                    )
        elif self.class_weight is not None and not self._balanced():
            raise ValueError(f"class_weight={self.class_weight!r}: expected None, 'balanced' or a dict")

    def _balanced(self):
        return isinstance(self.class_weight, str) and self.class_weight == "balanced"

    def solver(self, kernel="linear"):
        """The scikit-learn machine that does the work, for two classes or more."""
        given = {"C": self.C, "shrinking": self.shrinking, "tol": self.tol, "max_iter": self.max_iter}
        return SVC(kernel=kernel, **given)

    def _hyperplanes(self, X, numbers, weights):
        if numbers.max(initial=0) == 0:
            return np.zeros((0, X.shape[1])), np.zeros(0), np.zeros(0, int)
        svc = solved(self.solver(), X, numbers, weights)
        # scikit-learn turns the sign of a single pair: there positive is the second class.
        sign = -1.0 if svc.intercept_.size == 1 else 1.0
        coef, intercept = sign * svc.coef_, sign * svc.intercept_
        # What is 0 by the equation, as for two classes with the same rows, is 0 and no rounding, so that
        # nothing that adds up in another order (the exported layer) can turn a vote.
        terms = np.abs(svc.dual_coef_).sum(axis=0) @ np.abs(svc.support_vectors_)
        return np.where(np.abs(coef) > _NOISE * terms, coef, 0.0), intercept, svc.n_iter_

    def _temperature(self, X, numbers, weights):
        """The divisor of the decision values under which held-out samples are likeliest."""
        if len(X) < 2:
            return 1.0
        held, seed = [], check_random_state(self.random_state).randint(2**31 - 1)
        for train, test in KFold(min(_FOLDS, len(X)), shuffle=True, random_state=seed).split(X):
            known, inside = np.unique(numbers[train], return_inverse=True)
            test = test[np.isin(numbers[test], known)]  # no fold can score a class that it has not seen
            coef, intercept, _ = self._hyperplanes(X[train], inside, weights[train])
            values = one_vs_rest(X[test] @ coef.T + intercept, len(known))
            held.append((values, np.searchsorted(known, numbers[test]), weights[test]))

        def surprise(logarithm):
            total = 0.0
            for values, truth, weight in held:
                scaled = values / np.exp(logarithm)
                total += weight @ (logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth])
            return total

        if not any(values.size and values.shape[1] > 1 for values, _, _ in held):
            return 1.0
        return float(np.exp(minimize_scalar(surprise, bounds=(_COLDEST, _HOTTEST), method="bounded").x))

    def pairwise(self, X):
        """float64 (N, P): the decision value of each pair of classes, positive for the first."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        return X @ self.coef_.T + self.intercept_

    def class_values(self, X):
        """float64 (N, classes): one-vs-rest decision values, whatever the number of classes."""
        return one_vs_rest(self.pairwise(X), len(self.classes_))

    def decision_function(self, X):
        """Decision values: (N,) for two classes, positive for the second; else (N, classes)."""
        pairwise = self.pairwise(X)
        return -pairwise[:, 0] if len(self.classes_) == 2 else one_vs_rest(pairwise, len(self.classes_))

    def predict(self, X):
        """Classes (N,)."""
        pairwise = self.pairwise(X)
        return self.classes_[winners(pairwise, len(self.classes_))]

    def label_scores(self, X):
        """float64 (N, classes): a score in [0, 1] for each class; a row adds up to 1."""
        return softmax(self.class_values(X) / self.temperature_, axis=1)

    @available_if(lambda self: self.scores == "probability")
    def predict_proba(self, X):
        """`label_scores`, under scikit-learn's name where they are calibrated."""
        return self.label_scores(X)
