"""Weights of SoundNet-8 by layer, from a plain `.npz` of arrays; how the published pickle becomes one."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from tfvc import files

# Layer of `soundnet.build_model` -> its name in the published file.
PUBLISHED = {f"conv{i}": f"conv{i}" for i in range(1, 8)} | {"objects": "conv8", "scenes": "conv8_2"}
HEADS = ("objects", "scenes")
# In the order of Keras' weights: of a convolution, and of the batch norm behind it.
CONVOLUTION, NORM = ("weights", "biases"), ("gamma", "beta", "mean", "var")
LENGTHS = {"conv1": 64, "conv2": 32, "conv3": 16, "conv4": 8, "conv5": 4, "conv6": 4, "conv7": 4}
LENGTHS |= dict.fromkeys(HEADS, 8)  # of the kernels


def kinds(layer):
    """Names of a layer's arrays: the heads have no batch norm.

    Example:
        >>> kinds("conv7"), kinds("scenes")
        (('weights', 'biases', 'gamma', 'beta', 'mean', 'var'), ('weights', 'biases'))
    """
    return CONVOLUTION if layer in HEADS else CONVOLUTION + NORM


def recipe_of(path):
    """The lines that make an `.npz` of the published pickle, for its owner to run.

    **Source**: the dictionary layer -> name -> array of eborboihuc/SoundNet-tensorflow, written by Python 2.

    Args:
        path: of the pickled `.npy` file.

    Example:
        >>> print(recipe_of("sound8.npy")[1])
        d = np.load('sound8.npy', allow_pickle=True, encoding='latin1').item()
    """
    path = Path(path)
    made = path.with_suffix(".npz")
    return [
        "import numpy as np",
        f"d = np.load({str(path)!r}, allow_pickle=True, encoding='latin1').item()",
        f"np.savez({str(made)!r}, **{{f'{{k}}/{{n}}': a for k, v in d.items() for n, a in v.items()}})",
    ]


def advice(path):
    """Lines of text about a file of SoundNet's weights: what it holds, or how it becomes one that is read.

    A pickle can run any code, so it is not opened: whoever trusts it runs the lines that are given.

    Args:
        path: a pickled `.npy`, or an `.npz` made of it.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an `.npz` file that holds no SoundNet.
    """
    path = Path(path)
    if path.suffix == ".npy" and path.is_file():
        made = path.with_suffix(".npz")
        return [
            f"{path}: a pickle can run any code, and is not opened here. Where you trust it, run in Python:",
            *(f"    {line}" for line in recipe_of(path)),
            f"then: python -m tfvc.backbones {made}",
        ]
    named, digest = read_weights(path)
    lines = [f"{path}: SoundNet-8, digest {digest[:12]}"]
    for layer, published in PUBLISHED.items():
        kernel = named.get((layer, "weights"))
        held = "absent" if kernel is None else " x ".join(map(str, kernel.shape))
        lines.append(f"  {published:8} {layer:8} {held}")
    return [*lines, f"use it: --set=audio.name=soundnet --set=audio.weights={path}"]


def read_weights(path):
    """Weights of an `.npz` file with arrays `conv1/weights`, `conv1/biases`, `conv1/gamma` and so on.

    Kernels are (length, 1, in, out), as published, or (length, in, out). Either head, `conv8` and `conv8_2`,
    may be absent; whatever else is in the file is left alone.

    Returns:
        dict, (layer of `soundnet.build_model`, name in `kinds`) -> float32 array, kernels (length, in, out);
        hex digest of its contents.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no such file, a pickle, or an array that is missing or unfit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected SoundNet weights: a .npz file, flickr or random"
        )
    if path.suffix == ".npy":
        raise ValueError(
            f"{path}: a pickle can run any code, and is not opened; expected a .npz file, made by its owner "
            f"as python -m tfvc.backbones {path} says"
        )
    named = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for layer, published in PUBLISHED.items():
                for kind in kinds(layer):
                    if f"{published}/{kind}" in file:
                        named[layer, kind] = _real(f"{published}/{kind}", file[f"{published}/{kind}"])
    except (ValueError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a .npz file of plain arrays, as conv1/weights ({files.first_line(error)})"
        ) from None
    for (layer, kind), array in named.items():
        if kind == "weights" and array.ndim == 4 and array.shape[1] == 1:
            named[layer, kind] = array[:, 0]
    _refuse(path, named)
    sums = hashlib.sha256()
    for key, array in sorted(named.items()):
        sums.update(repr((key, array.shape)).encode() + array.tobytes())
    return named, sums.hexdigest()


def _real(name, array):
    """float32; a number beyond it becomes an infinity, which `_refuse` tells."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):
        return np.asarray(array, "float32")


def _refuse(path, named):
    """ValueError for arrays that make no network: the first that is missing, misshapen or not finite."""
    before = 1
    for layer, published in PUBLISHED.items():
        if layer in HEADS and (layer, "weights") not in named:
            continue
        kernel = named.get((layer, "weights"))
        width = kernel.shape[-1] if kernel is not None and kernel.ndim == 3 else "C"
        for kind in kinds(layer):
            array = named.get((layer, kind))
            wanted = (LENGTHS[layer], before, width) if kind == "weights" else (width,)
            if array is None or array.shape != wanted:
                held = "missing" if array is None else f"{array.shape}"
                shown = f"({', '.join(map(str, wanted))})"
                raise ValueError(f"{path}: {published}/{kind} is {held}, expected {shown}")
            if not np.isfinite(array).all() or (kind == "var" and (array < 0).any()):
                raise ValueError(f"{path}: {published}/{kind} holds values that no weight has")
        before = before if layer in HEADS else width  # both heads read conv7
