"""Small clips of sight, sound and text, and models on them, for the tests of raf and resbilstm."""

import fitted
import keras
import numpy as np
import oracles
import tensorflow as tf
from sight_and_sound import weights_of

from tfvc.recipe import Feature

CLASSES, CLIPS, WORDS = 3, 6, 7
SIZES = {"frames": (4, 7), "audio": (3, 5), "text": (5, 6)}
VECTORS = [Feature(name, shape) for name, shape in SIZES.items()]
NUMBERS = [*VECTORS[:2], Feature("text", (5, 1), "int32")]
HALVES = [Feature(name, shape, "float16") for name, shape in SIZES.items()]
PATHS = {"frames": "visual", "audio": "audio", "text": "text"}
# Of several labels a clip; the last has none.
LABELS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], "float32")


def build(module, rows=(), **args):
    keras.utils.set_random_seed(0)
    rows = rows or (NUMBERS if args.get("vocabulary") else VECTORS)
    small = {} if args.get("temporal") is False else {"units": 4}
    read = [row for row in rows if row.name in module.STREAMS[args.get("modality", "all")]]
    return module.build_model(read, CLASSES, **{"dense": 8} | small | args)


def batch(net, seed=0):
    """Clip 0 is short, clip 1 lacks its sound, clip 2 has nothing, clip 3 a row of zeros in the middle."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, tensor in net.input.items():
        shape = (CLIPS, *tensor.shape[1:])
        numbers = tensor.dtype == "int32"
        x = rng.integers(1, WORDS + 1, shape) if numbers else rng.normal(size=shape)
        x[0, 2:] = x[2] = 0
        x[3, 1] = x[3, 1] if numbers else 0
        inputs[name] = x.astype(tensor.dtype)
    if len(inputs) > 1 and "audio" in inputs:
        inputs["audio"][1] = 0
    return inputs


def learns(net, labels=LABELS, rate=0.03, several=True):
    """Trains on a batch to under a tenth of its first loss, or AssertionError."""
    inputs = batch(net)
    entropy = keras.losses.binary_crossentropy if several else keras.losses.categorical_crossentropy

    def loss(training):
        out = net(inputs, training=training)
        heads = tf.unstack(out["heads"], axis=1) if isinstance(out, dict) else [out]
        return tf.add_n([tf.reduce_mean(entropy(labels, head)) for head in heads])

    fitted.learns(net, loss, rate, rounds=12)


def oracle(net, inputs, attentions, pool="mean", early=False):
    """ "embedding" of the network, from the equations: modality -> its vector, in the order of the inputs."""
    w, sequences, lengths = weights_of(net), {}, {}
    for name, x in inputs.items():
        some = (x != 0).any(-1)
        lengths[PATHS[name]] = [max(np.flatnonzero(row), default=-1) + 1 for row in some]
        if name == "text" and "words" in w:
            x = w["words"]["embeddings"][x[..., 0]] * some[..., None]
        elif f"standardize_{name}" in w:
            of = w[f"standardize_{name}"]
            x = oracles.standardize(np.float64(x), of["mean"], of["variance"], 1e-3)
        sequences[PATHS[name]] = np.float64(x)
    if early:
        steps = max(x.shape[1] for x in sequences.values())
        padded = [np.pad(x, ((0, 0), (0, steps - x.shape[1]), (0, 0))) for x in sequences.values()]
        lengths = {"early": np.max(list(lengths.values()), axis=0)}
        sequences = {"early": np.concatenate(padded, axis=-1)}
    vectors = {}
    for path, x in sequences.items():
        for k, attention in enumerate(attentions):
            x = oracles.rabl(x, w[f"{path}_block_{k}"], attention, lengths[path])
        pooled = [
            np.zeros(x.shape[-1]) if not n else row[n - 1] if pool == "last" else row[:n].mean(0)
            for row, n in zip(x, lengths[path], strict=True)
        ]
        vectors[path] = oracles.relu(
            np.stack(pooled) @ w[f"{path}_dense"]["kernel"] + w[f"{path}_dense"]["bias"]
        )
    return vectors


def longer(module, net, inputs, more, **args):
    """The same weights on clips with `more` rows of padding behind those of every stream."""
    rows = [
        Feature(name, (x.shape[1] + more, x.shape[2]), "int32" if x.dtype == "int32" else "float32")
        for name, x in inputs.items()
    ]
    wide = build(module, rows, **args)
    wide.set_weights(net.get_weights())
    return wide, {name: np.pad(x, ((0, 0), (0, more), (0, 0))) for name, x in inputs.items()}
