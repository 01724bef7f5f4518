"""The training step: its loss, its gradients over replicas, its optimisers and its rate."""

import os
import re
import subprocess
import sys

import golden_trainsteps
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from golden import read
from test_starter_train import CLASSES, LOOK, WIDTH, video, write

from starter import losses, models, trainer
from tfvc.optimizers import StaircaseDecay


def network(classes=3, width=6, **flags):
    keras.utils.set_random_seed(1)
    return models.build_model("MoeModel", models.rows("mean_rgb", str(width), False), classes, flags)


def data(videos=12, classes=3, width=6):
    random = np.random.default_rng(0)
    x = random.normal(size=(videos, width)).astype("float32")
    return x, (random.random((videos, classes)) < 0.5).astype("float32")


def clipped(gradients, norm):
    return [g * min(1.0, norm / np.linalg.norm(g)) for g in gradients]


def by_hand(net, halves, penalty, norm, rate):
    """One step of gradient descent: the gradients of each half's loss, summed, clipped one by one."""
    loss = losses.find("CrossEntropyLoss")
    sums = [np.zeros(v.shape, "float32") for v in net.trainable_variables]
    for x, y in halves:
        with tf.GradientTape() as tape:
            total = loss.calculate_loss(net({"mean_rgb": x}, training=True), y) + penalty * sum(net.losses)
        sums = [a + g for a, g in zip(sums, tape.gradient(total, net.trainable_variables), strict=True)]
    for variable, gradient in zip(net.trainable_variables, clipped(sums, norm), strict=True):
        variable.assign_sub(rate * gradient)


def fitted(net, batches, penalty=0.5, norm=0.1, rate=0.5):
    model = trainer.Trainer(net, losses.find("CrossEntropyLoss"), penalty, norm)
    model.compile(trainer.optimizer("GradientDescentOptimizer", rate), jit_compile=False)
    model.fit(batches, verbose=0, shuffle=False)
    return model


def test_the_step_that_finds_no_more_data_does_not_count():
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices(({"mean_rgb": x}, y)).batch(4)
    fit = fitted(network(), batches.filter(lambda *_: True))  # of unknown length, as records are
    assert int(fit.optimizer.iterations) == 3


REPLICAS = """
import sys
from tfvc import start
start.spare()
import keras, numpy as np, tensorflow as tf
from tfvc import strategy
devices = strategy.scope("cpu:2")
import test_starter_trainer as t
x, y = t.data()
with devices.scope():
    net = t.network(moe_l2=0.1)
    model = t.fitted(net, tf.data.Dataset.from_tensor_slices(({"mean_rgb": x}, y)).batch(6))
assert model.seen.predictions.shape == (6, 3), model.seen.predictions.shape
ours = [keras.ops.convert_to_numpy(v) for v in net.variables]
other = t.network(moe_l2=0.1)
for k in (0, 6):
    halves = [(x[i : i + 3], y[i : i + 3]) for i in (k, k + 3)]
    loss = t.losses.find("CrossEntropyLoss").calculate_loss
    want = np.mean([loss(other({"mean_rgb": a}), b) for a, b in halves])
    t.by_hand(other, halves, 0.5, 0.1, 0.5)
np.testing.assert_allclose(model.seen.loss, want, rtol=1e-5)  # of the last step, before its update
for a, b in zip(ours, other.variables, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)
"""


def test_replicas_sum_their_gradients_and_then_clip():
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]


RUN = """
import sys
from tfvc import start
start.spare()
from starter import flags, train
from tfvc import strategy
values = {name: default for name, (_, default, _) in train.FLAGS.items()} | eval(sys.argv[1])
settings = type("Settings", (), values)
print(train.train(settings, "cpu:2"))
settings.num_epochs = 2
print(train.train(settings, "cpu:2"))
"""


