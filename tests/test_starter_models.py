"""The starter's models through `build_model`: every name trains, is saved and loaded, and keeps its word."""

import ast

import golden_yt8m
import keras
import numpy as np
import oracles
import pytest
from conformance import _policy
from conftest import ROOT

from starter import frame_level_models, models, video_level_models
from starter.model_flags import FLAGS
from starter.model_utils import FramePooling, SampleRandomFrames, SampleRandomSequence
from tfvc.losses import CrossEntropyLoss
from tfvc.recipe import Feature

CLASSES, T = 4, 8
SMALL = {
    "iterations": 5,
    "dbof_cluster_size": 16,
    "dbof_hidden_size": 6,
    "netvlad_cluster_size": 4,
    "netvlad_hidden_size": 6,
    "fv_cluster_size": 4,
    "fv_hidden_size": 6,
    "lstm_cells": 6,
}
NAMES = models.available()
FRAME_LEVEL = [name for name in NAMES if models.find(name).frame_level]
LENGTHS = {"rgb_length": [8, 5, 0, 0, 1, 7], "audio_length": [8, 6, 3, 0, 1, 2]}


def rows(name):
    frames = models.find(name).frame_level
    return models.rows("rgb,audio" if frames else "mean_rgb,mean_audio", "6,3", frames, T)


def small(name, **flags):
    """The model, small, from a fixed seed."""
    keras.utils.set_random_seed(1)
    return models.build_model(name, rows(name), CLASSES, SMALL | flags)


def batch(name, seed=0):
    rng = np.random.default_rng(seed)
    if not models.find(name).frame_level:
        return {row.name: rng.normal(size=(6, *row.shape)).astype("float32") for row in rows(name)}
    frames = {row.name: rng.integers(0, 256, (6, *row.shape)).astype("uint8") for row in rows(name)}
    return frames | {name: np.array(value, "int32") for name, value in LENGTHS.items()}


def labels():
    return np.eye(CLASSES, dtype="float32")[[0, 1, 2, 3, 0, 1]]


def test_the_models_of_the_issue_are_there():
    starters = {"LogisticModel", "MoeModel", "FrameLevelLogisticModel", "DbofModel", "LstmModel"}
    willows = {"NetVLADModelLF", "NetRVLADModelLF", "NetFVModelLF", "SoftDbofModelLF"}
    assert set(NAMES) == starters | willows


@pytest.mark.parametrize("name", NAMES)
def test_a_model_learns_is_saved_and_loaded(name, tmp_path):
    model, x = small(name, gating=True), batch(name)
    assert model.output_shape == (None, CLASSES) and model.layers[-1].name == "probabilities"
    model.compile(keras.optimizers.Adam(0.02), CrossEntropyLoss(), jit_compile=False)
    losses = model.fit(x, labels(), batch_size=6, epochs=30, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    out = np.asarray(model(x))
    assert out.dtype == "float32" and np.isfinite(out).all() and (out >= 0).all() and (out <= 1).all()
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x), out)


@pytest.mark.parametrize("name", FRAME_LEVEL)
def test_what_is_no_frame_never_changes_a_result(name):
    model, x = small(name), batch(name)
    out = np.asarray(model(x))
    for byte in (0, 255):
        other = dict(x)
        for stream in ("rgb", "audio"):
            real = np.arange(T) < x[f"{stream}_length"][:, None]
            other[stream] = np.where(real[..., None], x[stream], byte).astype("uint8")
        np.testing.assert_array_equal(model(other), out, err_msg=f"{byte} behind the end")


@pytest.mark.parametrize("name", FRAME_LEVEL)
def test_evaluation_is_the_same_in_any_batch_and_at_any_time(name):
    model, x = small(name), batch(name)
    out = np.asarray(model(x))
    np.testing.assert_array_equal(model(x), out)
    for i in range(6):
        alone = model({key: value[i : i + 1] for key, value in x.items()})
        np.testing.assert_allclose(alone[0], out[i], atol=1e-6)


