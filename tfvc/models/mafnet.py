"""MAFnet: sound and sight, conditioned, weighed over time and modality, fused (Brousmiche et al. 2021)."""

import keras
from keras import layers, ops

from tfvc.layers import (
    CompactBilinear,
    DualMultimodalResidual,
    FiLMedResidualBlock,
    MaskedPooling,
    ModalityAttention,
    ModalityTemporalAttention,
    SlimBatchNormalization,
    TemporalAttention,
)
from tfvc.models._av import PATHS_OF, averaged, check_numbers, check_rows, opened, present

CHOICES = {  # literals: `names.literal` reads them without Keras
    "modality": ("both", "visual", "audio"),
    "fusion": ("concat", "addition", "mcb", "dmr"),
    "attention": ("both", "none", "temporal", "modality"),
    "score": ("code", "paper"),
    "film": ("audio", "none", "block", "visual", "both"),
}
AT_LEAST = {"units": 1, "mcb_dim": 1, "momentum": 0, "modality_dropout": 0}
BELOW = {"momentum": 1, "modality_dropout": 1}
PARTS = {
    "fusion": ("modality", ("both",)),
    "mcb_dim": ("fusion", ("mcb",)),
    "score": ("attention", ("both", "temporal", "modality")),
    "modality_dropout": ("modality", ("both",)),
}
STREAMS = {"both": ("frames", "audio"), "visual": ("frames",), "audio": ("audio",)}

# Rule of the update -> path -> the layers that stand still in a step that leaves the path out. `published`
# goes by the names of the original's variables: its Dense layers have none of a path, and its FiLM generator,
# which reads the image, is called the sound's.
PATHS = {
    "published": {"visual": ("visual_bn", "visual_block"), "audio": ("audio_bn", "audio_block")},
    "mended": {
        "visual": ("visual_dense", "visual_bn", "visual_block"),
        "audio": ("audio_dense", "audio_bn", "audio_block"),
    },
}


def build_model(
    inputs,
    num_classes,
    *,
    modality="both",
    fusion="concat",
    attention="both",
    score="code",
    film="audio",
    units=512,
    mcb_dim=8192,
    momentum=0.999,
    modality_dropout=0.0,
    masked=False,
    standardize=False,
):
    """A clip's rows of sight and sound, one a second, to class probabilities and the weight of each row.

        path m of visual, audio, at each second t
            "<m>_block"   `FiLMedResidualBlock`, where film asks for it; FiLM reads the other path's input
            mean over the positions of maps
            "<m>_dense"   Dense(units), "<m>_bn" batch norm, ReLU                          x[t, m]: (units,)
        "attention", scores z as of `score`
            both       `ModalityTemporalAttention`   v[m] = sum over t of w[t, m] x[t, m], one softmax w over
                                                     all T K cells
            temporal   `TemporalAttention`           the same, a softmax over time for each m
            modality   `ModalityAttention`           v[m] = mean over t of w[t, m] x[t, m], a softmax over m
                                                     at each t
            none                                     v[m] = mean over t of x[t, m]
        fusion "embedding"
            concat     [v[visual], v[audio]]                                               2 units
            addition   v[visual] + v[audio]                                                units
            mcb        `CompactBilinear` of the two                                        mcb_dim
            dmr        `DualMultimodalResidual` of the two                                 units
        "classifier" Dense(C), "logits" batch norm, softmax "probabilities"                C

    film, where the residual block stands: audio (the sound's path, conditioned by the picture), visual (the
    other way), both, block (both paths, without FiLM), none. With one modality there is nothing to be
    conditioned by: none (what `audio`, the default, then stands for) or block. Vectors are 1 x 1 maps. Batch
    norms are `SlimBatchNormalization` with epsilon 1e-3 and the biased moving variance.

    **Source**: Brousmiche, Rouat & Dupont, "Multi-level Attention Fusion Network for Audio-visual Event
    Recognition", 2021, section 3, tables 2 to 4; the authors' program, by spec/mafnet.md: gamma' + 1, the
    scores' hidden layer, the batch norm on the logits, decay and epsilon.
    **Differs**: `masked` and `modality_dropout` are ours. The paper does not say: whether the temporal
    attentions of two modalities share their weights (here they do, as in its other two), what follows the
    modality attention (here the mean over time), mcb's size (8192 is Gao et al.'s). With one modality
    `attention` both is temporal.

    Args:
        inputs: `tfvc.recipe.Feature` rows of the same T, float32 or float16, as `STREAMS[modality]` names
            them: `frames` (T, D) and `audio` (T, H, W, C) or (T, C).
        num_classes: C.
        modality: both, visual or audio.
        fusion, attention, film: a name above. fusion for both modalities only.
        score: code, with a hidden layer of `units`, or paper, without (equation 8).
        units: n of the paper, of the Dense layers, the block and the attention.
        mcb_dim: of fusion mcb.
        momentum: of the batch norms; published 0.999, which takes thousands of steps to settle.
        modality_dropout: chance that a training example that has both streams loses one, each as often.
        masked: rows of zeros (padding, a missing stream) take no part in the attention, the means and the
            statistics of "<m>_bn"; otherwise, as published, they do.
        standardize: put a `Standardize` layer first, "standardize_frames" and "standardize_audio".

    Returns:
        keras.Model of `{"frames": (B, T, D), "audio": (B, T, H, W, C)}` to `{"probabilities": (B, C)
        float32, "scores": (B, T, K) float32}`, the visual score first; no scores without attention.

    Raises:
        ValueError: rows or an argument that do not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.mafnet import build_model
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (10, 3, 2, 8))]
        >>> model = build_model(rows, 4, units=6)
        >>> {name: tensor.shape for name, tensor in sorted(model.output.items())}
        {'probabilities': (None, 4), 'scores': (None, 10, 2)}
    """
    given = {name: value for name, value in locals().items() if name in build_model.__kwdefaults__}
    _check(given, num_classes)
    rows = check_rows(inputs, STREAMS[modality], f"mafnet with modality {modality}")
    tensors, streams, masks = opened(rows, masked, standardize, modality_dropout)
    paths = [PATHS_OF[row.name] for row in rows]
    features = []
    for k, path in enumerate(paths):
        x, mask = streams[k], masks and masks[k]
        block = FiLMedResidualBlock(units, film != "block", momentum, name=f"{path}_block")
        if film == "block":
            x = block(x, mask=mask)
        elif len(paths) == 2 and film in (path, "both"):
            x = block([x, averaged(streams[1 - k])], mask=masks and [mask, masks[1 - k]])
        x = layers.Dense(units, name=f"{path}_dense")(averaged(x))
        x = _batch_norm(momentum, name=f"{path}_bn")(x, mask=mask)
        features.append(layers.ReLU(name=f"{path}_relu")(x))
    vectors, scores = _attended(features, masks, paths, attention, units, score)
    fused = _fused(vectors, masks, fusion, mcb_dim)
    x = layers.Identity(name="embedding")(fused)
    x = layers.Dense(num_classes, name="classifier")(x)
    x = _batch_norm(momentum, dtype="float32", name="logits")(x)
    out = {"probabilities": layers.Activation("softmax", dtype="float32", name="probabilities")(x)}
    if scores is not None:
        out["scores"] = layers.Identity(dtype="float32", name="scores")(scores)
    return keras.Model(tensors, out, name="mafnet")


