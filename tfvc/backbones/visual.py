"""Frames to features: one row a network of Keras Applications, or a model file, or a TensorFlow Hub handle.

**Source**: You & Korhonen (ICIP 2020), their extraction program: `preprocess_input` of the network, no
classifier on top, the last feature map flattened.
"""

import contextlib
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvc import files, names, recipe
from tfvc.backbones import given
from tfvc.backbones import weights as weight_files

_apps = keras.applications


@dataclass(frozen=True)
class Row:
    """A network of Keras Applications.

    Args:
        build: its constructor.
        preprocess: its own `preprocess_input`.
        map_shape: its last feature map for frames of 224 x 224.
    """

    build: object
    preprocess: object
    map_shape: tuple


ROWS = {
    "vgg16": Row(_apps.VGG16, _apps.vgg16.preprocess_input, (7, 7, 512)),
    "vgg19": Row(_apps.VGG19, _apps.vgg19.preprocess_input, (7, 7, 512)),
    "inception_v3": Row(_apps.InceptionV3, _apps.inception_v3.preprocess_input, (5, 5, 2048)),
    "resnet50": Row(_apps.ResNet50, _apps.resnet50.preprocess_input, (7, 7, 2048)),
    "xception": Row(_apps.Xception, _apps.xception.preprocess_input, (7, 7, 2048)),
    "densenet201": Row(_apps.DenseNet201, _apps.densenet.preprocess_input, (7, 7, 1920)),
    "mobilenet_v2": Row(_apps.MobileNetV2, _apps.mobilenet_v2.preprocess_input, (7, 7, 1280)),
}
FRAMES = weight_files.FRAMES
_MODES = ("caffe", "tf", "torch")


