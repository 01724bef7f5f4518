"""Attention over frames: You & Korhonen's block, with the gate function of its LSTM, and MAFnet's three."""

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


_SCORES = ("code", "paper")


def masked_softmax(logits, real, axis):
    """Softmax in float32 over one axis or several; 0 where `real` is false, even if it is so everywhere."""
    logits = ops.cast(logits, "float32")
    if real is not None:
        logits = ops.where(real, logits, -1e30)
    e = ops.exp(logits - ops.max(logits, axis=axis, keepdims=True))
    weights = e / ops.sum(e, axis=axis, keepdims=True)
    return weights if real is None else ops.where(real, weights, 0.0)


class _CellAttention(keras.layers.Layer):
    """Scores cells (B, T, K, D) by one network and weighs them by a softmax over some axes.

    A subclass says which axes, and what becomes of the weighted cells.
    """

    _axes = ()
    _several = True  # called on a list of K sequences

    def __init__(self, units=512, score="code", **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units={units}: expected at least 1")
        if score not in _SCORES:
            raise ValueError(f"score={score!r}: expected one of {', '.join(map(repr, _SCORES))}")
        self.units = units
        self.score = score
        self.supports_masking = True
        coded = score == "code"
        self.hidden = (
            keras.layers.Dense(units, activation="relu", name="hidden", dtype="float32") if coded else None
        )
        self.logit = keras.layers.Dense(
            1, activation=None if coded else "relu", name="logit", dtype="float32"
        )

    def build(self, input_shape):
        shapes = self._listed(input_shape) if self._nested(input_shape) == self._several else []
        alike = all(len(s) == 3 and s[2] is not None and tuple(s)[1:] == tuple(shapes[0])[1:] for s in shapes)
        if len(shapes) < 1 + self._several or not alike:
            wanted = "a list of two or more sequences" if self._several else "one sequence"
            raise ValueError(
                f"{self.name}: input {input_shape}; expected {wanted} (batch, T, D), T and D alike, D known"
            )
        cell = (None, None, len(shapes), shapes[0][2])
        if self.hidden is not None:
            self.hidden.build(cell)
            cell = (*cell[:3], self.units)
        self.logit.build(cell)

    def call(self, inputs, mask=None, return_attention_scores=False):
        sequences = self._listed(inputs)
        x = ops.stack(sequences, axis=2)
        real = self._real(mask, sequences)
        if real is not None:
            x = ops.where(real[..., None], x, ops.zeros_like(x))  # a NaN there must not reach the gradients
        hidden = x if self.hidden is None else self.hidden(x)
        scores = masked_softmax(self.logit(hidden)[..., 0], real, self._axes)
        output = ops.cast(self._gather(scores[..., None] * ops.cast(x, "float32")), self.compute_dtype)
        if not return_attention_scores:
            return output
        return output, scores if self._several else scores[..., 0]

    def _gather(self, weighted):
        """(B, T, K, D) -> the sum over time, modalities side by side."""
        summed = ops.sum(weighted, axis=1)
        return ops.reshape(summed, (-1, summed.shape[1] * summed.shape[2]))

    def _real(self, mask, sequences):
        """Boolean (B, T, K), or None: every cell is."""
        masks = list(mask) if isinstance(mask, list | tuple) else [mask] * len(sequences)
        if len(masks) != len(sequences):
            raise ValueError(
                f"{self.name}: {len(masks)} masks for {len(sequences)} sequences; expected as many"
            )
        if all(m is None for m in masks):
            return None
        pairs = zip(masks, sequences, strict=True)
        return ops.stack(
            [ops.ones(ops.shape(x)[:2], "bool") if m is None else ops.cast(m, "bool") for m, x in pairs],
            axis=2,
        )

    def _listed(self, inputs):
        return list(inputs) if self._several else [inputs]

    def _nested(self, shape):
        return isinstance(shape, list | tuple) and len(shape) > 0 and isinstance(shape[0], list | tuple)

    def compute_output_shape(self, input_shape):
        shapes = self._listed(input_shape)
        return (shapes[0][0], len(shapes) * shapes[0][2])

    def compute_output_spec(self, inputs, mask=None, return_attention_scores=False):
        shapes = [tuple(x.shape) for x in self._listed(inputs)]
        output = self.compute_output_shape(shapes if self._several else shapes[0])
        output = keras.KerasTensor(output, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        scores = (*shapes[0][:2], len(shapes)) if self._several else shapes[0][:2]
        return output, keras.KerasTensor(scores, dtype="float32")

    def compute_mask(self, inputs, mask=None):
        return None

    def get_config(self):
        return {**super().get_config(), "units": self.units, "score": self.score}


@keras.saving.register_keras_serializable(package="tfvc")
class TemporalAttention(_CellAttention):
    """Sum over time, each step weighed by a softmax over time of its score.

        z[t] = ReLU(x[t] W1 + b1) W2 + b2       score "code";    "paper": z[t] = ReLU(x[t] w + b)
        alpha = softmax over t of z,    y = sum over t of alpha[t] x[t]

    **Source**: Brousmiche et al. 2021 (MAFnet), equations 1 to 3 ("paper"); the hidden layer of "code" is the
    authors' program's, by spec/mafnet.md.
    **Differs**: takes a mask; softmax and sum are float32.

    Args:
        units: of the hidden layer, W1: D x units. "paper" has no such layer.
        score: "code" or "paper".
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, D), compute dtype; with the call argument
        `return_attention_scores=True` also alpha, (B, T) float32.
    Masking: boolean (B, T). Steps under the mask score 0; a row without any real step gives zeros, in the
        scores too. The mask ends here.

    Raises:
        ValueError: units below 1, an unknown score, an input that is not of rank 3.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import TemporalAttention
        >>> y, alpha = TemporalAttention(8)(np.ones((2, 4, 3), "float32"), return_attention_scores=True)
        >>> y.shape, alpha.numpy()[0].tolist()
        (TensorShape([2, 3]), [0.25, 0.25, 0.25, 0.25])
    """

    _axes = (1,)
    _several = False


@keras.saving.register_keras_serializable(package="tfvc")
class ModalityAttention(_CellAttention):
    """Weighs the modalities of each time step against each other and puts them side by side.

        z[t, k] = ReLU(x_k[t] W1 + b1) W2 + b2      score "code";    "paper": ReLU(x_k[t] w + b)
        phi[t] = softmax over k of z[t],    y[t] = concat over k of phi[t, k] x_k[t]

    One network scores all modalities.

    **Source**: Brousmiche et al. 2021 (MAFnet), equations 4 to 6 ("paper"); the hidden layer of "code" is the
    authors' program's, by spec/mafnet.md.
    **Differs**: takes a mask; the softmax is float32.

    Args:
        units: of the hidden layer, W1: D x units. "paper" has no such layer.
        score: "code" or "paper".
        **kwargs: of `keras.layers.Layer`.

    Input: list of K >= 2 sequences (B, T, D), floats. Output: (B, T, K D), compute dtype; with the call
        argument `return_attention_scores=True` also phi, (B, T, K) float32.
    Masking: boolean (B, T), or a list of K of them. Cells under the mask score 0; a step without any real
        cell gives zeros, in the scores too. The mask ends here.

    Raises:
        ValueError: units below 1, an unknown score, an input that is not such a list, another number of
            masks.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import ModalityAttention
        >>> x = np.ones((2, 4, 3), "float32")
        >>> y, phi = ModalityAttention(8)([x, x], return_attention_scores=True)
        >>> y.shape, phi.numpy()[0, 0].tolist()
        (TensorShape([2, 4, 6]), [0.5, 0.5])
    """

    _axes = (2,)

    def _gather(self, weighted):
        """(B, T, K, D) -> modalities side by side, time stays."""
        _, _, count, size = weighted.shape
        return ops.reshape(weighted, (*ops.shape(weighted)[:2], count * size))

    def compute_output_shape(self, input_shape):
        batch, frames, size = input_shape[0]
        return (batch, frames, len(input_shape) * size)


@keras.saving.register_keras_serializable(package="tfvc")
class ModalityTemporalAttention(_CellAttention):
    """Weighs every cell, of a time step and a modality, by ONE softmax over all; sums over time.

        z[t, k] = ReLU(x_k[t] W1 + b1) W2 + b2      score "code";    "paper": ReLU(x_k[t] w + b)
        lambda = softmax over all T K cells of z
        y = concat over k of (sum over t of lambda[t, k] x_k[t])

    One network scores all modalities. The lambda of all cells sum to 1, so those of one modality say how much
    it counts.

    **Source**: Brousmiche et al. 2021 (MAFnet), equations 7 to 10 ("paper"); the hidden layer of "code" is
    the authors' program's, by spec/mafnet.md.
    **Differs**: takes a mask; softmax and sum are float32.

    Args:
        units: of the hidden layer, W1: D x units. "paper" has no such layer.
        score: "code" or "paper".
        **kwargs: of `keras.layers.Layer`.

    Input: list of K >= 2 sequences (B, T, D), floats. Output: (B, K D), compute dtype; with the call argument
        `return_attention_scores=True` also lambda, (B, T, K) float32.
    Masking: boolean (B, T), or a list of K of them. Cells under the mask score 0; a row without any real cell
        gives zeros, in the scores too. The mask ends here.

    Raises:
        ValueError: units below 1, an unknown score, an input that is not such a list, another number of
            masks.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import ModalityTemporalAttention
        >>> x = np.ones((2, 4, 3), "float32")
        >>> y, scores = ModalityTemporalAttention(8)([x, x], return_attention_scores=True)
        >>> y.shape, scores.numpy()[0].tolist()
        (TensorShape([2, 6]), [[0.125, 0.125], [0.125, 0.125], [0.125, 0.125], [0.125, 0.125]])
    """

    _axes = (1, 2)
