"""starter.export_model and starter.export_model_mediapipe."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import served
import tensorflow as tf

from starter import export_model, export_model_mediapipe, serving


@pytest.mark.parametrize("model", ["LogisticModel", "DbofModel", "LstmModel", "NetVLADModelLF"])
def test_mediapipe_twice_into_the_same_place(model, tmp_path, capsys):
    folder = served.train_dir(tmp_path / "run", model)
    given = served.settings(export_model_mediapipe, train_dir=str(folder), output_dir=str(tmp_path / "out"))
    for _ in range(2):
        target = export_model_mediapipe.export(given)
    out = capsys.readouterr().out
    assert out.count("reloaded: maximum difference") == 2
    function = tf.saved_model.load(str(target)).signatures["serving_default"]
    _, given = function.structured_input_signature
    assert {k: (v.dtype, tuple(v.shape)) for k, v in given.items()} == {
        "rgb_and_audio": (tf.float32, (None, None, 12)),
        "num_frames": (tf.int32, (None, 1)),
    }
    # Frames behind the end do not count.
    x = np.random.default_rng(1).uniform(-2, 2, (2, 7, 12)).astype("float32")
    short, n = x.copy(), tf.constant([[3], [4]])
    short[0, 3:], short[1, 4:] = 9, -9
    one, two = (function(rgb_and_audio=tf.constant(v), num_frames=n)["predictions"] for v in (x, short))
    np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("model", ["MoeModel", "DbofModel"])
def test_example_bytes_twice_into_the_same_place(model, tmp_path, capsys):
    folder = served.train_dir(tmp_path / "run", model)
    for _ in range(2):
        target = export_model.export(served.settings(export_model, train_dir=str(folder)))
    assert target == folder / "export"
    assert capsys.readouterr().out.count("reloaded: maximum difference") == 2
    assert [p.name for p in folder.iterdir() if p.name.startswith(".export.") and "lock" not in p.name] == []
    frames = model == "DbofModel"
    make = served.clips if frames else served.videos
    records = [r.numpy() for r in tf.data.TFRecordDataset(make(tmp_path / "r.tfrecord"))]
    function = tf.saved_model.load(str(target)).signatures["serving_default"]
    found = function(example_bytes=tf.constant(records))
    assert found["video_id"].numpy().tolist() == [f"v{i:03d}".encode() for i in range(len(records))]
    assert found["class_indexes"].dtype == tf.int32 and found["predictions"].shape == (len(records), 10)
    assert (np.diff(found["predictions"]) <= 0).all()
    alone = function(example_bytes=tf.constant(records[2:3]))
    np.testing.assert_allclose(alone["predictions"][0], found["predictions"][2], atol=1e-6)


# --- saved_model_cli, in a process that knows nothing of ours -----------------------------------------------


def cli(said, inputs, outputs, tmp_path):
    """What the line that the export printed gives on arrays: the outputs that are numbers, and the text."""
    for name, value in inputs.items():
        np.save(tmp_path / f"{name}.npy", value)
    (line,) = [line.removeprefix("try: ") for line in said.splitlines() if line.startswith("try: ")]
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    line = f"{line} --outdir {shlex.quote(str(tmp_path / 'cli'))}"
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [np.load(tmp_path / f"cli/{name}.npy", allow_pickle=False) for name in outputs], done.stdout


def test_saved_model_cli_runs_records(tmp_path, capsys):
    folder = served.train_dir(tmp_path / "run", "DbofModel")
    export_model.export(served.settings(export_model, train_dir=str(folder)))
    shard = served.clips(tmp_path / "c.tfrecord", count=5)
    said = capsys.readouterr().out
    how = (
        "records = list(tf.data.TFRecordDataset('SHARD').as_numpy_iterator()); np.save('example_bytes.npy', "
    )
    assert f"  example_bytes.npy: {how}np.array(records, dtype=object))" in said.splitlines()
    records = np.array(list(tf.data.TFRecordDataset(shard).as_numpy_iterator()), dtype=object)
    outputs = ("class_indexes", "predictions")
    (classes, scores), out = cli(said, {"example_bytes": records}, outputs, tmp_path)
    assert "video_id" in out and "v004" in out
    model = serving.for_inference(served.settings(export_model, train_dir=str(folder))).model
    inputs = {name: np.zeros((5, 300, size), "uint8") for name, size in (("rgb", 8), ("audio", 4))}
    for i, record in enumerate(records):
        lists = tf.train.SequenceExample.FromString(record).feature_lists.feature_list
        for name in ("rgb", "audio"):
            frames = [np.frombuffer(f.bytes_list.value[0], "uint8") for f in lists[name].feature]
            inputs[name][i, : len(frames)] = frames
            inputs.setdefault(f"{name}_length", np.zeros(5, "int32"))[i] = len(frames)
    expected = model.predict_on_batch(inputs)
    np.testing.assert_array_equal(classes, np.argsort(-expected, 1))
    np.testing.assert_allclose(scores, -np.sort(-expected, 1), atol=1e-5)


def test_saved_model_cli_runs_the_mediapipe_form(tmp_path, capsys):
    folder = served.train_dir(tmp_path / "run", "LogisticModel")
    checkpoint = str(folder / "checkpoints/step-00000300.npz")
    settings = {"checkpoint_file": checkpoint, "output_dir": str(tmp_path / "out")}
    export_model_mediapipe.export(served.settings(export_model_mediapipe, **settings))
    said = capsys.readouterr().out
    assert "  rgb_and_audio.npy: float32 (batch, frames, 12), dequantised features" in said.splitlines()
    assert "  num_frames.npy: int32 (batch, 1), how many of the frames are real" in said.splitlines()
    x = np.random.default_rng(1).uniform(-2, 2, (2, 6, 12)).astype("float32")
    given = {"rgb_and_audio": x, "num_frames": np.array([[6], [2]], "int32")}
    (found,), _ = cli(said, given, ("predictions",), tmp_path)
    model = serving.for_inference(served.settings(export_model, init_from=checkpoint)).model
    mean = np.stack([x[0].mean(0), x[1, :2].mean(0)])
    expected = model.predict_on_batch({"mean_rgb": mean[:, :8], "mean_audio": mean[:, 8:]})
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("program", [export_model, export_model_mediapipe])
def test_the_command(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder = served.train_dir(tmp_path / "run", "LstmModel")
    for line, status in (([f"--train_dir={folder}"], 0), ([f"--train_dir={tmp_path}/none"], 1), (["--x"], 2)):
        with pytest.raises(SystemExit) as stop:
            program.main([*line, f"--output_dir={tmp_path}/out"])
        assert stop.value.code == status
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    out, err = capsys.readouterr()
    assert f"exported: {tmp_path}/out (reloaded: maximum difference" in out
    assert [line.split()[0] for line in err.splitlines()] == ["error:", "error:"]


# --- what is wrong ------------------------------------------------------------------------------------------


def test_wrong_places(tmp_path):
    with pytest.raises(ValueError, match="--train_dir: expected"):
        export_model.export(served.settings(export_model, output_dir="x"))
    with pytest.raises(ValueError, match="--output_dir: expected"):
        export_model.export(served.settings(export_model))
    with pytest.raises(ValueError, match="--output_dir: expected"):
        export_model_mediapipe.export(served.settings(export_model_mediapipe))
    with pytest.raises(FileNotFoundError, match="none: no such folder; train first"):
        export_model.export(served.settings(export_model, train_dir=str(tmp_path / "none")))


def test_a_model_that_predicts_otherwise_is_not_exported(tmp_path, monkeypatch):
    folder = served.train_dir(tmp_path / "run")
    target = export_model.export(served.settings(export_model, train_dir=str(folder)))
    before = sorted(p.name for p in target.rglob("*"))
    compared = export_model._compared

    def other(model):
        given, expected = compared(model)
        return given, expected + 1e-3

    monkeypatch.setattr(export_model, "_compared", other)
    with pytest.raises(ValueError, match="differ by 1.00e-03 .*nothing was exported"):
        export_model.export(served.settings(export_model, train_dir=str(folder)))
    assert sorted(p.name for p in target.rglob("*")) == before
