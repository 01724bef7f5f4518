"""Pooling over time that sees real frames only."""

import keras
from keras import ops

_MODES = ("mean", "max", "sum")


@keras.saving.register_keras_serializable(package="tfvc")
class MaskedPooling(keras.layers.Layer):
    """Mean, maximum or sum over the real frames.

        mean: y = sum over t of m[t] x[t] / max(sum over t of m[t], 1),    sum: the numerator,
        max:  y = maximum of x[t] over the t where m[t]

    **Source**: average pooling of the YouTube-8M papers; max and average pooling of the starter's DBoF.
    **Differs** from Keras' pooling layers: a clip without real frames gives zeros in every mode.

    Args:
        mode: `mean`, `max` or `sum`.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, D), compute dtype; sums in float32 (in float16 a sum past 65504 ends
    as infinity). Masking: boolean (B, T), None: every frame is real; the mask ends here.

    Raises:
        ValueError: another mode; the input is not of rank 3.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import MaskedPooling
        >>> x = np.array([[[1.0], [3.0], [99.0]]], "float32")
        >>> [float(MaskedPooling(m)(x, mask=np.array([[True, True, False]]))[0, 0]) for m in ("mean", "max")]
        [2.0, 3.0]
    """

    def __init__(self, mode="mean", **kwargs):
        super().__init__(**kwargs)
        if mode not in _MODES:
            raise ValueError(f"mode={mode!r}: expected one of {', '.join(_MODES)}")
        self.mode = mode
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(f"{self.name}: input {tuple(input_shape)}; expected (batch, T, D)")

    def call(self, inputs, mask=None):
        real = None if mask is None else ops.cast(mask, "bool")[..., None]
        return self._max(inputs, real) if self.mode == "max" else self._sum(inputs, real)

    def _max(self, x, real):
        x = ops.cast(x, self.compute_dtype)
        if real is None:
            return ops.max(x, axis=1)
        lowest = ops.where(real, x, -float("inf"))
        return ops.where(ops.any(real, axis=1), ops.max(lowest, axis=1), 0.0)

    def _sum(self, x, real):
        x = ops.cast(x, "float32")
        if real is not None:
            x = ops.where(real, x, 0.0)
        total = ops.sum(x, axis=1)
        if self.mode == "mean":
            frames = ops.shape(x)[1] if real is None else ops.sum(ops.cast(real, "int32"), axis=1)
            total = total / ops.cast(ops.maximum(frames, 1), "float32")
        return ops.cast(total, self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}
