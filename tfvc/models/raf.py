"""RAF: sight, sound and text, each by residual attention biLSTMs, then joined (Pouyanfar et al. 2019)."""

import keras
from keras import layers

from tfvc.models._three import check, check_rows, classified, opened, side_by_side, vector

CHOICES = {  # literals: `names.literal` reads them without Keras
    "modality": ("all", "visual", "audio", "text", "visual_audio", "visual_text", "audio_text"),
    "fusion": ("late", "early"),
    "attention": ("late_residual", "late", "full", "none"),
    "pool": ("mean", "last"),
}
AT_LEAST = {"units": 1, "blocks": 1, "dense": 1, "dropout": 0, "vocabulary": 0, "embedding": 1}
BELOW = {"dropout": 1}
PARTS = {
    "fusion": ("modality", ("all", "visual_audio", "visual_text", "audio_text")),
    "vocabulary": ("modality", ("all", "text", "visual_text", "audio_text")),
}
STREAMS = {
    "all": ("frames", "audio", "text"),
    "visual": ("frames",),
    "audio": ("audio",),
    "text": ("text",),
    "visual_audio": ("frames", "audio"),
    "visual_text": ("frames", "text"),
    "audio_text": ("audio", "text"),
}


def build_model(
    inputs,
    num_classes,
    *,
    modality="all",
    fusion="late",
    attention="late_residual",
    units=64,
    blocks=2,
    dense=128,
    pool="mean",
    dropout=0.0,
    multi_label=True,
    vocabulary=0,
    embedding=64,
    standardize=False,
):
    """A clip's rows of sight, sound and words to the probability of each class.

        modality m of visual, audio, text
            "<m>_block_<k>"   `ResidualAttentionBiLSTM`, k = 0 .. blocks-1                       (T, 2 units)
                              attention      k < blocks-1                 the last
                              late_residual  biLSTM(x) + x                the same, c; then A(c) + c
                              late           biLSTM(x) + x                the same, c; then A(c)
                              full           as the last                  as of late_residual
                              none           biLSTM(x) + x                the same
            pool              mean over the clip's T rows, or the last of them                   2 units
            "<m>_dense"       Dense(dense) ReLU                                                  dense
        "embedding"           all of them, concatenated in this order                            dense each
        "probabilities"       Dense(C), sigmoid; softmax without multi_label                     C

    A is `FeatureAttention`. fusion early: the rows of all modalities side by side at each t go through one
    such network, "early_block_<k>" and "early_dense"; T is then the longest one's, and rows of zeros stand
    behind the others. Table 1's early and late fusion, and its single modalities, are attention none.

    The paper's classifier is a weighted linear SVM on "embedding" (`second_stage.name=svm`); the
    probabilities train the network, and decide where there is no second stage.

    **Source**: Pouyanfar, Wang & Chen, "Residual Attention-based Fusion for Video Classification", CVPR
    workshops 2019, section 2 and figure 1; spec/raf.md for what it leaves open: two blocks of 64 units a
    direction, the mean over time, Dense 128 with ReLU, sigmoid.
    **Differs**: equation 5 joins the modalities at each t; whose steps are not of equal length here, so they
    are joined after the pooling. `dropout`, `standardize` and learnt words are ours.

    Args:
        inputs: `tfvc.recipe.Feature` rows as `STREAMS[modality]` names them, of any lengths: float32 or
            float16 (T, D); with `vocabulary`, `text` is int32 (L, 1).
        num_classes: C.
        modality: all, one alone, or a pair.
        fusion: late or early; of one modality they would be the same.
        attention: late_residual, late, full or none.
        units: of each direction of an LSTM.
        blocks: biLSTMs, one after the other.
        dense: width of a modality's vector.
        pool: mean or last.
        dropout: share of the channels that training drops from the input of each biLSTM.
        multi_label: a clip may have several labels.
        vocabulary: number of words V: the layer "words" learns a vector of each, 1 .. V; 0 = padding.
        embedding: width of these vectors.
        standardize: put a `Standardize` layer behind each input of floats, as "standardize_frames".

    Masking: what lies behind the last row that is not all zeros (number 0) is padding; a stream without any
        other row is missing, and its pooled vector zeros.

    Returns:
        keras.Model of `{"frames": (B, T, D), "audio": (B, Ta, D2), "text": (B, L, D3)}` to (B, C) float32.

    Raises:
        ValueError: rows or an argument that do not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.raf import build_model
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (7, 8)), Feature("text", (5, 1), "int32")]
        >>> model = build_model(rows, 4, units=6, dense=12, vocabulary=20)
        >>> model.get_layer("embedding").output.shape, model.output.shape
        ((None, 36), (None, 4))
    """
    usual = build_model.__kwdefaults__
    given = {name: value for name, value in locals().items() if name in usual}
    check(given, usual, num_classes, CHOICES, BELOW, PARTS)
    rows = check_rows(inputs, STREAMS[modality], vocabulary, f"raf with modality {modality}")
    tensors, sequences, masks = opened(rows, vocabulary, embedding, standardize)
    if fusion == "early":
        joined, mask = side_by_side(sequences, masks)
        sequences, masks = {"early": joined}, {"early": mask}
    first, last = {
        "none": ("none", "none"),
        "late": ("none", "plain"),
        "full": ("residual", "residual"),
        "late_residual": ("none", "residual"),
    }[attention]
    shared = {"attentions": (*[first] * (blocks - 1), last), "units": units, "dense": dense, "pool": pool}
    vectors = [vector(x, masks[path], path, dropout=dropout, **shared) for path, x in sequences.items()]
    x = vectors[0] if len(vectors) == 1 else layers.Concatenate(name="joint")(vectors)
    x = layers.Identity(name="embedding")(x)
    return keras.Model(tensors, classified(x, num_classes, multi_label), name="raf")
