"""What the parsers under fuzzing share: files made in memory, and what an error may be."""

import contextlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np


def as_json(tree):
    return json.dumps(tree).encode()


def as_npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def as_npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def as_zip(form=zipfile.ZIP_STORED, **files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", form) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def as_npz_packed(arrays):
    """Arrays as `.npz`, compressed."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


class Fault(AssertionError):
    """A reader answered bytes with something else than an error of ours."""


@contextlib.contextmanager
def allowed(folder):
    """Lets through what a reader may raise: an error of ours that names the file, in one line.

    A listing (`3 faults in a manifest`) has a line for each fault. UnicodeDecodeError and others of Python's
    own are ValueErrors too, but tell nothing of what to do.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        kind, text = type(error), str(error)
        ours = kind in (ValueError, FileNotFoundError) or kind.__module__.startswith(("tfvc.", "starter."))
        listing = " faults in a " in text.split("\n")[0]
        if not ours or str(folder) not in text or (not listing and len(text.splitlines()) != 1):
            raise Fault(f"expected a line of ours that names the file, found {error!r}") from error


@contextlib.contextmanager
def new_folder():
    with tempfile.TemporaryDirectory(prefix="tfvc-fuzz-") as name:
        yield Path(name)