def attention_scores(model):
    """A model of the same inputs that gives the weight of each second of each modality.

    Args:
        model: a model of `build_model`, trained or loaded.

    Returns:
        keras.Model to (B, T, K) float32, visual first, which shares the weights; None without attention.
        They sum to 1 over T and K (attention both), over T (temporal) or over K (modality).

    Example:
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (10, 3, 2, 8))]
        >>> attention_scores(build_model(rows, 4, units=6)).output_shape
        (None, 10, 2)
    """
    scores = model.output.get("scores")
    return None if scores is None else keras.Model(model.input, scores, name="attention_scores")


def _batch_norm(momentum, **given):
    return SlimBatchNormalization(momentum, epsilon=1e-3, unbiased=False, **given)


def _attended(features, masks, paths, kind, units, score):
    """A vector (B, units) of each modality, and the scores (B, T, K) or None."""
    each = masks or [None] * len(features)
    if kind == "none":
        means = [MaskedPooling("mean", name=f"{path}_time_mean") for path in paths]
        return [mean(x, mask=m) for mean, x, m in zip(means, features, each, strict=True)], None
    if kind == "temporal" or len(features) == 1:
        layer = TemporalAttention(units, score, name="attention")
        pairs = [layer(x, mask=m, return_attention_scores=True) for x, m in zip(features, each, strict=True)]
        return [vector for vector, _ in pairs], ops.stack([scores for _, scores in pairs], axis=-1)
    layer = {"both": ModalityTemporalAttention, "modality": ModalityAttention}[kind]
    x, scores = layer(units, score, name="attention")(features, mask=masks, return_attention_scores=True)
    if kind == "modality":
        real = masks and ops.logical_or(*masks)
        x = MaskedPooling("mean", name="time_mean")(x, mask=real)
    return [x[:, :units], x[:, units:]], scores


def _fused(vectors, masks, fusion, mcb_dim):
    if len(vectors) == 1:
        return vectors[0]
    if fusion == "concat":
        return ops.concatenate(vectors, axis=-1)
    if fusion == "addition":
        return ops.add(*vectors)
    there = masks and [present(mask) for mask in masks]
    if fusion == "mcb":
        return CompactBilinear(mcb_dim, name="fusion")(vectors, present=there)
    return DualMultimodalResidual(name="fusion")(vectors, present=there)


def _check(given, num_classes):
    for name, known in CHOICES.items():
        if given[name] not in known:
            raise ValueError(f"{name}={given[name]!r}: expected one of: {', '.join(known)}")
    check_numbers(given | {"num_classes": num_classes}, {"units": 1, "mcb_dim": 1, "num_classes": 1})
    for name in ("momentum", "modality_dropout"):
        if not 0 <= given[name] < 1:
            raise ValueError(f"{name}={given[name]}: expected at least 0 and less than 1")
    for name, (decides, values) in PARTS.items():
        if given[decides] not in values and given[name] != build_model.__kwdefaults__[name]:
            raise ValueError(
                f"{name}={given[name]}: {decides} {given[decides]} has no such part; leave {name} out"
            )
    if given["modality"] != "both":
        alone = f"modality {given['modality']}"
        if given["attention"] == "modality":
            raise ValueError(f"attention=modality: {alone} has only one to weigh; expected temporal or none")
        if given["film"] in ("visual", "both"):
            raise ValueError(
                f"film={given['film']}: {alone} has none to be conditioned by; expected none or block"
            )
