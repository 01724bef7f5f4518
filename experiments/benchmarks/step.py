"""Seconds a training step of DbofModel and LstmModel, each with MoeModel, against plain Keras layers.

(a) ours: `starter.models.build_model` on uint8 frames, float32; (b) plain: the same network out of Keras' own
layers (Rescaling, UnitNormalization, Dense, BatchNormalization, LSTM ...), float32; for DBoF it is given the
sampled frames, ours samples them; (c) ours under mixed_bfloat16. The same loss, Adam and data; forward,
gradients and update in one tf.function. The rounds alternate, medians; the first step, which compiles, is in
none. Beside them the cluster product alone, forward and for the gradient of its weights: what the step cannot
do without.
"""

import statistics
import time

from experiments.benchmarks import Result, alternate, has_bfloat16, medians

OPTIONS = {
    "models": "DbofModel,LstmModel",
    "rounds": 7,
    "lstm_rounds": 3,
    "batch": 128,
    "lstm_batch": 128,
    "frames": 300,
    "classes": 3862,
    "clusters": 8192,
    "hidden": 1024,  # of DBoF's second layer, and cells of each LSTM
}
_PLAIN = 1.0  # plain / ours
_BFLOAT16 = 1 / 0.75  # float32 / bfloat16
_SIZES = (1024, 128)
_SAMPLED = 30


def run(options):
    """Measures each model in turn; returns the list of results."""
    results = []
    for name in options["models"].split(","):
        results += _model(name, options)
    if "DbofModel" in options["models"]:
        results += _product(options)
    return results


def _model(name, options):
    import keras

    from tfvc.names import suggest

    if name not in _PLAIN_MODELS:
        raise ValueError(suggest("model", name, _PLAIN_MODELS))
    lstm = name == "LstmModel"
    batch = options["lstm_batch" if lstm else "batch"]
    streams, joined, labels = _data(batch, options)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float32")
        plain = _PLAIN_MODELS[name](options)
        given = joined if lstm else [joined[0][:, :_SAMPLED]]
        cases = {
            "ours": _step(_ours(name, options), streams, labels),
            "plain": _step(plain, given, labels),
        }
        keras.config.set_dtype_policy("mixed_bfloat16")
        cases["bfloat16"] = _step(_ours(name, options), streams, labels)
        for case in cases.values():  # warm: traced and compiled
            case()
        seconds = alternate(cases, options["lstm_rounds" if lstm else "rounds"])
    finally:
        keras.config.set_dtype_policy(before)
    median = medians(seconds)
    shown = ", ".join(f"{key} {value:.3f}" for key, value in median.items())
    native = has_bfloat16()
    details = {"batch": batch, "seconds": seconds}
    return [
        Result(
            f"{name}: ours / plain Keras layers",
            median["plain"] / median["ours"],
            _PLAIN,
            f"seconds a step of {batch}: {shown}",
            details,
        ),
        Result(
            f"{name}: bfloat16 / float32",
            median["ours"] / median["bfloat16"],
            _BFLOAT16 if native else None,
            "" if native else "the processor has no bfloat16",
        ),
    ]


def _ours(name, options):
    from starter import models

    rows = models.rows("rgb,audio", list(_SIZES), True, options["frames"])
    flags = {
        "iterations": _SAMPLED,
        "dbof_cluster_size": options["clusters"],
        "dbof_hidden_size": options["hidden"],
        "lstm_cells": options["hidden"],
    }
    return models.build_model(name, rows, options["classes"], flags)


