"""The trainer on made-up batches: updates, logs, waiting time, transfer."""

import shutil
import time
import weakref
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitted import STEPS, TRAIN, arrays, assert_same, batches, fit, network, validation

from tfvc import checkpoints, optimizers, recipe, strategy, training
from tfvc.layers import Standardize


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    return {
        tag: {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in board.Tensors(tag)}
        for tag in board.Tags()["tensors"]
    }


# ---- optimisers ----


def test_rmsprop_keras2_follows_its_equation_over_several_steps():
    rng = np.random.default_rng(1)
    w = rng.normal(size=5)
    gradients = rng.normal(size=(6, 5)) * np.array([1, 1e-2, 1e-4, 1e-6, 0])
    rule, variable = optimizers.RMSpropKeras2(learning_rate=0.01), keras.Variable(w, dtype="float64")
    mean_square = np.zeros(5)
    for g in gradients:
        rule.apply([tf.constant(g)], [variable])
        mean_square = 0.9 * mean_square + 0.1 * g**2
        w = w - 0.01 * g / (np.sqrt(mean_square) + 1e-7)
        np.testing.assert_allclose(variable.numpy(), w, rtol=1e-5)


def test_rmsprop_keras2_takes_larger_steps_than_keras_3_where_gradients_are_small():
    step = {}
    for name in ("rmsprop", "rmsprop_keras2"):
        variable = keras.Variable([0.0])
        optimizers.optimizer(replace(TRAIN, optimizer=name)).apply([tf.constant([1e-5])], [variable])
        step[name] = -variable.numpy()[0]
    assert step["rmsprop_keras2"] == pytest.approx(0.01 / np.sqrt(0.1), rel=0.05)
    assert step["rmsprop"] < step["rmsprop_keras2"] / 50


def test_rmsprop_keras2_survives_its_config():
    rule = optimizers.RMSpropKeras2(learning_rate=0.02, rho=0.8, epsilon=1e-5)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(rule))
    assert isinstance(again, optimizers.RMSpropKeras2)
    assert (again.rho, again.epsilon, float(again.learning_rate.numpy())) == (0.8, 1e-5, pytest.approx(0.02))


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_every_optimizer_lowers_the_loss(name, tmp_path):
    progress = fit(tmp_path, replace(TRAIN, optimizer=name, epochs=6, learning_rate=0.05))[1]
    assert progress.history[-1]["val_loss"] < progress.history[0]["val_loss"]


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_every_optimizer_is_a_choice_of_the_recipe(name):
    assert recipe.get("attention_boosted", overrides=[f"train.optimizer={name}"]).train.optimizer == name


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'rmsprop_keras2'"):
        optimizers.optimizer(replace(TRAIN, optimizer="rmsprop_keras"))


# ---- what a run leaves ----


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs: its folder, its progress."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, fit(folder)[1]


def test_tensorboard_holds_each_step_and_epoch(finished):
    folder, progress = finished
    train, held = scalars(folder / "logs" / "train"), scalars(folder / "logs" / "validation")
    names = {"loss", "accuracy", "learning_rate", "examples_per_second", "data_wait_share"}
    assert set(train) == names | {f"epoch_{n}" for n in names}
    assert set(held) == {"epoch_loss", "epoch_accuracy"}
    assert all(sorted(train[n]) == list(range(1, 2 * STEPS + 1)) for n in names)
    assert all(sorted(v) == [1, 2] for v in (*(train[f"epoch_{n}"] for n in names), *held.values()))
    assert held["epoch_loss"][2] == pytest.approx(progress.history[1]["val_loss"], rel=1e-5)
    # A step's scalars are of that step, not running means: their mean is the epoch's.
    of_epoch = [train["loss"][s] for s in range(1, STEPS + 1)]
    assert np.mean(of_epoch) == pytest.approx(train["epoch_loss"][1], rel=1e-5)
    assert all(rate == pytest.approx(0.01) for rate in train["learning_rate"].values())
    assert all(speed > 0 for speed in train["examples_per_second"].values())


