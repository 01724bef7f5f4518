"""Losses of multi-label classifiers: the class sum of each example, its mean over the batch.

Keras' own losses average over the classes. Google's YouTube-8M losses sum over them: at 3,862 classes that
changes what a learning rate, an L2 weight and a clipped gradient mean.
"""

import keras
from keras import ops


class _ClassSum(keras.losses.Loss):
    """`terms` of a subclass, weighted, summed over the classes; Keras takes the mean over the batch."""

    def __init__(self, reduction="sum_over_batch_size", name=None, dtype="float32"):
        # float32 whatever `keras.config.floatx` is: sums over thousands of classes need it.
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None and len(sample_weight.shape) == 2:
            # Keras can only weight what `call` returns, so these weights travel with the labels.
            return super().__call__((y_true, sample_weight), y_pred)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        labels, weights = y_true if isinstance(y_true, tuple) else (y_true, None)
        if len(y_pred.shape) != 2 or len(labels.shape) != 2 or labels.shape[1] != y_pred.shape[1]:
            shapes = f"labels {tuple(labels.shape)}, predictions {tuple(y_pred.shape)}"
            raise ValueError(f"{self.name}: {shapes}; expected both to be (batch, classes)")
        terms = self.terms(labels, y_pred)
        return ops.sum(terms if weights is None else terms * weights, axis=-1)


@keras.saving.register_keras_serializable(package="tfvc")
class CrossEntropyLoss(_ClassSum):
    """Binary cross-entropy, summed over the classes.

        -sum_c w_c [y_c log(p_c + 1e-5) + (1 - y_c) log(1 - p_c + 1e-5)]

    **Source**: CrossEntropyLoss of YouTube-8M's losses.py.
    **Differs**: the weights are given as `sample_weight`, as Keras does it.

    Args:
        reduction: of `keras.losses.Loss`; the default is the mean over the batch.
        name: of `keras.losses.Loss`.
        dtype: of the arithmetic; float32 under mixed precision too.

    Input: labels (B, C), 0 or 1, any dtype; probabilities (B, C); `sample_weight` None, (B,) a weight an
        example, or (B, C) a weight an example and class. The mean divides by B, whatever the weights are.
    Output: float32 scalar (with `reduction=None`: (B,)).
    Masking: Keras' mask of the predictions, where there is one, drops examples; pad classes by weight 0.

    Raises:
        ValueError: labels and predictions are not both (B, C).

    Example:
        >>> import numpy as np
        >>> from tfvc.losses import CrossEntropyLoss
        >>> labels, predictions = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
        >>> round(float(CrossEntropyLoss()(labels, predictions)), 3)
        1.386
        >>> round(float(CrossEntropyLoss()(labels, predictions, np.array([[1.0, 0.0]]))), 3)
        0.693
    """

    EPSILON = 1e-5  # keeps both logarithms finite, and moves the loss a little everywhere

    def __init__(self, reduction="sum_over_batch_size", name="cross_entropy", dtype="float32"):
        super().__init__(reduction, name, dtype)

    def terms(self, labels, predictions):
        """The loss of each class, (B, C)."""
        yes, no = ops.log(predictions + self.EPSILON), ops.log(1.0 - predictions + self.EPSILON)
        return -(labels * yes + (1.0 - labels) * no)


@keras.saving.register_keras_serializable(package="tfvc")
class HingeLoss(_ClassSum):
    """Hinge loss, summed over the classes.

        sum_c w_c max(0, b - (2 y_c - 1) p_c)

    **Source**: HingeLoss of YouTube-8M's losses.py.
    **Differs**: takes weights, as CrossEntropyLoss does; the original ignores them.

    Args:
        b: the margin.
        reduction, name, dtype: as CrossEntropyLoss.

    Input: labels (B, C), 0 or 1; predictions or scores (B, C); `sample_weight` as CrossEntropyLoss.
    Output: float32 scalar (with `reduction=None`: (B,)).
    Masking: as CrossEntropyLoss.

    Raises:
        ValueError: labels and predictions are not both (B, C).

    Example:
        >>> import numpy as np
        >>> from tfvc.losses import HingeLoss
        >>> float(HingeLoss(b=1.0)(np.array([[1.0, 0.0]]), np.array([[0.75, 0.5]])))
        1.75
    """

    def __init__(self, b=1.0, reduction="sum_over_batch_size", name="hinge", dtype="float32"):
        super().__init__(reduction, name, dtype)
        self.b = b

    def terms(self, labels, predictions):
        """The loss of each class, (B, C)."""
        return ops.maximum(0.0, self.b - (2.0 * labels - 1.0) * predictions)

    def get_config(self):
        return {**super().get_config(), "b": self.b}


@keras.saving.register_keras_serializable(package="tfvc")
class SoftmaxLoss(_ClassSum):
    """Cross-entropy of the labels, shared out to a sum of 1, against the softmax of the scores.

        -sum_c w_c (y_c / max(sum_j y_j, 1e-7)) log softmax(s)_c

    **Source**: SoftmaxLoss of YouTube-8M's losses.py.
    **Differs**: finite for all finite scores: the logarithm of the softmax is taken as s - log sum exp s. The
    original takes the logarithm of a softmax that may underflow to 0, and is NaN there (0 * log 0) even
    where no label asks for that class. Takes weights, which the original ignores; labels are shared out
    before they are weighted.

    Args:
        reduction, name, dtype: as CrossEntropyLoss.

    Input: labels (B, C), 0 or 1; scores (B, C), any real numbers; `sample_weight` as CrossEntropyLoss. A row
        without labels gives 0.
    Output: float32 scalar (with `reduction=None`: (B,)).
    Masking: as CrossEntropyLoss.

    Raises:
        ValueError: labels and scores are not both (B, C).

    Example:
        >>> import numpy as np
        >>> from tfvc.losses import SoftmaxLoss
        >>> float(SoftmaxLoss()(np.array([[1.0, 0.0]]), np.array([[0.0, 200.0]])))
        200.0
    """

    FLOOR = 1e-7  # of a row's number of labels

    def __init__(self, reduction="sum_over_batch_size", name="softmax", dtype="float32"):
        super().__init__(reduction, name, dtype)

    def terms(self, labels, scores):
        """The loss of each class, (B, C)."""
        shared = labels / ops.maximum(ops.sum(labels, axis=-1, keepdims=True), self.FLOOR)
        return -shared * ops.log_softmax(scores, axis=-1)
