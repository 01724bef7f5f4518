"""Learnable pooling of frames into one vector: NetVLAD, NetRVLAD, NetFV, Soft-DBoW.

All four assign each frame to K clusters softly, gather the frames cluster by cluster into a descriptor, and
project it. They share everything but the descriptor; see `_LearnablePooling`.
"""

import keras
from keras import ops

from tfvc.layers.batch_norm import SlimBatchNormalization
from tfvc.layers.gating import ContextGating, normal


class _LearnablePooling(keras.layers.Layer):
    """Assignment, projection and gating; a subclass has the descriptor.

    A subclass gives `_features(size)`, the descriptor's length F; `_describe(x, a)`, the descriptor (B, F) in
    float32 of frames x (B, T, D) and assignment a (B, T, K), both zero under the mask; and `_build_own(size)`
    if it has weights of its own.
    """

    def __init__(
        self,
        clusters=64,
        output_dim=1024,
        gating=True,
        add_batch_norm=True,
        gating_remove_diag=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("clusters", clusters), ("output_dim", output_dim)):
            if (name == "clusters" and value is None) or (value is not None and value < 1):
                raise ValueError(f"{name}={value}: expected a number of at least 1")
        if gating_remove_diag and not gating:
            raise ValueError("gating_remove_diag=True without gating: expected gating=True as well")
        self.clusters = clusters
        self.output_dim = output_dim
        self.gating = gating
        self.add_batch_norm = add_batch_norm
        self.gating_remove_diag = gating_remove_diag
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: input {tuple(input_shape)}; expected (batch, T, D), D known")
        size, clusters = input_shape[-1], self.clusters
        self.cluster_weights = self._weight("cluster_weights", (size, clusters), normal(size))
        if self.add_batch_norm:
            self.cluster_bn = SlimBatchNormalization(name="cluster_bn", dtype="float32")
            self.cluster_bn.build((*input_shape[:-1], clusters))
        else:
            self.cluster_biases = self._weight("cluster_biases", (clusters,), normal(size))
        self._build_own(size)
        features = self._features(size)
        if self.output_dim is not None:
            shape = (features, self.output_dim)
            self.hidden1_weights = self._weight("hidden1_weights", shape, normal(clusters))
        if self.gating:
            self.context_gating = ContextGating(
                self.add_batch_norm, self.gating_remove_diag, name="gating", dtype=self.dtype_policy
            )
            self.context_gating.build((input_shape[0], self.output_dim or features))

    def _weight(self, name, shape, initializer):
        # autocast=False: what is a sum or a norm reads its weights in float32; the products cast.
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def _build_own(self, size):
        """Soft-DBoW and NetRVLAD have nothing more."""

    def assignment(self, inputs, mask=None, training=None):
        """The built layer's soft assignment a: (B, T, K) float32, summing to 1 over K; 0 under the mask.

        In training it moves the statistics of `cluster_bn`, as a call does; so do the methods below.
        """
        return self._assign(*self._real(inputs, mask), training)

    def descriptor(self, inputs, mask=None, training=None):
        """The built layer's descriptor (B, F), float32, before the projection."""
        x, mask = self._real(inputs, mask)
        return self._describe(x, self._assign(x, mask, training))

    def before_gating(self, inputs, mask=None, training=None):
        """The built layer's projected descriptor, compute dtype."""
        y = ops.cast(self.descriptor(inputs, mask, training), self.compute_dtype)
        return y if self.output_dim is None else ops.matmul(y, ops.cast(self.hidden1_weights, y.dtype))

    def call(self, inputs, mask=None, training=None):
        y = self.before_gating(inputs, mask, training)
        return self.context_gating(y, training=training) if self.gating else y

    def _real(self, inputs, mask):
        """Frames in the compute dtype, zero under the mask, and the mask as booleans or None."""
        x = ops.cast(inputs, self.compute_dtype)
        if mask is None:
            return x, None
        mask = ops.cast(mask, "bool")
        return ops.where(mask[..., None], x, 0.0), mask

    def _assign(self, x, mask, training):
        logits = ops.cast(ops.matmul(x, ops.cast(self.cluster_weights, x.dtype)), "float32")
        if self.add_batch_norm:
            logits = self.cluster_bn(logits, mask=mask, training=training)
        else:
            logits = logits + self.cluster_biases
        a = ops.softmax(logits, axis=-1)
        return a if mask is None else ops.where(mask[..., None], a, 0.0)

    def _gather(self, x, a):
        """sum over t of a[t, k] x[t], (B, K, D) float32, by one product: no (B, T, K, D) tensor."""
        # float16 ends at 65504, which a sum over frames may pass; bfloat16 has float32's range.
        dtype = "float32" if x.dtype == "float16" else x.dtype
        return ops.cast(ops.einsum("btk,btd->bkd", ops.cast(a, dtype), ops.cast(x, dtype)), "float32")

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim or self._features(input_shape[-1]))

    def get_config(self):
        names = ("clusters", "output_dim", "gating", "add_batch_norm", "gating_remove_diag")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _l2(x):
    """x over its length, along the last axis; zero stays zero."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))


def _flat(x):
    """(B, K, D) to (B, D K), the feature first, as LOUPE's projection reads it."""
    return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, x.shape[1] * x.shape[2]))


