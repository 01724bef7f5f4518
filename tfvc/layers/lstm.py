"""An LSTM that is fast on processors too."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
class MaskedLSTM(keras.layers.Layer):
    """`keras.layers.LSTM`: its weights, its numbers; faster where there is no GPU, defined for empty clips.

        i, f, o = sigmoid(x Wi + h Ri + bi), ...      g = tanh(x Wg + h Rg + bg)
        c <- f c + i g                                h <- o tanh(c)

    With a GPU it is Keras' layer, which runs cuDNN. Without, the frames' products with W are one product, and
    so are the gradients of W and R, where Keras' loop adds up a matrix a frame; gates and c are float32.

    **Source**: Hochreiter & Schmidhuber, 1997, with forget gates; gate order i, f, g, o and the bias 1
    of f at the start as in `keras.layers.LSTM`.
    **Differs** from Keras: a clip without frames gives zeros (cuDNN refuses it), and so does each frame under
    the mask (Keras repeats the last state, cuDNN gives zeros).

    Args:
        units: size of h.
        return_sequences: give h of every frame, not of the last real one.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, units) or (B, T, units), compute dtype.
    Masking: boolean (B, T), right-padded: real frames come first. It ends here.

    Raises:
        ValueError: units is below 1; the input is not of rank 3.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import MaskedLSTM
        >>> lstm, x = MaskedLSTM(4), np.ones((2, 3, 5), "float32")
        >>> y = np.array(lstm(x, mask=np.array([[True, True, False], [False, False, False]])))
        >>> y.shape, bool((y[1] == 0).all())
        ((2, 4), True)
    """

    def __init__(self, units, return_sequences=False, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units={units}: expected at least 1")
        self.units = units
        self.return_sequences = return_sequences
        self.supports_masking = True
        self.lstm = keras.layers.LSTM(
            units, return_sequences=return_sequences, dtype=self.dtype_policy, name="lstm"
        )

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: input {tuple(input_shape)}; expected (batch, frames, channels)")
        self.lstm.build(input_shape)

    def call(self, inputs, mask=None, training=None):
        mask = None if mask is None else ops.cast(mask, "bool")
        gpu = any("gpu" in device.lower() for device in keras.distribution.list_devices())
        y = self._keras(inputs, mask, training) if gpu else self._loop(inputs, mask)
        if mask is None:
            return y
        real = mask if self.return_sequences else ops.any(mask, axis=1)
        return ops.where(real[..., None], y, ops.zeros_like(y))

    def _keras(self, inputs, mask, training):
        if mask is not None:  # at least one frame, for cuDNN
            mask = ops.logical_or(mask, ops.arange(ops.shape(mask)[1]) == 0)
        return self.lstm(inputs, mask=mask, training=training)

    def _loop(self, inputs, mask):
        weights = (self.lstm.cell.kernel, self.lstm.cell.recurrent_kernel, self.lstm.cell.bias)
        kernel, recurrent, bias = (ops.cast(w, self.compute_dtype) for w in weights)
        x = ops.transpose(inputs, (1, 0, 2))
        products = ops.matmul(x, kernel) + bias
        real = None if mask is None else ops.transpose(mask)[..., None]
        h = _recur(products, recurrent, real)
        return ops.transpose(h, (1, 0, 2)) if self.return_sequences else h[-1]

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        frames = (input_shape[1],) if self.return_sequences else ()
        return (input_shape[0], *frames, self.units)

    def get_config(self):
        own = {"units": self.units, "return_sequences": self.return_sequences}
        return {**super().get_config(), **own}


def _recur(products, recurrent, real):
    """Every h (T, B, U), from x W + b (T, B, 4U), R (U, 4U) and the mask (T, B, 1) or None.

    The gradient is written out: derived, it would add up a matrix of R's size frame by frame.
    """
    frames = ops.arange(ops.shape(products)[0], dtype="int32")  # of an unknown number, ops.scan takes one
    units, dtype = recurrent.shape[0], products.dtype

    def kept(t, new, old):
        return new if real is None else ops.where(_at(real, t), new, old)

    @ops.custom_gradient
    def recurrence(products, recurrent):
        def step(carry, t):
            h, c, _ = carry
            z = ops.cast(_at(products, t) + ops.matmul(h, recurrent), "float32")
            i, f, g, o = ops.split(z, 4, axis=-1)
            i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
            c_new = f * c + i * g
            h_new = ops.cast(o * ops.tanh(c_new), dtype)
            carry = (kept(t, h_new, h), kept(t, c_new, c), ops.concatenate([i, f, g, o], axis=-1))
            return carry, carry

        # The gates are carried only for the scan to give all of them back.
        gates = ops.zeros_like(products[0], dtype="float32")
        start = (ops.zeros_like(products[0, :, :units]), ops.zeros_like(gates[:, :units]), gates)
        _, (h, c, gates) = ops.scan(step, start, frames)

        def gradient(*args, upstream=None):
            (of_h,) = args if upstream is None else (upstream,)
            back = ops.transpose(recurrent)

            def step_back(carry, t):
                of_later_h, of_c, _ = carry
                i, f, g, o = ops.split(_at(gates, t), 4, axis=-1)
                c_before = ops.where(t > 0, _at(c, ops.maximum(t - 1, 0)), 0.0)
                tanh_c = ops.tanh(_at(c, t))
                of_this_h = ops.cast(_at(of_h, t), "float32") + of_later_h
                of_this_c = of_c + of_this_h * o * (1.0 - ops.square(tanh_c))
                parts = [
                    of_this_c * g * i * (1.0 - i),
                    of_this_c * c_before * f * (1.0 - f),
                    of_this_c * i * (1.0 - ops.square(g)),
                    of_this_h * tanh_c * o * (1.0 - o),
                ]
                of_z = ops.cast(kept(t, ops.concatenate(parts, axis=-1), 0.0), dtype)
                of_h_before = ops.cast(ops.matmul(of_z, back), "float32")
                carry = (kept(t, of_h_before, of_this_h), kept(t, of_this_c * f, of_c), of_z)
                return carry, carry

            zero = ops.zeros_like(c[0])
            start = (zero, zero, ops.zeros_like(products[0]))
            _, (_, _, of_z) = ops.scan(step_back, start, frames, reverse=True)
            states, of_states = ops.reshape(h[:-1], (-1, units)), ops.reshape(of_z[1:], (-1, 4 * units))
            return of_z, ops.matmul(ops.transpose(states), of_states)

        return h, gradient

    return recurrence(products, recurrent)


def _at(values, t):
    return ops.take(values, t, axis=0)
