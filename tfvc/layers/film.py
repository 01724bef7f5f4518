"""FiLM: one stream scales and shifts the feature maps of another; and the residual block around it."""

import keras
from keras import ops

from tfvc.layers.batch_norm import SlimBatchNormalization


@keras.saving.register_keras_serializable(package="tfvc")
class FiLM(keras.layers.Layer):
    """Feature-wise linear modulation: the condition scales and shifts each channel of x.

        (gamma', beta) = condition W + b        W: D x 2C, gamma' the first C
        y = (gamma' + 1) x + beta               per channel, the same at every place of a map

    **Source**: Brousmiche et al. 2021 (MAFnet), equations 11 and 12; gamma = gamma' + 1 is the authors'
    program's, by spec/mafnet.md, and that of Perez et al. 2018 (FiLM), section 7.2.
    **Differs**: takes no mask, as every row goes by itself; that of x is passed on.

    Args:
        **kwargs: of `keras.layers.Layer`, as `name` and `dtype`.

    Input: list of x (B, ..., C) and its condition (B, ..., D), floats. The axes of the condition but its last
        are the first of x: x (B, T, H, W, C) goes with (B, T, D), x (B, C) with (B, D).
    Output: the shape of x, compute dtype. A product of two inputs: in float16 both are to be of moderate
        size, as after a batch norm.

    Raises:
        ValueError: not a list of two; a condition of higher rank than x; channels that are not known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import FiLM
        >>> maps, condition = np.ones((2, 4, 3, 3, 5), "float32"), np.ones((2, 4, 6), "float32")
        >>> FiLM()([maps, condition]).shape
        TensorShape([2, 4, 3, 3, 5])
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        x, condition = _pair(self, input_shape, "[x (batch, ..., C), condition (batch, ..., D)]")
        if not 2 <= len(condition) <= len(x) or x[-1] is None or condition[-1] is None:
            raise ValueError(
                f"{self.name}: x {x}, condition {condition}; expected (batch, ..., C) and (batch, ..., D), "
                "C and D known, the condition of no higher rank"
            )
        self.generator = keras.layers.Dense(2 * x[-1], name="generator", dtype=self.dtype_policy)
        self.generator.build(condition)

    def call(self, inputs):
        x, condition = inputs
        gamma, beta = ops.split(self.generator(condition), 2, axis=-1)
        for _ in range(len(x.shape) - len(condition.shape)):
            gamma, beta = ops.expand_dims(gamma, -2), ops.expand_dims(beta, -2)
        return (gamma + 1) * x + beta

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def compute_mask(self, inputs, mask=None):
        return mask[0] if mask else None


@keras.saving.register_keras_serializable(package="tfvc")
class FiLMedResidualBlock(keras.layers.Layer):
    """Residual block over the maps of each time step, modulated by another stream in its middle.

        r = ReLU(conv1(s))                      1 x 1
        y = bn(conv2(r))                        3 x 3, zeros around the map
        out = r + ReLU(film(y, condition))      without `film`: r + ReLU(y)

    **Source**: Brousmiche et al. 2021 (MAFnet), section 3.5 and figure 4; the order of the parts, and the
    batch norm's biased moving variance, are the authors' program's, by spec/mafnet.md.
    **Differs**: takes a mask and, as 1 x 1 maps, vectors: there only the middle of conv2's kernel counts.

    The parts are attributes: `conv1`, `conv2`, `bn`, `film` (None without) and `film.generator`.

    Args:
        filters: channels of both convolutions and of the output.
        film: take a condition.
        momentum: of the batch norm's moving statistics.
        epsilon: of the batch norm.
        **kwargs: of `keras.layers.Layer`.

    Input: list of maps (B, T, H, W, C) or vectors (B, T, C), H, W and C known, and the condition (B, T, D);
        without `film` the maps alone. Output: (B, T, H, W, filters) or (B, T, filters), compute dtype. The
        call argument `return_film=True` gives (output, before, after), all of that shape: what goes into the
        FiLM and what comes out (figure 7 of the paper).
    Masking: boolean (B, T), for both inputs, or a list of one for each. Rows of maps under the mask do not
        count in the batch norm and come out zero, of all three; a condition under its mask counts as zeros.
        None: every row counts, padding too.

    Raises:
        ValueError: filters below 1; maps of another rank, or whose H, W or C is not known; a condition
            where none is expected, or none where one is; `return_film` without `film`.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import FiLMedResidualBlock
        >>> maps, condition = np.ones((2, 4, 3, 3, 5), "float32"), np.ones((2, 4, 6), "float32")
        >>> FiLMedResidualBlock(8)([maps, condition]).shape
        TensorShape([2, 4, 3, 3, 8])
        >>> FiLMedResidualBlock(8, film=False)(maps[:, :, 0, 0]).shape
        TensorShape([2, 4, 8])
    """

    def __init__(self, filters, film=True, momentum=0.999, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"filters={filters}: expected at least 1")
        self.filters = filters
        self.momentum = momentum
        self.epsilon = epsilon
        self.supports_masking = True
        part = {"dtype": self.dtype_policy}
        self.conv1 = keras.layers.Conv2D(filters, 1, activation="relu", name="conv1", **part)
        self.conv2 = keras.layers.Conv2D(filters, 3, padding="same", name="conv2", **part)
        self.bn = SlimBatchNormalization(momentum, epsilon, unbiased=False, name="bn", **part)
        self.film = FiLM(name="film", **part) if film else None

    def build(self, input_shape):
        maps = input_shape
        if self.film is not None:
            maps, condition = _pair(self, input_shape, "[maps, condition]; film=False takes maps alone")
            if len(condition) != 3 or condition[2] is None:
                raise ValueError(f"{self.name}: condition {condition}; expected (batch, T, D), D known")
        known = (
            isinstance(maps, list | tuple) and len(maps) in (3, 5) and not isinstance(maps[0], list | tuple)
        )
        if not known or None in maps[2:]:
            raise ValueError(
                f"{self.name}: maps {maps}; expected (batch, T, H, W, C) or vectors (batch, T, C), "
                "known but for batch and T"
            )
        height, width, channels = self._places(maps)
        self.conv1.build((None, height, width, channels))
        self.conv2.build((None, height, width, self.filters))
        self.bn.build((*maps[:-1], self.filters))
        if self.film is not None:
            self.film.build([(*maps[:-1], self.filters), condition])

    def call(self, inputs, mask=None, training=None, return_film=False):
        if return_film and self.film is None:
            raise ValueError(f"{self.name}: return_film=True in a block without FiLM; expected film=True")
        maps, condition = inputs if self.film is not None else (inputs, None)
        real, known = mask if isinstance(mask, list | tuple) else (mask, mask)
        maps = _zero_where_not(real, maps)
        r = self._over_places(self.conv1, maps)
        y = self._over_places(self.conv2, r)
        before = y = self.bn(y, mask=_as_rows_of(y, real), training=training)
        if condition is not None:
            y = self.film([y, _zero_where_not(known, condition)])
        out = _zero_where_not(real, r + ops.relu(y))
        return (out, before, _zero_where_not(real, y)) if return_film else out

    def _places(self, shape):
        return (1, 1, shape[-1]) if len(shape) == 3 else tuple(shape[2:])

    def _over_places(self, convolve, x):
        """The convolution of each row's map, time folded into the batch."""
        y = convolve(ops.reshape(x, (-1, *self._places(x.shape))))
        return ops.reshape(y, (*ops.shape(x)[:-1], self.filters))

    def compute_output_shape(self, input_shape):
        maps = input_shape[0] if self.film is not None else input_shape
        return (*maps[:-1], self.filters)

    def compute_output_spec(self, inputs, mask=None, training=None, return_film=False):
        maps = inputs[0] if self.film is not None else inputs
        shape = (*maps.shape[:-1], self.filters)
        specs = tuple(keras.KerasTensor(shape, dtype=self.compute_dtype) for _ in range(3))  # no two the same
        return specs if return_film else specs[0]

    def compute_mask(self, inputs, mask=None):
        return None

    def get_config(self):
        own = {name: getattr(self, name) for name in ("filters", "momentum", "epsilon")}
        return {**super().get_config(), **own, "film": self.film is not None}


def _pair(layer, shapes, expected):
    nested = isinstance(shapes, list | tuple) and all(isinstance(s, list | tuple) for s in shapes)
    if not nested or len(shapes) != 2:
        raise ValueError(f"{layer.name}: input {shapes}; expected {expected}")
    return [tuple(s) for s in shapes]


def _as_rows_of(x, mask):
    """(B, T) as boolean of the shape of x without its channels; None stays None."""
    if mask is None:
        return None
    mask = ops.reshape(ops.cast(mask, "bool"), (*ops.shape(x)[:2], *[1] * (len(x.shape) - 3)))
    return ops.broadcast_to(mask, ops.shape(x)[:-1])


def _zero_where_not(mask, x):
    """x where the mask (B, T) is true, else zeros, whatever lies there."""
    return x if mask is None else ops.where(_as_rows_of(x, mask)[..., None], x, ops.zeros_like(x))
