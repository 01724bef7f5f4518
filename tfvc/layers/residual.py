"""Residual bidirectional LSTMs, attention over the features of each time step, and the block of both."""

import keras
from keras import ops

from tfvc.layers.attention import masked_softmax
from tfvc.layers.lstm import MaskedLSTM

_PROJECTIONS = ("auto", "always")
_ATTENTIONS = ("residual", "plain", "none")


def _check_sequence(layer, shape):
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(f"{layer.name}: input {tuple(shape)}; expected (batch, T, channels), channels known")


def _kept(x, mask):
    """Zeros in place of what lies under the mask."""
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


@keras.saving.register_keras_serializable(package="tfvc")
class FeatureAttention(keras.layers.Layer):
    """Weighs the M features of each time step against each other.

        s = tanh(x[t] W + b),    a = softmax over the M features of w s,    y[t] = a x[t]

    W is (M, M); b and w are (M,); the products with w and a are elementwise. An attention of even weights
    divides by M.

    **Source**: Pouyanfar, Wang & Chen 2019 (RAF), equations 1 to 3, by spec/raf.md.
    **Differs**: equation 1 sums over the features; read elementwise, the sequence keeps its width. The
    "learned model weight w_t for feature i in time step t" is one vector w that all steps share, so that a
    clip may have any length; it starts as ones. Takes a mask; the softmax is float32.

    Args:
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, M) floats, M known. Output: the same shape, compute dtype.
    Masking: boolean (B, T); steps under the mask come out zero, and the mask is passed on.

    Raises:
        ValueError: the input is not of rank 3, or M is not known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import FeatureAttention
        >>> attention, x = FeatureAttention(), np.ones((2, 3, 4), "float32")
        >>> attention(x).shape == x.shape
        True
        >>> np.allclose(np.sum(attention.scores(x), axis=-1), 1.0, atol=1e-6)
        True
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        _check_sequence(self, input_shape)
        size = input_shape[-1]
        self.kernel = self.add_weight(shape=(size, size), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias")
        self.scale = self.add_weight(shape=(size,), initializer="ones", name="scale")

    def scores(self, inputs):
        """The weights a of the built layer: (B, T, M) float32, summing to 1 over M."""
        x = ops.cast(inputs, self.compute_dtype)
        s = ops.tanh(ops.matmul(x, ops.cast(self.kernel, self.compute_dtype)) + self.bias)
        return masked_softmax(ops.cast(s, "float32") * ops.cast(self.scale, "float32"), None, -1)

    def call(self, inputs, mask=None):
        x = _kept(inputs, mask)
        return x * ops.cast(self.scores(x), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="tfvc")
class ResidualBidirectionalLSTM(keras.layers.Layer):
    """A bidirectional LSTM with a shortcut around it.

        F(x)[t] = [forward LSTM of x[0..t], backward LSTM of x[T-1..t]],    y = F(x) + x

    Where x is not 2 units wide, the shortcut is x W + b.

    **Source**: Pouyanfar et al. 2019 (ResBiLSTM), h_l = F(h_{l-1}) + h_{l-1}; He et al. 2016, the projection.
    **Differs**: the LSTMs are `MaskedLSTM`; the backward one starts at a clip's last real step. Dropout, of
    the paper's layers, is that of F's input: the same channels at all steps of a clip.

    Args:
        units: of each direction.
        dropout: share of the channels that training drops from F's input; the shortcut keeps them.
        project: auto, where the widths differ, or always.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, T, 2 units), compute dtype.
    Masking: boolean (B, T), right-padded: real steps come first. Steps under the mask come out zero, and the
        mask is passed on. A clip without any real step gives zeros.

    Raises:
        ValueError: units below 1, dropout outside [0, 1), another project; the input is not of rank 3.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import ResidualBidirectionalLSTM
        >>> x, mask = np.ones((2, 3, 5), "float32"), np.array([[True, True, False], [False] * 3])
        >>> y = np.array(ResidualBidirectionalLSTM(4)(x, mask=mask))
        >>> y.shape, bool((y[1] == 0).all()), bool((y[0, 2] == 0).all())
        ((2, 3, 8), True, True)
    """

    def __init__(self, units, dropout=0.0, project="auto", **kwargs):
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: expected at least 0 and less than 1")
        if project not in _PROJECTIONS:
            raise ValueError(f"project={project!r}: expected one of {', '.join(map(repr, _PROJECTIONS))}")
        self.units = units
        self.dropout = dropout
        self.project = project
        self.supports_masking = True
        inner = {"dtype": self.dtype_policy}
        self.forward = MaskedLSTM(units, return_sequences=True, name="forward", **inner)
        self.backward = MaskedLSTM(units, return_sequences=True, name="backward", **inner)
        self.drop = keras.layers.SpatialDropout1D(dropout, name="drop", **inner) if dropout else None
        self.shortcut = None  # of `build`, which knows the width

    def build(self, input_shape):
        _check_sequence(self, input_shape)
        self.forward.build(input_shape)
        self.backward.build(input_shape)
        if self.drop is not None:
            self.drop.build(input_shape)
        if self.project == "always" or input_shape[-1] != 2 * self.units:
            self.shortcut = keras.layers.Dense(2 * self.units, dtype=self.dtype_policy, name="shortcut")
            self.shortcut.build(input_shape)

    def call(self, inputs, mask=None, training=None):
        x = _kept(inputs, mask)
        dropped = x if self.drop is None else self.drop(x, training=training)
        ahead = self.forward(dropped, mask=mask, training=training)
        back = self.backward(_turned(dropped, mask), mask=mask, training=training)
        y = ops.concatenate([ahead, _turned(back, mask)], axis=-1)
        return _kept(y + (x if self.shortcut is None else self.shortcut(x)), mask)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], 2 * self.units)

    def get_config(self):
        own = {"units": self.units, "dropout": self.dropout, "project": self.project}
        return {**super().get_config(), **own}


def _turned(x, mask):
    """The real steps in the opposite order, the padding still behind them."""
    if mask is None:
        return ops.flip(x, axis=1)
    frames = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
    steps = ops.arange(ops.shape(x)[1], dtype="int32")[None]
    order = ops.where(steps < frames, frames - 1 - steps, steps)
    return ops.take_along_axis(x, order[..., None], axis=1)


@keras.saving.register_keras_serializable(package="tfvc")
class ResidualAttentionBiLSTM(keras.layers.Layer):
    """The RABL block: a residual bidirectional LSTM, then attention over its features.

        c = BiLSTM(x) + x    `ResidualBidirectionalLSTM`
        attention "residual": y = A(c) + c,    "plain": y = A(c),    "none": y = c

    A is `FeatureAttention`. The networks of RAF are rows of these blocks: late attention is none, ..., plain;
    fully residual attention is residual, ..., residual; late residual attention is none, ..., residual.

    **Source**: Pouyanfar, Wang & Chen 2019 (RAF), equations 1 to 4 and figure 1, by spec/raf.md.
    **Differs**: "shortcuts between each BiLSTM and attention layer" are read as one around each of them; the
    paper does not print the block's formula. Takes a mask.

    Args:
        units: of each direction.
        attention: residual, plain or none.
        dropout: share of the channels that training drops from the LSTM's input.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, T, 2 units), compute dtype.
    Masking: boolean (B, T), right-padded. Steps under the mask come out zero, and the mask is passed on. A
        clip without any real step gives zeros.

    Raises:
        ValueError: units below 1, another attention, dropout outside [0, 1); the input is not of rank 3.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import ResidualAttentionBiLSTM
        >>> ResidualAttentionBiLSTM(4)(np.ones((2, 3, 5), "float32")).shape
        TensorShape([2, 3, 8])
    """

    def __init__(self, units, attention="residual", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if attention not in _ATTENTIONS:
            raise ValueError(f"attention={attention!r}: expected one of {', '.join(map(repr, _ATTENTIONS))}")
        self.units = units
        self.attention = attention
        self.dropout = dropout
        self.supports_masking = True
        inner = {"dtype": self.dtype_policy}
        self.bilstm = ResidualBidirectionalLSTM(units, dropout, name="bilstm", **inner)
        self.weighing = None if attention == "none" else FeatureAttention(name="attention", **inner)

    def build(self, input_shape):
        self.bilstm.build(input_shape)
        if self.weighing is not None:
            self.weighing.build(self.bilstm.compute_output_shape(input_shape))

    def call(self, inputs, mask=None, training=None):
        c = self.bilstm(inputs, mask=mask, training=training)
        if self.weighing is None:
            return c
        y = self.weighing(c, mask=mask)
        return y + c if self.attention == "residual" else y

    def compute_output_shape(self, input_shape):
        return self.bilstm.compute_output_shape(input_shape)

    def get_config(self):
        own = {"units": self.units, "attention": self.attention, "dropout": self.dropout}
        return {**super().get_config(), **own}
