"""What lies in a train_dir: flags, checkpoints of ours, checkpoints of TensorFlow 1."""

import json
import types

import keras
import numpy as np
import pytest
from golden import read
from golden_trainsteps import build, weights, write_tf1

from starter import checkpoints, flags, models, tf1, trainer
from tfvc import checkpoints as stored
from tfvc import layers


def bare(name, shape, classes, **settings):
    """A model as `create_model` makes it: no dequantising, no normalising."""
    keras.utils.clear_session()  # names as of the first model of a process
    x, frames = keras.Input(shape), keras.Input((), dtype="int32")
    given = {"num_frames": frames} if len(shape) == 2 else {}
    made = models.find(name)().create_model(x, vocab_size=classes, **given, **settings)
    return keras.Model([x, frames] if given else [x], made["predictions"])


def sizes(name, meta):
    """The flags of a golden file's model."""
    if name == "DbofModel":
        return {
            "sampled": True,  # x is what was sampled
            "dbof_add_batch_norm": meta["batch_norm"],
            "dbof_cluster_size": meta["cluster_size"],
            "dbof_hidden_size": meta["hidden_size"],
            "dbof_pooling_method": meta["pooling"],
            "dbof_activation": meta["activation"],
            "video_level_classifier_model": meta["classifier"],
        }
    if name == "LstmModel":
        return {
            "lstm_cells": meta["cells"],
            "lstm_layers": meta["layers"],
            "video_level_classifier_model": meta["classifier"],
        }
    return {}


@pytest.mark.parametrize("scope", ["", "tower/", "job/tower/"])
@pytest.mark.parametrize(
    "file",
    [
        "LogisticModel_s0",
        "MoeModel_s0",
        "FrameLevelLogisticModel_s0",
        "DbofModel_s_bn_avg_seq",
        "DbofModel_s_nobn_max_relu6",
        "LstmModel_s0",
        "LstmModel_s1",
    ],
)
def test_a_checkpoint_of_tensorflow_1_gives_the_originals_predictions(file, scope, shared, tmp_path):
    golden, meta = read(shared(f"golden/yt8m_{file}.npz"))
    arrays = {scope + name: value for name, value in weights(golden).items()}
    prefix = write_tf1(tmp_path / "model.ckpt-70", arrays, step=70)
    name = file.split("_")[0]
    x, out = (golden[k] for k in (("sampled_frames", "inf_out") if name == "DbofModel" else ("x", "out")))
    model = bare(name, x.shape[1:], out.shape[1], **sizes(name, meta))
    assert checkpoints.load(prefix, model) == 70
    given = [x, golden["num_frames"]] if x.ndim == 3 else [x]
    there = np.isfinite(out).all(axis=1)
    np.testing.assert_allclose(np.asarray(model(given))[there], out[there], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["NetVLAD", "NetRVLAD", "NetFV", "SoftDBoW"])
@pytest.mark.parametrize("norm", ["bn", "nobn"])
def test_loupe_too(name, norm, shared, tmp_path):
    golden, meta = read(shared(f"golden/loupe_{name}_s_{norm}_gate.npz"))
    arrays = {f"tower/video_VLAD/{key}": value for key, value in weights(golden).items()}
    prefix = write_tf1(tmp_path / "model.ckpt-1", arrays)
    layer = getattr(layers, name)(meta["cluster_size"], meta["output_dim"], add_batch_norm=norm == "bn")
    x = keras.Input(golden["x"].shape[1:])
    model = keras.Model(x, layer(x))
    tf1.load(prefix, model)
    np.testing.assert_allclose(model(golden["x"]), golden["inf_out"], atol=5e-5, rtol=0)


def willow(**more):
    given = {"netvlad_cluster_size": 4, "netvlad_hidden_size": 3, "gating": True, "iterations": 2} | more
    return models.build_model("NetVLADModelLF", models.rows("rgb,audio", "6,2", True, 5), 3, given)


WILLOW = {  # of its frame_level_models.py
    "hidden1/kernel": "hidden1_weights",
    "hidden1/bias": "hidden1_biases",
    "gating/gating_weights": "gating_weights_2",
    "moe/gates/kernel": "gates/weights",
    "moe/experts/kernel": "experts/weights",
    "moe/experts/bias": "experts/biases",
}


@pytest.mark.parametrize("norm", [True, False])
def test_willows_names_of_two_streams(norm, tmp_path):
    model = willow(netvlad_add_batch_norm=norm)
    random, arrays, wanted = np.random.default_rng(0), {}, {}
    for v in model.variables:
        if not v.path.endswith("seed_generator_state"):
            value = random.normal(size=v.shape).astype("float32")
            name = WILLOW.get(v.path, v.path.removeprefix("gating/"))
            arrays[f"tower/{name}"] = wanted[v.path] = value
    tf1.load(write_tf1(tmp_path / "model.ckpt-1", arrays), model)
    assert any("audio_VLAD" in name for name in arrays) and "tower/gating_weights_2" in arrays
    for v in model.variables:
        if v.path in wanted:
            np.testing.assert_array_equal(v, wanted[v.path], err_msg=v.path)


