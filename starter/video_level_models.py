"""Models that read one vector a video, and that classify behind the frame-level models."""

import keras

from starter.models import BaseModel, setting
from tfvc.layers import MixtureOfExperts


class LogisticModel(BaseModel):
    """A logistic classifier: p = sigmoid(x W + b), penalty l2_penalty sum(W^2) / 2.

    **Source**: YouTube-8M starter, video_level_models.py. The layer is `fully_connected`, float32.
    **Differs**: nothing.
    """

    frame_level = False

    def create_model(self, model_input, vocab_size, l2_penalty=1e-8, **flags):
        """As `BaseModel.create_model`; `l2_penalty` is the factor above."""
        dense = keras.layers.Dense(
            vocab_size,
            activation="sigmoid",
            kernel_regularizer=keras.regularizers.L2(l2_penalty / 2),
            dtype="float32",
            name="fully_connected",
        )
        return {"predictions": dense(model_input)}


class MoeModel(BaseModel):
    """A mixture of logistic experts for each class; see `tfvc.layers.MixtureOfExperts`.

    **Source**: YouTube-8M starter, video_level_models.py; `moe_prob_gating`, `moe_l2`: WILLOW's.
    **Differs**: nothing.
    """

    frame_level = False

    def create_model(self, model_input, vocab_size, num_mixtures=None, l2_penalty=None, **flags):
        """As `BaseModel.create_model`; None: the flags moe_num_mixtures, moe_l2."""
        experts = MixtureOfExperts(
            vocab_size,
            setting(num_mixtures, flags, "moe_num_mixtures"),
            l2=setting(l2_penalty, flags, "moe_l2"),
            prob_gating=setting(None, flags, "moe_prob_gating"),
            product_dtype=keras.config.dtype_policy().compute_dtype,
            dtype="float32",
            name="moe",
        )
        return {"predictions": experts(model_input)}
