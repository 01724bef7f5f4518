"""The votes of a label-powerset SVM as a layer, so that an exported model gives final labels."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
class PowersetVotes(keras.layers.Layer):
    """Label sets and scores of labels from the hyperplanes between pairs of label sets.

        d_p     = w_p x + b_p                                  of each pair p = (i, j) of sets, i < j
        label   = the set with most votes; d_p > 0 votes for i, else for j; of equal ones the lower
        value_k = votes_k + s_k / (3 (|s_k| + 1)),  s_k = sum of the d_p of k's pairs, each seen from k
        score_c = sum over the sets k that hold label c of softmax(value / temperature)_k

    **Source**: `predict` and `label_scores` of `tfvc.estimators`: Pouyanfar et al. 2019, section III-C;
    libsvm's `svm_predict`; scikit-learn's one-vs-rest values of pairs.
    **Differs**: its weights are given (`set_machine`, or `tfvc.estimators.layer_of`) and never trained.
    Weights and sums are float64 whatever the policy, for a vote near 0 must fall as the estimator's does.
    JAX has float64 only where `jax_enable_x64` is set; without it a sample within 1e-6 of a hyperplane may
    get another label.

    Args:
        num_sets: label sets K.
        num_labels: labels C.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, D) floats, all features, those too that were eliminated (they are not read, and may be NaN).
    Output: dict of `labels` int32 (B, C), 0 or 1, and `scores` (B, C), compute dtype, in [0, 1].
    Masking: none; there is no time.

    Raises:
        ValueError: K or C below 1; D is not known; a machine of another size.

    Example:
        >>> layer = PowersetVotes(2, 2)
        >>> layer.build((None, 1))
        >>> layer.set_machine([[-1.0]], [0.5], [[1, 0], [1, 1]])
        >>> found = layer(np.float32([[0.0], [2.0]]))
        >>> found["labels"].numpy().tolist(), np.round(found["scores"].numpy().astype(float), 2).tolist()
        ([[1, 0], [1, 1]], [[1.0, 0.23], [1.0, 0.8]])
    """

    def __init__(self, num_sets, num_labels, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if num_sets < 1 or num_labels < 1:
            raise ValueError(f"num_sets={num_sets}, num_labels={num_labels}: expected at least 1 of each")
        self.num_sets = num_sets
        self.num_labels = num_labels

    def build(self, input_shape):
        if self.built:  # by `layer_of`: its weights stay
            return
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                f"{self.name}: input {tuple(input_shape)}; expected the number of features known"
            )
        first, second = np.triu_indices(self.num_sets, 1)
        self._first, self._second = np.eye(self.num_sets)[first], np.eye(self.num_sets)[second]
        number = {"dtype": "float64", "trainable": False, "autocast": False}
        self.kernel = self.add_weight((size, len(first)), "zeros", name="kernel", **number)
        self.bias = self.add_weight((len(first),), "zeros", name="bias", **number)
        self.temperature = self.add_weight((), "ones", name="temperature", **number)
        # Until a machine is given, set k holds label k mod C.
        sets = np.eye(self.num_labels, dtype="int32")[np.arange(self.num_sets) % self.num_labels]
        exact = {"trainable": False, "autocast": False}
        self.label_sets = self.add_weight(sets.shape, "zeros", dtype="int32", name="label_sets", **exact)
        self.label_sets.assign(sets)
        self.support = self.add_weight((size,), "ones", dtype="bool", name="support", **exact)

    def set_machine(self, coef, intercept, label_sets, support=None, temperature=1.0):
        """Sets the hyperplanes of the built layer.

        Args:
            coef: (P, features kept), P = K (K - 1) / 2 pairs in the order (0, 1), (0, 2), ..., (1, 2), ...;
                positive for the first.
            intercept: (P,).
            label_sets: (K, C) of 0 and 1.
            support: bool (D,), features kept; None = all.
            temperature: divisor of the values.

        Raises:
            ValueError: a shape that does not fit.
        """
        size, pairs = self.kernel.shape
        support = np.ones(size, bool) if support is None else np.asarray(support, bool)
        coef, intercept, label_sets = (np.asarray(given) for given in (coef, intercept, label_sets))
        found = coef.shape, intercept.shape, label_sets.shape, support.shape
        wanted = (pairs, int(support.sum())), (pairs,), (self.num_sets, self.num_labels), (size,)
        if found != wanted:
            raise ValueError(f"{self.name}: coef, intercept, label_sets, support {found}; expected {wanted}")
        kernel = np.zeros((size, pairs))
        kernel[support] = coef.T
        self.kernel.assign(kernel)
        self.bias.assign(intercept)
        self.label_sets.assign(label_sets)
        self.support.assign(support)
        self.temperature.assign(temperature)

    def call(self, inputs):
        x = ops.where(ops.convert_to_tensor(self.support), ops.cast(inputs, "float64"), 0.0)
        pairwise = ops.matmul(x, self.kernel) + self.bias
        winner = ops.argmax(self._votes(pairwise > 0), axis=-1)
        sums = ops.matmul(pairwise, self._matrix(self._first - self._second))
        values = self._votes(pairwise >= 0) + sums / (3.0 * (ops.abs(sums) + 1.0))
        values = values / self.temperature
        shares = ops.exp(values - ops.max(values, axis=-1, keepdims=True))  # Keras' softmax warns of one set
        shares = shares / ops.sum(shares, axis=-1, keepdims=True)
        scores = ops.clip(ops.matmul(shares, ops.cast(self.label_sets, shares.dtype)), 0.0, 1.0)
        return {
            "labels": ops.take(self.label_sets, winner, axis=0),
            "scores": ops.cast(scores, self.compute_dtype),
        }

    def _votes(self, for_first):
        first = ops.cast(for_first, "float64")
        return ops.matmul(first, self._matrix(self._first)) + ops.matmul(
            1.0 - first, self._matrix(self._second)
        )

    def _matrix(self, values):
        return ops.convert_to_tensor(values, "float64")

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.num_labels)
        return {"labels": shape, "scores": shape}

    def compute_output_spec(self, inputs):
        dtypes = {"labels": "int32", "scores": self.compute_dtype}
        shapes = self.compute_output_shape(inputs.shape)
        return {name: keras.KerasTensor(shapes[name], dtype) for name, dtype in dtypes.items()}

    def get_config(self):
        return {**super().get_config(), "num_sets": self.num_sets, "num_labels": self.num_labels}