def adam_slots(arrays, value=0.0):
    slots = {f"{name}/Adam": np.full_like(a, value) for name, a in arrays.items() if "moving" not in name}
    slots |= {
        f"{name}/Adam_1": np.full_like(a, value + 1) for name, a in arrays.items() if "moving" not in name
    }
    return slots | {"beta1_power": np.float32(0.9), "beta2_power": np.float32(0.999)}


def test_step_and_moments_go_on(shared, tmp_path):
    golden, meta = read(shared("golden/yt8m_trainsteps_s_dbof.npz"))
    arrays = weights(golden)
    prefix = write_tf1(tmp_path / "model.ckpt-12", arrays | adam_slots(arrays, 0.25), step=12)
    model = build(golden, meta)
    step, lines = tf1.load(prefix, model.network, model.optimizer)
    assert step == 12 == int(model.optimizer.iterations) and "moments" in lines[-1]
    means = {s.path.rsplit("_", 1)[1]: float(np.mean(s)) for s in model.optimizer.variables[2:]}
    assert means == {"momentum": 0.25, "velocity": 1.25}
    step, lines = tf1.load(write_tf1(tmp_path / "bare.ckpt-3", arrays, 3), model.network, model.optimizer)
    assert step == 3 and "starts fresh" in lines[-1]


def test_an_lstms_moments_are_reordered_as_its_weights(shared, tmp_path):
    golden, meta = read(shared("golden/yt8m_LstmModel_s1.npz"))
    arrays = weights(golden)
    random = np.random.default_rng(0)
    slots = {name: random.normal(size=a.shape).astype("float32") for name, a in adam_slots(arrays).items()}
    model = bare("LstmModel", golden["x"].shape[1:], 2, **sizes("LstmModel", meta))
    rule = trainer.optimizer("AdamOptimizer", 0.1)
    rule.build(model.trainable_variables)
    tf1.load(write_tf1(tmp_path / "model.ckpt-1", arrays | slots), model, rule)
    ours = {s.path.split("lstm_cell_")[-1]: np.asarray(s) for s in rule.variables}  # one LSTM
    name, cells = "rnn/multi_rnn_cell/cell_0/basic_lstm_cell", meta["cells"]
    i, j, f, o = np.split(slots[f"{name}/bias/Adam_1"], 4)
    np.testing.assert_array_equal(ours["bias_velocity"], np.concatenate([i, f, j, o]))
    i, j, f, o = np.split(slots[f"{name}/kernel/Adam"], 4, axis=1)
    kernel = np.concatenate([i, f, j, o], axis=1)
    np.testing.assert_array_equal(ours["recurrent_kernel_momentum"], kernel[-cells:])


def test_what_does_not_fit_is_named(shared, tmp_path):
    golden, meta = read(shared("golden/yt8m_MoeModel_s0.npz"))
    arrays = {f"tower/{name}": value for name, value in weights(golden).items()}
    model = bare("MoeModel", golden["x"].shape[1:], 5)
    for name, changed, words in (
        (
            "missing",
            {k: v for k, v in arrays.items() if "experts/biases" not in k},
            "holds no experts/biases",
        ),
        ("shape", arrays | {"tower/gates/weights": np.zeros((6, 12), "float32")}, r"weights \(6, 12\)"),
    ):
        prefix = write_tf1(tmp_path / f"{name}.ckpt-1", changed)
        with pytest.raises(ValueError, match=words) as error:
            tf1.load(prefix, model)
        assert "\n" not in str(error.value)
    for k, step in enumerate(([1, 2, 3], -1)):
        with pytest.raises(ValueError, match="its global_step is of shape .*; take another checkpoint"):
            tf1.load(write_tf1(tmp_path / f"step{k}.ckpt-1", arrays, step), model)
    more = arrays | {"tower/extra": np.zeros(2, "float32")}
    assert "tower/extra" in tf1.load(write_tf1(tmp_path / "more.ckpt-1", more), model)[1][1]
    with pytest.raises(FileNotFoundError, match="expected a name without suffix"):
        tf1.load(tmp_path / "no.ckpt-1", model)
    (tmp_path / "bad.ckpt-1.index").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint of TensorFlow 1, or damaged"):
        tf1.load(tmp_path / "bad.ckpt-1", model)


# --- ours ---------------------------------------------------------------------------------------------------


