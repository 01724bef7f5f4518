"""What YouTube-8M keeps of a video: 1024 bytes a frame (Inception v3, PCA), 128 of its sound (VGGish, PCA).

`tfvc.yt8m.clips` decodes a file and calls these networks. The released features were made with an Inception
and a decoder of Google's own. Features made here, or by the published program, agree with them only
approximately: MediaPipe's maintainers say so (mediapipe issue 408).
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfvc import files, recipe
from tfvc.backbones import log_mel, vggish, visual
from tfvc.backbones import weights as weight_files

RANDOM = "random"
MODEL_DIR = "~/yt8m"
INCEPTION, COMPONENTS, AUDIO = 2048, 1024, vggish.EMBEDDING
MAX_FRAMES = 300  # of a video that are kept
BACKBONES = ("inception_2015", "inception_v3")
PCAS = ("files", RANDOM)
GRAPH_FILE = "classify_image_graph_def.pb"
PCA_FILES = ("mean.npy", "eigenvals.npy", "eigenvecs.npy")
KERAS_FILE = weight_files.FILES["inception_v3"].name  # stands in for the graph
VGGISH_FILES = (weight_files.SOUND_FILES["vggish"].name, "vggish*.h5")
VGGISH_PCA = weight_files.SOUND_FILES["vggish_pca"].name
_GRAPH_URL = "http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz"
_PCA_URL = "http://data.yt8m.org/yt8m_pca.tgz"
_INPUT, _OUTPUT = "DecodeJpeg:0", "pool_3/_reshape:0"
_SIZE = (299, 299)


def quantize(features, min_quantized_value=-2.0, max_quantized_value=2.0):
    """round((clip(x, min, max) - min) * 255 / (max - min)), halves to the even byte.

    **Source**: `quantize` of YouTube-8M's `extract_tfrecords_main.py`.

    **Differs**: takes any shape and returns uint8; the original takes one vector and returns its bytes.

    Args:
        features: floats of any shape.
        min_quantized_value, max_quantized_value: what the bytes 0 and 255 stand for.

    Raises:
        ValueError: a value that is not finite.

    Example:
        >>> quantize(np.array([-3.0, 0.0, 0.01, 2.0])).tolist()
        [0, 128, 128, 255]
    """
    features = np.asarray(features)
    if not np.isfinite(features).all():
        raise ValueError("features that are not finite cannot be quantised; look at the network's weights")
    clipped = np.clip(features, min_quantized_value, max_quantized_value)
    step = (max_quantized_value - min_quantized_value) / 255.0
    return np.rint((clipped - min_quantized_value) / step).astype("uint8")


class YouTube8MFeatureExtractor:
    """Features of RGB pictures, as YouTube-8M's.

    (x - mean) @ eigenvectors / sqrt(eigenvalues + 1e-4), where x are the 2048 averages of Inception v3.

    **Source**: `YouTube8MFeatureExtractor` of YouTube-8M's `feature_extractor.py`.

    **Differs**: nothing is downloaded into `model_dir`; what is missing is named. `apply_pca` is obeyed (the
    original's argument does nothing). Keras' Inception v3 may stand in for the graph of 2015.

    Args:
        model_dir: folder of the frozen graph `classify_image_graph_def.pb` and of the PCA: `mean.npy`
            (2048, 1), `eigenvals.npy` (2048, 1), `eigenvecs.npy` (2048, 2048, a row a component).
        backbone: `inception_2015`, the graph of `model_dir`, or `inception_v3` of Keras Applications.
        weights: of `inception_v3`: `imagenet`, `random`, or a file, as `tfvc.backbones.visual`.
        pca: `files`, those of `model_dir`, or `random`: a projection drawn once, to try things out.

    Attributes:
        weights: sentence for people: where the network's weights came from.
        size: (height, width) that the network wants its pictures in; None: any, the graph scales them itself.

    Raises:
        FileNotFoundError: a file is missing; the message says where to put it, and how to do without, in the
            flags of `starter.extract_tfrecords_main`. `load` looks first, and names the recipe's field.
        ValueError: a file of another kind, or a word that is none of those above.
    """

    def __init__(self, model_dir=MODEL_DIR, *, backbone="inception_2015", weights="imagenet", pca="files"):
        folder = Path(model_dir).expanduser()
        if backbone not in BACKBONES or pca not in PCAS:
            raise ValueError(
                f"backbone={backbone!r}, pca={pca!r}: expected one of {', '.join(BACKBONES)} and one of "
                f"{', '.join(PCAS)}"
            )
        self.pca_mean, self.pca_eigenvals, self.pca_eigenvecs = (
            _random_pca() if pca == RANDOM else _read_pca(folder)
        )
        if backbone == "inception_2015":
            self.weights = f"the published graph ({GRAPH_FILE})"
            self.size, self._encode = None, _frozen_inception(folder / GRAPH_FILE)
        else:
            encoder = _keras_inception(weights)
            self.weights, self.size, self._encode = encoder.weights, _SIZE, encoder.encode

    def extract_rgb_frame_features(self, frame_rgb, apply_pca=True):
        """float32 (1024,) of one picture, uint8 RGB (height, width, 3); (2048,) without the PCA."""
        frame_rgb = np.asarray(frame_rgb)
        if frame_rgb.dtype != np.uint8 or frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3:
            raise ValueError(
                f"frame_rgb {frame_rgb.dtype} {frame_rgb.shape}: expected uint8 (height, width, 3)"
            )
        if self.size and frame_rgb.shape[:2] != self.size:
            scaled = tf.image.resize(frame_rgb, self.size, "area")
            frame_rgb = tf.saturate_cast(tf.round(scaled), tf.uint8).numpy()
        features = self._encode(frame_rgb[None])[0]
        return self.apply_pca(features) if apply_pca else features

    def extract_frames(self, frames):
        """float32 (N, 1024) of pictures uint8 (N, *size, 3)."""
        return self.apply_pca(self._encode(frames))

    def apply_pca(self, frame_features):
        """float32 (..., 1024) of Inception's averages (..., 2048)."""
        projected = (np.asarray(frame_features, "float32") - self.pca_mean) @ self.pca_eigenvecs
        return projected / np.sqrt(self.pca_eigenvals + np.float32(1e-4))


class Sound:
    """VGGish and its PCA: what YouTube-8M keeps of a clip's sound.

    Args:
        weights: of VGGish, as `tfvc.backbones.vggish.load` takes them.
        pca: as `tfvc.backbones.vggish.load_pca` takes it.

    Attributes:
        weights: sentence for people: where the network's weights came from.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: weights without the dense layers, or a file of another kind.
    """

    def __init__(self, weights, pca=""):
        self._pca = vggish.load_pca(pca)  # first: it is there, or not, at once
        self._net = vggish.load(weights)
        self.weights = self._net.weights
        if "embedding" not in self._net.outputs:
            raise ValueError(f"{weights}: no dense layers in it, so no embedding; expected fc1, fc2")

    def extract(self, waveform, frames, fps=1):
        """The sound of some frames.

        A frame has the sound of the second that it lies in. Frames behind the sound's end are left out.

        Args:
            waveform: float (samples,) in [-1, 1] at 16 kHz, not empty.
            frames: how many frames, at most, are asked for.
            fps: frames a second.

        Returns:
            uint8 (M, 128), M <= frames, and float (128,): the mean of the M rows before they are quantised.
        """
        second = (np.arange(frames) // fps).astype(int)
        second = second[second * log_mel.RATE < len(waveform)]
        embeddings, _ = self._net.encode(waveform, count=int(second[-1]) + 1)
        values = self._pca.whiten(embeddings)[second]
        return vggish.quantize(values), values.mean(0, dtype="float64")


@dataclass(frozen=True)
class Networks:
    """What turns clips into streams: `pictures`, a `YouTube8MFeatureExtractor`, and `sound`, a `Sound`.

    Either may be None: that stream is not wanted.
    """

    pictures: YouTube8MFeatureExtractor | None
    sound: Sound | None

    @property
    def weights(self):
        """Sentence for people: where the weights came from."""
        parts = {"inception": self.pictures, "vggish": self.sound}
        return "; ".join(f"{name}: {part.weights}" for name, part in parts.items() if part)


def load(weights="", *, pictures=True, sound=True):
    """The networks of YouTube-8M's streams, from the files of one folder.

    Looked for: `classify_image_graph_def.pb`, or else Keras' own file of Inception v3; the PCA's `mean.npy`,
    `eigenvals.npy`, `eigenvecs.npy`; `vggish_model.ckpt`, or else `vggish*.h5`; `vggish_pca_params.npz`. What
    the folder does not hold is looked for in `tfvc.backbones.weights.folders()` as well: the folder
    TFVC_WEIGHTS, and Keras' cache. Nothing is downloaded.

    Args:
        weights: the folder; "" or "imagenet": `~/yt8m`; "random": random networks and projections, to try
            things out.
        pictures, sound: which of the two are wanted; no file is asked for otherwise.

    Returns:
        `Networks`.

    Raises:
        FileNotFoundError: a folder or a file is missing; the message says which, where it is to be had, and
            how to go on without.
        ValueError: a file of another kind.

    Example:
        >>> load(".")
        Traceback (most recent call last):
        ...
        FileNotFoundError: mean.npy: no such file. Unpack http://data.yt8m.org/yt8m_pca.tgz into ...
    """
    if weights == RANDOM:
        return Networks(
            YouTube8MFeatureExtractor(backbone="inception_v3", weights=RANDOM, pca=RANDOM)
            if pictures
            else None,
            Sound(RANDOM, RANDOM) if sound else None,
        )
    first = Path(MODEL_DIR if weights in ("", "imagenet") else weights).expanduser()
    if weights not in ("", "imagenet") and not first.is_dir():
        raise FileNotFoundError(
            f"backbone.weights={weights}: no such folder; expected one with {GRAPH_FILE}, "
            f"{', '.join(PCA_FILES)}, {VGGISH_FILES[0]} and {VGGISH_PCA}, or random"
        )
    folders = [first, *weight_files.folders()]
    # Every file is looked for before the first network is built, which takes seconds.
    found = _picture_files(folders) if pictures else {}
    heard = _sound_files(folders) if sound else ()
    return Networks(
        YouTube8MFeatureExtractor(**found) if pictures else None, Sound(*heard) if sound else None
    )


def _picture_files(folders):
    """Arguments of `YouTube8MFeatureExtractor`; the PCA and the published graph lie in one folder."""
    folder = next((f for f in folders if (f / PCA_FILES[0]).is_file()), folders[0])
    for name in PCA_FILES:
        if not (folder / name).is_file():
            raise _absent(folder / name, _PCA_URL)
    if (folder / GRAPH_FILE).is_file():
        return {"model_dir": folder}
    stand_in = _find(folders, KERAS_FILE)
    if stand_in is None:
        raise _absent(folder / GRAPH_FILE, _GRAPH_URL)
    return {"model_dir": folder, "backbone": "inception_v3", "weights": str(stand_in)}


def _sound_files(folders):
    """Arguments of `Sound`."""
    weights, pca = _find(folders, *VGGISH_FILES), _find(folders, VGGISH_PCA)
    for name, path in (("vggish", weights), ("vggish_pca", pca)):
        if path is None:
            file = weight_files.SOUND_FILES[name]
            raise _absent(folders[0] / file.name, file.url)
    return str(weights), str(pca)


def _find(folders, *patterns):
    """The first file of these names; of a checkpoint in parts (NAME.index, NAME.data-...) its common name."""
    for folder in folders:
        for pattern in patterns:
            if found := sorted(folder.glob(pattern)) or sorted(folder.glob(f"{pattern}.index")):
                return found[0].with_name(found[0].name.removesuffix(".index"))
    return None


def _absent(path, url):
    return _missing(
        path,
        url,
        "predict records, or --set=backbone.weights=random to try things out",
        "--set=backbone.weights=FOLDER, or TFVC_WEIGHTS",
    )


def _keras_inception(weights):
    row = recipe.Backbone(name="inception_v3", weights=weights, size=_SIZE, pooling="avg")
    try:
        return visual.load(row)
    except FileNotFoundError as error:  # its message names the switch of tfvc's commands
        ours = str(error).replace("--set=backbone.weights", "--backbone_weights")
        raise FileNotFoundError(ours.replace("backbone.weights", "backbone_weights")) from None


def _missing(path, url, without, folder="--model_dir"):
    verb = "Unpack" if url.endswith(".tgz") else "Put"
    return FileNotFoundError(
        f"{path}: no such file. {verb} {url} into {path.parent} (or name its folder: {folder}), or go on "
        f"without: {without}"
    )


def _read_pca(folder):
    arrays = []
    for name in PCA_FILES:
        path = folder / name
        try:
            arrays.append(np.load(path, allow_pickle=False))
        except FileNotFoundError:
            raise _missing(path, _PCA_URL, "--pca=random") from None
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: not an array file ({files.first_line(error)})") from None
    mean, values, vectors = arrays
    if mean.shape != (INCEPTION, 1) or values.shape[1:] != (1,) or vectors.shape[1:] != (INCEPTION,):
        raise ValueError(
            f"{folder}: mean {mean.shape}, eigenvals {values.shape}, eigenvecs {vectors.shape}; expected "
            f"({INCEPTION}, 1), ({INCEPTION}, 1) and ({INCEPTION}, {INCEPTION})"
        )
    if min(len(values), len(vectors)) < COMPONENTS:
        raise ValueError(f"{folder}: {len(vectors)} components; expected at least {COMPONENTS}")
    # `eigenvecs` holds a component a row.
    kept = mean[:, 0], values[:COMPONENTS, 0], vectors[:COMPONENTS].T
    return tuple(np.ascontiguousarray(v, "float32") for v in kept)


@functools.lru_cache(1)  # the decomposition takes a second
def _random_pca():
    """An orthonormal projection that is always the same; it neither shifts nor scales."""
    drawn = np.random.default_rng(0).standard_normal((INCEPTION, COMPONENTS))
    vectors = np.linalg.qr(drawn)[0].astype("float32")
    return np.zeros(INCEPTION, "float32"), np.ones(COMPONENTS, "float32"), vectors


def _frozen_inception(path):
    """A function from pictures (N, height, width, 3) to float32 (N, 2048), one by one as the graph wants.

    A session, not a `tf.function`: the graph of 2015 holds operations that are refused outside of one.
    """
    v1 = tf.compat.v1
    graph = tf.Graph()
    try:
        definition = v1.GraphDef.FromString(path.read_bytes())
        with graph.as_default():
            v1.import_graph_def(definition, name="")
        output = graph.get_tensor_by_name(_OUTPUT)
        graph.get_tensor_by_name(_INPUT)
    except FileNotFoundError:
        raise _missing(path, _GRAPH_URL, "--backbone=inception_v3") from None
    except (DecodeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path}: expected the frozen Inception of 2015, a GraphDef with {_INPUT} and {_OUTPUT} "
            f"({files.first_line(error)})"
        ) from None
    session = v1.Session(graph=graph)

    def encode(frames):
        rows = [session.run(output, {_INPUT: frame})[0] for frame in frames]
        return np.stack(rows)

    return encode
