"""The starter code's losses under their names and with their method; the arithmetic is tfvc.losses'.

Each is a Keras loss too: `model.compile(loss=CrossEntropyLoss())`. `--label_loss` names one of `available()`.
"""

import keras

from tfvc import losses, names


class BaseLoss:
    """What the three share."""

    def calculate_loss(self, predictions, labels, label_weights=None):
        """The class sum, mean over the batch.

        Args:
            predictions: (B, C).
            labels: (B, C), 0 or 1, any dtype.
            label_weights: None or (B, C), a weight for each example and class.

        Returns:
            float32 scalar tensor.
        """
        return self(labels, predictions, label_weights)


@keras.saving.register_keras_serializable(package="starter")
class CrossEntropyLoss(BaseLoss, losses.CrossEntropyLoss):
    """`tfvc.losses.CrossEntropyLoss`.

    Example:
        >>> import numpy as np
        >>> round(float(CrossEntropyLoss().calculate_loss(np.array([[0.5]]), np.array([[True]]))), 3)
        0.693
    """


@keras.saving.register_keras_serializable(package="starter")
class HingeLoss(BaseLoss, losses.HingeLoss):
    """`tfvc.losses.HingeLoss`. **Differs**: the original takes b in `calculate_loss`; here too, by name."""

    def calculate_loss(self, predictions, labels, label_weights=None, b=None):
        """As `BaseLoss.calculate_loss`; b: the margin, None = that of the constructor (1.0)."""
        if b is None:
            return super().calculate_loss(predictions, labels, label_weights)
        return HingeLoss(b=b).calculate_loss(predictions, labels, label_weights)


@keras.saving.register_keras_serializable(package="starter")
class SoftmaxLoss(BaseLoss, losses.SoftmaxLoss):
    """`tfvc.losses.SoftmaxLoss`, finite where the original is NaN."""


_LOSSES = {loss.__name__: loss for loss in (CrossEntropyLoss, HingeLoss, SoftmaxLoss)}


def available():
    """The names for `--label_loss`."""
    return sorted(_LOSSES)


def find(name):
    """A fresh loss by its name.

    Raises:
        ValueError: no such loss; the message says which there are.
    """
    if name not in _LOSSES:
        raise ValueError(names.suggest("label_loss", name, available()))
    return _LOSSES[name]()
