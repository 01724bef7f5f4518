"""The classifier of the YouTube-8M programs: a mixture of logistic experts for each class."""

import functools

import keras
from keras import ops

from tfvc.layers.batch_norm import SlimBatchNormalization


@keras.saving.register_keras_serializable(package="tfvc")
class MixtureOfExperts(keras.layers.Layer):
    """For each class c, M logistic experts and a dummy that always says no, weighed by a softmax.

        g[c] = softmax(x Wg[c])  over M + 1 gates, the dummy last, no bias
        e[c] = sigmoid(x We[c] + be[c])  of M experts
        p[c] = sum over m < M of g[c, m] e[c, m]
        p[c] <- p[c] sigmoid(batch_norm(p Wp)[c])  if `prob_gating`

    The weights' penalty in `losses` is l2 sum(w^2) / 2, for `gates` and `experts` (no bias).

    **Source**: YouTube-8M starter, video_level_models.py, MoeModel; `prob_gating`: WILLOW's moe_prob_gating.
    **Differs**: WILLOW's low-rank gates, gating by the input and removed diagonal are not offered.

    Args:
        num_classes: C.
        num_mixtures: M.
        l2: factor of the penalty.
        prob_gating: gate the probabilities by one another; adds C x C weights.
        product_dtype: dtype of the two large products; None: the layer's compute dtype. With a layer of
            dtype float32 it keeps the probabilities whole where the products are half precision.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, D) floats. Output: (B, C) probabilities, compute dtype; softmax and sum in float32.

    Raises:
        ValueError: num_classes or num_mixtures is below 1.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import MixtureOfExperts
        >>> p = MixtureOfExperts(3)(np.zeros((2, 5), "float32"))
        >>> np.array(p, "float64").round(3).tolist()  # gates 1/3 each, experts 1/2 each
        [[0.333, 0.333, 0.333], [0.333, 0.333, 0.333]]
    """

    def __init__(self, num_classes, num_mixtures=2, l2=1e-8, prob_gating=False, product_dtype=None, **kwargs):
        super().__init__(**kwargs)
        if num_classes < 1 or num_mixtures < 1:
            raise ValueError(
                f"num_classes={num_classes}, num_mixtures={num_mixtures}: expected at least 1 of each"
            )
        self.num_classes = num_classes
        self.num_mixtures = num_mixtures
        self.l2 = l2
        self.prob_gating = prob_gating
        self.product_dtype = product_dtype
        policy = self.dtype_policy
        if product_dtype is not None:
            policy = product_dtype if product_dtype == "float32" else f"mixed_{product_dtype}"
        part = {"kernel_regularizer": keras.regularizers.L2(l2 / 2), "dtype": policy}
        part["kernel_initializer"] = "glorot_uniform"  # slim's default
        self.gates = keras.layers.Dense(
            num_classes * (num_mixtures + 1), use_bias=False, name="gates", **part
        )
        self.experts = keras.layers.Dense(num_classes * num_mixtures, name="experts", **part)
        self.gating_prob_bn = (
            SlimBatchNormalization(name="gating_prob_bn", dtype="float32") if prob_gating else None
        )

    def build(self, input_shape):
        self.gates.build(input_shape)
        self.experts.build(input_shape)
        if self.prob_gating:
            size = self.num_classes
            self.gating_prob_weights = self.add_weight(
                shape=(size, size),
                initializer=keras.initializers.RandomNormal(stddev=size**-0.5),
                name="gating_prob_weights",
            )
            self.gating_prob_bn.build((None, size))

    def call(self, inputs, training=None):
        shape = (-1, self.num_classes)
        gates = ops.reshape(self.gates(inputs), (*shape, self.num_mixtures + 1))
        experts = ops.reshape(self.experts(inputs), (*shape, self.num_mixtures))
        # A softmax written out, expert by expert: along an axis of 3 the library's is twice as slow.
        gates = ops.unstack(ops.cast(gates, "float32"), axis=-1)
        experts = ops.unstack(ops.sigmoid(ops.cast(experts, "float32")), axis=-1)
        greatest = ops.stop_gradient(functools.reduce(ops.maximum, gates))
        gates = [ops.exp(gate - greatest) for gate in gates]
        p = sum(gate * expert for gate, expert in zip(gates, experts, strict=False)) / sum(gates)
        if self.prob_gating:
            logits = ops.matmul(ops.cast(p, self.compute_dtype), self.gating_prob_weights)
            p = p * ops.sigmoid(self.gating_prob_bn(logits, training=training))
        return ops.cast(p, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def get_config(self):
        names = ("num_classes", "num_mixtures", "l2", "prob_gating", "product_dtype")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
