"""The second stage, as scikit-learn estimators: label powerset, weighted linear SVM, ranked elimination."""

from tfvc.estimators import store
from tfvc.estimators.elimination import RankedElimination
from tfvc.estimators.powerset import LabelPowersetClassifier
from tfvc.estimators.svm import WeightedLinearSVM

__all__ = ["LabelPowersetClassifier", "RankedElimination", "WeightedLinearSVM", "layer_of", "store"]


def layer_of(estimator, name="votes"):
    """A fitted estimator as a Keras layer: the same labels exactly, the same scores to 1e-5.

    Args:
        estimator: fitted `LabelPowersetClassifier` or `RankedElimination` of a `WeightedLinearSVM`.
        name: of the layer.

    Returns:
        `tfvc.layers.PowersetVotes`, built, called on all features (B, D). Labels of a vector `y` are one-hot.

    Raises:
        ValueError: another estimator.

    Example:
        >>> import numpy as np
        >>> powerset = LabelPowersetClassifier().fit([[0.0], [9.0]], [[1, 0], [1, 1]])
        >>> layer_of(powerset)(np.array([[1.0], [8.0]]))["labels"].numpy().tolist()
        [[1, 0], [1, 1]]
    """
    from tfvc.layers import PowersetVotes

    ranked = isinstance(estimator, RankedElimination)
    powerset = estimator.estimator_ if ranked else estimator
    svm = getattr(powerset, "estimator_", None)
    if not isinstance(powerset, LabelPowersetClassifier) or not isinstance(svm, WeightedLinearSVM):
        raise ValueError(
            f"{type(estimator).__name__}: no layer; expected a fitted LabelPowersetClassifier, or"
            " RankedElimination of one, with a WeightedLinearSVM"
        )
    layer = PowersetVotes(*powerset.label_sets_.shape, name=name, dtype="float32")
    layer.build((None, estimator.n_features_in_))
    support = estimator.support_ if ranked else None
    layer.set_machine(svm.coef_, svm.intercept_, powerset.label_sets_, support, svm.temperature_)
    return layer
