"""Fusion of two vectors: factorised (MFB), compact (MCB) and low-rank (MLB) bilinear, and residual (DMR).

Each layer is called on a list [x, y]. `present` says which example has which side; an absent side is replaced
by the neutral element of the layer's product or sum, so that the other side passes, and what stands in its
place never counts.
"""

import keras
import numpy as np
from keras import ops

_POWERS = ("relu", "signed_sqrt", None)


def _signed_sqrt(z):
    """sign(z) sqrt(|z|), a straight line through 0 where |z| < 1e-8."""
    return z * ops.rsqrt(ops.maximum(ops.abs(z), 1e-8))


def _power(z, power):
    if power is None:
        return z
    return ops.relu(z) if power == "relu" else _signed_sqrt(z)


def _l2(z):
    """L2 norm 1 along the last axis; zeros stay zeros."""
    return z * ops.rsqrt(ops.maximum(ops.sum(ops.square(z), axis=-1, keepdims=True), 1e-12))


class _Fusion(keras.layers.Layer):
    """What they share: two vectors, either of which may be absent. A subclass has `fuse`."""

    _ranks = (2,)

    def build(self, input_shape):
        pair = isinstance(input_shape, list | tuple) and len(input_shape) == 2
        if not pair or not all(
            isinstance(s, list | tuple) and len(s) in self._ranks and s[-1] is not None for s in input_shape
        ):
            raise ValueError(
                f"{self.name}: input {input_shape}; expected a list of two vectors (batch, channels)"
            )
        self.build_sides(*input_shape)

    def call(self, inputs, present=None, training=None):
        if present is None:
            return ops.cast(self.fuse(inputs, (None, None), training), self.compute_dtype)
        if not isinstance(present, list | tuple) or len(present) != 2:
            raise ValueError(
                f"{self.name}: present={present!r}; expected a list of two boolean tensors (batch,)"
            )
        present = [_over(ops.cast(p, "bool"), side) for p, side in zip(present, inputs, strict=True)]
        # Zeros before the weights too: a NaN under an absent side would reach their gradient.
        inputs = [ops.where(p, side, ops.zeros_like(side)) for p, side in zip(present, inputs, strict=True)]
        fused = ops.where(ops.logical_or(*present), self.fuse(inputs, present, training), 0.0)
        return ops.cast(fused, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.output_size())


def _over(present, side):
    """Of the rank of the side, so that the two broadcast."""
    return ops.reshape(present, (*ops.shape(present), *[1] * (len(side.shape) - len(present.shape))))


def _or_neutral(side, present, neutral):
    """`side` where it is present, else the neutral element."""
    return side if present is None else ops.where(present, side, ops.cast(neutral, side.dtype))


