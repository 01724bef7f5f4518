"""Attention clusters: several attention units over one sequence, told apart by the shifting operation."""

import keras
from keras import ops

from tfvc.layers.attention import masked_softmax


@keras.saving.register_keras_serializable(package="tfvc")
class AttentionCluster(keras.layers.Layer):
    """N attention units over time, each with its own scale and shift, concatenated.

        a_n = softmax over t of (x[t] w_n)                          w_n: D, one a unit
        s_n = alpha_n sum over t of a_n[t] x[t] + beta_n            alpha_n, beta_n: scalars
        y = concat over n of s_n / (sqrt(N) |s_n|)

    The scale and shift, and the norm after them, keep the units from becoming all the same. y has norm 1.

    **Source**: Long et al. 2018 (Attention Clusters), section 3: attention by one fully connected layer,
    the shifting operation, and clusters of N units.
    **Differs**: no bias in the score, as the softmax does not see it; the norm is at least 1e-6, so that its
    gradient is finite at 0; takes a mask. Softmax, sums and norm are float32.

    Args:
        clusters: N. The paper takes 1 to 128 a modality.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, N D), compute dtype; with the call argument
        `return_attention_scores=True` also a, (B, T, N) float32.
    Masking: boolean (B, T). Steps under the mask score 0; a row without any real step gives zeros, in the
        scores too. The mask ends here.

    Raises:
        ValueError: clusters below 1, an input that is not of rank 3 or whose D is not known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import AttentionCluster
        >>> y = AttentionCluster(4)(np.ones((2, 5, 3), "float32"))
        >>> y.shape, round(float(np.linalg.norm(y[0])), 5)
        (TensorShape([2, 12]), 1.0)
    """

    def __init__(self, clusters, **kwargs):
        super().__init__(**kwargs)
        if clusters < 1:
            raise ValueError(f"clusters={clusters}: expected at least 1")
        self.clusters = clusters
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[2] is None:
            raise ValueError(f"{self.name}: input {tuple(input_shape)}; expected (batch, T, D), D known")
        # autocast=False: the weights reach the float32 arithmetic as they are.
        size, per_unit = (input_shape[2], self.clusters), {"shape": (self.clusters,), "autocast": False}
        self.kernel = self.add_weight(shape=size, initializer="glorot_uniform", name="kernel", autocast=False)
        self.scale = self.add_weight(initializer="ones", name="scale", **per_unit)
        self.shift = self.add_weight(initializer="zeros", name="shift", **per_unit)

    def call(self, inputs, mask=None, return_attention_scores=False):
        x = ops.cast(inputs, "float32")
        real = None if mask is None else ops.cast(mask, "bool")[..., None]
        if real is not None:
            x = ops.where(real, x, 0.0)  # a NaN there must not reach the gradients
        scores = masked_softmax(ops.matmul(x, self.kernel), real, 1)
        s = self.scale[:, None] * ops.einsum("btn,btd->bnd", scores, x) + self.shift[:, None]
        y = s * ops.rsqrt(self.clusters * ops.maximum(ops.sum(ops.square(s), axis=-1, keepdims=True), 1e-12))
        if real is not None:
            y = ops.where(ops.any(real, axis=1, keepdims=True), y, 0.0)
        y = ops.cast(ops.reshape(y, (-1, self.clusters * x.shape[2])), self.compute_dtype)
        return (y, scores) if return_attention_scores else y

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.clusters * input_shape[2])

    def compute_output_spec(self, inputs, mask=None, return_attention_scores=False):
        y = keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)
        if not return_attention_scores:
            return y
        return y, keras.KerasTensor((*inputs.shape[:2], self.clusters), dtype="float32")

    def compute_mask(self, inputs, mask=None):
        return None

    def get_config(self):
        return {**super().get_config(), "clusters": self.clusters}
