"""ResBiLSTM: a residual biLSTM network for each of sight, sound and text (Pouyanfar et al., MIPR 2019)."""

import keras
from keras import layers, ops

from tfvc.models._three import check, check_rows, classified, opened, side_by_side, vector

CHOICES = {  # literals: `names.literal` reads them without Keras
    "modality": ("all", "visual", "audio", "text", "visual_audio", "visual_text", "audio_text"),
    "fusion": ("separate", "late", "early"),
    "pool": ("mean", "last"),
}
AT_LEAST = {
    "units": 1,
    "blocks": 1,
    "dense": 1,
    "dropout": 0,
    "head_dropout": 0,
    "vocabulary": 0,
    "embedding": 1,
}
BELOW = {"dropout": 1, "head_dropout": 1}
PARTS = {
    "fusion": ("modality", ("all", "visual_audio", "visual_text", "audio_text")),
    "vocabulary": ("modality", ("all", "text", "visual_text", "audio_text")),
    "units": ("temporal", (True,)),
    "blocks": ("temporal", (True,)),
    "pool": ("temporal", (True,)),
    "dropout": ("temporal", (True,)),
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
    fusion="separate",
    temporal=True,
    units=64,
    blocks=2,
    dense=128,
    pool="mean",
    dropout=0.1,
    head_dropout=0.5,
    multi_label=True,
    vocabulary=0,
    embedding=64,
    standardize=False,
):
    """A clip's rows of sight, sound and words to the probability of each class.

        modality m of visual, audio, text
            "<m>_block_<k>"   h_k = biLSTM(h_{k-1}) + h_{k-1}, k = 0 .. blocks-1; not without temporal
            pool              mean over the clip's T rows, or the last of them                   2 units
            "<m>_dense"       Dense(dense) ReLU, dropout                                         dense
        "embedding"           all of them, before dropout, concatenated in this order            dense each
        fusion "probabilities", sigmoid; softmax without multi_label                             C
            separate   each modality has a head "<m>_probabilities", Dense(C), and a loss of its own; the mean
                       over the heads
            late       "embedding", Dense(C)
            early      the rows of all modalities side by side at each t go through one network,
                       "early_block_<k>" and "early_dense"; T is the longest one's, and rows of zeros stand
                       behind the others

    The proposed method trains the heads apart and fuses by Algorithm 1, on "embedding" (`second_stage`). The
    mean over the heads is what evaluates the networks alone, and decides where there is no second stage.
    Table 2's single modalities and pairs have no LSTM (temporal false).

    **Source**: Pouyanfar, Wang & Chen, "A Multi-label Multimodal Deep Learning Framework for Imbalanced Data
    Classification", MIPR 2019, section III; spec/resbilstm.md for what it leaves open: 64 units a direction,
    the mean over time, dropout of the inputs of the LSTMs.
    **Differs**: equation h_l shows one product in place of the LSTM. `pool` last, `standardize`, learnt words
    and the mean over the heads are ours.

    Args:
        inputs: `tfvc.recipe.Feature` rows as `STREAMS[modality]` names them, of any lengths: float32 or
            float16 (T, D); with `vocabulary`, `text` is int32 (L, 1).
        num_classes: C.
        modality: all, one alone, or a pair.
        fusion: separate, late or early; of one modality they would be the same.
        temporal: false: the mean over the static rows takes the place of the LSTMs.
        units: of each direction of an LSTM.
        blocks: biLSTMs, one after the other.
        dense: width of a modality's vector.
        pool: mean or last.
        dropout: share of the channels that training drops from the input of each biLSTM.
        head_dropout: share of a modality's vector that training drops.
        multi_label: a clip may have several labels.
        vocabulary: number of words V: the layer "words" learns a vector of each, 1 .. V; 0 = padding.
        embedding: width of these vectors.
        standardize: put a `Standardize` layer behind each input of floats, as "standardize_frames".

    Masking: what lies behind the last row that is not all zeros (number 0) is padding; a stream without any
        other row is missing, and its pooled vector zeros.

    Returns:
        keras.Model of `{"frames": (B, T, D), "audio": (B, Ta, D2), "text": (B, L, D3)}` to (B, C) float32;
        with fusion separate of M > 1 modalities to `{"probabilities": (B, C) float32, "heads": (B, M, C)
        float32}`.

    Raises:
        ValueError: rows or an argument that do not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.resbilstm import build_model
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (10, 16)), Feature("audio", (7, 8)), Feature("text", (5, 1), "int32")]
        >>> model = build_model(rows, 4, units=6, dense=12, vocabulary=20)
        >>> {name: tensor.shape for name, tensor in sorted(model.output.items())}
        {'heads': (None, 3, 4), 'probabilities': (None, 4)}
    """
    usual = build_model.__kwdefaults__
    given = {name: value for name, value in locals().items() if name in usual}
    check(given, usual, num_classes, CHOICES, BELOW, PARTS)
    rows = check_rows(inputs, STREAMS[modality], vocabulary, f"resbilstm with modality {modality}")
    tensors, sequences, masks = opened(rows, vocabulary, embedding, standardize)
    if fusion == "early":
        joined, mask = side_by_side(sequences, masks)
        sequences, masks = {"early": joined}, {"early": mask}
    shared = {"attentions": ("none",) * (blocks if temporal else 0), "units": units, "dropout": dropout}
    vectors = {
        path: vector(x, masks[path], path, dense=dense, pool=pool, **shared) for path, x in sequences.items()
    }
    several = len(vectors) > 1
    x = layers.Concatenate(name="joint")(list(vectors.values())) if several else next(iter(vectors.values()))
    x = layers.Identity(name="embedding")(x)
    if fusion == "separate" and several:
        heads = []
        for path, one in zip(vectors, ops.split(x, len(vectors), axis=-1), strict=True):
            one = layers.Dropout(head_dropout, name=f"{path}_dropout")(one)
            named = f"{path}_classifier", f"{path}_probabilities"
            heads.append(classified(one, num_classes, multi_label, *named))
        mean = layers.Average(dtype="float32", name="probabilities")(heads)
        out = {"probabilities": mean, "heads": ops.stack(heads, axis=1)}
        return keras.Model(tensors, out, name="resbilstm")
    x = layers.Dropout(head_dropout, name="dropout")(x)
    return keras.Model(tensors, classified(x, num_classes, multi_label), name="resbilstm")
