"""Which frames of a clip a model looks at."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfvc")
class SampleFrames(keras.layers.Layer):
    """Chooses S frames of every clip; gives their numbers, for `Dequantize` or `ops.take`.

    With n frames in the clip and draws u in [0, 1), in float32 and truncated:

        random frames:  index[s] = int(u[s] n),                                       one draw a sample
        a run:          index[s] = min(int(u (max(n - S, 0) + 1)) + s, n - 1),        one draw a clip

    **Source**: YouTube-8M starter, model_utils.py: SampleRandomFrames (with replacement) and
    SampleRandomSequence.
    **Differs**: only training draws. Else u[s] = (s + 0.5) / S, which spaces the frames evenly, and u = 0.5,
    the run in the middle: the same for every batch size, where the original draws in evaluation too. A clip
    of 0 frames gives frame 0, which is padding (the original's run fails). Takes no mask, but the number of
    frames.

    Args:
        num_samples: S.
        random_frames: frames one by one, or a run of them.
        seed: of the draws; None follows `keras.utils.set_random_seed`.
        **kwargs: of `keras.layers.Layer`.

    Input: (B,) numbers of frames, integers or floats. `draws`: (B, S), or (B, 1) for a run, to be used in
    place of the layer's own. Output: (B, S) int32.

    Raises:
        ValueError: num_samples is below 1.

    Example:
        >>> import numpy as np
        >>> from tfvc.layers import SampleFrames
        >>> np.array(SampleFrames(4)(np.array([8, 1, 0]))).tolist()
        [[1, 3, 5, 7], [0, 0, 0, 0], [0, 0, 0, 0]]
        >>> np.array(SampleFrames(4, random_frames=False)(np.array([9, 2]))).tolist()
        [[3, 4, 5, 6], [0, 1, 1, 1]]
    """

    def __init__(self, num_samples, random_frames=True, seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if num_samples < 1:
            raise ValueError(f"num_samples={num_samples}: expected at least 1")
        self.num_samples = num_samples
        self.random_frames = random_frames
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        pass

    def call(self, inputs, draws=None, training=None):
        frames = ops.cast(inputs, "float32")[:, None]
        if draws is None:
            draws = self.draw(ops.shape(inputs)[0]) if training else self.spread()
        if self.random_frames:
            return ops.cast(draws * frames, "int32")
        starts = ops.maximum(frames - self.num_samples, 0.0) + 1.0
        first = ops.cast(draws * starts, "int32")
        last = ops.maximum(ops.cast(frames, "int32") - 1, 0)
        return ops.minimum(first + ops.arange(self.num_samples, dtype="int32"), last)

    def draw(self, batch):
        """Uniform draws for a batch: (B, S), or (B, 1) for a run."""
        shape = (batch, self.num_samples if self.random_frames else 1)
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)

    def spread(self):
        """What stands for the draws outside training: (1, S) or (1, 1)."""
        samples = self.num_samples if self.random_frames else 1
        return (ops.arange(samples, dtype="float32")[None] + 0.5) / samples

    def compute_output_spec(self, inputs, draws=None, training=None):
        return keras.KerasTensor((inputs.shape[0], self.num_samples), "int32")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_samples)

    def get_config(self):
        own = {name: getattr(self, name) for name in ("num_samples", "random_frames", "seed")}
        return {**super().get_config(), **own}
