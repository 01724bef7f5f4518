"""Networks with a head each, trained together as if they were apart."""

import keras
import numpy as np
import pytest

from tfvc import updates

CLASSES = 3


def tower(name, x):
    x = keras.layers.Dense(5, activation="relu", name=f"{name}_dense")(x)
    return keras.layers.Dense(CLASSES, activation="sigmoid", name=f"{name}_head")(x)


def network():
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((4,), name=name) for name in ("a", "b")}
    heads = [tower(name, x) for name, x in inputs.items()]
    mean = keras.layers.Average(name="probabilities")(heads)
    return keras.Model(inputs, {"probabilities": mean, "heads": keras.ops.stack(heads, axis=1)})


def compiled(model):
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["binary_accuracy"])
    return model


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(6, 4)).astype("float32") for name in ("a", "b")}
    return inputs, rng.integers(0, 2, (6, CLASSES)).astype("float32")


def test_each_head_is_trained_as_if_it_were_alone(batch):
    inputs, labels = batch
    together = network()
    alone = {
        name: keras.Model(together.input[name], together.get_layer(f"{name}_head").output) for name in "ab"
    }
    alone = {name: compiled(keras.models.clone_model(model)) for name, model in alone.items()}
    for name, model in alone.items():
        model.set_weights(
            sum((together.get_layer(f"{name}_{part}").get_weights() for part in ("dense", "head")), [])
        )
    trained = compiled(updates.HeadLosses(together))
    for _ in range(8):
        logs = trained.train_on_batch(inputs, labels, return_dict=True)
        losses = [model.train_on_batch(inputs[name], labels)[0] for name, model in alone.items()]
        trained.reset_metrics()
        for model in alone.values():
            model.reset_metrics()
        np.testing.assert_allclose(logs["loss"], sum(losses), rtol=1e-5)
    for name, model in alone.items():
        for part in ("dense", "head"):
            for one, other in zip(
                together.get_layer(f"{name}_{part}").get_weights(),
                model.get_layer(f"{name}_{part}").get_weights(),
                strict=True,
            ):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_measures_are_of_the_mean_of_the_heads(batch):
    inputs, labels = batch
    model = compiled(updates.HeadLosses(network()))
    logs = model.test_on_batch(inputs, labels, return_dict=True)
    found = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(found["heads"].mean(axis=1), found["probabilities"], rtol=1e-6)
    np.testing.assert_allclose(
        logs["binary_accuracy"], np.mean((found["probabilities"] > 0.5) == labels), rtol=1e-6
    )


def test_config_goes_round():
    model = updates.HeadLosses(network())
    again = updates.HeadLosses.from_config(model.get_config())
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
