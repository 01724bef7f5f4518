"""VGGish: sound at 16 kHz -> maps, a pooled vector, or a 128-d embedding for each second.

**Source**: Hershey et al. (ICASSP 2017); AudioSet's release, `vggish_slim.py` and `vggish_postprocess.py`.
"""

import functools
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvc import files, recipe
from tfvc.backbones import given, log_mel
from tfvc.backbones import weights as weight_files
from tfvc.backbones.vggish_weights import CONVOLUTIONS, TOP, read_weights

WIDTHS = (64, 128, 256, 512)  # channels of conv1 .. conv4
DENSE, EMBEDDING = 4096, 128
OUTPUTS = ("conv4_2", "pooled", "embedding")
_RANDOM, _AUDIOSET = "random", "audioset"
_BATCH = 16  # seconds a network call


def build_model(*, pooling="avg", widths=WIDTHS, dense=DENSE, top=True):
    """The network as a functional model with named outputs. Its weights are zeros until they are set.

    Four blocks of 3 x 3 convolutions with ReLU, each with a 2 x 2 maximum behind it, then dense 4096, 4096
    with ReLU and a linear 128.

    **Source**: AudioSet's `vggish_slim.py`, in its current form.

    **Differs**: until 2020 the release had a ReLU behind the embedding too (tensorflow/models issue 9220).
    There is none here: the published PCA was computed without it (83 of its 128 means are negative).

    Args:
        pooling: of `pooled`: the `avg` or the `max` of each channel over the last block's maxima.
        widths: channels of the four blocks.
        dense: units of the two dense layers before the embedding.
        top: whether the three dense layers are there; without them there is no output `embedding`.

    Input:
        `patches` float32 (N, 96, 64, 1), log-mel.

    Output:
        dict of float32: `conv4_2` (N, 12, 8, 512), after the ReLU and before the last maximum; `pooled`
        (N, 512); `embedding` (N, 128).

    Raises:
        ValueError: an unknown pooling.

    Example:
        >>> model = build_model(widths=(2, 2, 2, 4), dense=8)
        >>> {name: tuple(v.shape) for name, v in model(np.zeros((1, 96, 64, 1))).items()}
        {'conv4_2': (1, 12, 8, 4), 'pooled': (1, 4), 'embedding': (1, 128)}
    """
    pools = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    if pooling not in pools:
        raise ValueError(f"pooling={pooling!r}: expected one of {', '.join(pools)}")
    zeros = {"kernel_initializer": "zeros", "dtype": "float32"}
    x = patches = keras.Input((log_mel.FRAMES, log_mel.BANDS, 1), name="patches")
    outputs = {}
    for block, (names, width) in enumerate(zip(CONVOLUTIONS, widths, strict=True), 1):
        for name in names:
            x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=name, **zeros)(x)
        maps, x = x, keras.layers.MaxPooling2D(2, name=f"pool{block}", dtype="float32")(x)
    outputs = {"conv4_2": maps, "pooled": pools[pooling](name="pooled", dtype="float32")(x)}
    if top:
        x = keras.layers.Flatten(name="flatten", dtype="float32")(x)
        for name in TOP[:2]:
            x = keras.layers.Dense(dense, activation="relu", name=name, **zeros)(x)
        outputs["embedding"] = keras.layers.Dense(EMBEDDING, name=TOP[2], **zeros)(x)
    return keras.Model(patches, outputs, name="vggish")