@keras.saving.register_keras_serializable(package="tfvc")
class NetVLAD(_LearnablePooling):
    """Sums the residuals of the frames to K learnt centres.

        a[t] = softmax(norm(x[t] W)),    v[k] = sum over t of a[t, k] (x[t] - c[k]),
        y = gate(l2(flatten(l2(v[k]))) H)

    norm is batch normalisation, or a bias when that is off; gate is `ContextGating`; l2 divides by length.

    **Source**: Arandjelovic et al., NetVLAD, CVPR 2016, equations 3 and 4; LOUPE's `NetVLAD` (Miech et al.,
    arXiv 1706.06905), also for its weights' names and initial values: normal, std 1/sqrt(D), H 1/sqrt(K).
    **Differs** from the paper: W and c are not tied. From LOUPE: takes a mask; `cluster_biases` can be built.

    Args:
        clusters: K.
        output_dim: size of the output; None leaves H out and gives the descriptor.
        gating: gate the output.
        add_batch_norm: normalise the assignment and the gates, else both have biases.
        gating_remove_diag: `remove_diag` of the gating.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats, as a rule L2-normalised frames. Output: (B, output_dim), compute dtype; the two
    big products are in compute dtype, norm, softmax and l2 in float32. Masking: boolean (B, T); frames under
    the mask add nothing, to the batch statistics neither; without real frames v is 0. The mask ends here.

    Raises:
        ValueError: a size below 1; `gating_remove_diag` without gating; the input is not (B, T, D), D known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import NetVLAD
        >>> pool, x = NetVLAD(clusters=4, output_dim=8), np.ones((2, 5, 3), "float32")
        >>> pool(x).shape, pool.assignment(x).shape
        (TensorShape([2, 8]), TensorShape([2, 5, 4]))
    """

    def _build_own(self, size):
        self.cluster_weights2 = self._weight("cluster_weights2", (1, size, self.clusters), normal(size))

    def _features(self, size):
        return self.clusters * size

    def _describe(self, x, a):
        centres = ops.transpose(self.cluster_weights2[0])
        residuals = self._gather(x, a) - ops.sum(a, axis=1)[..., None] * centres
        return _l2(_flat(_l2(residuals)))


@keras.saving.register_keras_serializable(package="tfvc")
class NetRVLAD(_LearnablePooling):
    """NetVLAD without centres: sums the frames themselves, cluster by cluster.

        a[t] = softmax(norm(x[t] W)),    v[k] = sum over t of a[t, k] x[t],
        y = gate(l2(flatten(l2(v[k]))) H)

    **Source**: Miech et al., arXiv 1706.06905, equation 6; LOUPE's `NetRVLAD`.
    **Differs** from LOUPE: takes a mask; `cluster_biases` can be built.

    Args:
        clusters: K.
        output_dim: size of the output; None leaves H out and gives the descriptor.
        gating: gate the output.
        add_batch_norm: normalise the assignment and the gates, else both have biases.
        gating_remove_diag: `remove_diag` of the gating.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, output_dim), compute dtype. Masking and precision as `NetVLAD`.

    Raises:
        ValueError: a size below 1; `gating_remove_diag` without gating; the input is not (B, T, D), D known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import NetRVLAD
        >>> NetRVLAD(clusters=4, output_dim=8)(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 8])
    """

    def _features(self, size):
        return self.clusters * size

    def _describe(self, x, a):
        return _l2(_flat(_l2(self._gather(x, a))))


