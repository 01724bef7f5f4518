"""Deep bag of frames: frames in a space of clusters, pooled over time."""

import keras
from keras import ops

from tfvc.layers.batch_norm import SlimBatchNormalization

_ACTIVATIONS = {"sigmoid": ops.sigmoid, "relu6": ops.relu6, "relu": ops.relu}
_POOLINGS = ("average", "max")


@keras.saving.register_keras_serializable(package="tfvc")
class DBoF(keras.layers.Layer):
    """Frames into clusters, activation, pooling over the frames, a hidden layer.

        c[t] = f(bn(bn(x[t]) Wc))      h = f(bn((max or mean over t of c[t]) Wh))      f: see activation

    `hidden_size=None` ends at the pooled clusters, without h. Without batch norm, the products have biases in
    its place, and the input stays as it is.

    The largest tensor is (B T, clusters). Each f grows with its argument, so the maximum is taken first and
    f on what is left; the input's batch norm is folded into Wc, so that no gradient of the frames is computed
    where no layer below asks for it. The numbers are the same.

    **Source**: YouTube-8M starter, frame_level_models.py, DbofModel.
    **Differs**: takes a mask; `SampleFrames` does the sampling; `hidden_size=None` and relu are new.

    Args:
        clusters: columns of Wc.
        hidden_size: columns of Wh; None: no second product, the output is the pooled clusters.
        pooling: "max" or "average".
        activation: f, "sigmoid", "relu6" or "relu".
        add_batch_norm: batch norm (sublayers input_bn, cluster_bn and, with Wh, hidden1_bn), else biases.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, hidden_size or clusters), compute dtype; statistics in float32.
    Masking: boolean (B, T); frames under it count for nothing, no frame at all pools to zeros; it ends here.

    Raises:
        ValueError: a size below 1, an unknown pooling or activation, an input that is not of rank 3.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import DBoF
        >>> DBoF(16, 4)(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 4])
    """

    def __init__(
        self, clusters, hidden_size=None, pooling="max", activation="sigmoid", add_batch_norm=True, **kwargs
    ):
        super().__init__(**kwargs)
        if clusters < 1 or (hidden_size is not None and hidden_size < 1):
            raise ValueError(f"clusters={clusters}, hidden_size={hidden_size}: expected at least 1 of each")
        for name, value, known in (("pooling", pooling, _POOLINGS), ("activation", activation, _ACTIVATIONS)):
            if value not in known:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(sorted(known))}")
        self.clusters = clusters
        self.hidden_size = hidden_size
        self.pooling = pooling
        self.activation = activation
        self.add_batch_norm = add_batch_norm
        self.supports_masking = True
        norms = (
            ("input_bn", "cluster_bn") if hidden_size is None else ("input_bn", "cluster_bn", "hidden1_bn")
        )
        for name in norms if add_batch_norm else ():
            setattr(self, name, SlimBatchNormalization(name=name, dtype="float32"))

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: input {tuple(input_shape)}; expected (batch, frames, channels)")
        size, clusters, hidden = input_shape[-1], self.clusters, self.hidden_size
        self.cluster_weights = self._normal((size, clusters), size**-0.5, "cluster_weights")
        whole = hidden is not None
        if whole:
            self.hidden1_weights = self._normal((clusters, hidden), clusters**-0.5, "hidden1_weights")
        if self.add_batch_norm:
            self.input_bn.build(input_shape)
            self.cluster_bn.build((None, clusters))
            if whole:
                self.hidden1_bn.build((None, hidden))
        else:
            self.cluster_biases = self._normal((clusters,), size**-0.5, "cluster_biases")
            if whole:
                self.hidden1_biases = self._normal((hidden,), 0.01, "hidden1_biases")

    def _normal(self, shape, deviation, name):
        initializer = keras.initializers.RandomNormal(stddev=deviation)
        # autocast=False: the arithmetic on weights alone is float32.
        return self.add_weight(shape=shape, initializer=initializer, name=name, autocast=False)

    def call(self, inputs, mask=None, training=None):
        real = None if mask is None else ops.cast(mask, "bool")[..., None]
        if real is not None:
            inputs = ops.where(real, inputs, ops.zeros_like(inputs))
        pool = self._normalised if self.add_batch_norm else self._biased
        pooled = pool(inputs, real, training)
        if real is not None:
            pooled = ops.where(ops.any(real, axis=1), pooled, 0.0)
        if self.hidden_size is None:
            return ops.cast(pooled, self.compute_dtype)
        hidden = self._product(pooled, self.hidden1_weights)
        if self.add_batch_norm:
            hidden = self.hidden1_bn(hidden, training=training)
        else:
            hidden = ops.cast(hidden, "float32") + self.hidden1_biases
        return ops.cast(self._activate(hidden), self.compute_dtype)

    def _product(self, x, weights):
        return ops.matmul(ops.cast(x, self.compute_dtype), ops.cast(weights, self.compute_dtype))

    def _activate(self, x):
        return _ACTIVATIONS[self.activation](x)

    def _biased(self, inputs, real, training):
        """Pooled clusters (B, clusters), without batch norm."""
        products = self._product(inputs, self.cluster_weights)
        if self.pooling == "max":
            return self._activate(_greatest_and_squares(products, real, False)[0] + self.cluster_biases)
        return self._average(products, real, 1.0, self.cluster_biases)

    def _normalised(self, inputs, real, training):
        """Pooled clusters (B, clusters), with batch norm before and after the product."""
        below, above = self.input_bn, self.cluster_bn
        x = ops.cast(inputs, "float32")
        mean, variance = below.moving_mean, below.moving_variance
        if training and below.trainable:
            mean, variance, count = below.moments(x, real)
            below.move(mean, variance, count)
        x = (x - mean) * ops.rsqrt(variance + below.epsilon)
        if real is not None:
            x = ops.where(real, x, 0.0)
        # gamma below is part of the weights; beta below adds the same to every frame, so to the mean alone.
        weights = self.cluster_weights * below.gamma[:, None]
        added = ops.matmul(below.beta, self.cluster_weights)
        # With the sign of gamma above in the weights, the greatest product is the greatest activation.
        sign = ops.where(above.gamma < 0, -1.0, 1.0)
        products = self._product(x, weights * sign)
        of_batch = training and above.trainable
        if self.pooling == "max":
            greatest, squares = _greatest_and_squares(products, real, of_batch)
        elif of_batch:
            squares = _squares(products)
        mean, variance = above.moving_mean, above.moving_variance
        if of_batch:
            rows = ops.shape(x)[0] * ops.shape(x)[1] if real is None else ops.sum(ops.cast(real, "float32"))
            rows = above.total(ops.cast(rows, "float32"))
            some = ops.maximum(rows, 1.0)
            mean = ops.matmul(above.total(ops.sum(x, axis=(0, 1))) / some, weights)
            variance = ops.maximum(above.total(squares) / some - ops.square(mean), 0.0)
            mean = mean + added
            above.move(mean, variance, rows)
        scale = above.gamma * ops.rsqrt(variance + above.epsilon)
        shift = above.beta + scale * (added - mean)
        if self.pooling == "max":
            return self._activate(greatest * (scale * sign) + shift)
        return self._average(products, real, scale * sign, shift)

    def _average(self, products, real, scale, shift):
        dtype = products.dtype
        c = self._activate(products * ops.cast(scale, dtype) + ops.cast(shift, dtype))
        if real is None:
            return ops.mean(c, axis=1)
        real = ops.cast(real, dtype)
        return ops.sum(c * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.hidden_size or self.clusters)

    def get_config(self):
        names = ("clusters", "hidden_size", "pooling", "activation", "add_batch_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _squares(x):
    """Sum of the squares of (B, T, K) over B and T: (K,) float32."""
    return ops.sum(ops.cast(ops.sum(ops.square(x), axis=1), "float32"), axis=0)


def _greatest_and_squares(products, real, with_squares):
    """Over the frames that are real: the greatest of (B, T, K), (B, K); and `_squares`, or zeros.

    Frames that are not real must be zeros. The gradient is written out, for it passes over the largest tensor
    of the model half as often as the derived one; equal greatest frames share theirs.
    """

    @ops.custom_gradient
    def summary(x):
        shown = x if real is None else ops.where(real, x, ops.min(x, axis=1, keepdims=True))
        greatest = ops.max(shown, axis=1, keepdims=True)
        squares = _squares(x) if with_squares else ops.zeros(x.shape[-1:], "float32")

        def gradient(*args, upstream=None):
            args = args if upstream is None else upstream
            of_greatest, of_squares = args if len(args) == 2 else args[0]
            hits = ops.equal(x, greatest)
            hits = ops.cast(hits if real is None else ops.logical_and(hits, real), x.dtype)
            count = ops.cast(ops.sum(hits, axis=1, keepdims=True), "float32")
            share = of_greatest[:, None] / ops.maximum(count, 1.0)
            result = hits * ops.cast(share, x.dtype)
            return result + x * ops.cast(2.0 * of_squares, x.dtype) if with_squares else result

        return (ops.cast(greatest[:, 0], "float32"), squares), gradient

    return summary(products)
