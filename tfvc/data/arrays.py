"""Arrays in the files of others: .npy, .npz and simple .h5. Nothing pickled is ever read."""

import zipfile
from pathlib import Path

import numpy as np

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_PICKLE = (
    "{path}: holds pickled objects, which are not read: a pickle can run any code. Whoever trusts the file "
    "makes plain arrays of it: np.savez('{stem}.npz', {name}=np.stack(array).astype('float32'))"
)


def headers(path, name="frames"):
    """Shape and dtype of each array in a `.npz` or `.npy` file, without reading the arrays.

    Args:
        path: the file.
        name: what the one array of a `.npy` file is called.

    Returns:
        dict, name -> `(shape, dtype)`.

    Raises:
        ValueError: damaged, no such file format, or pickled; the file is named.

    Example:
        >>> np.savez("a.npz", frames=np.zeros((10, 4), "float32"))
        >>> headers("a.npz")
        {'frames': ((10, 4), dtype('float32'))}
    """
    found = {}
    try:
        if Path(path).suffix == ".npy":
            with open(path, "rb") as f:
                found[name] = _header(f)
        else:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    with archive.open(entry) as f:
                        found[entry.removesuffix(".npy")] = _header(f)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error, name) from None
    for held, (_, dtype) in found.items():
        _refuse_objects(path, held, dtype)
    return found


def _header(f):
    version = np.lib.format.read_magic(f)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(f)
    return shape, dtype


def member(path, name):
    """One array of a `.npz` file.

    Raises:
        ValueError: damaged; the file is named.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except (zipfile.BadZipFile, zipfile.zlib.error, KeyError, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from None


def whole(path, name):
    """An array that can be sliced: from disk where the format allows it (.npy, .h5), else from memory.

    Args:
        path: `.npy`; `.npz` or `.h5` with an array of this name, or with one array only.
        name: of the array.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, damaged, pickled, or several arrays and none of this name.
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
        except (OSError, EOFError, ValueError) as error:
            raise _unreadable(path, error, name) from None
    if path.suffix in (".h5", ".hdf5"):
        return _dataset(path, name)
    raise ValueError(f"{path}: expected an array, {' '.join(SUFFIXES)}{_pickled_name(path)}")


def _dataset(path, name):
    import h5py

    try:
        file = h5py.File(path, "r")  # stays open: its rows are read one by one
    except OSError as error:
        raise _unreadable(path, error) from None
    sets = {key: value for key, value in file.items() if isinstance(value, h5py.Dataset)}
    found = sets[_only(path, name, sets)]
    _refuse_objects(path, name, found.dtype)
    return found


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
    text = str(error).strip().split("\n")[0]
    with open(path, "rb") as f:
        pickle = f.read(1) == b"\x80"
    if pickle:
        return ValueError(_PICKLE.format(path=path, stem=Path(path).stem, name=name))
    return ValueError(f"{path}: cannot be read: damaged, or another format ({text or type(error).__name__})")


def _pickled_name(path):
    if path.suffix.lower() not in (".pkl", ".pickle", ".p"):
        return ""
    return f"; a pickle can run any code: its owner makes {path.stem}.npz of it with np.savez"
