"""Training in which a path of the network stands still in some of the steps."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitted import STEPS, TRAIN, arrays, assert_same, batches, network, validation

from tfvc import callbacks, checkpoints, optimizers, training

PATHS = {"visual": ["see", "see_bn", "not_in_this_variant"], "audio": ["hear", "hear_bn"]}
DROPS = {"visual": 0.3, "audio": 0.2}
RULES = ("published", "mended")
DROPPING = replace(TRAIN, drop_visual=0.3, drop_audio=0.2, epochs=1)
BREAKABLE = replace(DROPPING, epochs=2, checkpoint_steps=1, drop_rule="published")
SEED = 19  # it draws audio, visual, none; audio, visual, visual, audio, none


def two_paths(norm=True, scores=False):
    """A network of two paths; without norms each clip's gradient is its own."""
    frames = keras.Input((3, 4), name="frames")
    flat = keras.layers.Flatten(name="flatten")(frames)
    parts = []
    for name in ("see", "hear"):
        x = keras.layers.Dense(4, use_bias=not norm, name=name)(flat)
        parts.append(keras.layers.BatchNormalization(name=f"{name}_bn")(x) if norm else x)
    x = keras.layers.Concatenate(name="both")(parts)
    y = keras.layers.Dense(2, activation="softmax", dtype="float32", name="probabilities")(x)
    outputs = {"probabilities": y, "scores": keras.layers.Dense(3, name="scores")(x)} if scores else y
    return keras.Model({"frames": frames}, outputs, name="net")


def updates(train=DROPPING, drops=DROPS, seed=0, **options):
    """A compiled PathUpdates, as `training.fit` makes it."""
    training.start(seed)
    with training.precision(train.precision):
        model = training.PathUpdates(two_paths(**options), PATHS, drops, seed)
    rule = optimizers.by_path(train, len(model.trainable_variables), model.still)
    model.compile(rule, "categorical_crossentropy", metrics=["accuracy"], jit_compile=train.jit)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(folder, train=DROPPING, seed=0, **options):
    training.start(seed)
    with training.precision(train.precision):
        model = two_paths(**options)
    return training.fit(model, train, batches, STEPS, validation(), folder, paths=PATHS, seed=seed)


def state(rule):
    return {f"{i} {v.path}": v.numpy() for i, v in enumerate(rule.variables)}


def step(model, path):
    """One step of the kind in which a path stands still."""
    model.drawn = lambda _: path
    x, y = arrays(10)
    model.train_on_batch({"frames": x}, y)


