"""SoundNet-8: sound at 22,050 Hz -> the rows of one of its layers, of a clip of any length.

**Source**: Aytar, Vondrick and Torralba (NeurIPS 2016), the network of 8 layers; spec/raf.md.
"""

import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfvc import recipe
from tfvc.backbones import weights as weight_files
from tfvc.backbones.soundnet_layers import (
    LAYERS,
    OUTPUTS,
    STRIDE,
    TOPS,
    WIDTHS,
    OwnRows,
    length,
    shortest,
    steps,
)
from tfvc.backbones.soundnet_weights import CONVOLUTION, HEADS, kinds, read_weights
from tfvc.backbones.vggish import randomize

RATE = 22050  # samples a second, of the first channel
SCALE = 256.0  # a fixed factor: the network was trained on samples in [-256, 256]
EPSILON = 1e-5  # of the batch norms
_FLICKR, _RANDOM = weight_files.SOUND_WORDS["soundnet"]
_PIECE = 1 << 16  # rows of a convolution that are computed at once: bounds the memory that a long sound takes


def build_model(*, widths=WIDTHS, heads=HEADS):
    """The network as a functional model with named outputs. Its weights are what Keras starts with.

    Seven times: convolution, batch norm, ReLU; behind 1, 2 and 5 the maximum over 8, 8 and 4 rows. The heads
    are convolutions of conv7 alone; their scores are raw.

    **Source**: Aytar et al. (NeurIPS 2016); the published Torch network of 8 layers.

    **Differs**: clips of several lengths share a batch. Behind its own rows each is zero in every layer, so
    that it gives what it gives alone. What is too short for a layer has 0 rows there; the original fails.

    Args:
        widths: channels of conv1 ... conv7 and of the two heads.
        heads: which of `objects` and `scenes` are there.

    Input:
        dict of `samples` float32 (B, S), in [-256, 256], and `lengths` int32 (B,): samples of each clip.

    Output:
        dict of float32 (B, N, C): `conv1` ... `conv7` behind the ReLU, `objects` (1000) and `scenes` (401), N
        as `length` says.

    Raises:
        ValueError: other than nine widths.

    Example:
        >>> model = build_model(widths=(2, 2, 2, 2, 2, 3, 4, 5, 6), heads=())
        >>> tuple(model({"samples": np.zeros((1, 22050)), "lengths": np.array([22050])})["conv7"].shape)
        (1, 2, 4)
    """
    if len(widths) != len(WIDTHS):
        raise ValueError(f"widths={widths}: expected {len(WIDTHS)}, of {', '.join(OUTPUTS)}")
    samples = keras.Input((None,), name="samples", dtype="float32")
    lengths = keras.Input((), name="lengths", dtype="int32")

    def own(x, of="", pool=1):
        return OwnRows(of, pool, dtype="float32")(x, samples, lengths)

    def convolved(x, step, width):
        arguments = {"strides": STRIDE, "name": step.name, "dtype": "float32"}
        return keras.layers.Conv1D(width, step.kernel, **arguments)(x)

    width_of, outputs = dict(zip(OUTPUTS, widths, strict=True)), {}
    x = own(ops.expand_dims(samples, -1))
    for step in LAYERS:
        x = keras.layers.ZeroPadding1D(step.pad, dtype="float32")(x)
        x = convolved(x, step, width_of[step.name])
        x = keras.layers.BatchNormalization(epsilon=EPSILON, name=_norm(step.name), dtype="float32")(x)
        x = outputs[step.name] = own(keras.layers.ReLU(dtype="float32")(x), step.name)
        if step.pool > 1:
            # A last window that is not full is dropped, also where others have more sound behind it.
            x = own(keras.layers.MaxPooling1D(step.pool, dtype="float32")(x), step.name, step.pool)
    for step in (top for top in TOPS if top.name in heads):
        # Room for one window in the shortest sound; the rows that reach into it are cut off again.
        padded = keras.layers.ZeroPadding1D((0, step.kernel - 1), dtype="float32")(x)
        outputs[step.name] = own(convolved(padded, step, width_of[step.name]), step.name)
    return keras.Model({"samples": samples, "lengths": lengths}, outputs, name="soundnet")


def _norm(layer):
    return f"{layer}_norm"


