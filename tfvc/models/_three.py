"""What raf and resbilstm share: rows of sight, sound and text, a modality's network, the classifier."""

import keras
from keras import layers, ops

from tfvc.layers import MaskedPooling, ResidualAttentionBiLSTM, Standardize
from tfvc.models._av import PATHS_OF, check_numbers, real, whole

_NUMBERS = {"units": 1, "blocks": 1, "dense": 1, "vocabulary": 0, "embedding": 1, "num_classes": 1}


def opened(rows, vocabulary, embedding, standardize):
    """The inputs by name; modality -> sequence (B, T, D) as the network reads it; modality -> mask (B, T)."""
    tensors = {row.name: keras.Input(row.shape, dtype=row.dtype, name=row.name) for row in rows}
    sequences, masks = {}, {}
    for name, x in tensors.items():
        path = PATHS_OF[name]
        masks[path] = _until_the_last(real(x))
        if name == "text" and vocabulary:
            x = layers.Embedding(vocabulary + 1, embedding, name="words")(x[..., 0])
            x = ops.where(masks[path][..., None], x, ops.zeros_like(x))
        elif standardize:
            x = Standardize(name=f"standardize_{name}")(x)
        sequences[path] = x
    return tensors, sequences, masks


def side_by_side(sequences, masks):
    """One sequence of all modalities, each step's rows concatenated, and its mask.

    Shorter ones get rows of zeros behind; a step is real where it is so in any of them.
    """
    steps = max(x.shape[1] for x in sequences.values())
    padded = [ops.pad(x, ((0, 0), (0, steps - x.shape[1]), (0, 0))) for x in sequences.values()]
    masks = [ops.pad(mask, ((0, 0), (0, steps - mask.shape[1]))) for mask in masks.values()]
    return layers.Concatenate(name="side_by_side")(padded), ops.any(ops.stack(masks, axis=0), axis=0)


def vector(x, mask, path, *, attentions, units, dense, pool, dropout):
    """The network of one modality: a `ResidualAttentionBiLSTM` for each of `attentions`, pooling, Dense."""
    for k, attention in enumerate(attentions):
        x = ResidualAttentionBiLSTM(units, attention, dropout, name=f"{path}_block_{k}")(x, mask=mask)
    if pool == "last":
        x = MaskedPooling("sum", name=f"{path}_last")(x, mask=_the_last(mask))
    else:
        x = MaskedPooling("mean", name=f"{path}_mean")(x, mask=mask)
    return layers.Dense(dense, activation="relu", name=f"{path}_dense")(x)


def classified(x, num_classes, multi_label, classifier="classifier", output="probabilities"):
    """Dense(C), then sigmoid (several labels a clip) or softmax, in float32."""
    x = layers.Dense(num_classes, name=classifier)(x)
    return layers.Activation("sigmoid" if multi_label else "softmax", dtype="float32", name=output)(x)


def _until_the_last(some):
    """Padding lies behind: a step that is all zeros is real if a later one is not. So masks are prefixes."""
    steps = ops.arange(1, some.shape[1] + 1, dtype="int32")
    last = ops.max(ops.where(some, steps, 0), axis=1, keepdims=True)
    return ops.less_equal(steps, last)


def _the_last(mask):
    """Of a mask that is a prefix, the last step alone."""
    steps = ops.arange(1, mask.shape[1] + 1, dtype="int32")
    return ops.equal(steps, ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True))


def check_rows(inputs, streams, vocabulary, model):
    """The rows in the order of the streams, or ValueError."""
    rows = {row.name: row for row in inputs}
    listed = ", ".join(f"{row.name} {row.shape}" for row in inputs) or "none"
    if len(inputs) != len(streams) or set(rows) != set(streams):
        raise ValueError(f"features {listed}: {model} reads {' and '.join(streams)}")
    for row in inputs:
        words = row.name == "text" and vocabulary
        kinds = ("int32",) if words else ("float32", "float16")
        known = len(row.shape) == 2 and all(whole(n, 1) for n in row.shape)
        if not known or row.dtype not in kinds or row.quantized or (words and row.shape[1] != 1):
            numbers = f" (with vocabulary {vocabulary})" if row.name == "text" else ""
            raise ValueError(
                f"feature {row.name} of shape {row.shape}, {row.dtype}"
                f"{', quantized' if row.quantized else ''}: expected {'(L, 1)' if words else '(T, D)'}, "
                f"{' or '.join(kinds)}{numbers}, every size known"
            )
    return [rows[name] for name in streams]


def check(given, usual, num_classes, choices, below, parts):
    """ValueError for an argument outside a model's literals.

    Args:
        given: argument -> value.
        usual: argument -> its default.
        choices, below, parts: `CHOICES`, `BELOW` and `PARTS` of the model.
    """
    for name, known in choices.items():
        if given[name] not in known:
            raise ValueError(f"{name}={given[name]!r}: expected one of: {', '.join(known)}")
    check_numbers(given | {"num_classes": num_classes}, _NUMBERS)
    for name, limit in below.items():
        if not 0 <= given[name] < limit:
            raise ValueError(f"{name}={given[name]}: expected at least 0 and less than {limit}")
    for name, (decides, values) in parts.items():
        if given[decides] not in values and given[name] != usual[name]:
            raise ValueError(
                f"{name}={given[name]}: {decides} {given[decides]} has no such part; leave {name} out"
            )
    if not given["vocabulary"] and given["embedding"] != usual["embedding"]:
        raise ValueError(
            f"embedding={given['embedding']}: words come as vectors (vocabulary 0), so none are learnt; "
            "leave embedding out"
        )
