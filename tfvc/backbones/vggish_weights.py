"""Weights of VGGish by layer, from whatever file holds them."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

from tfvc import files

CONVOLUTIONS = (("conv1",), ("conv2",), ("conv3_1", "conv3_2"), ("conv4_1", "conv4_2"))
TOP = ("fc1_1", "fc1_2", "fc2")
# Keras 3 numbers the layers of a .weights.h5 file by class.
_NUMBERED = {
    "conv2d": "conv1",
    "conv2d_1": "conv2",
    "conv2d_2": "conv3_1",
    "conv2d_3": "conv3_2",
    "conv2d_4": "conv4_1",
    "conv2d_5": "conv4_2",
    "dense": "fc1_1",
    "dense_1": "fc1_2",
    "dense_2": "fc2",
}
_KINDS = {"weights": "kernel", "kernel": "kernel", "biases": "bias", "bias": "bias"}


def read_weights(path):
    """Weights of a TensorFlow checkpoint or a Keras `.h5` file, whatever its layers are called in full.

    `vggish/conv3/conv3_1/weights`, `conv3/conv3_1/conv3/conv3_1/kernel:0`, `vggish_fc2/vggish_fc2/kernel:0`
    and `layers/conv2d_2/vars/0` are all understood; anything else in the file is left alone.

    Returns:
        dict, (layer of `build_model`, `kernel` or `bias`) -> float32 array; hex digest of its contents.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: not such a file, or one of the six convolutions is missing.
    """
    path = Path(path)
    if not path.is_file() and not path.with_name(f"{path.name}.index").is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected VGGish weights: a TensorFlow checkpoint, a Keras .h5 file, a "
            "SavedModel folder, audioset or random"
        )
    try:
        pairs = _named_h5(path) if path.suffix in (".h5", ".hdf5") else _named_checkpoint(path)
        named = {key: array for key, array in pairs if array.ndim}
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"{path}: expected a TensorFlow checkpoint or a Keras .h5 file of VGGish "
            f"({files.first_line(error)})"
        ) from None
    wanted = [(name, kind) for block in CONVOLUTIONS for name in block for kind in ("kernel", "bias")]
    if missing := ["/".join(key) for key in wanted if key not in named]:
        raise ValueError(
            f"{path}: no weights of VGGish; {missing[0]} and {len(missing) - 1} more are missing"
        )
    sums = hashlib.sha256()
    for key, array in sorted(named.items()):
        sums.update(repr((key, array.shape)).encode() + array.tobytes())
    return named, sums.hexdigest()


def _named_checkpoint(path):
    reader = tf.train.load_checkpoint(str(path))
    for name in reader.get_variable_to_shape_map():
        if key := _key(name):
            yield key, np.asarray(reader.get_tensor(name), "float32")


def _named_h5(path):
    found = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in found:
            if (key := _key(name)) and not name.startswith("optimizer_weights"):
                yield key, np.asarray(file[name], "float32")


def _key(name):
    """(layer, kernel or bias) of a variable's name, or None for one that is none of ours."""
    parts = name.removesuffix(":0").split("/")
    if len(parts) > 2 and parts[-2] == "vars":  # Keras 3's own numbering
        layer, kind = _NUMBERED.get(parts[-3]), {"0": "kernel", "1": "bias"}.get(parts[-1])
    else:
        layer = parts[-2].removeprefix("vggish_") if len(parts) > 1 else None
        kind = _KINDS.get(parts[-1])
    return (layer, kind) if layer in _NUMBERED.values() and kind else None