@keras.saving.register_keras_serializable(package="tfvc")
class MFB(_Fusion):
    """Multi-modal factorised bilinear pooling: o bilinear forms, each of rank k.

        p = (x U + a) * (y V + b)               U: C x ko, V: M x ko, with biases
        z[i] = sum over j < k of dropout(p)[i k + j]     windows of k consecutive units
        f = power(z) / sqrt(sum(power(z)^2))    times sqrt(o) if `scale`

    **Source**: Liu, Yuan, Wang 2018, equation 1, `power="relu"`; Yu et al. 2017 (MFB for visual question
    answering), equation 6 and figure 2, `power="signed_sqrt"`, whose k = 5 and o = 1000 are the defaults.
    **Differs**: sign(z) sqrt(|z|) is the line 1e4 z where |z| < 1e-8, at most 2.5e-5 from it, so that its
    gradient is finite at 0; the norm is at least 1e-6, so that zeros stay zeros; `scale` and `present` are
    new. k and o are not printed by Liu et al.

    Args:
        k: rank of each form, units a window.
        o: number of forms.
        dropout: share of the products dropped in training; Liu et al. drop 0.1.
        power: "relu", "signed_sqrt" or None.
        scale: multiply by sqrt(o): values of about 1, as a layer without the norm gives.
        seed: of the dropout; None: Keras' global one.
        **kwargs: of `keras.layers.Layer`.

    Input: list of (B, C) and (B, M) floats. Output: (B, o) of norm 1 (sqrt(o) if `scale`), compute dtype.
        The projections are in compute dtype, the product and all after it in float32.
    Masking: `present`, a list of two boolean (B,): where a side is absent, ones stand in place of its
        projection, bias included; where both are, the output is zeros.

    Raises:
        ValueError: k or o below 1, dropout outside [0, 1), an unknown power, an input or `present` that is
            not of two.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import MFB
        >>> x, y = np.ones((2, 6), "float32"), np.ones((2, 3), "float32")
        >>> MFB(k=2, o=4)([x, y]).shape
        TensorShape([2, 4])
    """

    def __init__(self, k=5, o=1000, dropout=0.0, power="relu", scale=False, seed=None, **kwargs):
        super().__init__(**kwargs)
        if k < 1 or o < 1:
            raise ValueError(f"k={k}, o={o}: expected at least 1 of each")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: expected a share of at least 0 and below 1")
        _check_power(power, _POWERS)
        self.k = k
        self.o = o
        self.dropout = dropout
        self.power = power
        self.scale = scale
        self.seed = seed
        self.u = keras.layers.Dense(k * o, name="u", dtype=self.dtype_policy)
        self.v = keras.layers.Dense(k * o, name="v", dtype=self.dtype_policy)
        if dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build_sides(self, x, y):
        self.u.build(x)
        self.v.build(y)

    def fuse(self, inputs, present, training):
        return self.normalised(self.powered(self.sumpool(inputs, present, training)))

    def sumpool(self, inputs, present=(None, None), training=None):
        """z of the formula, (B, o) float32."""
        sides = zip((self.u, self.v), inputs, present, strict=True)
        u, v = (ops.cast(_or_neutral(project(x), p, 1.0), "float32") for project, x, p in sides)
        product, kept = u * v, 1.0
        if training and self.dropout:
            product = ops.where(self._dropped(ops.shape(u)[0]), 0.0, product)
            kept -= self.dropout
        return ops.sum(ops.reshape(product, (-1, self.o, self.k)), axis=-1) / kept

    def _dropped(self, rows):
        """Which products are dropped, (rows, k o); two draws from each random number.

        Drawing is the dearest part of the layer beside its projections. The second draw is true on
        [0, r^2) and [r, 2 r - r^2), of which the first is true on the former: independent, each of chance r.
        """
        units, r = self.k * self.o, self.dropout
        number = keras.random.uniform((rows, -(-units // 2)), dtype="float32", seed=self.seed_generator)
        first = number < r
        second = ops.logical_xor(ops.logical_xor(number < r * r, first), number < 2 * r - r * r)
        return ops.concatenate([first, second], axis=1)[:, :units]

    def powered(self, z):
        """power(z) of the formula."""
        return _power(z, self.power)

    def normalised(self, z):
        """z / |z|, times sqrt(o) if `scale`."""
        return _l2(z) * self.o**0.5 if self.scale else _l2(z)

    def output_size(self):
        return self.o

    def get_config(self):
        names = ("k", "o", "dropout", "power", "scale", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="tfvc")
class CompactBilinear(_Fusion):
    """Compact bilinear pooling (MCB): the outer product of two vectors, projected at random by count sketch.

        sketch(x)[j] = sum over i with h[i] = j of s[i] x[i]            h: 0 .. d - 1, s: -1 or 1, fixed
        z = irfft(rfft(sketch(x)) rfft(sketch(y)))                      circular convolution, of d values
        f = power(z) / sqrt(sum(power(z)^2))                            the norm if `normalize`

    The dot product of two z estimates that of the two outer products. h and s are drawn at random once, kept
    as weights that do not train, and saved with the model, so that a loaded one needs no draw.

    The rule of the draw: `rng = numpy.random.default_rng(seed)`; then for x and after it for y
    `h = rng.integers(0, d, channels)` and `s = 2 * rng.integers(0, 2, channels) - 1`.

    Values reach their places by a segment sum over the features: C additions an example, and a gather as
    its gradient, where a product with a one-hot matrix would take C x d.

    **Source**: Gao et al. 2016, algorithm 2 (tensor sketch); Fukui et al. 2016, algorithm 1 (two vectors,
    d = 16,000), signed square root and L2 norm as in both.
    **Differs**: no trained projection below; the guards of `MFB` at 0; `present` is new.

    Args:
        output_dim: d.
        seed: of the hashes.
        power: "signed_sqrt" or None.
        normalize: divide by the L2 norm.
        **kwargs: of `keras.layers.Layer`.

    Input: list of (B, C) and (B, M) floats. Output: (B, d), compute dtype; all arithmetic in float32.
    Masking: `present`, a list of two boolean (B,): where a side is absent, 1 at place 0 stands for its
        sketch, so that the sketch of the other passes; where both are, the output is zeros.

    Raises:
        ValueError: output_dim below 1, an unknown power, an input or `present` that is not of two.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import CompactBilinear
        >>> x, y = np.ones((2, 6), "float32"), np.ones((2, 3), "float32")
        >>> CompactBilinear(8)([x, y]).shape
        TensorShape([2, 8])
    """

    def __init__(self, output_dim, seed=0, power="signed_sqrt", normalize=True, **kwargs):
        super().__init__(**kwargs)
        if output_dim < 1:
            raise ValueError(f"output_dim={output_dim}: expected at least 1")
        _check_power(power, ("signed_sqrt", None))
        self.output_dim = output_dim
        self.seed = seed
        self.power = power
        self.normalize = normalize

    def build_sides(self, x, y):
        rng = np.random.default_rng(self.seed)
        self.hashes = []
        for name, (_, size) in (("x", x), ("y", y)):
            h = rng.integers(0, self.output_dim, size)
            s = 2 * rng.integers(0, 2, size) - 1
            self.hashes.append([self._fixed(h, f"h_{name}"), self._fixed(s, f"s_{name}")])

    def _fixed(self, values, name):
        def drawn(shape, dtype):
            return ops.convert_to_tensor(values, dtype=dtype)

        return self.add_weight(
            shape=values.shape, dtype="int32", initializer=drawn, trainable=False, name=name
        )

    def fuse(self, inputs, present, training):
        sides = zip(inputs, self.hashes, present, strict=True)
        sketches = [self._sketch(x, *hashes, p) for x, hashes, p in sides]
        (a, b), (c, d) = (ops.rfft(sketch) for sketch in sketches)
        z = ops.irfft((a * c - b * d, a * d + b * c), fft_length=self.output_dim)
        z = _power(z, self.power)
        return _l2(z) if self.normalize else z

    def _sketch(self, x, h, s, present):
        signed = ops.cast(x, "float32") * ops.cast(s, "float32")
        sums = ops.segment_sum(ops.transpose(signed), h, num_segments=self.output_dim)
        return _or_neutral(ops.transpose(sums), present, ops.one_hot(0, self.output_dim))

    def output_size(self):
        return self.output_dim

    def get_config(self):
        names = ("output_dim", "seed", "power", "normalize")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="tfvc")
class MLB(_Fusion):
    """Low-rank bilinear pooling by a Hadamard product: two projections, a product, a projection.

        f = (g(x U + a) * g(y V + b)) P + c       U: C x d, V: M x d, P: d x o

    **Source**: Kim et al. 2017 (Hadamard product for low-rank bilinear pooling), equations 7 to 9, d = 1200
    and g = tanh.
    **Differs**: no dropout and no shortcut around it; `present` is new.

    Args:
        units: d.
        o: size of the output.
        activation: g, the name of a Keras activation; None: none.
        **kwargs: of `keras.layers.Layer`.

    Input: list of (B, C) and (B, M) floats. Output: (B, o), compute dtype. A g without bounds
        squares large inputs: not for float16.
    Masking: `present`, a list of two boolean (B,): where a side is absent, ones stand for what its g gives;
        where both are, the output is zeros.

    Raises:
        ValueError: units or o below 1, an unknown activation, an input or `present` that is not of two.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import MLB
        >>> x, y = np.ones((2, 6), "float32"), np.ones((2, 3), "float32")
        >>> MLB(8, 4)([x, y]).shape
        TensorShape([2, 4])
    """

    def __init__(self, units, o, activation="tanh", **kwargs):
        super().__init__(**kwargs)
        if units < 1 or o < 1:
            raise ValueError(f"units={units}, o={o}: expected at least 1 of each")
        self.units = units
        self.o = o
        self.activation = activation
        part = {"activation": activation, "dtype": self.dtype_policy}
        self.u = keras.layers.Dense(units, name="u", **part)
        self.v = keras.layers.Dense(units, name="v", **part)
        self.p = keras.layers.Dense(o, name="p", dtype=self.dtype_policy)

    def build_sides(self, x, y):
        self.u.build(x)
        self.v.build(y)
        self.p.build((None, self.units))

    def fuse(self, inputs, present, training):
        sides = zip((self.u, self.v), inputs, present, strict=True)
        u, v = (_or_neutral(project(x), p, 1.0) for project, x, p in sides)
        return self.p(u * v)

    def output_size(self):
        return self.o

    def get_config(self):
        names = ("units", "o", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="tfvc")
class DualMultimodalResidual(_Fusion):
    """Dual multimodal residual fusion (DMR): both vectors are updated by what both say, then averaged.

        f = tanh(x U + y V + b)                     U, V: C x C
        x' = x + f,    y' = y + f,    output (x' + y') / 2

    **Source**: Tian et al. 2018 (audio-visual event localization), the dual multimodal residual network with
    additive fusion; compared in Brousmiche et al. 2021 (MAFnet), table 2, row DMR.
    **Differs** from Tian et al.: one block, without a further non-linearity on x' and y'. There is no mask,
    as every row goes by itself: `present` says which are there.

    Args:
        **kwargs: of `keras.layers.Layer`, as `name` and `dtype`.

    Input: list of two (B, C) floats, or of two sequences (B, T, C). Output: the shape of one, compute dtype;
        tanh and sums are float32.
    Masking: `present`, a list of two boolean (B,), of sequences also (B, T): an absent side adds nothing to f
        and has no part in the average; where both are absent, the output is zeros.

    Raises:
        ValueError: an input that is not of two of equal shape, `present` that is not of two.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import DualMultimodalResidual
        >>> x, y = np.ones((2, 6), "float32"), np.ones((2, 6), "float32")
        >>> DualMultimodalResidual()([x, y]).shape
        TensorShape([2, 6])
    """

    _ranks = (2, 3)

    def build_sides(self, x, y):
        if tuple(x)[1:] != tuple(y)[1:]:
            raise ValueError(f"{self.name}: inputs {tuple(x)} and {tuple(y)}; expected two of equal shape")
        self.u = keras.layers.Dense(x[-1], name="u", dtype=self.dtype_policy)
        self.v = keras.layers.Dense(x[-1], use_bias=False, name="v", dtype=self.dtype_policy)
        self.u.build(x)
        self.v.build(y)

    def fuse(self, inputs, present, training):
        # An absent side is zeros by now, and so is its projection: u's bias is that of the sum.
        x, y = (ops.cast(side, "float32") for side in inputs)
        update = ops.tanh(ops.cast(self.u(inputs[0]), "float32") + ops.cast(self.v(inputs[1]), "float32"))
        if present[0] is None:
            return (x + y) / 2 + update
        count = sum(ops.cast(p, "float32") for p in present)
        return (x + y) / ops.maximum(count, 1.0) + update

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])


def _check_power(power, known):
    if power not in known:
        raise ValueError(f"power={power!r}: expected one of {', '.join(map(repr, known))}")