def test_the_csv_log_has_one_line_an_epoch_even_after_going_on(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    fit(folder, replace(TRAIN, epochs=4))
    lines = (folder / "log.csv").read_text().splitlines()
    assert lines[0].startswith("epoch;accuracy;loss;val_accuracy;val_loss;learning_rate")
    assert [line.split(";")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_the_saved_models_are_bare_and_the_best_is_of_the_best_epoch(tmp_path):
    bare, progress = fit(
        tmp_path, replace(TRAIN, epochs=5, learning_rate=0.3, optimizer="sgd", monitor="loss")
    )
    best = min(progress.history, key=lambda row: row["val_loss"])
    assert (progress.best, progress.best_epoch) == (best["val_loss"], best["epoch"])
    training.keep(bare, tmp_path, progress, "best")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert not loaded.compiled
    result = training.Judge(loaded, TRAIN).measure(validation())
    assert result["loss"] == pytest.approx(best["val_loss"], rel=1e-5)
    training.keep(bare, tmp_path, progress, "last")
    last = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert training.Judge(last, TRAIN).measure(validation())["loss"] == pytest.approx(
        progress.history[-1]["val_loss"], rel=1e-5
    )


@pytest.mark.parametrize("known", [True, False])
def test_measuring_goes_through_the_data_once(known, monkeypatch):
    opened, (inputs, labels) = [], arrays()

    def iterate(dataset, old=tf.data.Dataset.__iter__):
        opened.append(dataset)
        return old(dataset)

    def part(clips):
        data = tf.data.Dataset.from_tensor_slices(({"frames": inputs[:clips]}, labels[:clips])).batch(8)
        return data if known else data.filter(lambda *_: True)

    def accuracy():
        return pytest.approx(np.mean(model.predict_on_batch(inputs).argmax(1) == labels.argmax(1)))

    model = network()
    judge, whole, less = training.Judge(model, TRAIN), part(20), part(11)  # 8, 8 and 4; 8 and 3
    with monkeypatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", iterate)
        found = [judge.measure(data) for data in (whole, whole, less, whole)]
        assert found[0]["clips"] == len(inputs) and found[0]["accuracy"] == accuracy()
        model.set_weights([-weight for weight in model.get_weights()])
        turned = judge.measure(whole)
    assert not known or len(opened) == 3  # not for each pass
    assert found[0] == found[1] == found[3] != turned
    assert [row["clips"] for row in (*found, turned)] == [20, 20, 11, 20, 20]
    assert turned["accuracy"] == accuracy()
    gone = weakref.ref(judge)
    del judge
    assert gone() is None, "something of its own holds it, and the iterator's threads with it"


def test_sparse_rows_are_measured_as_dense_ones():
    x = keras.Input((4,), name="frames", sparse=True)
    judge = training.Judge(keras.Model({"frames": x}, keras.layers.Dense(3, "softmax")(x)), TRAIN)
    rows, labels = np.eye(4, dtype="float32")[:3], np.eye(3, dtype="float32")
    sparse, dense = (
        judge.measure(tf.data.Dataset.from_tensors(({"frames": given}, labels)))
        for given in (tf.sparse.from_dense(rows), rows)
    )
    assert sparse == pytest.approx(dense)


def test_early_stopping_counts_epochs_without_a_better_value(tmp_path, capsys):
    frozen = replace(TRAIN, epochs=9, patience=2, learning_rate=0.0)
    progress = fit(tmp_path, frozen)[1]
    assert (progress.epoch, progress.best_epoch) == (3, 1)
    assert fit(tmp_path, frozen)[1].step == progress.step, "started again, it trains no further"
    assert "stopping early" in capsys.readouterr().out


# ---- waiting for data ----


def after(seconds):
    """A function of a tensor that returns it later."""

    def act(x):
        time.sleep(seconds)
        return x

    return lambda x: tf.ensure_shape(tf.py_function(act, [x], x.dtype), x.shape)


class Slow(keras.layers.Layer):
    """Makes the rest of the step last a known time, once its batch is there."""

    def call(self, x):
        return after(0.1)(x)


def waited(tmp_path, feed):
    history = fit(tmp_path, TRAIN, feed, extra=Slow(name="slow"))[1].history
    return [row["data_wait_share"] for row in history]


def test_a_pipeline_that_sleeps_half_of_each_step_reads_half(tmp_path):
    def feed(first_step):
        slow = after(0.11)
        return batches(first_step).map(lambda inputs, labels: ({"frames": slow(inputs["frames"])}, labels))

    shares = waited(tmp_path, feed)
    assert all(0.4 <= share <= 0.6 for share in shares), shares


def test_the_time_of_a_checkpoint_is_not_the_speed_of_the_model(tmp_path, monkeypatch):
    save = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *given: (time.sleep(0.5), save(*given)))
    history = fit(tmp_path, replace(TRAIN, checkpoint_steps=1))[1].history
    assert history[-1]["examples_per_second"] > 2 * TRAIN.batch_size / 0.5


def test_a_cached_pipeline_hardly_waits(tmp_path):
    shares = waited(tmp_path, lambda first: batches(first).cache())
    assert all(share < 0.05 for share in shares), shares


# ---- the rest ----


def test_transfer_copies_by_name_and_shape_and_names_what_starts_fresh():
    training.start(0)
    source, target = network(), network(lambda x: keras.layers.Dense(5, name="between")(x))
    lines = training.transfer(target, source)
    np.testing.assert_array_equal(target.get_layer("hidden").kernel, source.get_layer("hidden").kernel)
    assert [line.split("'")[1] for line in lines] == ["between", "probabilities"]
    assert "not in the other run" in lines[0] and "(8, 2)" in lines[1] and "(5, 2)" in lines[1]


def test_transfer_of_statistics_alone_is_no_start():
    def model(width):
        frames = keras.Input((3, 4), name="frames")
        x = Standardize(name="standardize")(frames)
        return keras.Model({"frames": frames}, keras.layers.Dense(width, name="own")(x))

    with pytest.raises(ValueError, match="no layer of that run fits"):
        training.transfer(model(2), model(3))


def test_transfer_refuses_a_model_that_shares_nothing():
    frames = keras.Input((3, 4), name="frames")
    other = keras.Model({"frames": frames}, keras.layers.Dense(2, name="own")(frames))
    with pytest.raises(ValueError, match="no layer of that run fits"):
        training.transfer(network(), other)


def test_a_step_compiled_by_xla_trains_as_a_plain_one(tmp_path, monkeypatch):
    trained, compiled, compile_ = [], [], training.Trainee.compile

    def seen(self, *args, **options):
        compile_(self, *args, **options)
        compiled.append(self.jit_compile)

    monkeypatch.setattr(training.Trainee, "compile", seen)
    for jit in (False, True):
        training.start(0)
        model = network()
        model.get_layer("dropout").rate = 0  # XLA draws other random numbers
        own = replace(TRAIN, jit=jit)
        trained.append(training.fit(model, own, batches, STEPS, validation(), tmp_path / str(jit))[0])
        assert compiled[-1] is jit
    assert_same(trained[0], trained[1].get_weights())


def test_precision_sets_the_policy_and_puts_it_back(tmp_path):
    with training.precision("bfloat16"):
        assert network().get_layer("hidden").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_multi_label_is_trained_with_binary_cross_entropy(tmp_path):
    training.start(0)
    frozen = replace(TRAIN, learning_rate=0.0, monitor="loss")
    model = network(activation="sigmoid")
    progress = training.fit(model, frozen, batches, STEPS, validation(), tmp_path, multi_label=True)[1]
    model = keras.saving.load_model(tmp_path / "best.keras")
    x, y = arrays()
    p = np.clip(model.predict({"frames": x}, verbose=0), 1e-7, 1 - 1e-7)
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert progress.history[0]["val_loss"] == pytest.approx(expected, rel=1e-4)


def test_strategies_are_checked_by_name():
    assert strategy.scope("default").num_replicas_in_sync == 1
    devices = max(1, len(tf.config.list_physical_devices("GPU")))
    assert strategy.scope("mirrored").num_replicas_in_sync == devices
    with pytest.raises(ValueError, match="unknown strategy 'cpu:N'"):  # the placeholder itself
        strategy.scope("cpu:N")
    with pytest.raises(ValueError, match="did you mean 'mirrored'"):
        strategy.scope("mirored")
    with pytest.raises(ValueError, match="ask for it in a fresh one"):
        tf.constant(0) + 1  # sets the devices up
        strategy.scope("cpu:3")