@keras.saving.register_keras_serializable(package="tfvc")
class NetFV(_LearnablePooling):
    """Fisher vector: first and second order statistics of the frames about K learnt centres.

        a[t] = softmax(norm(x[t] W)),    s = w^2 + 1e-6   (w: covar_weights)
        f1[k] = sum over t of a[t, k] (x[t] - c[k]) / s[k]
        f2[k] = sum over t of a[t, k] ((x[t] - c[k])^2 / s[k]^2 - 1)
        y = gate([l2(flatten(l2(f1[k]))), l2(flatten(f2))] H)

    **Source**: Miech et al., arXiv 1706.06905, equations 8 and 9; LOUPE's `NetFV`: it divides by s squared
    where s, already a square, stands for the deviation, and normalises f2 as a whole, not cluster by cluster.
    w starts about 1, std 1/sqrt(D).
    **Differs** from LOUPE: takes a mask; `cluster_biases` can be built. Both sums are float32: f2 is a small
    difference of large numbers.

    Args:
        clusters: K.
        output_dim: size of the output; None leaves H out and gives the descriptor.
        gating: gate the output.
        add_batch_norm: normalise the assignment and the gates, else both have biases.
        gating_remove_diag: `remove_diag` of the gating.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, output_dim), compute dtype. Masking and the rest as `NetVLAD`.

    Raises:
        ValueError: a size below 1; `gating_remove_diag` without gating; the input is not (B, T, D), D known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import NetFV
        >>> NetFV(clusters=4, output_dim=8)(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 8])
    """

    def _build_own(self, size):
        self.cluster_weights2 = self._weight("cluster_weights2", (1, size, self.clusters), normal(size))
        self.covar_weights = self._weight("covar_weights", (size, self.clusters), normal(size, mean=1.0))

    def _features(self, size):
        return 2 * self.clusters * size

    def _describe(self, x, a):
        x = ops.cast(x, "float32")
        centres = ops.transpose(self.cluster_weights2[0])
        spread = ops.transpose(ops.square(self.covar_weights) + 1e-6)
        total = ops.sum(a, axis=1)[..., None]
        sums, squares = self._gather(x, a), self._gather(ops.square(x), a)
        first = (sums - total * centres) / spread
        about_centres = squares - 2.0 * centres * sums + total * ops.square(centres)
        second = about_centres / ops.square(spread) - total
        # LOUPE normalises the second order twice over the same axis: once is the same.
        return ops.concatenate([_l2(_flat(_l2(first))), _l2(_flat(second))], axis=-1)


@keras.saving.register_keras_serializable(package="tfvc")
class SoftDBoW(_LearnablePooling):
    """Soft bag of words: how much of the clip each of K clusters holds.

        a[t] = softmax(norm(x[t] W)),    y = gate(l2(sum over t of a[t]) H)

    **Source**: Miech et al., arXiv 1706.06905, equation 5; LOUPE's `SoftDBoW`.
    **Differs** from LOUPE: takes a mask; `cluster_biases` can be built.

    Args:
        clusters: K.
        output_dim: size of the output; None leaves H out and gives the descriptor.
        gating: gate the output.
        add_batch_norm: normalise the assignment and the gates, else both have biases.
        gating_remove_diag: `remove_diag` of the gating.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, T, D) floats. Output: (B, output_dim), compute dtype. Masking and precision as `NetVLAD`.

    Raises:
        ValueError: a size below 1; `gating_remove_diag` without gating; the input is not (B, T, D), D known.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import SoftDBoW
        >>> SoftDBoW(clusters=4, output_dim=8)(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 8])
    """

    def _features(self, size):
        return self.clusters

    def _describe(self, x, a):
        return _l2(ops.sum(a, axis=1))