@pytest.fixture(scope="module")
def trained():
    """Rule -> a model that has taken a step; tests take more, each kind of which is traced once."""
    models = {rule: updates(replace(DROPPING, drop_rule=rule)) for rule in RULES}
    for model in models.values():
        step(model, "")
    return models


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run of two epochs: its folder, its network, (step, path that stood still) of each draw."""
    seen, drawn = [], training.PathUpdates.drawn

    def heard(self, k):
        seen.append((k, drawn(self, k)))
        return seen[-1][1]

    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.PathUpdates, "drawn", heard)
        return folder, fit(folder, BREAKABLE, seed=SEED)[0], seen


@pytest.fixture(scope="module")
def undropped(tmp_path_factory):
    """A run with paths of which none ever stands still: its folder, and what `fit` gives."""
    folder = tmp_path_factory.mktemp("undropped")
    return folder, *fit(folder, replace(TRAIN, epochs=1))


# ---- which step moves what ----


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", ["", "visual", "audio"])
def test_a_path_that_stands_still_keeps_its_weights_but_not_its_statistics(path, rule, trained):
    model = trained[rule]
    before = {v.path: v.numpy() for v in model.variables}
    step(model, path)
    moved = {v.path for v in model.network.variables if (v.numpy() != before[v.path]).any()}
    still = {"": (), "visual": ("see/", "see_bn/"), "audio": ("hear/", "hear_bn/")}[path]
    trained = {v.path for v in model.network.trainable_variables if not v.path.startswith(still or "-")}
    statistics = {v.path for v in model.network.non_trainable_variables if "moving" in v.path}
    assert len(statistics) == 4
    assert moved == trained | statistics


def states_moved(model, path):
    before = state(model.optimizer)
    step(model, path)
    moved = {k for k, v in state(model.optimizer).items() if (v != before[k]).any()}
    return {k.split(" ")[1].split("/")[0] for k in moved}


def test_published_each_kind_of_step_has_a_state_of_its_own(trained):
    model = trained["published"]
    for path, name in (("", "all"), ("visual", "without_visual"), ("audio", "without_audio")):
        assert states_moved(model, path) == {"separate_states", name}
    for name in ("without_visual", "without_audio"):
        held = {v.path for v in model.optimizer.variables if v.path.startswith(f"{name}/")}
        assert not any(f"/{PATHS[name[8:]][0]}_" in p for p in held) and len(held) == 1 + 2 * 5


def test_mended_the_state_of_what_stands_still_stands_still(trained):
    model = trained["mended"]
    assert states_moved(model, "") == {"separate_states", "rest", "visual", "audio"}
    assert states_moved(model, "visual") == {"separate_states", "rest", "audio"}
    assert states_moved(model, "audio") == {"separate_states", "rest", "visual"}
    slots = [v.path for v in model.optimizer.variables if v.path.endswith("momentum")]
    assert len(slots) == len(model.trainable_variables)  # one state


class Adam:
    """Kingma and Ba 2015, Algorithm 1 in its efficient form, as Keras and TensorFlow 1 have it."""

    def __init__(self, rate):
        self.rate, self.m, self.v, self.t = rate, 0.0, 0.0, 0

    def step(self, w, g):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        rate = self.rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        return w - rate * self.m / (np.sqrt(self.v) + 1e-7)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_states_follow_adam_by_hand(rule, decay):
    # Three numbers: of neither path, of the visual, of the audio path.
    train = replace(DROPPING, drop_rule=rule, decay=decay, decay_examples=3 * TRAIN.batch_size)
    variables = [keras.Variable(w) for w in (1.0, 2.0, 3.0)]
    ours = optimizers.by_path(train, 3, {"visual": [1], "audio": [2]})
    ours.build(variables)
    weights, hands = [1.0, 2.0, 3.0], {}
    rng = np.random.default_rng(0)
    for k, path in enumerate(["visual", "", "audio", "visual", "", "", "audio", "visual", ""]):
        moving = [i for i, own in enumerate(("rest", "visual", "audio")) if own != path]
        gradients = rng.normal(size=3)
        ours.apply([tf.constant(gradients[i], "float32") for i in moving], [variables[i] for i in moving])
        for i in moving:
            hand = hands.setdefault((i, path if rule == "published" else ""), Adam(0))
            hand.rate = train.learning_rate * decay ** (k // 3)  # by the steps of the run
            weights[i] = hand.step(weights[i], gradients[i])
        np.testing.assert_allclose([v.numpy() for v in variables], weights, rtol=1e-5)


def test_clipping_is_of_each_state():
    train = replace(DROPPING, optimizer="sgd", learning_rate=1.0, clip_norm=0.5)
    variables = [keras.Variable(0.0) for _ in range(3)]
    ours = optimizers.by_path(train, 3, {"visual": [1], "audio": [2]})
    ours.build(variables)
    ours.apply([tf.constant(g) for g in (4.0, 0.25)], [variables[0], variables[2]])
    assert [float(v.numpy()) for v in variables] == [-0.5, 0.0, -0.25]
    with pytest.raises(ValueError, match="1 variables that are no kind of step"):
        ours.apply([tf.constant(1.0)], variables[1:2])


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_every_optimizer_has_such_states_and_they_survive_their_config(name):
    train = replace(DROPPING, optimizer=name, decay=0.5)
    ours = optimizers.by_path(train, 3, {"visual": [1], "audio": [2]})
    again = keras.optimizers.deserialize(keras.optimizers.serialize(ours))
    for rule in (ours, again):
        variables = [keras.Variable(1.0) for _ in range(3)]
        rule.build(variables)
        rule.apply([tf.constant(1.0)] * 2, variables[:2])
        ours_now = [v.numpy() for v in variables]
        assert ours_now[2] == 1 and ours_now[0] == ours_now[1] < 1
    assert again.get_config() == ours.get_config()


# ---- the draw ----


def test_shares_of_the_draw_are_near_what_was_asked_and_a_function_of_seed_and_step():
    model, count = updates(), 4000
    drawn = [model.drawn(k) for k in range(count)]
    for path, share in (*DROPS.items(), ("", 0.5)):
        assert drawn.count(path) / count == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / count))
    assert drawn[::-1] == [model.drawn(k) for k in reversed(range(count))]
    other = training.PathUpdates(model.network, PATHS, DROPS, seed=1)
    assert [other.drawn(k) for k in range(50)] != drawn[:50]
    always = training.PathUpdates(model.network, PATHS, {"visual": 1.0, "audio": 0.0}, seed=-1)
    assert {always.drawn(k) for k in range(50)} == {"visual"}


def test_a_model_that_is_saved_and_loaded_goes_on_as_it_would_have(tmp_path):
    model = updates(norm=False)
    step(model, "")
    model.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras", safe_mode=True)
    assert isinstance(again, training.PathUpdates) and again.still == model.still
    assert [again.drawn(k) for k in range(20)] == [
        training.PathUpdates(model.network, PATHS, DROPS).drawn(k) for k in range(20)
    ]
    step(model, "visual")
    step(again, "visual")
    assert_same(again.network, model.network.get_weights())


# ---- fit ----


def test_fit_draws_each_step_by_seed_and_step(whole):
    seen = whole[2]
    expected = training.PathUpdates(two_paths(), PATHS, DROPS, seed=SEED)
    assert seen == [(k, expected.drawn(k)) for k in range(2 * STEPS)]
    assert [path for _, path in seen[:3]] == ["audio", "visual", ""]


@pytest.mark.parametrize(("rule", "precision"), [("published", "float32"), ("mended", "float16")])
def test_a_run_broken_in_mid_epoch_ends_as_an_unbroken_one(rule, precision, whole, tmp_path, monkeypatch):
    train = replace(BREAKABLE, drop_rule=rule, precision=precision)
    unbroken = whole[1] if train == BREAKABLE else fit(tmp_path / "whole", train, seed=SEED)[0]
    count = callbacks.Meter.on_train_batch_end

    def broken(self, batch, logs=None):
        count(self, batch, logs)
        if self.progress.step == STEPS + 3:
            raise RuntimeError("cut")

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.Meter, "on_train_batch_end", broken)
        with pytest.raises(RuntimeError, match="cut"):
            fit(tmp_path / "cut", train, seed=SEED)
    again, _ = fit(tmp_path / "cut", train, seed=SEED)
    for a, b in zip(unbroken.variables, again.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    with np.load(tmp_path / "cut" / "checkpoints" / f"step-{2 * STEPS:08d}.npz") as stored:
        names = {key.split("/")[2] for key in stored.files if key.startswith("optimizer/")}
    states = {"published": ("all", "without_visual", "without_audio"), "mended": ("rest", "visual", "audio")}
    own = {"separate_states", *states[rule]}
    assert names - {"loss_scale_optimizer"} == own
    assert ("loss_scale_optimizer" in names) == (precision == "float16")


def test_a_checkpoint_of_the_other_rule_is_refused(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    with pytest.raises(ValueError, match="step-00000008.npz: "):
        fit(tmp_path / "run", replace(BREAKABLE, drop_rule="mended"))


def test_half_precision_scales_the_loss_and_xla_compiles_each_kind_of_step():
    half = updates(replace(DROPPING, precision="float16"))
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    before = {v.path: v.numpy() for v in half.network.trainable_variables}
    step(half, "visual")
    moved = {v.path for v in half.network.trainable_variables if (v.numpy() != before[v.path]).any()}
    assert moved and not any(p.startswith("see") for p in moved)
    trained = []
    for jit in (False, True):
        model = updates(replace(DROPPING, jit=jit))
        for path in ("", "audio"):
            step(model, path)
        assert model.jit_compile is jit
        trained.append(model)
    assert_same(trained[0], trained[1].get_weights())


def test_without_drops_a_run_is_as_one_without_paths(undropped, tmp_path):
    folder, one, _ = undropped
    training.start(0)
    two = training.fit(two_paths(), replace(TRAIN, epochs=1), batches, STEPS, validation(), tmp_path / "two")[
        0
    ]
    assert_same(one, two.get_weights())
    with np.load(folder / "checkpoints" / "step-00000004.npz") as stored:
        assert not any("separate" in key for key in stored.files)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    def run(train, paths=PATHS):
        return training.fit(two_paths(), train, batches, STEPS, validation(), tmp_path, paths=paths)

    for given, paths, words in (
        ({"drop_visual": 0.7, "drop_audio": 0.4}, PATHS, "train.drop_visual=0.7 and train.drop_audio=0.4"),
        ({"drop_audio": 0.4}, None, "train.drop_audio=0.4: this model has no paths"),
        ({"drop_audio": 0.4}, {"visual": ["see"], "audio": ["listen"]}, "none of the layers listen"),
        ({"drop_audio": 0.4}, {"visual": ["see"], "audio": ["see"]}, "stands in two of them"),
        (
            {"best_from": 3},
            None,
            "train.best_from=3: no epoch may be the best; expected at most train.epochs=2",
        ),
    ):
        with pytest.raises(ValueError, match=words) as error:
            run(replace(TRAIN, **given), paths)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


# ---- replicas: test_multiworker.py ----


def by_replicas(rule, precision, optimizer, devices, folder):
    """A training under a strategy: weights, and the loss of each epoch."""
    train = replace(DROPPING, drop_rule=rule, precision=precision, optimizer=optimizer)
    training.start(0)
    with training.precision(precision), devices.scope():
        model = two_paths(norm=False)

    def feed(first):
        x, y = arrays(40)
        data = tf.data.Dataset.from_tensor_slices(({"frames": x}, y))
        return data.batch(10, drop_remainder=True).repeat().skip(first)

    bare, progress = training.fit(model, train, feed, 4, validation(), folder, paths=PATHS, seed=SEED)
    return bare.get_weights(), [row["loss"] for row in progress.history]


# ---- several outputs ----


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_of_several_outputs_the_probabilities_are_trained_and_all_are_saved(drop, undropped, tmp_path):
    train = replace(DROPPING, drop_visual=drop, drop_audio=0.0)
    bare, progress = fit(tmp_path, train, scores=True)
    one = fit(tmp_path / "one", train)[1] if drop else undropped[2]
    assert progress.history[0]["val_accuracy"] == one.history[0]["val_accuracy"]
    training.keep(bare, tmp_path, progress, "best")
    model = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert set(model({"frames": arrays()[0]})) == {"probabilities", "scores"}
    assert training.probabilities_of(model) is model.output["probabilities"]
    measured = training.Judge(model, train).measure(validation())
    assert measured["accuracy"] == pytest.approx(progress.best)
    with pytest.raises(ValueError, match="several outputs; expected a dict with `probabilities`"):
        training.probabilities_of(keras.Model(model.input, {"scores": model.output["scores"]}))


def test_several_outputs_in_half_precision_scale_the_loss(tmp_path):
    fit(tmp_path, replace(TRAIN, precision="float16", epochs=1), scores=True)
    with np.load(tmp_path / "checkpoints" / "step-00000004.npz") as stored:
        assert any("dynamic_scale" in key for key in stored.files)


# ---- the best epoch ----


@pytest.mark.parametrize(
    ("given", "best"),
    [
        ({}, [1, 2, 4, 5]),
        ({"min_delta": 0.05}, [1, 4]),
        ({"best_from": 3}, [3, 4, 5]),
        ({"monitor": "loss"}, [1, 3]),
        ({"monitor": "loss", "min_delta": 0.3}, [1]),
    ],
)
def test_the_best_epoch_is_better_by_min_delta_and_not_before_best_from(given, best):
    train, found, value = replace(TRAIN, **given), [], None
    for epoch, now in enumerate([0.5, 0.54, 0.4, 0.6, 0.63], 1):
        if callbacks.is_better(train, epoch, now, value):
            found, value = [*found, epoch], now
    assert found == best


def test_patience_counts_from_the_first_epoch_that_may_be_the_best(tmp_path):
    frozen = replace(TRAIN, epochs=9, patience=2, learning_rate=0.0, best_from=4, min_delta=0.1)
    training.start(0)
    progress = training.fit(network(), frozen, batches, STEPS, validation(), tmp_path)[1]
    assert (progress.epoch, progress.best_epoch) == (6, 4)
    assert not callbacks.patience_is_out(frozen, checkpoints.Progress(history=[{}] * 4))
    assert callbacks.patience_is_out(replace(frozen, best_from=1), checkpoints.Progress(history=[{}] * 4))
