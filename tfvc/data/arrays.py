"""Arrays in the files of others: .npy, .npz and simple .h5. Nothing pickled is ever read."""

import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np

from tfvc import files

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_HEADER = 1 << 16  # bytes in which a header must end; NumPy refuses one of over 10,000 characters
_MAKE = {".npy": "np.save", ".npz": "np.savez"}
_PICKLE = (
    "{path}: holds pickled objects, which are not read: a pickle can run any code. Whoever trusts the file "
    "makes plain arrays of it: np.savez('{stem}.npz', {name}=np.stack(array).astype('float32'))"
)


class Damaged(ValueError):
    """A file, or an array in it, that cannot be read; one line that names the file and the remedy."""


def headers(path, name="frames"):
    """Shape and dtype of each array in a `.npz` or `.npy` file, without reading the arrays.

    What is called otherwise than `.npy` in a `.npz` file is no array, and passed over.

    Args:
        path: the file.
        name: what the one array of a `.npy` file is called.

    Returns:
        dict, name -> `(shape, dtype)`.

    Raises:
        Damaged: damaged, or no such file format; also an array of which fewer bytes are there than its
            header says.
        ValueError: pickled; the file is named.

    Example:
        >>> np.savez("a.npz", frames=np.zeros((10, 4), "float32"))
        >>> headers("a.npz")
        {'frames': ((10, 4), dtype('float32'))}
    """
    found = {}
    try:
        if Path(path).suffix == ".npy":
            with open(path, "rb") as f:
                found[name] = _header(f, os.fstat(f.fileno()).st_size)
        else:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.filename.endswith(".npy"):
                        with archive.open(entry) as f:
                            found[entry.filename.removesuffix(".npy")] = _header(f, entry.file_size)
    except files.NO_ARRAY as error:
        raise _unreadable(path, error, name) from None
    for held, (_, dtype) in found.items():
        _refuse_objects(path, held, dtype)
    return found


def _header(f, size):
    """Shape and dtype of the array in a file of so many bytes; neither is believed beyond them."""
    f = io.BytesIO(f.read(_HEADER))
    version = np.lib.format.read_magic(f)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(f)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    held = size - f.tell()
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > held:
        raise ValueError(f"the header says {shape} {dtype}, and {held} bytes follow")
    return shape, dtype


def member(path, name):
    """One array of a `.npz` file.

    Raises:
        Damaged: damaged; the file is named.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as f:
            return np.lib.format.read_array(f, allow_pickle=False)
    except files.NO_ARRAY as error:
        raise _unreadable(path, error) from None


def row(path, array, index):
    """One row of what `whole` gave; of index () all of it.

    Raises:
        Damaged: the bytes of this row are damaged; the file is named.
    """
    try:
        return array[index]
    except files.NO_ARRAY as error:
        raise _unreadable(path, error) from None


def whole(path, name):
    """An array that can be sliced: from disk where the format allows it (.npy, .h5), else from memory.

    Args:
        path: `.npy`; `.npz` or `.h5` with an array of this name, or with one array only.
        name: of the array.

    Raises:
        FileNotFoundError: no such file.
        Damaged: damaged.
        ValueError: another format, pickled, or several arrays and none of this name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected an array, {' '.join(SUFFIXES)}")
    if path.suffix == ".npz":
        found = headers(path)
        return member(path, _only(path, name, found))
    if path.suffix == ".npy":
        headers(path, name)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except files.NO_ARRAY as error:
            raise _unreadable(path, error, name) from None
    if path.suffix in (".h5", ".hdf5"):
        return _dataset(path, name)
    raise ValueError(f"{path}: expected an array, {' '.join(SUFFIXES)}{_pickled_name(path)}")


def _dataset(path, name):
    import h5py

    try:
        file = h5py.File(path, "r")  # stays open: its rows are read one by one
        sets = {key: value for key, value in file.items() if isinstance(value, h5py.Dataset)}
        dtypes = {key: value.dtype for key, value in sets.items()}
    except files.NO_ARRAY as error:
        raise _unreadable(path, error) from None
    key = _only(path, name, sets)
    if dtypes[key].hasobject:
        raise ValueError(
            f"{path}: {key} holds text or objects; expected numbers, as f[{key!r}] = np.asarray(x) writes"
        )
    return sets[key]


def _only(path, name, found):
    if name in found:
        return name
    if len(found) != 1:
        raise ValueError(
            f"{path}: holds {', '.join(sorted(found)) or 'no array'}; expected one array, or {name!r}"
        )
    return next(iter(found))


def _refuse_objects(path, name, dtype):
    if dtype.hasobject:
        raise ValueError(_PICKLE.format(path=path, stem=Path(path).stem, name=name))


def _unreadable(path, error, name="frames"):
    """One line for what NumPy or h5py said. A pickle is told from damage by its first bytes."""
    text = files.printable(files.first_line(error)[:200])
    with open(path, "rb") as f:
        pickle = f.read(1) == b"\x80"
    if pickle:
        return ValueError(_PICKLE.format(path=path, stem=Path(path).stem, name=name))
    make = f"make it again{' with ' + _MAKE[Path(path).suffix] if Path(path).suffix in _MAKE else ''}"
    return Damaged(f"{path}: cannot be read: damaged, or another format ({text}); {make}, or remove it")


def _pickled_name(path):
    if path.suffix.lower() not in (".pkl", ".pickle", ".p"):
        return ""
    return f"; a pickle can run any code: its owner makes {path.stem}.npz of it with np.savez"
