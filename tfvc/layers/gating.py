"""Context gating: a vector reweighed by gates computed from itself."""

import keras
from keras import ops

from tfvc.layers.batch_norm import SlimBatchNormalization


def normal(size, mean=0.0):
    """LOUPE's initialiser: normal, standard deviation 1 / sqrt(size)."""
    return keras.initializers.RandomNormal(mean, size**-0.5)


@keras.saving.register_keras_serializable(package="tfvc")
class ContextGating(keras.layers.Layer):
    """Multiplies each feature by a gate that depends on all features.

        y = x * sigmoid(norm(x W)),    W of shape (D, D)

    where norm is batch normalisation, or a bias when that is off.

    **Source**: Miech, Laptev, Sivic, "Learnable pooling with Context Gating", arXiv 1706.06905, equation 1;
    LOUPE's `context_gating`; `remove_diag` is WILLOW's flag `gating_remove_diag`.
    **Differs** from both: takes a mask; `gating_biases` can be built (theirs are given no shape).

    Args:
        add_batch_norm: normalise x W (`gating_bn`), else add `gating_biases`.
        remove_diag: take the diagonal of W out of the product: no feature gates itself.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, D) or (B, T, D) floats. Output: the same shape, compute dtype; norm and sigmoid in float32.
    Masking: boolean, the input's shape without D. Rows under the mask are left out of the batch statistics
    and come out zero; the mask is passed on.

    Raises:
        ValueError: D is not known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import ContextGating
        >>> gating = ContextGating(add_batch_norm=False)
        >>> x = np.ones((2, 3), "float32")
        >>> y = gating(x)
        >>> y.shape == x.shape and bool(np.all((0 < y) & (y < x)))
        True
    """

    def __init__(self, add_batch_norm=True, remove_diag=False, **kwargs):
        super().__init__(**kwargs)
        self.add_batch_norm = add_batch_norm
        self.remove_diag = remove_diag
        self.supports_masking = True

    def build(self, input_shape):
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                f"{self.name}: input {tuple(input_shape)}; expected the number of features to be known"
            )
        self.gating_weights = self.add_weight(
            shape=(size, size), initializer=normal(size), name="gating_weights"
        )
        if self.add_batch_norm:
            self.gating_bn = SlimBatchNormalization(name="gating_bn", dtype="float32")
            self.gating_bn.build(input_shape)
        else:
            self.gating_biases = self.add_weight(
                shape=(size,), initializer=normal(size), name="gating_biases", autocast=False
            )

    def call(self, inputs, mask=None, training=None):
        x = inputs
        if mask is not None:
            x = ops.where(ops.cast(mask, "bool")[..., None], x, 0.0)
        gates = ops.sigmoid(self._norm(ops.cast(self._product(x), "float32"), mask, training))
        return x * ops.cast(gates, x.dtype)

    def _product(self, x):
        weights = ops.cast(self.gating_weights, x.dtype)
        product = ops.matmul(x, weights)
        return product - ops.diagonal(weights) * x if self.remove_diag else product

    def _norm(self, product, mask, training):
        if self.add_batch_norm:
            return self.gating_bn(product, mask=mask, training=training)
        return product + self.gating_biases

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        own = {"add_batch_norm": self.add_batch_norm, "remove_diag": self.remove_diag}
        return {**super().get_config(), **own}
