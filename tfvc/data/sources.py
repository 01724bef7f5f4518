"""Which files a pattern means, on disk and elsewhere, and how one of them is opened."""

import glob
import os
import tempfile
import urllib.request
from pathlib import Path

import tensorflow as tf

from tfvc import files as files_
from tfvc.data import raw, salvage

_GZIP = b"\x1f\x8b"


def files(patterns):
    """The files of some patterns, sorted, each once.

    Args:
        patterns: comma-separated text, or a list: paths with wildcards; `gs://` paths with wildcards;
            `http://` and `https://` addresses, taken as they are and streamed through tensorflow-io.
            A file that is there by the very name, brackets and all, is that file. In a list, names may hold
            commas; in text they may not: write `?` for a comma. Wildcards pass over hidden files.

    Raises:
        FileNotFoundError: a pattern that matches nothing.
        ValueError: no pattern, a folder, or a kind of address that cannot be read here.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b1", "a1", "a2"):
        ...     _ = (folder / name).write_bytes(b"")
        >>> [Path(file).name for file in files(f"{folder}/*1,{folder}/a*")]
        ['a1', 'a2', 'b1']
    """
    patterns = patterns.split(",") if isinstance(patterns, str) else [str(p) for p in patterns]
    patterns = [pattern.strip() for pattern in patterns if pattern.strip()]
    if not patterns:
        raise ValueError("no pattern of record files; give one, as /data/yt8m/train*.tfrecord")
    found = set()
    for pattern in patterns:
        if _is_http(pattern):
            _load_http(pattern)
            found.add(pattern)
            continue
        found |= set(_matches(pattern))
    return sorted(found)


def _matches(pattern):
    shown, local = files_.shown(pattern), "://" not in pattern
    listed, is_folder = (_listed, os.path.isdir) if local else (tf.io.gfile.glob, tf.io.gfile.isdir)
    try:
        matches = [file for file in listed(pattern) if not is_folder(file)]
        folder = not matches and is_folder(pattern)
    except (tf.errors.OpError, OSError) as error:
        raise ValueError(f"{shown}: cannot be listed ({why(pattern, error)})") from None
    if folder:
        raise ValueError(f"{shown}: is a folder; expected files, as '{shown.rstrip('/')}/*'")
    if not matches:
        raise FileNotFoundError(f"{shown}: no such file; expected the path or pattern of TFRecord files")
    broken = [file for file in matches if local and not os.path.exists(file)]
    if broken:  # TensorFlow would try for ever
        raise FileNotFoundError(f"{files_.shown(broken[0])}: a link to no file; mend or remove it")
    return matches


def _listed(pattern):
    """As TensorFlow's glob, which stops at a name that is no UTF-8."""
    if os.path.lexists(pattern):
        return [pattern]
    folder = os.path.dirname(pattern) or "."
    if os.path.isdir(folder):
        os.listdir(folder)  # `glob` passes in silence over a folder that may not be read
    return glob.glob(pattern)


class Copies:
    """Local copies of files that cannot be read where they lie; they go with this object."""

    def __init__(self):
        self._folder, self._count = None, 0

    def path(self, name):
        """A new path for a copy of a file."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="tfvc-")
        self._count += 1
        return str(Path(self._folder.name) / f"{self._count}-{Path(files_.shown(name)).name[-200:]}")


def locate(name, copies):
    """Where to read a file from, whether it is zipped (by its first bytes), and its `length`.

    A server of http that cannot send parts of a file is no file system: its file is fetched, and a line says
    so. Of a file that cannot be read at all the length is -1; reading it says why.
    """
    try:
        if _is_http(name) and not _serves_parts(name):
            print(f"{name}: its server sends whole files only; fetched into a temporary file", flush=True)
            path = copies.path(name)
            urllib.request.urlretrieve(name, path)
            name = path
        if files_.shown(name) != name:  # TensorFlow takes names in UTF-8 only
            path = copies.path(name)
            os.symlink(os.path.abspath(name), path)
            name = path
        with tf.io.gfile.GFile(name, "rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
        return name, zipped, length(name, zipped)
    except (tf.errors.OpError, OSError):
        return name, False, -1


def harmless(path, zipped):
    """Whether TensorFlow may read a file; see `salvage.readable`. Of a zipped or distant one nobody knows."""
    return zipped or "://" in path or salvage.readable(path)


def head(located, count):
    """The first records of a file, bytes; none where it cannot be read. `located`: of `locate`."""
    path, zipped, size = located
    if size < 0 or not harmless(path, zipped):
        return iter(())
    first = raw.stored(path, "GZIP" if zipped else "").take(count).ignore_errors()
    return raw.untuned(first).as_numpy_iterator()


def unreadable(name):
    """Why a file of `length` -1 cannot be read."""
    try:
        if _is_http(name):
            _serves_parts(name)
        with tf.io.gfile.GFile(name, "rb") as file:
            file.read(1)
    except (tf.errors.OpError, OSError) as error:
        return f"cannot be read ({why(name, error)})"
    return "cannot be read"


def length(path, zipped):
    """Bytes of a file; of a zipped one those unpacked, as its end says: of its last member, modulo 2^32."""
    with tf.io.gfile.GFile(path, "rb") as file:
        size = file.size()
        if not zipped:
            return size
        file.seek(max(0, size - 4))
        return int.from_bytes(file.read(4), "little")


def look_through(name, located, known, copies):
    """Finds what is wrong with a file, and where its whole records lie.

    Args:
        name: of the file.
        located: what `locate` says of it.
        known: numbers of records that are known to be whole.
        copies: a Copies, for the unpacked file.

    Returns:
        `(faults, path, offsets)`: `(offset, reason)` of each fault; the file, unpacked; offsets in it.

    Raises:
        tf.errors.OpError, OSError: it cannot be read at all.
    """
    path, zipped, _ = located
    reason = None
    if zipped:
        packed, path = path, copies.path(name)
        reason = salvage.unzip(packed, path)
    faults, offsets = salvage.survey(path, known)
    size = length(path, False)
    if reason or not size:
        faults.append((size, reason or "an empty file"))
    where = " (in the unpacked file)" if zipped else ""
    return [(offset, text + where) for offset, text in faults], path, offsets


def why(name, error):
    """An error of reading a file, in one line."""
    if isinstance(error, OSError):
        return error.strerror or files_.first_line(error)
    text = files_.first_line(error)
    if name.startswith("gs://"):
        missing = "gs" not in tf.io.gfile.get_registered_schemes()
        extra = (
            "pip install tensorflow-io-gcs-filesystem" if missing else "network, and credentials of Google"
        )
        text = f"{text}; gs:// needs {extra}"
    return text


def _is_http(name):
    return name.startswith(("http://", "https://"))


def _load_http(name):
    """Makes TensorFlow's files read http addresses."""
    scheme = name.split(":")[0]
    if scheme in tf.io.gfile.get_registered_schemes():
        return
    reason = "it brings no http file system here"
    try:
        import tensorflow_io  # noqa: F401
    except (ImportError, NotImplementedError, AttributeError, TypeError, tf.errors.OpError) as error:
        reason = files_.first_line(error)
    if scheme not in tf.io.gfile.get_registered_schemes():
        raise ValueError(
            f"{name}: TensorFlow {tf.__version__} reads {scheme}:// only with tensorflow-io, which cannot be "
            f"loaded ({reason}); use TensorFlow 2.16 and tensorflow-io 0.37.1, or download the files first"
        )


def _serves_parts(address):
    request = urllib.request.Request(address, headers={"Range": "bytes=0-1"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status == 206
