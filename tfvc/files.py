"""Nothing half-written: files and folders appear under their name only when they are whole."""

import contextlib
import csv
import fcntl
import hashlib
import json
import lzma
import os
import platform
import re
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path

# `aside`: .NAME.PID.part (Keras adds a suffix of its own), and .NAME.PID.old; PID ends with the machine's
# number, as several machines may write into one folder (`tfvc.beam`).
_ASIDE = re.compile(r"\.(?P<name>.+)\.\d+\.(?:(?P<kind>old)|part(?:\.keras)?)", re.DOTALL)
_MACHINE = f"{zlib.crc32(platform.node().encode()):010d}"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LARGEST = 1 << 30  # bytes of a text file that is read as a whole
_END = 4096  # bytes at either end of a file that tell it from another
_UNPACKED, _SMALL = 20, 16 << 20  # a .keras file may unpack to so many times its size, and so many bytes


def cache_root():
    """`TFVC_CACHE`, else `~/.cache/tfvc`: drawn demo clips and extracted features."""
    return Path(os.environ.get("TFVC_CACHE") or Path.home() / ".cache" / "tfvc")


@contextlib.contextmanager
def aside(path):
    """Yields a path next to `path`; renames it to `path` on success, removes it on failure.

    The body writes a file or makes a folder there. An existing folder is replaced.

    Example:
        >>> with aside("metrics.json") as temporary:
        ...     _ = temporary.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{os.getpid()}{_MACHINE}"
    temporary = path.with_name(f"{name}.part")
    try:
        with _naming(path):
            _remove(temporary)
            yield temporary
            if temporary.is_file():
                with open(temporary, "rb") as f:
                    os.fsync(f.fileno())  # else a power cut may leave the name without the bytes
                os.replace(temporary, path)
            elif not temporary.exists():
                raise FileNotFoundError(f"{path}: nothing was written")
            else:  # a folder cannot be replaced in one step: the old one steps aside first
                old = path.with_name(f"{name}.old")
                _remove(old)
                if path.exists():
                    os.rename(path, old)
                os.rename(temporary, path)
                _remove(old)
    finally:
        _remove(temporary)


@contextlib.contextmanager
def scratch():
    """Yields a folder for a while, where `TMPDIR` says. An error of its disk names it.

    Example:
        >>> with scratch() as folder:
        ...     _ = (folder / "a.txt").write_text("a")
    """
    with tempfile.TemporaryDirectory(prefix="tfvc-") as folder, _naming(folder):
        yield Path(folder)


@contextlib.contextmanager
def _naming(path):
    """Names the place in the system's error: a full disk is reported without a name."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


def sweep(folder, name="", but=()):
    """Removes what killed runs left under a temporary name in a folder.

    A folder that had stepped aside, and whose successor never came, gets its name back.

    Args:
        folder: no other process may be writing in it.
        name: only what was to become this file or folder in it; others may then write beside it.
        but: how names begin that others may be writing meanwhile.
    """
    for left in sorted(Path(folder).glob(".*")):
        match = _ASIDE.fullmatch(left.name)  # nothing but what `aside` makes: a user's own files may lie here
        if not match or (name and match["name"] != name) or match["name"].startswith(tuple(but)):
            continue
        successor = left.with_name(match["name"])
        if match["kind"] == "old" and not successor.exists():
            os.rename(left, successor)
        else:
            _remove(left)


