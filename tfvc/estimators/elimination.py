"""Recursive elimination of the features that a random forest ranks lowest (Algorithm 1)."""

from functools import partial
from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dgemm
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import KFold, check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from tfvc.estimators.powerset import LabelPowersetClassifier, label_sets
from tfvc.estimators.svm import (
    WeightedLinearSVM,
    checked_weights,
    dense,
    many_classes,
    merged,
    solved,
    told_once,
)

SCORES = {
    **{f"f1_{a}": partial(f1_score, average=a, zero_division=0) for a in ("micro", "macro", "samples")},
    "accuracy": accuracy_score,
}
_FOLDS = 3
_REFRESH = 32  # features taken from a Gram matrix before it is computed anew
_LEAST = 0.25  # share of a row's square that must be left, else the same


def _available(name):
    """For `available_if`: whether the classifier inside has a method."""
    return lambda self: hasattr(self.estimator_ if hasattr(self, "estimator_") else self._fresh(), name)


class RankedElimination(ClassifierMixin, BaseEstimator):
    """Drops the features that a random forest ranks lowest, as long as the score of the classifier grows.

    1. A forest's mean decrease of Gini impurity over the concepts ranks the features.
    2. The classifier is fitted with all features and scored on the validation part.
    3. Each round drops the `step` lowest, fits anew and scores; `stop` says when it ends. One feature is
       always left.

    **Source**: Pouyanfar et al. 2019, section III-C, Algorithm 1.
    **Differs**: the text and the printed algorithm disagree. `stop="text"`: a round that does not improve the
    best score (a tie too) counts as a failure, `patience` failures in a row end it, and the best set of
    features is returned. `stop="printed"`: the first feature is dropped before any scoring, the loop ends
    where s_k < s_{k-1}, and the WORSE set and its score are returned; a tie goes on; where no round is worse
    one feature is left. (With one feature there is no round: it is scored and returned.)
    The forest reads the concepts (the indicator), as its printed impurity does, not the label sets.

    With `LabelPowersetClassifier` of `WeightedLinearSVM` the rounds do not refit from the features: libsvm
    is given the Gram matrix, which loses one rank-1 term a dropped feature. It is computed anew after 32
    features, or where a sample has lost three quarters of its square, so that its relative error stays near
    1e-15, as that of a fresh one; libsvm keeps the matrix in float32 (6e-8), and so sees the same problem as
    a refit does. Tests hold both against each other. Other classifiers are refitted.

    Weight 2 equals a sample given twice, the forest's ranking and the folds too, to the bit: equal samples
    are merged. It cannot be so for another ORDER of the rows: the forest's bootstrap and the folds draw rows
    by their number, and libsvm stops within its tolerance wherever its path has led it.

    Args:
        estimator: classifier whose `fit` takes sample_weight; None is `LabelPowersetClassifier()`.
        step: features a round, at least 1.
        patience: failures in a row that end it (`stop="text"` only).
        stop: "text" or "printed".
        eliminate: False keeps all features: they are ranked, scored and fitted.
        cv: without a validation part, the folds whose mean is the score: a number, or a splitter or splits
            as scikit-learn takes them; None = 3. A number's folds are drawn over the merged samples, so that
            a sample given twice is never on both sides.
        scoring: "f1_micro", "f1_macro", "f1_samples" (indicators only) or "accuracy".
        trees: of the forest.
        random_state: of the forest and of the folds.

    Input and output: as `LabelPowersetClassifier`.

    Attributes: support_ bool (D,), features kept; ranking_ int (D,), 1 = most important; of equal ones the
    earlier is the more important; importances_ (D,), which add up to 1 (all 0 where nothing can be told
    apart); scores_, list of (features left, score); best_score_; estimator_, fitted on the features kept;
    classes_; n_features_in_.

    Raises:
        ValueError: NaN or infinity; one of X_val and y_val without the other; labels or widths that do not
            fit; an argument out of range; one sample alone without a validation part.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(60, 5))
        >>> y = (x[:, :2] > 0).astype(int)
        >>> ranked = RankedElimination(trees=20, random_state=0).fit(x[:40], y[:40], x[40:], y[40:])
        >>> ranked.ranking_[:2].tolist(), ranked.support_[:2].tolist(), ranked.scores_[0][0]
        ([2, 1], [True, True], 5)
    """

    def __init__(
        self,
        estimator=None,
        *,
        step=1,
        patience=1,
        stop="text",
        eliminate=True,
        cv=None,
        scoring="f1_micro",
        trees=300,
        random_state=None,
    ):
        self.estimator = estimator
        self.step = step
        self.patience = patience
        self.stop = stop
        self.eliminate = eliminate
        self.cv = cv
        self.scoring = scoring
        self.trees = trees
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @told_once()
    def fit(self, X, y, X_val=None, y_val=None, sample_weight=None):
        """Ranks, eliminates and fits. `sample_weight` is of the training samples. Returns self."""
        self.check_parameters()
        X, y = validate_data(self, X, dense(y), dtype=np.float64, order="C", multi_output=True)
        weights = checked_weights(sample_weight, X)
        y = _targets(y)
        self.classes_ = label_sets(y[weights > 0])[0]
        if y.ndim == 1 and self.scoring == "f1_samples":
            raise ValueError("scoring='f1_samples': y is a vector; expected an indicator, or another scoring")
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val: one is given without the other; give both, or neither for cv")
        rows, summed, _ = merged(X, y, weights=weights)
        whole = Rows(X[rows], y[rows], summed)
        if X_val is None:
            pairs = self._folds(Rows(X, y, weights), whole)
        else:
            X_val = validate_data(self, X_val, dtype=np.float64, order="C", reset=False)
            pairs = [(whole, self._validation(X_val, y_val, y))]
        forest = RandomForestClassifier(self.trees, random_state=self.random_state)
        # scikit-learn 1.9 draws the bootstrap by the weights, and otherwise for ones than without weights.
        with many_classes():
            forest.fit(*whole[:2], sample_weight=None if (summed == 1).all() else summed)
        self.importances_ = forest.feature_importances_
        order = np.argsort(-self.importances_, kind="stable")  # of equal ones the later goes first
        self.ranking_ = np.empty(len(order), int)
        self.ranking_[order] = np.arange(1, len(order) + 1)
        self._eliminate([self._refit(*pair) for pair in pairs], order)
        kept = np.flatnonzero(self.support_)
        self.estimator_ = self._refit(whole, None).fitted(kept)
        return self

    def check_parameters(self):
        """Raises ValueError where a parameter is out of range."""
        for name, least in (("step", 1), ("patience", 1), ("trees", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}")
        if self.stop not in ("text", "printed"):
            raise ValueError(f"stop={self.stop!r}: expected 'text' or 'printed'")
        if self.stop == "printed" and self.patience != 1:
            raise ValueError(f"patience={self.patience}: the printed algorithm has none; expected 1")
        if not isinstance(self.eliminate, bool | np.bool_):
            raise ValueError(f"eliminate={self.eliminate!r}: expected True or False")
        check_random_state(self.random_state)
        if self.scoring not in SCORES:
            raise ValueError(f"scoring={self.scoring!r}: expected one of {', '.join(SCORES)}")
        if isinstance(self.cv, Integral) and self.cv < 2:
            raise ValueError(f"cv={self.cv}: expected at least 2 folds")

    def _folds(self, given, whole):
        """(training rows, validation rows) of each fold."""
        if self.cv is None or isinstance(self.cv, Integral):
            if len(whole.X) < 2:
                raise ValueError(
                    "n_samples=1: cross-validation takes 2 different samples; give more, or X_val"
                )
            folds = min(self.cv or _FOLDS, len(whole.X))
            split = KFold(folds, shuffle=True, random_state=self.random_state).split(whole.X)
            return [(whole.take(train), whole.take(test)) for train, test in split]
        pairs = []
        for train, test in check_cv(self.cv).split(given.X, given.y):  # numbers of the rows as given
            train, test = given.take(train), given.take(test)
            rows, summed, _ = merged(train.X, train.y, weights=train.weights)
            test = test.take(test.weights > 0)
            pairs.append((Rows(train.X[rows], train.y[rows], summed), test))
        return pairs

    def _validation(self, X, y_val, y):
        y_val = _targets(np.asarray(dense(y_val)))
        if len(y_val) != len(X) or y_val.shape[1:] != y.shape[1:]:
            raise ValueError(f"y_val {y_val.shape}: expected {(len(X), *y.shape[1:])}, as X_val and y are")
        return Rows(X, y_val, np.ones(len(X)))

    def _fresh(self):
        return LabelPowersetClassifier() if self.estimator is None else clone(self.estimator)

    def _refit(self, train, test):
        return refit(self._fresh(), train, test, SCORES[self.scoring])

    def _eliminate(self, refits, order):
        """Runs the rounds; sets scores_, best_score_ and support_."""

        def score(left):
            kept = np.sort(order[:left])
            found = float(np.mean([one.score(kept) for one in refits]))
            self.scores_.append((left, found))
            return found

        total, self.scores_ = len(order), []
        rounds = [*range(total - self.step, 1, -self.step), 1] if self.eliminate and total > 1 else []
        if self.stop == "printed" and rounds:
            best, previous = rounds[0], -np.inf
            for left in rounds:
                best, now = left, score(left)
                if now < previous:
                    break
                previous = now
            self.best_score_ = now
        else:
            best, self.best_score_, failures = total, score(total), 0
            for left in rounds:
                now = score(left)
                if now > self.best_score_:
                    best, self.best_score_, failures = left, now, 0
                    continue
                failures += 1
                if failures == self.patience:
                    break
        self.support_ = self.ranking_ <= best

    def _kept(self, X):
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, order="C", reset=False)[:, self.support_]

    def predict(self, X):
        """Label sets int (N, C), or classes (N,) where `y` was a vector."""
        X = self._kept(X)
        return self.estimator_.predict(X)

    @available_if(_available("decision_function"))
    def decision_function(self, X):
        """Decision values of the classifier on the features kept."""
        X = self._kept(X)
        return self.estimator_.decision_function(X)

    @available_if(_available("label_scores"))
    def label_scores(self, X):
        """float64 (N, C): scores of the labels in [0, 1]."""
        X = self._kept(X)
        return self.estimator_.label_scores(X)


