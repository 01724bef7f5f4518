"""Batch normalisation as tf.slim's: the moving variance is the unbiased one."""

import contextlib

import keras
from keras import ops

_replicas = 1  # of the training that batch norms are now made for


@contextlib.contextmanager
def shared_by(replicas):
    """Within it, batch norms are made whose batch is that of so many replicas together.

    Args:
        replicas: of the strategy under which the network is trained; TensorFlow only, where more than one.

    Example:
        >>> with shared_by(2):
        ...     layer = SlimBatchNormalization()
        >>> layer.replicas
        2
    """
    global _replicas
    before, _replicas = _replicas, replicas
    try:
        yield
    finally:
        _replicas = before


@keras.saving.register_keras_serializable(package="tfvc")
class SlimBatchNormalization(keras.layers.Layer):
    """Batch normalisation over all axes but the last, with tf.slim's moving statistics.

        y = gamma (x - mean) / sqrt(variance + epsilon) + beta

    In training, mean and variance are the batch's, the variance biased (divided by the number n of rows), and

        moving_mean     <- momentum moving_mean     + (1 - momentum) mean
        moving_variance <- momentum moving_variance + (1 - momentum) variance n / (n - 1)

    and with `unbiased=False` the variance itself, without n / (n - 1). In inference, and where `trainable` is
    False, mean and variance are the moving ones.

    **Source**: tf.slim's `batch_norm` (fused), as the YouTube-8M starter, WILLOW and LOUPE call it;
    `unbiased=False`: MAFnet's program, by spec/mafnet.md.
    **Differs** from slim, which takes no mask. A batch of one row writes variance 0, as slim's fused kernel
    does; one without any row writes nothing. Each replica normalises by its own rows, and the moving
    statistics are the mean over the replicas; a layer made within `shared_by` normalises by the rows of all,
    as one device would (what it was made for is not in its config). Keras' layer writes the biased variance,
    and under MirroredStrategy each replica keeps its own statistics, of which only the first replica's are
    saved.

    Args:
        momentum: of the moving statistics, slim's `decay`.
        epsilon: added to the variance.
        center: add `beta`.
        scale: multiply by `gamma`.
        unbiased: write the unbiased variance into the moving one.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, ..., D) floats, as (B, T, D). Output: the same shape, compute dtype; computed in float32.
    Masking: boolean, the input's shape without D. Rows under the mask count for nothing, in the statistics
    and in n, and come out zero; the mask is passed on.

    Raises:
        ValueError: momentum outside [0, 1), epsilon not positive; D is not known; a mask of another rank.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import SlimBatchNormalization
        >>> layer = SlimBatchNormalization(momentum=0.5)
        >>> np.round(layer(np.array([[1.0], [3.0]], "float32"), training=True), 3).tolist()
        [[-1.0], [1.0]]
        >>> float(layer.moving_mean[0]), float(layer.moving_variance[0])
        (1.0, 1.5)
    """

    def __init__(self, momentum=0.999, epsilon=1e-3, center=True, scale=True, unbiased=True, **kwargs):
        # autocast=False: inputs reach the float32 arithmetic as they were given.
        super().__init__(autocast=False, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a number from 0 to below 1")
        if not epsilon > 0:
            raise ValueError(f"epsilon={epsilon}: expected a number above 0")
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.unbiased = unbiased
        self.replicas = _replicas
        self.supports_masking = True

    def build(self, input_shape):
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                f"{self.name}: input {tuple(input_shape)}; expected the number of channels to be known"
            )
        weight = {"shape": (size,), "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(initializer="ones", name="gamma", **weight) if self.scale else None
        self.beta = self.add_weight(initializer="zeros", name="beta", **weight) if self.center else None
        # aggregation: without it MirroredStrategy refuses to write what each replica has found.
        weight |= {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight(initializer="zeros", name="moving_mean", **weight)
        self.moving_variance = self.add_weight(initializer="ones", name="moving_variance", **weight)

    def call(self, inputs, mask=None, training=None):
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                f"{self.name}: mask {tuple(mask.shape)} for input {tuple(inputs.shape)}; "
                "expected the input's shape without its last axis"
            )
        x = ops.cast(inputs, "float32")
        real = None
        if mask is not None:
            real = ops.cast(mask, "bool")[..., None]
            x = ops.where(real, x, 0.0)  # before any arithmetic: a NaN there must not reach the gradients
        if training and self.trainable:
            mean, variance, count = self.moments(x, real)
            self.move(mean, variance, count)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        y = self._normalise(x, mean, variance)
        return ops.cast(y if real is None else ops.where(real, y, 0.0), self.compute_dtype)

    def moments(self, x, real):
        """Mean and biased variance (D,) of the real rows, and their number: all float32.

        `moments`, `total` and `move` are public for a layer that folds the normalisation into its own product
        (DBoF).

        Args:
            x: (..., D) float32, zero where it is not real.
            real: boolean (..., 1), or None: every row is.
        """
        axes = tuple(range(len(x.shape) - 1))
        if real is None and self.replicas == 1:
            mean, variance = ops.moments(x, axes=axes)
            return mean, variance, ops.cast(ops.size(x) // x.shape[-1], "float32")
        rows = ops.size(x) // x.shape[-1] if real is None else ops.sum(ops.cast(real, "float32"))
        count = self.total(ops.cast(rows, "float32"))
        some = ops.maximum(count, 1.0)
        mean = self.total(ops.sum(x, axis=axes)) / some
        apart = x - mean if real is None else ops.where(real, x - mean, 0.0)
        return mean, self.total(ops.sum(ops.square(apart), axis=axes)) / some, count

    def total(self, values):
        """The sum over the replicas that share this layer's batch of a tensor that each has of its own part.

        Args:
            values: float32 of any shape.
        """
        if self.replicas == 1:
            return values
        return ops.moments(values[None], axes=[0], synchronized=True)[0] * self.replicas

    def move(self, mean, variance, count):
        """Moves the statistics towards those of `moments`; not if there was no row."""
        rate = (1.0 - self.momentum) * ops.minimum(count, 1.0)
        if self.unbiased:
            variance = variance * (count / ops.maximum(count - 1.0, 1.0))
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving + rate * (value - moving))

    def _normalise(self, x, mean, variance):
        # One product and one sum an element, whatever center and scale are.
        scale = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            scale = scale * self.gamma
        shift = -mean * scale
        if self.beta is not None:
            shift = shift + self.beta
        return x * scale + shift

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        names = ("momentum", "epsilon", "center", "scale", "unbiased")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