class Vggish:
    """VGGish with its front end, ready to turn sound into features. Made by `load`.

    Attributes:
        model: functional `keras.Model`, see `build_model`; None for a SavedModel.
        outputs: the names that `encode` can give.
        weights: sentence for people: where the weights came from.
        random: whether they are random.
        digest: hex digits that name everything that settles the output.
    """

    def __init__(self, model, network, weights, identity):
        self.model = model
        self.outputs = tuple(model.output) if model else ("embedding",)
        self.weights = weights
        self.random = weights.startswith(_RANDOM)
        self.digest = recipe.digest(["vggish", identity])
        self._network = network

    def encode(self, waveform, output="embedding", *, cut="second", count=None):
        """Features of a clip's sound, one row a second.

        **Differs**: short, silent and absent sound never fail and never give 0 rows, see `log_mel.windows`.

        Args:
            waveform: float (samples,) in [-1, 1] at 16 kHz, as `tfvc.data.audio.read_audio` gives; None or
                empty: there is no sound.
            output: `conv4_2`, `pooled` or `embedding`.
            cut: `second` (a row a second) or `patch` (a row each 0.96 s, as AudioSet).
            count: so many rows, whatever the sound's length: cut off, or filled with zero samples and masked.

        Returns:
            float32 (S, ...), S >= 1, and bool (S,): whether there is any sound in it.

        Raises:
            ValueError: no such output, or an argument that `log_mel.windows` refuses.
        """
        self._refuse(output)  # before the waveform is looked at
        pieces, mask = log_mel.windows(waveform, cut, count)
        return self.encode_pieces(pieces, output), mask

    def encode_pieces(self, pieces, output="embedding"):
        """Features of sound that is cut already, one row a piece.

        Args:
            pieces: float32 (S, 15600), S >= 1, in [-1, 1] at 16 kHz, as `tfvc.data.audio.Track` and
                `log_mel.windows` give.
            output: `conv4_2`, `pooled` or `embedding`.

        Returns:
            float32 (S, ...).

        Raises:
            ValueError: no such output, or pieces of another shape.
        """
        self._refuse(output)
        pieces = np.asarray(pieces, "float32")
        if pieces.ndim != 2 or not len(pieces) or pieces.shape[1] != log_mel.SAMPLES:
            raise ValueError(f"pieces {pieces.shape}: expected (S, {log_mel.SAMPLES}), S >= 1")
        parts = [self._network(pieces[i : i + _BATCH], output) for i in range(0, len(pieces), _BATCH)]
        return np.concatenate(parts)

    def _refuse(self, output):
        if output not in self.outputs:
            raise ValueError(
                f"output={output!r}: {self.weights} gives {', '.join(self.outputs)}; a file with fc1 and fc2 "
                "gives embedding, one that is no SavedModel gives maps"
            )

    def encode_quantized(self, waveform, pca, *, count=None):
        """The bytes that YouTube-8M keeps of a clip's sound, one row a second.

        Args:
            waveform, count: as `encode`.
            pca: a `Pca`.

        Returns:
            uint8 (S, 128) and bool (S,), as `encode`.
        """
        embeddings, mask = self.encode(waveform, count=count)
        return quantize(pca.whiten(embeddings)), mask

    def tensor(self, samples):
        """All outputs as tensors, for an exported graph. Call it inside a `tf.function`.

        Args:
            samples: float32 tensor (N, 15600), the first samples of each second at 16 kHz.

        Returns:
            dict of tensors, as `build_model`.

        Raises:
            ValueError: a SavedModel has no such graph; export that instead.
        """
        if self.model is None:
            raise ValueError(f"{self.weights}: a SavedModel takes whole waveforms; it is its own export")
        return self.model(log_mel.log_mel(samples)[..., None], training=False)


class Pca:
    """VGGish's PCA with whitening: (x - means) @ eigen_vectors^T.

    **Source**: AudioSet's `vggish_postprocess.py` and `vggish_pca_params.npz`.

    Args:
        eigen_vectors: (128, 128), a row a component.
        means: (128,).

    Example:
        >>> Pca(np.eye(128), np.ones(128)).whiten(np.ones((2, 128)))[0, :3].tolist()
        [0.0, 0.0, 0.0]
    """

    def __init__(self, eigen_vectors, means):
        self.eigen_vectors, self.means = np.asarray(eigen_vectors), np.ravel(means)
        if self.eigen_vectors.shape != (EMBEDDING, EMBEDDING) or self.means.shape != (EMBEDDING,):
            raise ValueError(
                f"eigen_vectors {self.eigen_vectors.shape}, means {self.means.shape}: expected "
                f"({EMBEDDING}, {EMBEDDING}) and ({EMBEDDING},)"
            )

    def whiten(self, embeddings):
        """float (S, 128) embeddings -> float32 (S, 128), before they are cut to [-2, 2] and quantised."""
        return ((embeddings - self.means) @ self.eigen_vectors.T).astype("float32")


def quantize(values):
    """floor((clip(x, -2, 2) + 2) * 255 / 4) as uint8.

    **Source**: AudioSet's `vggish_postprocess.py`, which cuts the fraction off. YouTube-8M's own extractor
    of pictures rounds: see `tfvc.backbones.yt8m.quantize`.

    Example:
        >>> quantize(np.array([-9.0, 0.0, 2.0])).tolist()
        [0, 127, 255]
    """
    return ((np.clip(values, -2.0, 2.0) + 2.0) * (255 / 4)).astype("uint8")


def load_pca(path=""):
    """The PCA of a `.npz` file with `pca_eigen_vectors` and `pca_means`.

    Args:
        path: the file; "": AudioSet's `vggish_pca_params.npz`, looked for as weights are; "random": one drawn
            from seed 0, to try things out.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: another kind of file.
    """
    if path == "random":
        drawn = np.random.default_rng(0).standard_normal((EMBEDDING, EMBEDDING)) / np.sqrt(EMBEDDING)
        return Pca(drawn, np.zeros(EMBEDDING))
    path = Path(path) if path else _fetch("vggish_pca", "or say --vggish_pca=FILE, or =random to try")
    try:
        with np.load(path, allow_pickle=False) as file:
            return Pca(file["pca_eigen_vectors"], file["pca_means"])
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected vggish_pca_params.npz") from None
    except (ValueError, KeyError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a .npz file with pca_eigen_vectors (128, 128) and pca_means (128,) "
            f"({files.first_line(error)})"
        ) from None


