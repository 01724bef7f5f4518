"""A small network and made-up batches for the tests of the trainer."""

import keras
import numpy as np
import tensorflow as tf

from tfvc import training
from tfvc.recipe import Train

STEPS, BATCH = 4, 5
TRAIN = Train(batch_size=BATCH, epochs=2, learning_rate=0.01)


def arrays(count=STEPS * BATCH):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3, 4)).astype("float32")
    return x, np.eye(2, dtype="float32")[(x.sum((1, 2)) > 0).astype(int)]


def batches(first_step=0, data=None):
    """Without end, in an order that depends on the step alone."""
    inputs, labels = data or arrays()
    return (
        tf.data.Dataset.from_tensor_slices(({"frames": inputs}, labels))
        .batch(BATCH)
        .repeat()
        .skip(first_step)
    )


def validation():
    return batches().take(STEPS)


def network(extra=None, activation="softmax"):
    frames = keras.Input((3, 4), name="frames")
    x = keras.layers.Flatten(name="flatten")(frames)
    x = keras.layers.Dropout(0.3, name="dropout")(keras.layers.Dense(8, activation="relu", name="hidden")(x))
    x = extra(x) if extra else x
    x = keras.layers.Dense(2, activation=activation, dtype="float32", name="probabilities")(x)
    return keras.Model({"frames": frames}, x, name="net")


def fit(folder, train=TRAIN, feed=batches, extra=None, seed=0, held=None):
    training.start(seed)
    with training.precision(train.precision):
        model = network(extra)
    return training.fit(model, train, feed, STEPS, held or validation(), folder)


def assert_same(bare, weights):
    for a, b in zip(bare.get_weights(), weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def learns(net, loss, rate, rounds):
    """Trains a network to under a tenth of its first loss in so many rounds of 25 steps, or AssertionError.

    Args:
        loss: function of whether it is training.
    """
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(net.trainable_variables)

    @tf.function  # Keras' fit takes four times as long for so few steps
    def step():
        with tf.GradientTape() as tape:
            value = loss(True)
        weights = net.trainable_variables
        optimizer.apply(tape.gradient(value, [w.value for w in weights]), weights)

    first = float(loss(False))
    for _ in range(rounds):
        for _ in range(25):
            step()
        last = float(loss(False))
        if last < 0.1 * first:
            return
    raise AssertionError(f"loss {first} -> {last}")
