"""Sight and sound of a video: aggregated over time, fused, classified (Liu, Yuan & Wang, 2018)."""

from numbers import Integral

import keras
from keras import layers, ops

from tfvc.layers import MFB, DBoF, Dequantize, MaskedPooling, MixtureOfExperts, NetVLAD, SampleFrames

CHOICES = {  # literals: `names.literal` reads them without Keras
    "aggregation": ("average", "dbof", "netvlad"),
    "fusion": ("audio", "video", "concat", "fc_concat", "mfb"),
    "power": ("relu", "signed_sqrt", "none"),
}
AT_LEAST = {"k": 1, "o": 1, "dropout": 0, "clusters": 0, "samples": 1, "num_mixtures": 1, "l2": 0}
BELOW = {"dropout": 1}
SIDES = {  # the streams that a fusion reads, in this order
    "audio": ("audio",),
    "video": ("video",),
    "concat": ("video", "audio"),
    "fc_concat": ("video", "audio"),
    "mfb": ("video", "audio"),
}
CLUSTERS = {"dbof": 2000, "netvlad": 8}  # of the paper

# Argument -> the argument whose value decides whether there is such a part, and the values with it.
PARTS = {
    "k": ("fusion", ("fc_concat", "mfb")),
    "o": ("fusion", ("fc_concat", "mfb")),
    "power": ("fusion", ("mfb",)),
    "scale": ("fusion", ("mfb",)),
    "dropout": ("fusion", ("mfb",)),
    "clusters": ("aggregation", ("dbof", "netvlad")),
    "samples": ("aggregation", ("dbof", "netvlad")),
}


def build_model(
    inputs,
    num_classes,
    *,
    aggregation="average",
    fusion="mfb",
    k=5,
    o=1000,
    power="relu",
    scale=False,
    dropout=0.1,
    clusters=0,
    samples=300,
    num_mixtures=2,
    l2=1e-6,
    normalize=True,
):
    """A video's frames, or the means of them, to probabilities of many classes.

        dequantised, each frame of L2 norm 1 over both streams        (B, T, D + M)
        aggregation, each side alone                                  x: (B, C), y: (B, M')
            average   mean over the real frames
            dbof      `DBoF` of sampled frames without its hidden layer
            netvlad   `NetVLAD` of sampled frames
        fusion "embedding"
            audio, video   that side alone                            y or x
            concat         [x, y]                                     C + M'
            fc_concat      [x U + bu, y V + bv]                       2 k o
            mfb            `MFB` of x and y, k o units a side         o
        `MixtureOfExperts` "probabilities"                            (B, num_classes)

    A missing stream (length 0; for vectors a whole vector of zeros) is masked in training and prediction:
    concat and fc_concat see zeros, mfb ones, so that the other side passes. Padding is never seen. A side
    without a real frame among those sampled counts as missing.

    **Source**: Liu, Yuan & Wang, "Towards Good Practices for Multi-modal Fusion in Large-scale Video
    Classification", 2018, sections 3 and 4, and the YouTube-8M starter program that it is built on: joint
    normalisation of a frame, sampling with replacement, L2 of the classifier.
    **Differs**: the paper prints neither k and o nor fc_concat's units: MFB's of Yu et al. 2017, the same for
    both. Sampling draws in training only; see `SampleFrames`.

    Args:
        inputs: `tfvc.recipe.Feature` rows, one a side (`SIDES[fusion]` says which), all of one level: frames
            (T, D), or one vector a video (D,), for `average` alone. The one with `audio` in its name is the
            sound.
        num_classes: of the probabilities.
        aggregation, fusion: a name above.
        k, o: of fc_concat and mfb: windows of k units, o of them.
        power: of mfb: relu, signed_sqrt or none.
        scale: of mfb: output times sqrt(o). Its unit length otherwise asks for a larger rate.
        dropout: of mfb: rate on the product.
        clusters: of dbof and netvlad; 0 = the paper's, 2000 and 8.
        samples: of dbof and netvlad: frames looked at, but no more than T. One draw for both streams.
        num_mixtures, l2: of the classifier.
        normalize: give each frame (or vector) L2 norm 1 over both streams.

    Returns:
        keras.Model of `{row.name: (B, T, D) or (B, D)}` and, for frames, `f"{row.name}_length"`: int32 (B,),
        real frames, to (B, num_classes) float32.

    Raises:
        ValueError: rows or an argument that do not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.mfb import build_model
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("rgb", (30, 16), "uint8", True), Feature("audio", (30, 8), "uint8", True)]
        >>> model = build_model(rows, 7, o=20)
        >>> sorted(model.input), model.output_shape
        (['audio', 'audio_length', 'rgb', 'rgb_length'], (None, 7))
    """
    given = {name: value for name, value in locals().items() if name in build_model.__kwdefaults__}
    _check_arguments(given, num_classes)
    rows = _rows(inputs, aggregation, fusion)
    tensors = {row.name: keras.Input(row.shape, dtype=row.dtype, name=row.name) for row in rows.values()}
    streams = list(tensors.values())
    dequantize = Dequantize(normalize=normalize, name="dequantize")
    if all(len(row.shape) == 1 for row in rows.values()):
        pooled = _split(dequantize(streams), rows)
        present = [ops.any(ops.not_equal(stream, 0), axis=-1) for stream in streams]
    else:
        lengths = [keras.Input((), dtype="int32", name=f"{row.name}_length") for row in rows.values()]
        tensors |= {length.name: length for length in lengths}
        index = None if aggregation == "average" else _sampled(lengths, rows, samples)
        frames = _split(dequantize(streams, lengths=lengths, index=index), rows)
        masks = [_real(stream, length, index) for stream, length in zip(streams, lengths, strict=True)]
        pools = [_pool(aggregation, clusters, side) for side in rows]
        pooled = [pool(x, mask=mask) for pool, x, mask in zip(pools, frames, masks, strict=True)]
        present = [ops.any(mask, axis=-1) for mask in masks]
    if fusion == "mfb":
        power = None if power == "none" else power
        fused = MFB(k, o, dropout=dropout, power=power, scale=scale, name="mfb")(pooled, present=present)
    else:
        if fusion == "fc_concat":
            pooled = [_project(*side, k * o) for side in zip(rows, pooled, present, strict=True)]
        fused = ops.concatenate(pooled, axis=-1) if len(pooled) > 1 else pooled[0]
    fused = layers.Identity(name="embedding")(fused)
    experts = MixtureOfExperts(
        num_classes,
        num_mixtures,
        l2=l2,
        product_dtype=keras.config.dtype_policy().compute_dtype,
        dtype="float32",
        name="probabilities",
    )
    return keras.Model(tensors, experts(fused), name="mfb")