@pytest.mark.parametrize("name", FRAME_LEVEL)
def test_half_precision_ends_in_float32(name):
    full, x = small(name), batch(name)
    with _policy("mixed_bfloat16"):
        half = small(name)
    half.set_weights(full.get_weights())
    out = half(x)
    assert out.dtype == "float32" and all(w.dtype == "float32" for w in half.weights)
    difference = np.abs(np.asarray(out) - np.asarray(full(x))).max()
    assert difference < 0.05 and (difference > 0 or name == "FrameLevelLogisticModel")


def test_frames_of_floats_and_streams_joined_beforehand_give_the_same():
    """What the MediaPipe export feeds: dequantised frames of both streams in one row."""
    x = batch("NetVLADModelLF")
    x["audio_length"] = x["rgb_length"]
    joined = np.concatenate([oracles.dequantize(x[s].astype("float64")) for s in ("rgb", "audio")], axis=-1)
    given = {"rgb_and_audio": joined.astype("float32"), "rgb_and_audio_length": x["rgb_length"]}
    for name in FRAME_LEVEL:
        model = small(name)
        row = Feature("rgb_and_audio", (None, 9))
        other = models.build_model(name, [row], CLASSES, SMALL, stream_sizes=[6, 3])
        other.set_weights(model.get_weights())
        np.testing.assert_allclose(other(given), model(x), atol=1e-5, err_msg=name)


def test_frames_are_counted_on_the_first_stream_that_is_there():
    x = batch("FrameLevelLogisticModel")
    model = small("FrameLevelLogisticModel")
    kernel, bias = (np.asarray(w).astype("float64") for w in model.weights)
    out = np.asarray(model(x))
    for i, frames in enumerate([8, 5, 3, 0, 1, 7]):  # the third clip has sound only
        parts = [
            oracles.dequantize(x[s][i].astype("float64")) * (np.arange(T) < x[f"{s}_length"][i])[:, None]
            for s in ("rgb", "audio")
        ]
        mean = oracles.l2(np.concatenate(parts, axis=-1)).sum(axis=0) / max(frames, 1)
        np.testing.assert_allclose(out[i], oracles.sigmoid(mean @ kernel + bias), atol=1e-6)


def test_rows_behind_the_last_frame_are_summed_where_a_caller_leaves_them():
    """The original's quirk, which `build_model` has no use for."""
    x, n = keras.Input((T, 3)), keras.Input((), dtype="int32")
    out = frame_level_models.FrameLevelLogisticModel().create_model(x, vocab_size=2, num_frames=n)
    model = keras.Model([x, n], out["predictions"])
    frames = np.ones((2, T, 3), "float32")
    kernel = np.asarray(model.weights[0]).sum(axis=0)
    wanted = oracles.sigmoid(np.stack([kernel * T / 2, kernel * 0]))  # of 2 frames, of none
    np.testing.assert_allclose(model([frames, np.array([2, 0])]), wanted, atol=1e-6)


@pytest.mark.parametrize("random_frames", (True, False))
def test_training_samples_at_random(random_frames):
    model, x = small("DbofModel", sample_random_frames=random_frames), batch("DbofModel")
    frames = keras.Model(model.inputs, model.get_layer("dbof").input)
    assert frames.output_shape == (None, 5, 9)
    drawn = [np.asarray(frames(x, training=True)) for _ in range(6)]
    assert any((drawn[0] != other).any() for other in drawn[1:])
    assert not drawn[0][3].any()  # a clip without frames is zeros
    whole = keras.Model(model.inputs, model.get_layer("dequantize").output)(x)
    np.testing.assert_array_equal(whole, frames(x))  # what evaluation sees does not change


def test_the_last_state_is_the_lstms_equation():
    model, x = small("LstmModel", lstm_layers=2), batch("LstmModel")
    state = keras.Model(model.inputs, model.get_layer("moe").input)(x)
    frames = np.asarray(keras.Model(model.inputs, model.get_layer("dequantize").output)(x)).astype("float64")
    for i in range(2):
        cell = [w.astype("float64") for w in model.get_layer(f"cell_{i}").get_weights()]
        frames = oracles.lstm(frames, *cell, oracles.sigmoid)
    for i, n in enumerate([8, 5, 3, 0, 1, 7]):
        wanted = frames[i, n - 1] if n else np.zeros(6)
        np.testing.assert_allclose(state[i], wanted, atol=1e-5)


