"""What the models of sight and sound share: their rows, which of them are real, the mean over positions."""

from numbers import Integral

import keras
from keras import ops

from tfvc.layers import ModalityDropout, Standardize

# Stream -> the path of the network, the modality, that reads it.
PATHS_OF = {"frames": "visual", "audio": "audio", "text": "text"}


def opened(rows, masked, standardize, modality_dropout=0.0):
    """The inputs by name; the streams as the network reads them; their masks (B, T), or None for no masks.

    A row of zeros is padding or a missing stream. Rows of a stream that is dropped in training become such.
    """
    tensors = {row.name: keras.Input(row.shape, dtype=row.dtype, name=row.name) for row in rows}
    streams = list(tensors.values())
    if modality_dropout:
        there = ops.cast(ops.stack([present(real(x)) for x in streams], axis=1), "float32")
        kept = ModalityDropout(modality_dropout, name="modality_dropout")(there)
        streams = [_unless_dropped(x, kept[:, k] > 0) for k, x in enumerate(streams)]
    masks = [real(x) for x in streams] if masked else None
    if standardize:
        streams = [
            Standardize(name=f"standardize_{row.name}")(x) for row, x in zip(rows, streams, strict=True)
        ]
    return tensors, streams, masks


def real(x):
    """Which rows of (B, T, ...) are not all zeros: boolean (B, T)."""
    return ops.any(ops.not_equal(x, 0), axis=tuple(range(2, len(x.shape))))


def present(mask):
    """Which clips have a real row: boolean (B,)."""
    return ops.any(mask, axis=1)


def averaged(x):
    """Maps (B, T, H, W, C), or vectors (B, T, C), to vectors: the mean over the positions, in float32."""
    return x if len(x.shape) == 3 else ops.mean(ops.cast(x, "float32"), axis=(2, 3))


def _unless_dropped(x, kept):
    return ops.where(ops.reshape(kept, (-1, *[1] * (len(x.shape) - 1))), x, ops.zeros_like(x))


def check_rows(inputs, streams, model):
    """The rows in the order of the streams, or ValueError."""
    rows = {row.name: row for row in inputs}
    listed = ", ".join(f"{row.name} {row.shape}" for row in inputs) or "none"
    if len(inputs) != len(streams) or set(rows) != set(streams):
        raise ValueError(f"features {listed}: {model} reads {' and '.join(streams)}")
    for row in inputs:
        ranks, form = ((2, 4), "(T, D) or (T, H, W, C)") if row.name == "audio" else ((2,), "(T, D)")
        floats = row.dtype in ("float32", "float16") and not row.quantized
        if len(row.shape) not in ranks or not all(whole(n, 1) for n in row.shape) or not floats:
            raise ValueError(
                f"feature {row.name} of shape {row.shape}, {row.dtype}"
                f"{', quantized' if row.quantized else ''}: expected {form}, float32 or float16, "
                "every size known"
            )
    if len({row.shape[0] for row in inputs}) > 1:
        raise ValueError(f"features {listed}: expected the same number of rows T of each")
    return [rows[name] for name in streams]


def check_numbers(given, least):
    """ValueError for an argument that is no whole number of at least `least[name]`."""
    for name, low in least.items():
        if not whole(given[name], low):
            raise ValueError(f"{name}={given[name]!r}: expected a whole number, at least {low}")


def whole(value, least):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least
