"""Modality dropout: an example now and then loses a stream in training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
class ModalityDropout(keras.layers.Layer):
    """Says of which of its streams an example is robbed in training: of one at most, never of the last.

    With x[k] = 1 where the example has stream k, else 0, and n = sum over k of x[k]:

        with chance `rate`, if n > 1:   y[j] = 0 for one j among the n, each as likely,    y[k] = x[k] else
        otherwise, and outside training:   y = x

    The model sets the streams to zero where y is; this layer only draws.

    **Source**: ours, after the dropping of whole modalities of Neverova et al. 2016 (ModDrop).
    **Differs**: ModDrop draws for each stream alone, and may drop them all. Nothing is scaled up. Takes no
    mask.

    Args:
        rate: chance that an example loses a stream.
        seed: of the draws; None follows `keras.utils.set_random_seed`.
        **kwargs: of `keras.layers.Layer`.

    Input: (B, K): 0 for a stream that is missing, any other value for one that is there. Output: (B, K), as
    the input with a 0 more, compute dtype.

    Raises:
        ValueError: rate outside [0, 1).

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import ModalityDropout
        >>> there = np.array([[1.0, 1.0], [0.0, 1.0]], "float32")
        >>> np.array(ModalityDropout(0.5)(there)).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
        >>> y = np.array(ModalityDropout(0.999)(there, training=True))
        >>> y.sum(axis=1).tolist()
        [1.0, 1.0]
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate={rate}: expected at least 0 and less than 1")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        pass

    def call(self, inputs, training=None):
        if not training:
            return inputs
        there = ops.not_equal(inputs, 0)
        batch, streams = ops.shape(inputs)[0], inputs.shape[1]
        draws = keras.random.uniform((batch, streams + 1), dtype="float32", seed=self.seed_generator)
        # The largest of as many draws as there are streams is each one's as often.
        chosen = ops.argmax(ops.where(there, draws[:, :streams] + 1.0, 0.0), axis=1)
        robbed = ops.logical_and(draws[:, streams] < self.rate, ops.sum(ops.cast(there, "int32"), axis=1) > 1)
        gone = ops.logical_and(ops.one_hot(chosen, streams, dtype="bool"), robbed[:, None])
        return ops.where(gone, ops.zeros_like(inputs), inputs)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
