"""Several labels a clip as one class: each set of labels seen in training is a class of its own."""

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tfvc.estimators.svm import WeightedLinearSVM, checked_weights, dense, many_classes, merged, told_once

WEIGHTS = ("concepts", "label_set", "none")


def label_sets(y):
    """Targets as label sets.

    Args:
        y: indicator (N, C) of 0 and 1, or a vector (N,) of classes, each of which is a set of one.

    Returns:
        (classes (C,), sets int (K, C), number of each row's set (N,), whether y is an indicator).

    Raises:
        ValueError: an indicator with other numbers than 0 and 1; continuous targets.

    Example:
        >>> label_sets(np.array([[1, 0], [1, 1], [1, 0]]))[1:]
        (array([[1, 0],
               [1, 1]]), array([0, 1, 0]), True)
    """
    with many_classes():
        check_classification_targets(y)
        kind = type_of_target(y)
    if kind != "multilabel-indicator":
        classes, numbers = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        return classes, np.eye(len(classes), dtype=int), numbers, False
    y = np.asarray(y)
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"y: an indicator of {np.unique(y)[:5].tolist()}; expected 0 and 1 only")
    sets, numbers = np.unique(y.astype(int), axis=0, return_inverse=True)
    return np.arange(y.shape[1]), sets, numbers.reshape(-1), True


def set_weights(sets, numbers, weights, kind):
    """Weight of each label set, against imbalance.

        delta_j = (1 / n_j) / sum_k (1 / n_k),  n_j = summed weight of the samples that hold concept j
        "concepts":  weight of a set = mean of its concepts' deltas
        "label_set": weight of a set = 1 / summed weight of its samples
        "none":      1
        all times one factor, so that the mean over the samples is 1

    **Source**: Pouyanfar et al. 2019, section III-C, lines 9-12 of Algorithm 1, and the cost J.
    **Differs**: how a set's weight follows from its concepts' is not printed; the mean and the factor are
    ours. The empty set counts as a concept of its own: a clip without any label "holds" it.

    Args:
        sets: (K, C) of 0 and 1. numbers: set of each sample (N,). weights: of the samples (N,).
        kind: "concepts", "label_set" or "none".

    Returns:
        float64 (K,).

    Example:
        >>> set_weights(np.array([[0, 1], [1, 0]]), np.array([0, 0, 0, 1]), np.ones(4), "concepts").round(3)
        array([0.667, 2.   ])
    """
    count = np.bincount(numbers, weights, len(sets))
    if kind == "none":
        return np.ones(len(sets))
    if kind == "label_set":
        found = 1 / count
    else:
        concepts = np.column_stack([sets, ~sets.any(axis=1)]).astype(float)
        held = count @ concepts
        delta = np.divide(1.0, held, out=np.zeros_like(held), where=held > 0)
        found = (concepts @ (delta / delta.sum())) / concepts.sum(axis=1)
    return found * count.sum() / (count @ found)


