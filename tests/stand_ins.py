"""Small files with the names and forms of the networks that YouTube-8M's features were made with."""

import numpy as np
import tensorflow as tf

from tfvc.backbones import vggish
from tfvc.backbones.yt8m import GRAPH_FILE, INCEPTION, PCA_FILES


def pictures(folder):
    """The graph of 2015 and the PCA."""
    np.save(folder / "kernel.npy", write_inception(folder / GRAPH_FILE))
    generator = np.random.default_rng(1)
    mean, values = generator.normal(0, 0.1, (2048, 1)), generator.uniform(0.0, 0.1, (2048, 1))
    vectors = generator.normal(0, 0.05, (2048, 2048)).astype("float32")
    for name, array in zip(PCA_FILES, (mean, values, vectors), strict=True):
        np.save(folder / name, array)
    return folder


def sound(folder, weights="vggish.weights.h5", pca="vggish_pca_params.npz"):
    """A narrow VGGish as a file that holds its weights alone, and a PCA."""
    model = vggish.build_model(widths=(2, 3, 4, 5), dense=6)
    generator = np.random.default_rng(2)
    for layer in (v for v in model.layers if v.weights):
        layer.set_weights([generator.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    model.save_weights(folder / weights)
    np.savez(folder / pca, pca_eigen_vectors=0.3 * np.eye(128), pca_means=np.zeros((128, 1)))
    return folder


def write_inception(path):
    """A graph with the tensor names, the deprecated operation and the version of the one of 2015."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(0, 0.01, (1, 1, 3, INCEPTION)).astype("float32")
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        contents = v1.constant(b"", name="DecodeJpeg/contents")
        picture = tf.io.decode_jpeg(contents, channels=3, name="DecodeJpeg")
        x = tf.cast(picture, tf.float32)[None]
        x = tf.raw_ops.ResizeBilinear(images=x, size=[8, 8])
        moments = [tf.constant(v, name=name) for name, v in NORM.items()]
        x = tf.identity(x, name="norm")
        x = tf.nn.conv2d(x, kernel, 1, "VALID")
        x = tf.nn.avg_pool2d(x, 8, 1, "VALID", name="pool_3")
        tf.reshape(x, [1, INCEPTION], name="pool_3/_reshape")
    definition = graph.as_graph_def()
    node = next(n for n in definition.node if n.name == "norm")
    node.op = "BatchNormWithGlobalNormalization"
    node.input.extend(m.op.name for m in moments)
    node.attr["variance_epsilon"].f = 0.001
    node.attr["scale_after_normalization"].b = True
    definition.versions.producer = 8
    path.write_bytes(definition.SerializeToString())
    return kernel[0, 0]


NORM = {
    "mean": np.float32([100, 110, 120]),
    "variance": np.float32([900, 1000, 1100]),
    "beta": np.float32([0.1, 0.2, 0.3]),
    "gamma": np.float32([1, 2, 3]),
}


def inception(frames, kernel):
    """The graph in NumPy, for frames of 8 x 8 or of one colour."""
    scale = NORM["gamma"] / np.sqrt(NORM["variance"] + 0.001)
    return ((frames.astype("float64").mean((1, 2)) - NORM["mean"]) * scale + NORM["beta"]) @ kernel
