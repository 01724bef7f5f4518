"""Attention clusters of sight and of sound (Long et al. 2018), as MAFnet's Table 1 compares them."""

import keras
from keras import layers, ops

from tfvc.layers import AttentionCluster
from tfvc.models._av import PATHS_OF, averaged, check_numbers, check_rows, opened

AT_LEAST = {"clusters": 1}  # literals: `names.literal` reads them without Keras
STREAMS = {"": ("frames", "audio")}


def build_model(inputs, num_classes, *, clusters=32, masked=False, standardize=False):
    """A clip's rows of sight and sound, one a second, to class probabilities and the weight of each row.

        path m of visual, audio:  mean over the positions of maps                         x[t]: (D,)
        "<m>_clusters"  `AttentionCluster`: units k of N, each with a scale a[k] and a shift b[k] of its own
                        w[t, k] = softmax over t of a learnt score of x[t]
                        s[k] = a[k] sum over t of w[t, k] x[t] + b[k]
                        v = [s[1] / |s[1]|, ..., s[N] / |s[N]|] / sqrt(N)                 N D
        "embedding"     [v[visual], v[audio]]
        "probabilities" Dense(C) softmax                                                  C

    **Source**: Long, Gan, de Melo, Wu, Liu, Li & Wen, "Attention Clusters: Purely Attention Based Local
    Feature Integration for Video Classification", 2018, section 3; compared in Brousmiche et al. 2021,
    Table 1.
    **Differs**: the same N for both modalities. `masked` is ours.

    Args:
        inputs: `tfvc.recipe.Feature` rows of the same T, float32 or float16: `frames` (T, D) and `audio`
            (T, H, W, C) or (T, C).
        num_classes: C.
        clusters: N, attention units a modality; not printed by Brousmiche et al.
        masked: rows of zeros (padding, a missing stream) take no part; otherwise they do.
        standardize: put a `Standardize` layer first, "standardize_frames" and "standardize_audio".

    Returns:
        keras.Model of `{"frames": (B, T, D), "audio": (B, T, H, W, C)}` to `{"probabilities": (B, C)
        float32, "scores": (B, T, 2) float32}`, the mean over the units of their weights, the visual first.

    Raises:
        ValueError: rows or an argument that do not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.attention_cluster import build_model
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (10, 3, 2, 8))]
        >>> model = build_model(rows, 4, clusters=3)
        >>> {name: tensor.shape for name, tensor in sorted(model.output.items())}
        {'probabilities': (None, 4), 'scores': (None, 10, 2)}
    """
    check_numbers({"clusters": clusters, "num_classes": num_classes}, {"clusters": 1, "num_classes": 1})
    rows = check_rows(inputs, STREAMS[""], "attention_cluster")
    tensors, streams, masks = opened(rows, masked, standardize)
    vectors, scores = [], []
    for k, row in enumerate(rows):
        layer = AttentionCluster(clusters, name=f"{PATHS_OF[row.name]}_clusters")
        x = averaged(streams[k])
        vector, weights = layer(x, mask=masks and masks[k], return_attention_scores=True)
        vectors.append(vector)
        scores.append(ops.mean(weights, axis=-1))
    x = layers.Identity(name="embedding")(ops.concatenate(vectors, axis=-1))
    x = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    scores = layers.Identity(dtype="float32", name="scores")(ops.stack(scores, axis=-1))
    return keras.Model(tensors, {"probabilities": x, "scores": scores}, name="attention_cluster")


def attention_scores(model):
    """A model of the same inputs that gives the weight of each second of each modality.

    Args:
        model: a model of `build_model`, trained or loaded.

    Returns:
        keras.Model to (B, T, 2) float32, visual first, which shares the weights; each sums to 1 over T.

    Example:
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (10, 3, 2, 8))]
        >>> attention_scores(build_model(rows, 4, clusters=3)).output_shape
        (None, 10, 2)
    """
    return keras.Model(model.input, model.output["scores"], name="attention_scores")