def _data(batch, options):
    """Ours: streams and lengths; plain: joined frames and their mask; labels. The same frames for both."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    frames = options["frames"]
    joined = rng.integers(0, 256, (batch, frames, sum(_SIZES)), "uint8")
    length = rng.integers(max(1, frames * 2 // 5), frames + 1, batch).astype("int32")
    rgb, audio = (tf.constant(part) for part in np.split(joined, _SIZES[:1], axis=-1))
    streams = {"rgb": rgb, "audio": audio, "rgb_length": length, "audio_length": length}
    labels = (rng.random((batch, options["classes"])) < 3 / options["classes"]).astype("float32")
    mask = np.arange(frames) < length[:, None]
    streams = {key: tf.constant(value) for key, value in streams.items()}
    return streams, [tf.constant(joined), tf.constant(mask)], tf.constant(labels)


def _plain_frames(shape):
    from keras import Input, layers

    frames = Input(shape, dtype="uint8")
    return frames, layers.UnitNormalization()(layers.Rescaling(4 / 255, 4 / 512 - 2)(frames))


def _plain_moe(x, classes):
    """The same mixture of two experts and a dummy."""
    from keras import layers, ops, regularizers

    penalty = regularizers.L2(1e-8 / 2)
    gates = layers.Dense(classes * 3, use_bias=False, kernel_regularizer=penalty)(x)
    experts = layers.Dense(classes * 2, kernel_regularizer=penalty)(x)
    gates = layers.Softmax()(layers.Reshape((classes, 3))(gates))
    experts = layers.Activation("sigmoid")(layers.Reshape((classes, 2))(experts))
    return ops.sum(gates[..., :2] * experts, axis=-1)


def _plain_dbof(options):
    from keras import Model, layers

    def norm(x):
        return layers.BatchNormalization(momentum=0.999, epsilon=1e-3)(x)

    frames, x = _plain_frames((_SAMPLED, sum(_SIZES)))
    x = norm(layers.Dense(options["clusters"], use_bias=False)(norm(x)))
    x = layers.GlobalMaxPooling1D()(layers.Activation("sigmoid")(x))
    x = layers.Activation("sigmoid")(norm(layers.Dense(options["hidden"], use_bias=False)(x)))
    return Model([frames], _plain_moe(x, options["classes"]))


def _plain_lstm(options):
    from keras import Input, Model, layers

    frames, x = _plain_frames((options["frames"], sum(_SIZES)))
    mask = Input((options["frames"],), dtype="bool")
    x = layers.LSTM(options["hidden"], return_sequences=True)(x, mask=mask)
    x = layers.LSTM(options["hidden"])(x, mask=mask)
    return Model([frames, mask], _plain_moe(x, options["classes"]))


_PLAIN_MODELS = {"DbofModel": _plain_dbof, "LstmModel": _plain_lstm}


def _step(model, inputs, labels):
    """One training step as a function without arguments, which ends when the step has ended."""
    import keras
    import tensorflow as tf

    from tfvc.losses import CrossEntropyLoss

    optimizer, loss = keras.optimizers.Adam(0.01, epsilon=1e-8), CrossEntropyLoss()
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=False)
    def step():
        with tf.GradientTape() as tape:
            value = loss(labels, model(inputs, training=True)) + sum(model.losses)
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return value

    def call():
        value = float(step())
        if value != value:
            raise ValueError(f"{model.name}: the loss is not a number; the time of such a step tells nothing")

    return call


def _product(options):
    """GFLOP/s of the cluster product, forward and gradient of the weights, in both precisions."""
    import tensorflow as tf

    rows, size, clusters = options["batch"] * _SAMPLED, sum(_SIZES), options["clusters"]
    x, g = tf.random.normal((rows, size)), tf.random.normal((rows, clusters))
    w = tf.random.normal((size, clusters))

    @tf.function
    def both(x, g, w):
        return tf.matmul(x, w)[0, 0], tf.matmul(x, g, transpose_a=True)[0, 0]

    results = []
    for dtype in ("float32", "bfloat16"):
        arrays = [tf.cast(a, dtype) for a in (x, g, w)]
        times = []
        for _ in range(options["rounds"] + 1):
            start = time.perf_counter()
            _ = [v.numpy() for v in both(*arrays)]
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times[1:])
        work = 4e-9 * rows * size * clusters
        note = f"GFLOP/s: {work:.0f} GFLOP in {seconds:.3f} s"
        results.append(Result(f"cluster product alone, {dtype}", work / seconds, None, note))
    return results