# Flag -> the model that must change with it, the value, and what else it needs.
SWITCHES = {
    "iterations": ("DbofModel", 2, {}),
    "sample_random_frames": ("DbofModel", False, {}),
    "dbof_add_batch_norm": ("DbofModel", False, {}),
    "dbof_cluster_size": ("DbofModel", 12, {}),
    "dbof_hidden_size": ("DbofModel", 5, {}),
    "dbof_pooling_method": ("DbofModel", "average", {}),
    "dbof_activation": ("DbofModel", "relu6", {}),
    "dbof_relu": ("SoftDbofModelLF", False, {}),
    "netvlad_cluster_size": ("NetVLADModelLF", 6, {}),
    "netvlad_hidden_size": ("NetVLADModelLF", 5, {}),
    "netvlad_add_batch_norm": ("NetVLADModelLF", False, {}),
    "netvlad_relu": ("NetVLADModelLF", False, {}),
    "lightvlad": ("NetVLADModelLF", True, {}),
    "fv_cluster_size": ("NetFVModelLF", 6, {}),
    "fv_hidden_size": ("NetFVModelLF", 5, {}),
    "fv_relu": ("NetFVModelLF", False, {}),
    "gating": ("NetFVModelLF", True, {}),
    "gating_remove_diag": ("NetVLADModelLF", True, {"gating": True}),
    "video_level_classifier_model": ("LstmModel", "LogisticModel", {}),
    "lstm_cells": ("LstmModel", 5, {}),
    "lstm_layers": ("LstmModel", 1, {}),
    "moe_num_mixtures": ("MoeModel", 3, {}),
    "moe_l2": ("MoeModel", 0.5, {}),
    "moe_prob_gating": ("MoeModel", True, {}),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_changes_weights_output_or_penalty(flag):
    name, value, more = SWITCHES[flag]
    plain, other = small(name, **more), small(name, **more, **{flag: value})
    shapes = [[(w.path.split("/", 1)[-1], w.shape) for w in model.weights] for model in (plain, other)]
    if shapes[0] != shapes[1]:
        return
    other.set_weights(plain.get_weights())
    x = batch(name)
    changed = np.abs(np.asarray(plain(x)) - np.asarray(other(x))).max() > 1e-6
    assert changed or float(sum(plain.losses)) != float(sum(other.losses))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("DbofModle", "rgb", True, {}), "unknown model 'DbofModle' .did you mean 'DbofModel'"),
        (
            ("DbofModel", "rgb", True, {"iteration": 3}),
            "unknown model flag 'iteration' .did you mean 'iterations'",
        ),
        (
            ("DbofModel", "rgb", True, {"dbof_pooling_method": "mox"}),
            "unknown value of dbof_pooling_method 'mox' .did you mean 'max'",
        ),
        (
            ("DbofModel", "rgb", True, {"iterations": 0}),
            "iterations=0: expected a whole number above 0, as 30",
        ),
        (("DbofModel", "rgb", True, {"gating": 1}), "gating=1: expected true or false"),
        (("MoeModel", "rgb", False, {"moe_l2": -1.0}), "moe_l2=-1.0: expected a number that is not below 0"),
        (
            ("DbofModel", "rgb", False, {}),
            "DbofModel reads frames, rgb is one vector a video: expected --frame_features=true",
        ),
        (("MoeModel", "rgb", True, {}), "MoeModel reads one vector a video, rgb is frames"),
        (
            ("LstmModel", "rgb", True, {"video_level_classifier_model": "MoeMode"}),
            "unknown model 'MoeMode' .did you mean 'MoeModel'",
        ),
        (
            ("LstmModel", "rgb", True, {"video_level_classifier_model": "LstmModel"}),
            "'LstmModel' reads frames; expected one that reads vectors",
        ),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(arguments, message):
    name, streams, frames, flags = arguments
    with pytest.raises(ValueError, match=message) as error:
        models.build_model(name, models.rows(streams, "6", frames, T), CLASSES, flags)
    assert "\n" not in str(error.value)


