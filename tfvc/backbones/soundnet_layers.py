"""The layers of SoundNet-8 as a table, how many rows each gives, and how clips of any length share them."""

from dataclasses import dataclass

import keras
from keras import ops

from tfvc.backbones.soundnet_weights import HEADS, LENGTHS

STRIDE = 2  # of every convolution


@dataclass(frozen=True)
class Layer:
    """One convolution of length `kernel`, stride 2, `pad` zeros at both ends; then a maximum over `pool`."""

    name: str
    width: int
    kernel: int
    pad: int
    pool: int = 1


LAYERS = tuple(
    Layer(name, width, LENGTHS[name], LENGTHS[name] // 2, pool)
    for name, width, pool in (
        ("conv1", 16, 8),
        ("conv2", 32, 8),
        ("conv3", 64, 1),
        ("conv4", 128, 1),
        ("conv5", 256, 4),
        ("conv6", 512, 1),
        ("conv7", 1024, 1),
    )
)
TOPS = tuple(Layer(name, width, LENGTHS[name], 0) for name, width in zip(HEADS, (1000, 401), strict=True))
OUTPUTS = tuple(layer.name for layer in LAYERS + TOPS)
WIDTHS = tuple(layer.width for layer in LAYERS + TOPS)


def length(samples, layer="conv7"):
    """How many rows a layer gives of so many samples.

    A convolution: floor((n + 2 pad - kernel) / 2) + 1; the maxima behind it: floor(n / pool). 0 where a layer
    on the way has nothing to read.

    **Source**: spec/raf.md; Torch's floor.

    Args:
        samples: a whole number, or an array or a tensor of them.
        layer: one of `OUTPUTS`.

    Example:
        >>> length(220500), length(220500, "objects"), length(100)
        (8, 1, 0)
    """
    rows = samples
    for step in steps(layer):
        rows = _convolved(step, rows)
        if step.name != layer:
            rows = rows // step.pool
    return rows


def shortest(layer="conv7"):
    """The fewest samples of which a layer gives a row: 4,574 for conv7, 9.5 s for the heads.

    Example:
        >>> shortest(), length(shortest()), length(shortest() - 1)
        (4574, 1, 0)
    """
    rows = 1
    for step in reversed(steps(layer)):
        rows *= step.pool if step.name != layer else 1
        rows = max(1, STRIDE * (rows - 1) + step.kernel - 2 * step.pad)
    return rows


def _convolved(step, rows):
    there = rows >= max(1, step.kernel - 2 * step.pad)
    rows = (rows + 2 * step.pad - step.kernel) // STRIDE + 1
    return rows * (ops.cast(there, rows.dtype) if ops.is_tensor(rows) else there)


def steps(layer):
    """The convolutions up to a layer, itself the last.

    Raises:
        ValueError: no such layer.

    Example:
        >>> [step.name for step in steps("conv2")]
        ['conv1', 'conv2']
    """
    if layer not in OUTPUTS:
        raise ValueError(f"output={layer!r}: expected one of {', '.join(OUTPUTS)}")
    upto = OUTPUTS.index(layer)
    return LAYERS[: upto + 1] if upto < len(LAYERS) else (*LAYERS, TOPS[upto - len(LAYERS)])


@keras.saving.register_keras_serializable(package="tfvc")
class OwnRows(keras.layers.Layer):
    """The rows of a layer that a batch of so many samples has, zeros behind each clip's own.

    Where a shorter clip ends, the next layer thus finds the zeros that its padding would have put there.

    **Source**: ours.

    **Differs**: the original takes one clip at a time.

    Args:
        of: one of `OUTPUTS`; "": the samples themselves.
        pool: of the maxima behind that layer.

    Input:
        x float32 (B, at least N, C); samples (B, S), of which the length counts; lengths int32 (B,).

    Output:
        float32 (B, N, C), N = length(S, of) // pool.

    Raises:
        ValueError: no such layer.

    Example:
        >>> one = ops.ones((1, 3))
        >>> ops.convert_to_numpy(OwnRows()(one[..., None], one, ops.array([2])))[0, :, 0].tolist()
        [1.0, 1.0, 0.0]
    """

    def __init__(self, of="", pool=1, **kwargs):
        super().__init__(**kwargs)
        self.of, self.pool = of, pool

    def call(self, x, samples, lengths):
        count = self._rows(ops.shape(samples)[1])
        mask = ops.arange(count)[None] < self._rows(ops.cast(lengths, "int32"))[:, None]
        return ops.where(mask[..., None], x[:, :count], 0.0)

    def _rows(self, samples):
        return length(samples, self.of) // self.pool if self.of else samples

    def compute_output_shape(self, x_shape, samples_shape, lengths_shape):
        count = samples_shape[1]
        return (x_shape[0], count if count is None else self._rows(count), x_shape[2])

    def get_config(self):
        return super().get_config() | {"of": self.of, "pool": self.pool}