class SoundNet:
    """SoundNet with its weights, ready to turn sound into features. Made by `load`.

    Attributes:
        model: functional `keras.Model`, see `build_model`.
        outputs: the names that `encode` can give.
        weights: sentence for people: where the weights came from.
        random: whether they are random.
        digest: hex digits that name everything that settles the output.
    """

    def __init__(self, model, weights, identity):
        self.model = model
        self.outputs = tuple(model.output)
        self.weights = weights
        self.random = weights.startswith(_RANDOM)
        self.digest = recipe.digest(["soundnet", identity])
        self._stage = functools.cache(self._make_stage)
        self._network = functools.cache(self._make_network)

    def encode(self, waveform, output="conv7", after_relu=True):
        """Features of a clip's sound: rows of one layer. Of conv7, a row each 1.49 s.

        Each layer is computed in overlapping pieces, so that the memory for an hour of sound stays bounded.

        **Differs**: sound that is shorter than `shortest(output)`, and absent sound, is filled up with zeros
        to one row, where the original fails. The original cuts at 20 s; here the whole clip is heard.

        Args:
            waveform: float (samples,) in [-1, 1] at 22,050 Hz, as `tfvc.data.audio.WholeTrack` gives; None or
                empty: there is no sound.
            output: one of `outputs`.
            after_relu: conv1 ... conv7 behind their batch norm and ReLU, or before both. Heads have neither.

        Returns:
            float32 (N, C), N = `length(samples, output)`, at least 1.

        Raises:
            ValueError: no such output, or a waveform that is not one row of finite floats.
        """
        self._refuse(output)
        samples = np.zeros(0, "float32") if waveform is None else np.asarray(waveform)
        if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
            raise ValueError(
                f"waveform {samples.dtype} {samples.shape}: expected finite floats (samples,) in [-1, 1], "
                f"{RATE} Hz"
            )
        count = max(samples.size, shortest(output))
        path = steps(output)
        counts = [length(count, step.name) for step in path]

        def rows(level, start, stop):
            """Rows start ... stop of what convolution `level` reads, zeros outside the sound."""
            if level == 0:
                return _slice(samples, start, stop) * np.float32(SCALE)
            return computed(level - 1, start, stop)

        def computed(level, start, stop):
            step, last = path[level], level == len(path) - 1
            pool = 1 if last else step.pool
            stage = self._stage(step.name, not last, after_relu or not last)
            found = None
            low, high = max(0, start), min(stop, counts[level] // pool)
            for a in range(low, high, _PIECE // pool):
                b = min(a + _PIECE // pool, high)
                first = STRIDE * a * pool - step.pad
                read = rows(level, first, first + STRIDE * (b - a) * pool + step.kernel - STRIDE)
                piece = stage(read).numpy()
                if found is None:
                    found = np.zeros((stop - start, piece.shape[1]), "float32")
                found[a - start : b - start] = piece
            return found

        return computed(len(path) - 1, 0, counts[-1])

    def tensor(self, samples, lengths, output="conv7", after_relu=True):
        """Rows of one layer as a tensor, for an exported graph. Call it inside a `tf.function`.

        Args:
            samples: float32 tensor (B, S) in [-1, 1] at 22,050 Hz, clips padded behind their end.
            lengths: int32 tensor (B,), samples of each clip; 0: there is no sound.
            output, after_relu: as `encode`.

        Returns:
            float32 tensor (B, N, C): of each clip what `encode` gives of it alone, then rows of zeros.
            Without sound, zeros throughout.

        Raises:
            ValueError: no such output.
        """
        self._refuse(output)
        least = shortest(output)
        room = tf.maximum(0, least - tf.shape(samples)[1])
        samples = tf.pad(tf.cast(samples, tf.float32) * SCALE, [[0, 0], [0, room]])
        lengths = tf.cast(lengths, tf.int32)
        filled = tf.where(lengths > 0, tf.maximum(lengths, least), 0)
        # Between a clip's end and `least` lies whatever the batch holds there: silence it first.
        samples = tf.where(tf.range(tf.shape(samples)[1])[None] < lengths[:, None], samples, 0.0)
        network = self._network(output, after_relu or output in HEADS)
        return network({"samples": samples, "lengths": filled}, training=False)

    def _refuse(self, output):
        if output not in self.outputs:
            raise ValueError(f"output={output!r}: {self.weights} gives {', '.join(self.outputs)}")

    def _make_network(self, output, after_relu):
        found = self.model.output[output]
        if not after_relu:
            inputs = self.model.input
            rows = OwnRows(output, dtype="float32")
            found = rows(self.model.get_layer(output).output, inputs["samples"], inputs["lengths"])
        return keras.Model(self.model.input, found)

    def _make_stage(self, name, pooled, normed):
        """One convolution and what follows it, of rows that hold their padding already."""
        step = next(v for v in LAYERS + TOPS if v.name == name)
        layers = [self.model.get_layer(name)]
        if name not in HEADS and normed:
            layers += [self.model.get_layer(_norm(name)), keras.layers.ReLU(dtype="float32")]
        if pooled and step.pool > 1:
            layers.append(keras.layers.MaxPooling1D(step.pool, dtype="float32"))
        channels = layers[0].kernel.shape[1]

        @tf.function(input_signature=[tf.TensorSpec((None, channels), tf.float32)], autograph=False)
        def stage(rows):
            rows = rows[None]
            for layer in layers:
                rows = layer(rows, training=False) if layer.name == _norm(name) else layer(rows)
            return rows[0]

        traced = (
            stage.get_concrete_function()
        )  # called by itself: TensorFlow takes so many stages for retracing
        return lambda rows: traced(tf.constant(rows))


def _slice(samples, start, stop):
    """float32 (stop - start, 1): those samples, zeros where there are none."""
    found = np.zeros((stop - start, 1), "float32")
    low, high = max(0, start), min(stop, samples.size)
    if low < high:
        found[low - start : high - start, 0] = samples[low:high]
    return found


def load(weights=_FLICKR, *, seed=0):
    """SoundNet with its weights.

    Args:
        weights: `flickr` (the published ones, `sound8.npz`, looked for in the folder TFVC_WEIGHTS and in
            Keras' cache; `python -m tfvc.backbones sound8.npy` says how its owner makes it of the published
            pickle); `random`; or the path of such a `.npz` file.
        seed: of random weights.

    Raises:
        FileNotFoundError: weights that are not there.
        ValueError: a file that holds no SoundNet, or a pickle.

    Example:
        >>> load("random").encode(np.zeros(RATE, "float32"), "conv5").shape
        (12, 256)
    """
    if weights == _RANDOM:
        model = build_model()
        randomize(model, seed)
        # The norms of a network nobody trained do nothing, but for the first: it takes the factor out again.
        model.get_layer(_norm("conv1")).moving_variance.assign([SCALE**2] * LAYERS[0].width)
        return SoundNet(model, f"{_RANDOM} (seed {seed})", f"{_RANDOM} {seed} rule 1")
    path = _published() if weights == _FLICKR else Path(weights)
    named, digest = read_weights(path)
    heads = [name for name in HEADS if (name, "weights") in named]
    widths = [
        named[name, "weights"].shape[-1] if (name, "weights") in named else width
        for name, width in zip(OUTPUTS, WIDTHS, strict=True)
    ]
    model = build_model(widths=widths, heads=heads)
    assign(model, named)
    kind = _FLICKR if weights == _FLICKR else "given"
    return SoundNet(model, f"{kind} ({path.name}, digest {digest[:12]})", digest)


def assign(model, named):
    """Puts arrays into a model of `build_model`.

    Args:
        model: whose heads and widths are those of the arrays.
        named: dict, (layer, name) -> array, as of `soundnet_weights.read_weights`.
    """
    for name in model.output:
        arrays = [named[name, kind] for kind in kinds(name)]
        model.get_layer(name).set_weights(arrays[: len(CONVOLUTION)])
        if name not in HEADS:
            model.get_layer(_norm(name)).set_weights(arrays[len(CONVOLUTION) :])


def _published():
    row = weight_files.SOUNDNET
    path = weight_files.find(row)
    if path is None:
        where = " or ".join(map(str, weight_files.folders()))
        raise FileNotFoundError(
            f"{row.name}: not in {where}. It is made of the published sound8.npy "
            "(github.com/eborboihuc/SoundNet-tensorflow) as python -m tfvc.backbones sound8.npy says; put it "
            f"there, or go on without: soundnet_weights={_RANDOM}"
        )
    return path
