"""The first layer of a model over quantised streams."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
class Dequantize(keras.layers.Layer):
    """Streams as stored -> one float tensor: chosen frames, dequantised, masked, joined, normalised.

        x = q (max - min) / 255 + (max - min) / 512 + min       for integers; floats pass as they are
        x = 0                                                   for frames past the end of their stream
        y = x / sqrt(max(sum(x^2), 1e-12))                      over all streams of a frame, if `normalize`

    Rows of zeros stay zero. Frames are chosen before anything is computed on them.

    **Source**: YouTube-8M starter, utils.Dequantize, readers.py (padding is 0.0 after dequantising), and
    train.py (tf.nn.l2_normalize over the joined features).
    **Differs**: each stream ends by its own length, so one that is shorter or absent is zeros.

    Args:
        max_value: what byte 255 stands for, less half a step.
        min_value: what byte 0 stands for, less half a step.
        normalize: give each frame (or vector) L2 norm 1.
        **kwargs: of `keras.layers.Layer`.

    Input: a stream or a list of streams, each (B, T, D) or (B, D), uint8 or floats. `lengths`: (B,) integers,
    frames that are real, or one such a stream in a list; None: all. `index`: (B, S) integers, the frames to
    look at. Output: (B, T or S, sum of D) or (B, sum of D), compute dtype; computed in float32.
    Masking: boolean (B, T), frames that count, on top of the lengths; it ends here.

    Raises:
        ValueError: max_value is not above min_value; as many lengths as streams are expected.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import Dequantize
        >>> frames = np.array([[[0, 255], [7, 7]]], "uint8")
        >>> np.array(Dequantize()(frames, lengths=np.array([1])), "float64").round(4).tolist()
        [[[-1.9922, 2.0078], [0.0, 0.0]]]
    """

    def __init__(self, max_value=2.0, min_value=-2.0, normalize=False, **kwargs):
        # autocast=False: floats reach the float32 arithmetic as stored.
        super().__init__(autocast=False, **kwargs)
        if not max_value > min_value:
            raise ValueError(f"max_value={max_value}: expected more than min_value={min_value}")
        self.max_value = max_value
        self.min_value = min_value
        self.normalize = normalize
        self.supports_masking = True

    def build(self, input_shape):
        pass

    def call(self, inputs, lengths=None, index=None, mask=None):
        streams = _listed(inputs)
        lengths = [None] * len(streams) if lengths is None else _listed(lengths)
        if len(lengths) != len(streams):
            raise ValueError(f"{self.name}: {len(lengths)} lengths for {len(streams)} streams; one each")
        masks = _listed(mask) if isinstance(mask, (list, tuple)) else [mask] * len(streams)
        parts = [self._read(*part, index) for part in zip(streams, lengths, masks, strict=True)]
        if self.normalize:
            squares = sum(ops.sum(ops.square(part), axis=-1, keepdims=True) for part in parts)
            scale = ops.rsqrt(ops.maximum(squares, 1e-12))
            parts = [part * scale for part in parts]
        parts = [ops.cast(part, self.compute_dtype) for part in parts]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _read(self, stream, length, mask, index):
        """One stream: float32, zeros where there is no frame."""
        if len(stream.shape) < 3:
            return self._value(stream)
        frames = ops.shape(stream)[1]
        number = ops.arange(frames, dtype="int32")[None]
        if index is not None:
            number = ops.minimum(ops.cast(index, "int32"), frames - 1)
            # The frames of all clips in one row: take_along_axis would make an index for every feature.
            clips = ops.arange(ops.shape(stream)[0], dtype="int32")[:, None] * frames
            stream = ops.take(ops.reshape(stream, (-1, stream.shape[-1])), clips + number, axis=0)
            if mask is not None:
                mask = ops.take(ops.reshape(mask, (-1,)), clips + number, axis=0)
        x = self._value(stream)
        real = None if length is None else number < ops.cast(length, "int32")[:, None]
        if mask is not None:
            mask = ops.cast(mask, "bool")
            real = mask if real is None else ops.logical_and(real, mask)
        return x if real is None else ops.where(real[..., None], x, 0.0)

    def _value(self, stream):
        x = ops.cast(stream, "float32")
        if "int" not in keras.backend.standardize_dtype(stream.dtype):
            return x
        span = self.max_value - self.min_value
        return x * (span / 255.0) + (span / 512.0 + self.min_value)

    def compute_output_spec(self, inputs, lengths=None, index=None, mask=None):
        shape = self.compute_output_shape([s.shape for s in _listed(inputs)])
        if index is not None:
            shape = (shape[0], index.shape[1], shape[2])
        return keras.KerasTensor(shape, self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        several = isinstance(input_shape[0], (list, tuple))
        shapes = list(input_shape) if several else [input_shape]
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def get_config(self):
        own = {name: getattr(self, name) for name in ("max_value", "min_value", "normalize")}
        return {**super().get_config(), **own}


def _listed(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]