def saved(folder, step, value):
    model = bare("LogisticModel", (3,), 2)
    model.variables[0].assign(np.full((3, 2), value, "float32"))
    rule = trainer.optimizer("AdamOptimizer", 0.1)
    rule.build(model.trainable_variables)
    place = folder / checkpoints.SUBFOLDER
    stored.save(place, model, rule, stored.Progress(step=step), checkpoints.KEEP)
    return place / f"step-{step:08d}.npz"


def test_the_newest_whole_checkpoint_is_found_and_loaded(tmp_path, capsys):
    assert checkpoints.newest(tmp_path) is None
    for step in (9, 100, 10):
        write_tf1(tmp_path / f"model.ckpt-{step}", {"x": np.zeros(1, "float32")})
    assert checkpoints.newest(tmp_path) == str(tmp_path / "model.ckpt-100")
    first, second = saved(tmp_path, 10, 1.0), saved(tmp_path, 20, 2.0)
    assert checkpoints.newest(tmp_path) == str(second) and checkpoints.step(second) == 20
    model = bare("LogisticModel", (3,), 2)
    assert checkpoints.load(second, model) == 20 and float(model.variables[0][0, 0]) == 2.0
    second.write_bytes(second.read_bytes()[:-9])
    assert checkpoints.newest(tmp_path) == str(first)
    assert f"{second}: damaged (its checksum differs); passing over it" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"the model has .*fully_connected/kernel \(4, 2\)"):
        checkpoints.load(first, bare("LogisticModel", (4,), 2))


def given(**flags_given):
    values = {name: default for name, (_, default, _) in checkpoints.STORED.items()}
    return types.SimpleNamespace(**(values | flags_given), given=set(flags_given))


def test_flags_of_the_original_and_of_ours(tmp_path):
    old = {"model": "DbofModel", "feature_sizes": "1024", "feature_names": "rgb", "frame_features": True}
    path = tmp_path / checkpoints.FLAGS_FILE
    path.write_text(json.dumps(old | {"label_loss": "CrossEntropyLoss"}))
    assert set(checkpoints.flags_of(tmp_path)) == set(checkpoints.STORED)
    assert checkpoints.flags_of(tmp_path)["dbof_cluster_size"] == flags.MODEL["dbof_cluster_size"][1]
    sized = checkpoints.flags_of(tmp_path, given(dbof_cluster_size=16, model="DbofModel"))
    assert (sized["dbof_cluster_size"], sized["model"], sized["frame_features"]) == (16, "DbofModel", True)
    with pytest.raises(ValueError, match="model: DbofModel -> LogisticModel"):
        checkpoints.flags_of(tmp_path, given(model="LogisticModel"))
    checkpoints.write_flags(tmp_path, sized)  # completes the original's
    with pytest.raises(ValueError, match=r"begun with other flags \(dbof_cluster_size: 16 -> 8\)"):
        checkpoints.write_flags(tmp_path, sized | {"dbof_cluster_size": 8})
    assert json.loads(path.read_text())["dbof_cluster_size"] == 16


def test_flags_without_a_file_or_with_a_bad_one(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="expected a folder that starter.train has written"):
        checkpoints.flags_of(tmp_path, given(lstm_cells=3))
    assert checkpoints.flags_of(tmp_path, given(model="MoeModel"))["model"] == "MoeModel"
    assert "no such file" in capsys.readouterr().out
    for text, words in (
        ("[]", "not the flags of a model"),
        ('{"model": 3}', "model is 3"),
        ("{", "not a JSON"),
        ("[" * 100_000, "not a JSON file"),
        ('{"model": "Foo"}', "unknown model 'Foo'"),
        ('{"model": "MoeModel", "label_loss": "X"}', "unknown label_loss 'X'"),
        ('{"model": "MoeModel", "num_classes": -5}', "num_classes is -5; expected a whole number above 0"),
        ('{"model": "MoeModel", "num_classes": 1000000000000}', "at most 1000000"),
        ('{"model": "MoeModel", "num_classes": true}', "num_classes is True"),
        ('{"model": "MoeModel", "moe_num_mixtures": 0}', "moe_num_mixtures is 0"),
        ('{"model": "MoeModel", "moe_l2": NaN}', "moe_l2 is nan"),
        ('{"model": "MoeModel", "feature_names": "a", "feature_sizes": "x", "frame_features": true}', "'x'"),
    ):
        (tmp_path / checkpoints.FLAGS_FILE).write_text(text)
        with pytest.raises(ValueError, match=words) as error:
            checkpoints.flags_of(tmp_path)
        assert str(error.value).startswith(f"{tmp_path / checkpoints.FLAGS_FILE}: ")
        assert "\n" not in str(error.value)