def sides(fusion):
    """The streams that a fusion reads: "video", "audio" or both, video first.

    Raises:
        ValueError: no such fusion.

    Example:
        >>> sides("audio"), sides("mfb")
        (('audio',), ('video', 'audio'))
    """
    if fusion not in SIDES:
        raise ValueError(f"fusion={fusion!r}: expected one of: {', '.join(SIDES)}")
    return SIDES[fusion]


def _split(joined, rows):
    """The streams of a joined tensor."""
    parts, start = [], 0
    for row in rows.values():
        parts.append(joined[..., start : start + row.shape[-1]])
        start += row.shape[-1]
    return parts


def _sampled(lengths, rows, samples):
    """The frames to look at, (B, S): drawn over the longer of the streams."""
    longest = max(row.shape[0] for row in rows.values())
    frames = lengths[0] if len(lengths) == 1 else ops.maximum(*lengths)
    return SampleFrames(min(samples, longest), name="sample_frames")(frames)


def _real(stream, length, index):
    """Which of the frames (all, or those of the index) lie within their stream: boolean (B, T or S)."""
    if index is None:  # counted in floats, for which a GPU has this operation
        index = ops.cumsum(ops.ones_like(stream[..., 0], dtype="float32"), axis=1) - 1.0
    return ops.less(index, ops.cast(ops.expand_dims(length, -1), index.dtype))


def _pool(aggregation, clusters, side):
    if aggregation == "average":
        return MaskedPooling("mean", name=f"{side}_average")
    clusters = clusters or CLUSTERS[aggregation]
    if aggregation == "dbof":
        return DBoF(clusters, hidden_size=None, pooling="max", activation="relu", name=f"{side}_dbof")
    return NetVLAD(clusters, output_dim=None, gating=False, add_batch_norm=True, name=f"{side}_netvlad")


def _project(side, x, present, units):
    """fc_concat's Dense of a side; zeros where it is missing, its bias too."""
    x = layers.Dense(units, name=f"{side}_projection")(x)
    return ops.where(ops.expand_dims(present, -1), x, 0.0)


def _check_arguments(given, num_classes):
    for name, known in CHOICES.items():
        if given[name] not in known:
            raise ValueError(f"{name}={given[name]!r}: expected one of: {', '.join(known)}")
    for name in ("k", "o", "clusters", "samples", "num_mixtures"):
        if not _whole(given[name], AT_LEAST[name]):
            raise ValueError(f"{name}={given[name]!r}: expected a whole number, at least {AT_LEAST[name]}")
    if not _whole(num_classes, 1):
        raise ValueError(f"num_classes={num_classes!r}: expected a whole number, at least 1")
    if not 0 <= given["dropout"] < 1:
        raise ValueError(f"dropout={given['dropout']}: expected at least 0 and less than 1")
    if not given["l2"] >= 0:
        raise ValueError(f"l2={given['l2']}: expected at least 0")
    for name, (decides, values) in PARTS.items():
        if given[decides] not in values and given[name] != build_model.__kwdefaults__[name]:
            raise ValueError(
                f"{name}={given[name]}: {decides} {given[decides]} has no such part; leave {name} out"
            )


def _rows(inputs, aggregation, fusion):
    """Side -> row, in the order of `SIDES`, or ValueError."""
    rows = {("audio" if "audio" in row.name else "video"): row for row in inputs}
    listed = ", ".join(f"{row.name} {row.shape}" for row in inputs) or "none"
    wanted = sides(fusion)
    if len(inputs) != len(wanted) or set(rows) != set(wanted):
        one = {"audio": "one of sound (audio in its name)", "video": "one of sight"}
        raise ValueError(
            f"features {listed}: fusion {fusion} reads {' and '.join(one[side] for side in wanted)}"
        )
    ranks = {len(row.shape) for row in inputs}
    sizes = [size for row in inputs for size in row.shape]
    if len(ranks) > 1 or not ranks <= {1, 2} or not all(_whole(size, 1) for size in sizes):
        raise ValueError(
            f"features {listed}: expected frames (T, D), or one vector a video (D,), every size known, "
            "and all of one level"
        )
    if ranks == {1} and aggregation != "average":
        raise ValueError(
            f"features {listed}: aggregation {aggregation} reads frames; vectors go with aggregation=average"
        )
    for row in inputs:
        if (row.dtype == "uint8") != row.quantized or row.dtype not in ("uint8", "float16", "float32"):
            raise ValueError(
                f"feature {row.name} of {row.dtype}{', quantized' if row.quantized else ''}: "
                "expected uint8, quantized, or float32 or float16"
            )
    return {side: rows[side] for side in wanted}


def _whole(value, least):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least
