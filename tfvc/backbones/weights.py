"""Published weight files of the backbones: names, checksums, where they lie, how they are had.

Imports nothing heavy, so that `python -m tfvc.backbones` answers at once.
"""

import hashlib
import http.client
import os
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tfvc import files, names

_BASE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_STEM = "weights_tf_dim_ordering_tf_kernels"


@dataclass(frozen=True)
class WeightFile:
    """One downloadable file.

    Args:
        name: file name, as Keras keeps it.
        md5: checksum as its publisher states it; "" where none is stated.
        url: where it is published.
    """

    name: str
    md5: str
    url: str


def _row(folder, name, md5):
    return WeightFile(name, md5, f"{_BASE}{folder}/{name}")


# **Source**: the constants of keras/applications/<name>.py, without the classifier on top.
FILES = {
    "vgg16": _row("vgg16", f"vgg16_{_STEM}_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    "vgg19": _row("vgg19", f"vgg19_{_STEM}_notop.h5", "253f8cb515780f3b799900260a226db6"),
    "inception_v3": _row(
        "inception_v3", f"inception_v3_{_STEM}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"
    ),
    "resnet50": _row("resnet", f"resnet50_{_STEM}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
    "xception": _row("xception", f"xception_{_STEM}_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
    "densenet201": _row("densenet", f"densenet201_{_STEM}_notop.h5", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    "mobilenet_v2": _row("mobilenet_v2", f"mobilenet_v2_{_STEM}_1.0_224_no_top.h5", ""),
}

# **Source**: the page of Keras Applications. Who trained the weights, and the licence stated there.
LICENCES = {
    "vgg16": "VGG, Oxford: CC BY",
    "vgg19": "VGG, Oxford: CC BY",
    "resnet50": "Kaiming He: MIT",
    "inception_v3": "Google: Apache-2.0",
    "xception": "Keras: MIT",
    "densenet201": "Facebook AI Research: BSD 3-clause",
    "mobilenet_v2": "Google: Apache-2.0",
}

# **Source**: the README of tensorflow/models, research/audioset/vggish.
_AUDIOSET = "https://storage.googleapis.com/audioset/"
SOUND_FILES = {
    name: WeightFile(file, "", _AUDIOSET + file)
    for name, file in (("vggish", "vggish_model.ckpt"), ("vggish_pca", "vggish_pca_params.npz"))
}
# **Source**: the README of eborboihuc/SoundNet-tensorflow. Published as a pickle, `sound8.npy`, which nobody
# can fetch by its address alone and which is not opened here: its owner makes this file of it.
SOUNDNET = WeightFile("sound8.npz", "", "https://github.com/eborboihuc/SoundNet-tensorflow, sound8.npy")

# Published inside a zip archive: not downloaded, its owner unpacks it.
_GLOVE_ZIP = "https://nlp.stanford.edu/data/glove.6B.zip"
TEXT_FILES = {"glove": WeightFile("glove.6B.300d.txt", "", _GLOVE_ZIP)}

FRAMES = "frames"  # no network: the frames themselves
WORDS = ("imagenet", "random", "none")  # of `backbone.weights`; anything else is a path
# By `audio.name`, of `audio.weights`; anything else is a path (of vggish, or HUB and a handle).
SOUND_WORDS = {"vggish": ("audioset", "random"), "soundnet": ("flickr", "random")}
TEXT_WORDS = ("glove",)  # of `text.weights`; anything else is a path
HUB = "hub:"  # before a TensorFlow Hub handle, or a path


def check_given(weights):
    """FileNotFoundError for `backbone.weights` that is neither one of `WORDS` nor a file."""
    if weights not in WORDS and not Path(weights).is_file():
        raise FileNotFoundError(
            f"backbone.weights={weights}: no such file; expected imagenet, random or a path"
        )


def check_sound(weights, name="vggish"):
    """FileNotFoundError for `audio.weights` that is no word, no handle and nothing that is there.

    A checkpoint of TensorFlow 1 may be named by what its files have in common.

    Args:
        weights: the setting.
        name: of the network, `audio.name`.
    """
    words = SOUND_WORDS[name]
    named = weights in words or (name == "vggish" and weights.startswith(HUB))
    ends = ("", ".index") if name == "vggish" else ("",)
    if not named and not any(Path(weights + end).exists() for end in ends):
        raise FileNotFoundError(
            f"audio.weights={weights}: no such file; expected {', '.join(words)} or a path (of {name})"
        )


def text_file(weights):
    """The file of word vectors that `text.weights` means.

    Raises:
        FileNotFoundError: it is not there; where it is published, and where to put it.
    """
    if weights not in TEXT_WORDS:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"text.weights={weights}: no such file; expected glove or a path")
        return Path(weights)
    row = TEXT_FILES[weights]
    path = find(row)
    if path is None:
        raise FileNotFoundError(
            f"{row.name}: not in {_or(folders())}; unpack it there from {row.url}, or give "
            "--set=text.weights=FILE, or --set=text.embedding=learned"
        )
    return path


def check_name(name):
    """Whether `backbone.name` is a row, `frames`, a handle, or a model file that is there.

    Raises:
        FileNotFoundError: it looks like a path, and nothing is there.
        ValueError: it is none of them; the nearest is named.
    """
    if name in (*FILES, FRAMES) or name.startswith(HUB) or (name and Path(name).exists()):
        return
    if "/" in name or name.endswith((".keras", ".h5", ".hdf5")):
        raise FileNotFoundError(
            f"{name}: no such model; expected a .keras or .h5 file or a SavedModel folder"
        )
    raise ValueError(names.suggest("backbone", name, (*FILES, FRAMES)) + f", a path, or {HUB}HANDLE")


class Unavailable(FileNotFoundError):
    """A weight file is nowhere here and could not be downloaded."""


def keras_folder():
    """Keras' own cache, where downloads go: `$KERAS_HOME/models`, else `~/.keras/models`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def folders():
    """Where a weight file is looked for, in order: `$TFVC_WEIGHTS` if set, then `keras_folder()`."""
    own = os.environ.get("TFVC_WEIGHTS")
    return ([Path(own).expanduser()] if own else []) + [keras_folder()]


def md5(path):
    """Hex MD5 of a file: the sum that Keras Applications publishes. It guards against a broken download."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def find(row):
    """The file in the local folders, its checksum verified, or None.

    Raises:
        ValueError: a file of that name is there with another checksum.
    """
    for folder in folders():
        path = folder / row.name
        if path.is_file():
            _verify(row, path, path)
            return path
    return None


def fetch(row, *, timeout=20.0, total=900.0):
    """The file in the local folders, else downloaded into Keras' own cache.

    **Differs** from `keras.utils.get_file`: the file is written aside and renamed, so that a killed
    download leaves nothing that looks like weights, and the wait is bounded.

    Args:
        row: a `WeightFile`.
        timeout: seconds without a byte before giving up.
        total: seconds for the whole download.

    Returns:
        Path of the file.

    Raises:
        Unavailable: not here, and not to be had within the time.
        ValueError: a checksum that does not match.
    """
    path = find(row)
    if path is not None:
        return path
    target = keras_folder() / row.name
    try:
        with urllib.request.urlopen(row.url, timeout=timeout) as answer, files.aside(target) as temporary:
            print(f"downloading {row.url} to {target}", flush=True)
            _copy(answer, temporary, total)
            _verify(row, temporary, row.url)
    except (OSError, EOFError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise Unavailable(
            f"{row.name}: not in {_or(folders())}, and {row.url} cannot be had ({reason})"
        ) from None
    return target


def _copy(answer, temporary, total):
    end = time.monotonic() + total
    length = answer.headers.get("Content-Length")
    with open(temporary, "wb") as f:
        while block := answer.read1(1 << 20):  # read1: returns what has come, so that a drip is timed too
            f.write(block)
            if time.monotonic() > end:
                raise TimeoutError(f"not complete after {total:g} s")
        if length and f.tell() != int(length):
            raise EOFError(f"the connection closed after {f.tell()} of {length} bytes")


def _verify(row, path, shown):
    if row.md5 and md5(path) != row.md5:
        raise ValueError(
            f"{shown}: MD5 {md5(path)}, expected {row.md5}; not the published file, remove or replace it"
        )


def _or(paths):
    return " or ".join(str(p) for p in paths)