class Encoder:
    """A network with its preprocessing and pooling, ready to turn frames into features.

    Made by `load`. Same frames in the same batch, same bytes out.

    Attributes:
        model: functional `keras.Model` from uint8 frames (N, height, width, 3), in `channel_order`, to
            features (N, D); None for the row `frames`.
        feature_shape: shape of one frame's feature: `(D,)`, or `(height, width, 3)` for `frames`.
        feature_size: number of values of one frame's feature.
        dtype: of the features: `backbone.dtype`, or `uint8` for `frames`.
        weights: sentence for people: where the weights came from.
        weights_path: the file they were read from; "" for random ones.
        random: whether they are random.
        digest: hex digits that name everything that settles the output.
    """

    def __init__(self, backbone, channel_order, model, weights, path="", identity=""):
        self.model = model
        self.backbone = backbone
        self.channel_order = channel_order
        self.shape = (*backbone.size, 3)
        self.feature_shape = tuple(model.output_shape[1:]) if model else self.shape
        self.feature_size = int(np.prod(self.feature_shape))
        self.dtype = backbone.dtype if model else "uint8"
        self.weights = weights
        self.weights_path = str(path)
        self.random = weights.startswith("random")
        settled = [backbone.name, backbone.preprocessing, self.shape, backbone.pooling, backbone.precision]
        if path and backbone.name not in ROWS:
            settled[0] = "file"  # what is in it counts, not where it lies
        self.digest = recipe.digest([*settled, self.dtype, channel_order, identity])
        # Plain graph execution: XLA halves the speed of convolutions on a CPU. One signature: no retracing.
        signature = [tf.TensorSpec((None, *self.shape), tf.uint8)]
        self._compiled = tf.function(self._forward, input_signature=signature, autograph=False)

    def encode(self, frames, at_once=False):
        """Features of frames, `backbone.batch_size` frames a network call.

        Args:
            frames: uint8 array (N, height, width, 3) in the encoder's channel order.
            at_once: all of them in one call.

        Returns:
            Array (N, *feature_shape) of `dtype`.

        Raises:
            ValueError: frames of another size or type.
        """
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.shape[1:] != self.shape:
            raise ValueError(
                f"frames {frames.dtype} {frames.shape}: expected uint8 (N, {str(self.shape)[1:]}"
            )
        if self.model is None or not len(frames):
            return frames if self.model is None else np.zeros((0, *self.feature_shape), self.dtype)
        step = len(frames) if at_once else self.backbone.batch_size
        parts = [self._compiled(frames[i : i + step]).numpy() for i in range(0, len(frames), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def tensor(self, frames):
        """Features of RGB frames as a tensor, for an exported graph. Call it inside a `tf.function`.

        A server's pictures are RGB, so they are turned round here if the network was fed BGR.

        Args:
            frames: uint8 tensor (N, height, width, 3), RGB whatever `channel_order` is.

        Returns:
            Tensor (N, *feature_shape) of `dtype`.
        """
        return self._forward(frames[..., ::-1] if self.channel_order == "bgr" else frames)

    def _forward(self, frames):
        if self.model is None:
            return frames
        # saturate: float16 ends at 65504, and an infinity would poison the statistics.
        return tf.saturate_cast(self.model(frames, training=False), self.dtype)


def load(backbone, *, seed=0, demo=False, channel_order="rgb"):
    """The encoder of a recipe's backbone.

    A SavedModel is a program that may read and write files: load only those that you trust. The other
    forms are loaded without running any code of theirs.

    Args:
        backbone: `recipe.Backbone`. `name` is a row of `ROWS`, `frames` (the frames themselves, no
            network), the path of a `.keras` file, a whole-model `.h5` file or a SavedModel folder, or
            `hub:` before a TensorFlow Hub handle or path. A file names its `preprocessing`: a row, `none`,
            `scale` (to 0..1), or a mode of Keras (`caffe`, `tf`, `torch`).
        seed: of random weights.
        demo: the embedded demo set is being read: where the ImageNet weights cannot be had, go on with random
            ones and say so.
        channel_order: order of the frames that `encode` gets. With `bgr` they go straight into the
            preprocessing, which expects RGB: the published program's quirk.

    Raises:
        FileNotFoundError: weights or a model that are not there.
        ValueError: an unknown name, or a setting that does not go with this backbone.

    Example:
        >>> encoder = load(recipe.Backbone(name="vgg16", weights="random", size=(32, 32)))
        >>> encoder.encode(np.zeros((2, 32, 32, 3), "uint8")).shape
        (2, 512)
    """
    name = backbone.name
    if name == FRAMES:
        plain = recipe.Backbone()
        for field in ("preprocessing", "pooling", "precision", "dtype", "weights"):
            if (value := getattr(backbone, field)) not in (getattr(plain, field), "none"):
                raise ValueError(
                    f"backbone.{field}={value}: {FRAMES} has no network to apply it; leave it out"
                )
        return Encoder(backbone, channel_order, None, "none (the frames themselves)")
    if name in ROWS:
        network, *origin = _from_row(backbone, seed, demo)
    else:
        weight_files.check_name(name)
        _preprocess(backbone)  # refuses a missing name before the slow part
        network, *origin = given.load(backbone)
    return Encoder(backbone, channel_order, _whole(network, backbone), *origin)


@contextlib.contextmanager
def _policy(precision):
    """The arithmetic of the layers made inside, whatever the caller trains in."""
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy(given.POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(old)


def _whole(network, backbone):
    """uint8 frames -> preprocessing -> network -> pooling, as one functional model."""
    with _policy("float32"):
        frames = keras.Input((*backbone.size, 3), dtype="uint8", name="frames")
        x = _preprocess(backbone)(keras.ops.cast(frames, "float32"))
        try:
            x = network(x)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise ValueError(
                f"{backbone.name}: cannot take frames of backbone.size={backbone.size} "
                f"({files.first_line(error)})"
            ) from None
        if not isinstance(x, keras.KerasTensor):
            raise ValueError(f"{backbone.name}: expected one output, it has {len(x)}")
        if len(x.shape) == 4 and backbone.pooling != "none":
            pools = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
            x = pools[backbone.pooling](data_format="channels_last")(x)
        elif backbone.pooling != "none":
            raise ValueError(
                f"backbone.pooling={backbone.pooling}: {backbone.name} gives {len(x.shape) - 1}-D features, "
                "not a map (height, width, channels); expected none"
            )
        x = keras.layers.Flatten()(x)  # row-major over (height, width, channels), as the original
    return keras.Model(frames, x, name="encoder")


def _preprocess(backbone):
    name = backbone.preprocessing or (backbone.name if backbone.name in ROWS else "")
    if name in ROWS:
        return ROWS[name].preprocess
    if name in _MODES:
        return lambda x: _apps.imagenet_utils.preprocess_input(x, mode=name)
    if name in ("none", "scale"):
        return lambda x: x if name == "none" else x / 255.0
    known = (*ROWS, *_MODES, "none", "scale")
    if not name:
        raise ValueError(
            f"{backbone.name}: how its frames are preprocessed is not known; set backbone.preprocessing to "
            f"one of: {', '.join(known)}"
        )
    raise ValueError(names.suggest("value of backbone.preprocessing", name, known))


def _from_row(backbone, seed, demo):
    """(network, sentence, path, identity) of a row."""
    row, file = ROWS[backbone.name], weight_files.FILES[backbone.name]
    path = None
    if backbone.weights == "imagenet":
        try:
            path = weight_files.fetch(file)
        except weight_files.Unavailable as error:
            if not demo:
                raise FileNotFoundError(
                    f"{error}. Put the file there (or into a folder of your own named by TFVC_WEIGHTS), "
                    "or go on without: --set=backbone.weights=random"
                ) from None
            print(f"{backbone.name}: no ImageNet weights; going on with a random network ({error})")
    elif backbone.weights != "random":
        weight_files.check_given(backbone.weights)
        path = Path(backbone.weights)
    with _policy(backbone.precision):
        network = row.build(weights=None, include_top=False, input_shape=(*backbone.size, 3))
    if path is None:
        _randomize(network, seed)
        return network, f"random (seed {seed})", "", f"random {seed} rule 1"
    try:
        with warnings.catch_warnings():  # of a wrong file, one for each layer before the error itself
            warnings.simplefilter("ignore", UserWarning)
            network.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path}: not a weights file of {backbone.name} without its top ({files.first_line(error)})"
        ) from None
    digest = files.sha256(path)
    kind = "imagenet" if backbone.weights == "imagenet" else "given"
    return network, f"{kind} ({path.name}, sha256 {digest[:12]})", path, digest


def _randomize(network, seed):
    """Draws weights that keep the activations' variance: He et al. 2015, equation 10.

    Kernels are normal with variance 2 / fan-in, which makes good what the ReLU behind them halves; the
    depthwise half of a separable convolution has no ReLU and takes 1 / area. Biases are zero. Batch norms do
    nothing, except the last of a residual branch: it scales by 1/4, or by sqrt(1/2) where the shortcut has
    one as well. Else every block doubles the variance: ResNet50 reaches 300 times its input's size, Xception
    300,000 times. Each kernel has a generator of its own, of (seed, its place and shape), and NumPy draws
    it: the same network on every machine and version of TensorFlow.
    """
    for index, layer in enumerate(v for v in network.layers if v.weights):
        for weight in layer.weights:
            if len(weight.shape) != 4:
                continue  # biases, and batch norms as Keras starts them
            shape = tuple(weight.shape)
            area = shape[0] * shape[1]
            variance = 2.0 / (area * shape[2])
            if "depthwise" in weight.name:
                variance = 1.0 / area
            elif isinstance(layer, keras.layers.DepthwiseConv2D):
                variance = 2.0 / area
            key = zlib.crc32(f"{index}/{shape}".encode())
            normal = np.random.default_rng([seed % 2**32, key]).standard_normal(shape, np.float32)
            weight.assign(normal * np.float32(np.sqrt(variance)))
    producers = {id(layer.output): layer for layer in network.layers}
    for add in (v for v in network.layers if isinstance(v, keras.layers.Add)):
        ends = [producers[id(t)] for t in add.input]
        norms = [v for v in ends if isinstance(v, keras.layers.BatchNormalization)]
        for norm in norms:
            norm.gamma.assign(keras.ops.full(norm.gamma.shape, 0.5**0.5 if len(norms) == len(ends) else 0.25))