class Rows(NamedTuple):
    """Samples: features, targets and weights."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray

    def take(self, rows):
        return Rows(*(part[rows] for part in self))


def _targets(y):
    """Targets as an indicator (N, C) or a vector (N,), checked."""
    classes, _, numbers, indicator = label_sets(y)
    return y.astype(int) if indicator else classes[numbers]


def refit(model, train, test, measure):
    """What fits and scores a classifier round after round, in the fastest way that it has.

    Args:
        model: fresh classifier.
        train: `Rows` to fit on.
        test: `Rows` to score, None where only `fitted` is asked for.
        measure: function of truth, prediction and sample_weight.

    Returns:
        object with `score(kept)` and `fitted(kept)`; `kept`: rising numbers of features, at each `score` a
        subset of the ones before.
    """
    fast = type(model) is LabelPowersetClassifier and type(model.inner()) is WeightedLinearSVM
    return (_GramRefit if fast else _PlainRefit)(model, train, test, measure)


class _PlainRefit:
    """Fits a fresh classifier on the features kept: what every classifier can do."""

    def __init__(self, model, train, test, measure):
        self.model, self.train, self.test, self.measure = model, train, test, measure

    def score(self, kept):
        found = self.fitted(kept).predict(self.test.X[:, kept])
        return self._measured(found)

    def _measured(self, found):
        with many_classes():
            return self.measure(self.test.y, found, sample_weight=self.test.weights)

    def fitted(self, kept):
        return clone(self.model).fit(self.train.X[:, kept], self.train.y, sample_weight=self.train.weights)


class _GramRefit(_PlainRefit):
    """The same for a linear SVM of label sets, from a Gram matrix that follows the features kept.

    Label sets and weights do not change from round to round, and rows that become alike once features are
    gone stay apart, as libsvm would have them.
    """

    def __init__(self, *given):
        super().__init__(*given)
        self.numbers = self.model.learn_sets(self.train.y, self.train.weights)
        weights = self.train.weights * self.model.set_weights_[self.numbers]
        self.svm = self.model.inner()
        weights = self.svm.learn_classes(self.numbers, weights)[1]
        # libsvm sorts by class, and by place within a class. Sorted before, the problem is the same to the
        # bit, and what it reads together lies together: a fifth less time.
        rows = np.argsort(self.numbers, kind="stable")
        self.sorted, self.sorted_weights = self.numbers[rows], weights[rows]
        self.rows, self.gram = rows, None

    def fitted(self, kept):
        return self.model.fit_rows(self.train.X[:, kept], self.numbers, self.train.weights)

    def score(self, kept):
        numbers = np.zeros(len(self.test.X), int)  # of one set alone
        if len(self.model.label_sets_) > 1:
            if self.gram is None:
                self.gram = _Gram(self.train.X[self.rows], self.test.X, kept)
            self.gram.keep(kept)
            svc = solved(self.svm.solver("precomputed"), self.gram.train, self.sorted, self.sorted_weights)
            numbers = svc.predict(self.gram.test)
        return self._measured(self.model.targets(numbers))


class _Gram:
    """Products of the training rows (N, N), and of test rows with them (M, N), over the features kept."""

    def __init__(self, X, X_test, kept):
        self.X, self.X_test = X, X_test
        self._compute(kept)

    def _compute(self, kept):
        self.kept, self.since = kept, 0
        X, X_test = self.X[:, kept], self.X_test[:, kept]
        self.train, self.test = X @ X.T, X_test @ X.T
        self.squares = np.concatenate([np.square(part).sum(axis=1) for part in (X, X_test)])
        self.least = _LEAST * self.squares

    def keep(self, kept):
        """Drops what is not in `kept`, a subset of what there is."""
        dropped = np.setdiff1d(self.kept, kept, assume_unique=True)
        if not len(dropped):
            return
        X, X_test = self.X[:, dropped], self.X_test[:, dropped]
        self.squares -= np.concatenate([np.square(part).sum(axis=1) for part in (X, X_test)])
        self.since += len(dropped)
        if self.since > _REFRESH or (self.squares < self.least).any():
            self._compute(kept)
            return
        self.kept = kept
        for gram, left in ((self.train, X), (self.test, X_test)):
            # In place: BLAS sees a C-ordered matrix as its transpose.
            dgemm(-1.0, X, left, beta=1.0, c=gram.T, trans_b=True, overwrite_c=True)