@pytest.mark.slow
def test_two_replicas_train_save_and_go_on(tmp_path):
    shards = tmp_path / "train.tfrecord"
    write(shards, [video(k) for k in range(40)])
    given = {"train_data_pattern": str(shards), "train_dir": str(tmp_path / "run"), "num_classes": CLASSES}
    given |= {"feature_sizes": str(WIDTH), "batch_size": 4, "num_epochs": 1}
    result = subprocess.run(
        [sys.executable, "-c", RUN, repr(given)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and "5" in lines and lines[-1] == "10", (
        result.stdout + result.stderr[-3000:]
    )
    assert any(re.fullmatch(LOOK, line) for line in lines) and "reading past the 5 batches" in result.stdout


@pytest.mark.parametrize("norm", [0.1, 1e9])
def test_one_device_clips_each_gradient_on_its_own(norm):
    x, y = data()
    net, other = network(moe_l2=0.1), network(moe_l2=0.1)
    fitted(net, tf.data.Dataset.from_tensors(({"mean_rgb": x}, y)), norm=norm)
    by_hand(other, [(x, y)], 0.5, norm, 0.5)
    for a, b in zip(net.variables, other.variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)


def test_the_switches_of_the_step_change_it():
    x, y = data()
    plain = tf.data.Dataset.from_tensors(({"mean_rgb": x}, y))

    def weights(batches=plain, **switches):
        net = network(moe_l2=0.1)
        fitted(net, batches, **switches)
        return np.concatenate([np.ravel(v) for v in net.variables])

    base = weights()
    weighted = tf.data.Dataset.from_tensors(({"mean_rgb": x}, y, np.eye(12, 3, dtype="float32")))
    for changed in (weights(penalty=0.0), weights(norm=0.0), weights(norm=0.05), weights(weighted)):
        assert np.abs(base - changed).max() > 1e-4
    ones = tf.data.Dataset.from_tensors(({"mean_rgb": x}, y, np.ones((12, 3), "float32")))
    np.testing.assert_allclose(weights(ones), base, atol=1e-7)


def test_the_rate_falls_in_stairs_and_exactly():
    rate = StaircaseDecay(0.01, 0.95, 4e6, 1024)
    steps = np.array([0, 3906, 3907, 7812, 7813, 10**6])
    wanted = 0.01 * 0.95 ** (steps * 1024 // 4_000_000)
    np.testing.assert_allclose([float(rate(s)) for s in steps], wanted, rtol=1e-6)
    assert float(StaircaseDecay(1.0, 0.5, 4e6, 3000)(4000)) == 0.125  # 12,000,000 / 4,000,000 = 3
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert float(again(3907)) == float(rate(3907))


@pytest.mark.parametrize("name", sorted(trainer.OPTIMIZERS))
def test_optimisers_are_those_of_tensorflow_1(name):
    gradients = np.array([[0.5, -2.0], [1e-4, 3.0], [0.1, -1e-6]], "float32")
    start = np.array([1.0, -1.0], "float32")
    ours = keras.Variable(start)
    rule = trainer.optimizer(name, 0.1)
    rule.build([ours])
    for gradient in gradients:
        rule.apply([tf.constant(gradient)], [ours])
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        theirs, fed = (
            v1.get_variable("x", initializer=start, use_resource=False),
            v1.placeholder("float32", [2]),
        )
        more = {"momentum": 0.9} if name == "MomentumOptimizer" else {}
        step = getattr(v1.train, name)(0.1, **more).apply_gradients([(fed, theirs)])
        session.run(v1.global_variables_initializer())
        for gradient in gradients:
            session.run(step, {fed: gradient})
        wanted = session.run(theirs)
    np.testing.assert_allclose(ours, wanted, atol=2e-6, rtol=0)


def test_an_unknown_optimiser_gets_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'AdamOptimizer'"):
        trainer.optimizer("AdamOptimiser", 0.1)


@pytest.mark.parametrize("model", ["logistic", "dbof"])
@pytest.mark.parametrize(
    "name", ["label_losses", "predictions", "after1/{}", "after{}/{}"], ids=["loss", "out", "after1", "last"]
)
def test_a_wrong_number_in_a_golden_file_is_seen(model, name, shared, tmp_path):
    path = shared(f"golden/yt8m_trainsteps_s_{model}.npz")
    golden, meta = read(path)
    variable = "tower/fully_connected/weights" if model == "logistic" else "tower/hidden1_weights"
    name = name.format(meta["steps"], variable) if name.count("{") == 2 else name.format(variable)
    golden[name] = golden[name] + np.float32(1e-3)
    changed = tmp_path / path.name
    np.savez(changed, meta=str(np.load(path)["meta"]), **golden)
    with pytest.raises(AssertionError):
        golden_trainsteps.trainsteps(changed, tmp_path)
