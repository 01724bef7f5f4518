"""Dual multimodal residual network over biLSTMs (Tian et al. 2018), as MAFnet's Table 1 compares it."""

import keras
from keras import layers, ops

from tfvc.layers import DualMultimodalResidual, MaskedPooling
from tfvc.models._av import PATHS_OF, averaged, check_numbers, check_rows, opened

AT_LEAST = {"units": 1}  # literals: `names.literal` reads them without Keras
STREAMS = {"": ("frames", "audio")}


def build_model(inputs, num_classes, *, units=128, masked=False, standardize=False):
    """A clip's rows of sight and sound, one a second, to class probabilities.

        path m of visual, audio:  mean over the positions of maps
        "<m>_bilstm"   h[t, m] = biLSTM of the rows of m, both directions                 (T, 2 units)
        "fusion"       `DualMultimodalResidual` at each t:
                       h'[t, m] = h[t, m] + tanh(h[t, visual] U1 + h[t, audio] U2 + b)
                       f[t] = (h'[t, visual] + h'[t, audio]) / 2
        "embedding"    mean over t of f[t]                                                2 units
        "probabilities"   Dense(C) softmax                                                C

    **Source**: Tian, Shi, Li, Duan & Xu, "Audio-Visual Event Localization in Unconstrained Videos", 2018,
    sections 4.2 and 4.4; compared in Brousmiche et al. 2021, Table 1, row DMRN (our feat.).
    **Differs**: one class a clip, so the mean over time (Tian et al.: one a second); without their attention
    of sound on regions, for the rows have none. The residual is that of spec/mafnet.md. `masked` is ours.

    Args:
        inputs: `tfvc.recipe.Feature` rows of the same T, float32 or float16: `frames` (T, D) and `audio`
            (T, H, W, C) or (T, C).
        num_classes: C.
        units: of a direction of an LSTM; not printed by Brousmiche et al.
        masked: rows of zeros (padding, a missing stream) take no part; otherwise they do.
        standardize: put a `Standardize` layer first, "standardize_frames" and "standardize_audio".

    Returns:
        keras.Model of `{"frames": (B, T, D), "audio": (B, T, H, W, C)}` to `{"probabilities": (B, C)
        float32}`.

    Raises:
        ValueError: rows or an argument that do not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.dmrn import build_model
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (10, 3, 2, 8))]
        >>> build_model(rows, 4, units=6).output["probabilities"].shape
        (None, 4)
    """
    check_numbers({"units": units, "num_classes": num_classes}, {"units": 1, "num_classes": 1})
    rows = check_rows(inputs, STREAMS[""], "dmrn")
    tensors, streams, masks = opened(rows, masked, standardize)
    states = []
    for k, row in enumerate(rows):
        # cuDNN refuses a clip without any real row; without masks Keras may take it. Under the mask Keras
        # repeats the state before: zeros again.
        lstm = layers.LSTM(
            units,
            return_sequences=True,
            use_cudnn=False if masked else "auto",
            name="lstm",
        )
        layer = layers.Bidirectional(lstm, name=f"{PATHS_OF[row.name]}_bilstm")
        x = layer(averaged(streams[k]), mask=masks and masks[k])
        states.append(ops.where(masks[k][..., None], x, 0.0) if masked else x)
    fused = DualMultimodalResidual(name="fusion")(states, present=masks)
    pooled = MaskedPooling("mean", name="time_mean")(fused, mask=masks and ops.logical_or(*masks))
    x = layers.Identity(name="embedding")(pooled)
    x = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(tensors, {"probabilities": x}, name="dmrn")