def load(weights=_AUDIOSET, *, seed=0, pooling="avg"):
    """VGGish with its weights.

    A SavedModel is a program that may read and write files: load only those that you trust.

    Args:
        weights: `audioset` (the published `vggish_model.ckpt`, looked for in the folder TFVC_WEIGHTS and in
            Keras' cache, else downloaded); `random`; the path of a TensorFlow checkpoint (TF 1, of either
            version), of a Keras `.h5` file with or without the dense layers, or of a SavedModel folder;
            `hub:` before a TensorFlow Hub handle or path, as hub:https://tfhub.dev/google/vggish/1.
        seed: of random weights.
        pooling: of the output `pooled`: `avg` or `max`.

    Raises:
        FileNotFoundError: weights that are not there.
        ValueError: a file that holds no VGGish.

    Example:
        >>> embeddings, mask = load("random").encode(np.zeros(20000, "float32"))
        >>> embeddings.shape, mask.tolist()
        ((2, 128), [True, True])
    """
    if weights == _RANDOM:
        model = build_model(pooling=pooling)
        randomize(model, seed)
        return _wrap(model, f"random (seed {seed})", f"random {seed} {pooling} rule 1")
    if weights.startswith(weight_files.HUB) or Path(weights).is_dir():
        return _from_saved_model(weights.removeprefix(weight_files.HUB))
    path = (
        _fetch("vggish", f"or go on without: vggish_weights={_RANDOM}")
        if weights == _AUDIOSET
        else Path(weights)
    )
    named, digest = read_weights(path)
    top = all((name, "kernel") in named for name in TOP)
    model = build_model(
        pooling=pooling,
        widths=[named[block[0], "kernel"].shape[-1] for block in CONVOLUTIONS],
        dense=named[TOP[0], "kernel"].shape[-1] if top else DENSE,
        top=top,
    )
    _assign(model, named, path)
    kind = _AUDIOSET if weights == _AUDIOSET else "given"
    note = "" if top else ", without dense layers"
    return _wrap(model, f"{kind} ({path.name}, digest {digest[:12]}{note})", f"{digest} {pooling}")


def _assign(model, named, path):
    for layer in (v for v in model.layers if v.weights):
        for weight, kind in zip(layer.weights, ("kernel", "bias"), strict=True):
            array = named.get((layer.name, kind))
            if array is None or array.shape != tuple(weight.shape):
                held = "missing" if array is None else f"{array.shape}"
                raise ValueError(f"{path}: {layer.name}/{kind} is {held}, expected {tuple(weight.shape)}")
            weight.assign(array)


def randomize(model, seed):
    """Draws the kernels of a model's layers, by their names; all else stays as it is.

    Normal, variance 2 / fan-in; drawn by NumPy, the same everywhere.

    **Source**: He et al. (ICCV 2015), equation 10.

    Args:
        model: whose layers with a kernel are meant.
        seed: of the draw.
    """
    for layer in (v for v in model.layers if hasattr(v, "kernel")):
        shape = tuple(layer.kernel.shape)
        generator = np.random.default_rng([seed % 2**32, zlib.crc32(layer.name.encode())])
        scale = np.float32(np.sqrt(2.0 / np.prod(shape[:-1])))
        layer.kernel.assign(generator.standard_normal(shape, np.float32) * scale)


def _wrap(model, sentence, identity):
    @functools.cache  # a network for each output: nothing is computed above it
    def forward(output):
        network = keras.Model(model.input, model.output[output])

        # Plain graph execution: XLA halves the speed of convolutions on a CPU. One signature: no retracing.
        @tf.function(input_signature=[tf.TensorSpec((None, log_mel.SAMPLES), tf.float32)], autograph=False)
        def encode(samples):
            return network(log_mel.log_mel(samples)[..., None], training=False)

        return encode

    return Vggish(model, lambda pieces, output: forward(output)(pieces).numpy(), sentence, identity)


def _from_saved_model(handle):
    path, network = given.hub_model(handle)
    digest = given.tree_digest(path)

    def encode(pieces, output):
        return np.concatenate([_one(network, piece, path) for piece in pieces])

    return Vggish(None, encode, f"given ({path.name}, sha256 {digest[:12]})", digest)


def _one(network, piece, path):
    """The embedding (1, 128) of one patch: a SavedModel takes one waveform and cuts it itself."""
    try:
        rows = np.asarray(network.call(tf.constant(piece)), "float32")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ValueError(
            f"{path}: expected VGGish, a function of a float32 waveform (samples,) "
            f"({files.first_line(error)})"
        ) from None
    if rows.shape != (1, EMBEDDING):
        raise ValueError(
            f"{path}: gives {rows.shape} for {piece.size} samples; expected VGGish's (1, {EMBEDDING})"
        )
    return rows


def _fetch(name, switch):
    """A published file, found or downloaded; the error says where to put it."""
    try:
        return weight_files.fetch(weight_files.SOUND_FILES[name])
    except weight_files.Unavailable as error:
        raise FileNotFoundError(
            f"{error}. Put the file there (or into a folder of your own named by TFVC_WEIGHTS), {switch}"
        ) from None
