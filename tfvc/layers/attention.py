"""The attention block over frames, and the gate function of the LSTM that goes with it."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
def hard_sigmoid_keras2(x):
    """Keras 2's hard sigmoid, clip(0.2 x + 0.5, 0, 1).

    **Source**: Keras 2.2.4, the default `recurrent_activation` of its LSTM.
    **Differs** from Keras 3's `hard_sigmoid`, whose slope is 1/6.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import hard_sigmoid_keras2
        >>> np.round(hard_sigmoid_keras2(np.array([-3.0, 0.0, 1.0, 3.0])), 3).tolist()
        [0.0, 0.5, 0.7, 1.0]
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="tfvc")
class FrameAttention(keras.layers.Layer):
    """Weighs the frames of each channel by a softmax over time.

    With x of shape (B, T, D), for every channel d and frame t

        a[t, d] = softmax over t of (sum over s of x[s, d] K[s, t] + b[t]),    y[t, d] = a[t, d] x[t, d]

    so each channel has its own weights, which sum to 1 over time. T is part of the weights.

    **Source**: You & Korhonen, ICIP 2020, "simple attention block"; the authors' program: swap time and
    channels, Dense(T, softmax) with bias, swap back, multiply.
    **Differs** from the house's layers: no mask, as the published program has none. Padding frames (zeros)
    take part in the softmax, and masks end here.

    Args:
        **kwargs: of `keras.layers.Layer`, as `name` and `dtype`.

    Input: (B, T, D) floats, T known. Output: the same shape, compute dtype; the softmax is float32.

    Raises:
        ValueError: the input is not of rank 3, or T is not known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import FrameAttention
        >>> x = np.ones((2, 4, 3), "float32")
        >>> attention = FrameAttention()
        >>> attention(x).shape == x.shape
        True
        >>> np.allclose(np.sum(attention.scores(x), axis=1), 1.0, atol=1e-6)
        True
    """

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[1] is None:
            raise ValueError(
                f"{self.name}: input {tuple(input_shape)}; expected (batch, T, channels), T known"
            )
        frames = input_shape[1]
        self.kernel = self.add_weight(shape=(frames, frames), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(frames,), initializer="zeros", name="bias")

    def scores(self, inputs):
        """The weights a of the built layer: (B, T, D) float32, summing to 1 over T."""
        inputs = ops.cast(inputs, self.compute_dtype)
        logits = ops.einsum("bsd,st->btd", inputs, ops.cast(self.kernel, self.compute_dtype))
        logits = ops.cast(logits, "float32") + ops.cast(self.bias, "float32")[:, None]
        return ops.softmax(logits, axis=1)

    def call(self, inputs):
        return inputs * ops.cast(self.scores(inputs), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