class LabelPowersetClassifier(ClassifierMixin, BaseEstimator):
    """Multi-label classification by one class for each set of labels seen in training.

    **Source**: Pouyanfar et al. 2019, section III-C and lines 8-12 of Algorithm 1.
    **Differs**: see `set_weights`. A set that training did not show is never predicted; its labels still
    get scores, for these add up over all sets that hold them.

    Args:
        estimator: classifier of the sets, whose `fit` takes sample_weight; None is `WeightedLinearSVM()`.
        weights: against imbalance, "concepts" | "label_set" | "none" (`set_weights`).

    Input: X (N, D) floats; y indicator (N, C) of 0 and 1 with C > 1, rows without a label allowed, or a
    vector of classes (a single column too, as everywhere in scikit-learn); sample_weight (N,).
    Output: `predict`: int (N, C), or the vector's classes (N,); `label_scores`: float64 (N, C) in [0, 1].

    Attributes: classes_ (C,): the vector's classes, else 0 .. C - 1; label_sets_ int (K, C);
    set_weights_ (K,); multilabel_; estimator_, which predicts numbers of sets; n_features_in_.

    Raises:
        ValueError: NaN or infinity; sparse targets, or such that are neither; an argument out of range.

    Example:
        >>> y = [[1, 0], [1, 0], [1, 1], [1, 1]]
        >>> powerset = LabelPowersetClassifier().fit([[0.0], [1.0], [4.0], [5.0]], y)
        >>> powerset.predict([[0.5], [9.0]]).tolist()
        [[1, 0], [1, 1]]
        >>> powerset.label_scores([[9.0]]).round(2).tolist()
        [[1.0, 0.82]]
    """

    def __init__(self, estimator=None, weights="concepts"):
        self.estimator = estimator
        self.weights = weights

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @told_once()
    def fit(self, X, y, sample_weight=None):
        """Fits the classifier of the label sets. Returns self."""
        X, y = validate_data(self, X, dense(y), dtype=np.float64, order="C", multi_output=True)
        weights = checked_weights(sample_weight, X)
        used = weights > 0  # as if the others were not given: neither their sets
        X, y, weights = X[used], y[used], weights[used]
        numbers = self.learn_sets(y, weights)
        rows, summed, _ = merged(X, numbers, weights=weights)
        return self.fit_rows(X[rows], numbers[rows], summed)

    def learn_sets(self, y, weights):
        """Learns the label sets and their weights; returns the set's number of each row."""
        self.check_parameters()
        self.classes_, self.label_sets_, numbers, self.multilabel_ = label_sets(y)
        self.set_weights_ = set_weights(self.label_sets_, numbers, weights, self.weights)
        return numbers

    def check_parameters(self):
        """Raises ValueError where a parameter is out of range."""
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights={self.weights!r}: expected one of {', '.join(WEIGHTS)}")

    def fit_rows(self, X, numbers, weights):
        """`fit` for rows that are checked, after `learn_sets`: what the rounds of an elimination share."""
        self.n_features_in_ = X.shape[1]
        self.estimator_ = self.inner()
        weights = weights * self.set_weights_[numbers]
        fit = getattr(self.estimator_, "fit_rows", self.estimator_.fit)
        fit(X, numbers, weights)
        return self

    def inner(self):
        """A fresh classifier of the sets."""
        return WeightedLinearSVM() if self.estimator is None else clone(self.estimator)

    def _checked(self, X):
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, order="C", reset=False)

    def targets(self, numbers):
        """Label sets by their numbers, in the form that `y` had."""
        sets = self.label_sets_[numbers]
        return sets if self.multilabel_ else self.classes_[np.argmax(sets, axis=1)]

    def predict(self, X):
        """Label sets int (N, C), or classes (N,) where `y` was a vector."""
        X = self._checked(X)
        return self.targets(self.estimator_.predict(X))

    def _set_values(self, X):
        """float64 (N, K): the inner classifier's decision value of each set."""
        if hasattr(self.estimator_, "class_values"):
            return self.estimator_.class_values(X)
        values = self.estimator_.decision_function(X)
        return np.column_stack([-values, values]) if values.ndim == 1 else values

    def _set_scores(self, X):
        for name in ("label_scores", "predict_proba"):
            if hasattr(self.estimator_, name):
                return getattr(self.estimator_, name)(X)
        return softmax(self._set_values(X), axis=1)

    def label_scores(self, X):
        """float64 (N, C): for each label the sum of the scores of the sets that hold it, in [0, 1]."""
        X = self._checked(X)
        return np.clip(self._set_scores(X) @ self.label_sets_, 0.0, 1.0)

    def decision_function(self, X):
        """Decision values: of labels (N, C), the best set with the label less the best without (where there
        is no such set, the row's lowest less 1); of a vector's classes as scikit-learn has it."""
        X = self._checked(X)
        if not self.multilabel_:
            return self.estimator_.decision_function(X)
        values, held = self._set_values(X)[:, :, None], self.label_sets_.astype(bool)
        lowest = values.min(axis=1, keepdims=True) - 1
        return np.subtract(*(np.where(side, values, lowest).max(axis=1) for side in (held, ~held)))