def test_streams_of_both_levels_are_refused():
    mixed = models.rows("rgb", "6", True) + models.rows("mean_rgb", "6", False)
    with pytest.raises(
        ValueError, match="rgb,mean_rgb: expected streams of frames or vectors a video, not both"
    ):
        models.build_model("DbofModel", mixed, CLASSES)


@pytest.mark.parametrize(
    "names, sizes", [("rgb,audio", "6"), ("rgb,rgb", "6,6"), ("rgb", "0"), ("rgb", "six")]
)
def test_wrong_rows_are_refused(names, sizes):
    with pytest.raises(ValueError, match="feature_sizes="):
        models.rows(names, sizes, True)


def test_a_model_of_the_users_own_is_found_by_its_name(monkeypatch):
    class MyModel(models.BaseModel):
        def create_model(self, model_input, vocab_size, **flags):
            return {"predictions": keras.layers.Dense(vocab_size, "sigmoid")(model_input)}

    MyModel.__module__ = video_level_models.__name__  # as if it were written there
    monkeypatch.setattr(video_level_models, "MyModel", MyModel, raising=False)
    assert "MyModel" in models.available()
    assert models.build_model("MyModel", rows("MoeModel"), 3).output_shape == (None, 3)
    assert models.build_model(
        "DbofModel", rows("DbofModel"), 3, SMALL | {"video_level_classifier_model": "MyModel"}
    )
    with pytest.raises(TypeError, match="BaseModel has no create_model"):
        models.BaseModel().create_model(None, 3)


def test_the_originals_helpers():
    rng = np.random.default_rng(0)
    x, n = rng.normal(size=(2, 6, 3)).astype("float32"), np.array([[6], [2]])
    np.testing.assert_array_equal(SampleRandomFrames(x, n, 3), x[[[0], [1]], [[1, 3, 5], [0, 1, 1]]])
    np.testing.assert_array_equal(SampleRandomSequence(x, n, 3), x[[[0], [1]], [[2, 3, 4], [0, 1, 1]]])
    np.testing.assert_allclose(FramePooling(x, "average"), x.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(FramePooling(x, "max"), x.max(axis=1))
    np.testing.assert_array_equal(FramePooling(x, "none"), x.reshape(12, 3))
    with pytest.raises(ValueError, match="unknown pooling method 'mean'"):
        FramePooling(x, "mean")


# File -> array that is changed a little.
FAULTS = {
    "yt8m_DbofModel_s_bn_max.npz": [
        "w/cluster_bn/gamma",
        "after/cluster_bn/moving_variance",
        "sampled_frames",
    ],
    "yt8m_DbofModel_s_nobn_avg.npz": ["w/hidden1_biases", "train_mid/matmul3"],
    "yt8m_LstmModel_s0.npz": ["w/rnn/multi_rnn_cell/cell_1/basic_lstm_cell/bias", "last_layer_h"],
    "yt8m_MoeModel_s0.npz": ["w/gates/weights", "regularization_loss", "xent_loss"],
    "yt8m_sampling_s0.npz": ["sequence_index"],
    "yt8m_FrameLevelLogisticModel_s0.npz": ["x"],
}


@pytest.mark.parametrize(
    "name, array", [(name, array) for name, arrays in FAULTS.items() for array in arrays]
)
def test_a_changed_number_fails_the_golden_check(name, array, shared, tmp_path):
    with np.load(shared(f"golden/{name}"), allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    value = arrays[array].copy()
    value.flat[-1] += value.dtype.type(1 if value.dtype.kind == "i" else 0.01)
    np.savez(tmp_path / name, **(arrays | {array: value}))
    check = next(c for prefix, c in golden_yt8m.CHECKS.items() if name.startswith(prefix))
    with pytest.raises(AssertionError):
        check(tmp_path / name, tmp_path)


def test_the_names_and_flags_are_read_without_keras():
    for module in ("models", "model_flags"):
        tree = ast.parse((ROOT / f"starter/{module}.py").read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = {a.name for n in top for a in n.names} | {
            n.module for n in top if isinstance(n, ast.ImportFrom)
        }
        assert not any(name.startswith(("keras", "tensorflow", "tfvc.layers", "numpy")) for name in names)