@contextlib.contextmanager
def locked(folder, work, wait=False):
    """One process at a time works on a folder. The lock goes with the process, however it ends.

    Args:
        folder: it need not exist yet; the lock file lies beside it.
        work: what is done there, for the message, as "extracting into".
        wait: wait, and say so, where another process is at it.

    Raises:
        ValueError: another process is at it, and `wait` is False.
    """
    folder = Path(os.path.abspath(folder))
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        remedy = "give a place that can be written"
        raise OSError(error.errno, f"{error.strerror}; {remedy}", str(folder)) from None
    with open(path, "a", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise ValueError(f"{folder}: another process is {work} it; wait for it to end") from None
            print(f"{folder}: another process is {work} it; waiting for it to end", flush=True)
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


def write_csv(path, rows, delimiter=","):
    """Writes a CSV file whole or not at all. File names that are no UTF-8 keep their bytes."""
    with (
        aside(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as f,
    ):
        csv.writer(f, delimiter=delimiter, lineterminator="\n").writerows(rows)


def write_json(path, tree):
    """Writes a JSON file whole or not at all."""
    with aside(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def absent(path):
    """What stands where a file was expected, in words."""
    return "a folder, not a file" if os.path.isdir(path) else "no such file"


def read_json(path, remedy=""):
    """Reads a JSON file.

    Raises:
        FileNotFoundError: it is not there; the message ends with the remedy.
        ValueError: it is not JSON, or nested beyond reading; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {absent(path)}{'; ' + remedy if remedy else ''}")
    data = read_whole(path)
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
        raise ValueError(f"{path}: not a JSON file ({error}){'; ' + remedy if remedy else ''}") from None


def read_whole(path):
    """The bytes of a text file that is read as a whole; none over 1 GiB, which would eat the machine.

    Raises:
        ValueError: it is larger.
        OSError: it cannot be read.
    """
    with open(path, "rb") as f:
        data = f.read(_LARGEST + 1)  # a file may grow, or have no size
    if len(data) > _LARGEST:
        raise ValueError(
            f"{path}: over {_LARGEST / 2**30:g} GiB; expected a smaller file: cut it into several"
        )
    return data


def shown(path):
    r"""A path as text that can be printed, whatever bytes its name is made of.

    Example:
        >>> shown("\udcff.mp4") == r"\xff.mp4"
        True
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def final(path):
    """The path that a temporary one of `aside`, or one inside it, was to become; another path as it is.

    Example:
        >>> final("run/.export.77.part/saved_model.pb"), final("run/.bashrc")
        ('run/export/saved_model.pb', 'run/.bashrc')
    """
    matches = [(part, _ASIDE.fullmatch(part)) for part in str(path).split(os.sep)]
    return os.sep.join(match["name"] if match else part for part, match in matches)


def printable(text):
    r"""A text from a file of others as it may stand in a message: what would break the line, turn
    its order round, or steer a terminal, is escaped.

    Example:
        >>> printable("a\nb\x1b[2J")
        'a\\nb\\x1b[2J'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def fingerprint(path):
    """`[size, ten hex digits]` of a file's size and both ends: cheap for a thousand hours of video, and a
    changed file shows.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as f:
        size, begin = os.fstat(f.fileno()).st_size, f.read(_END)
        f.seek(max(0, size - _END))
        return [size, hashlib.sha256(begin + f.read()).hexdigest()[:10]]


def free_bytes(path):
    """What is free on the disk where a path is, or will be."""
    place = Path(os.path.abspath(path))
    return shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free


def first_line(error):
    """The first line of a library's error, or its name: ours are one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# What NumPy, zipfile and h5py raise for bytes that are no array: a header is parsed as Python's literals.
NO_ARRAY = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError)
NO_ARRAY += (SyntaxError, TypeError, ValueError)
NO_ARRAY += (lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
# What Keras raises for a model file that is damaged or no model.
UNREADABLE = (*NO_ARRAY, AssertionError, ImportError)


def check_archive(path, kind=".keras file"):
    """Refuses a zip archive that is cut short, or that would unpack to far more than it is.

    Raises:
        ValueError: the file is named.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{path}: not a whole {kind} ({printable(str(error))}); expected one that was not cut short"
        ) from None
    limit = _UNPACKED * os.path.getsize(path) + _SMALL
    if size > limit:  # weights hardly shrink, and Keras does not try
        raise ValueError(f"{path}: would unpack to {size / 1e9:.3g} GB; that is no {kind} of ours")


def sha256(path):
    """Hex SHA-256 of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
