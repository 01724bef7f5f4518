"""SqueezeNet 1.1 (Iandola et al. 2016) without its classifier, with the real ImageNet weights of ../shared.

The weights were converted from the authors' Caffe model: they want preprocessing `caffe` (BGR, mean
subtracted).
"""

import h5py
import keras

FILE = "data/weights/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
PREPROCESSING = "caffe"


def build(weights_path, size=(224, 224)):
    """The network up to fire9: frames (N, h, w, 3), preprocessed -> map (N, h/16, w/16, 512)."""

    def conv(x, name, filters, kernel, **options):
        return keras.layers.Conv2D(filters, kernel, activation="relu", name=name, **options)(x)

    def fire(x, number, squeeze, expand):
        x = conv(x, f"fire{number}_squeeze1x1", squeeze, 1)
        left = conv(x, f"fire{number}_expand1x1", expand, 1)
        right = conv(x, f"fire{number}_expand3x3", expand, 3, padding="same")
        return keras.layers.Concatenate(name=f"fire{number}_concat")([left, right])

    frames = keras.Input((*size, 3))
    x = conv(frames, "conv1", 64, 3, strides=2)
    for number, (squeeze, expand) in enumerate(((16, 64), (32, 128), (48, 192), (64, 256))):
        if number < 3:
            x = keras.layers.MaxPooling2D(3, 2, name=f"pool{2 * number + 1}")(x)
        x = fire(x, 2 * number + 2, squeeze, expand)
        x = fire(x, 2 * number + 3, squeeze, expand)
    model = keras.Model(frames, x, name="squeezenet")
    with h5py.File(weights_path) as file:  # Keras 2 layout: layer / path of the layer / variable
        for layer in model.layers:
            if layer.weights:
                group = file[layer.name.replace("_", "/", 1)]
                paths = [n.decode() if isinstance(n, bytes) else n for n in group.attrs["weight_names"]]
                layer.set_weights([group[p][()] for p in paths])
    return model


def save(weights_path, path, size=(224, 224)):
    """Writes the network as a `.keras` file, fit for `--backbone=PATH`."""
    build(weights_path, size).save(path)
    return path
