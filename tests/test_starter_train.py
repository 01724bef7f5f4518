"""The training program: through its own `main`, on small records of its own form."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from golden_trainsteps import write_tf1

from starter import checkpoints, train
from tfvc import checkpoints as stored
from tfvc import files

CLASSES, WIDTH = 4, 6
STEP = r"training step (\d+) \| Loss: (\d+\.\d\d) Examples/sec: \d+\.\d\d"
LOOK = rf"{STEP} \| Hit@1: \d\.\d\d PERR: \d\.\d\d GAP: \d\.\d\d"


def feature(**lists):
    kinds = {"S": "bytes_list", "f": "float_list", "i": "int64_list"}
    return {
        name: tf.train.Feature(**{kinds[kind]: {"value": values}})
        for name, (kind, values) in ((n, v) for n, v in lists.items())
    }


def video(k, width=WIDTH):
    """A record whose labels follow from its mean."""
    mean = np.random.default_rng(k).normal(size=width)
    labels = [c for c in range(CLASSES) if mean[c] > 0.3]
    lists = feature(id=("S", [b"v%d" % k]), labels=("i", labels), mean_rgb=("f", mean))
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


def clip(k, frames=7, width=WIDTH, segments=False):
    random = np.random.default_rng(k)
    values = random.integers(0, 256, (frames, width)).astype("uint8")
    context = {"id": ("S", [b"v%d" % k]), "labels": ("i", [int(values[0, 0]) % CLASSES])}
    if segments:
        context |= {"segment_labels": ("i", [1, 2]), "segment_start_times": ("i", [0, 0])}
        context |= {"segment_end_times": ("i", [5, 5]), "segment_scores": ("f", [1.0, 0.0])}
    rows = [tf.train.Feature(bytes_list={"value": [row.tobytes()]}) for row in values]
    lists = tf.train.FeatureLists(feature_list={"rgb": tf.train.FeatureList(feature=rows)})
    context = tf.train.Features(feature=feature(**context))
    return tf.train.SequenceExample(context=context, feature_lists=lists).SerializeToString()


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards, 40 videos: 5 batches of 8 a pass."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(2):
        write(folder / f"train{shard}.tfrecord", [video(k) for k in range(shard, 40, 2)])
    return folder / "train*.tfrecord"


def trained(pattern, folder, *argv):
    """Runs the program; gives its status."""
    own = [f"--train_data_pattern={pattern}", f"--train_dir={folder}"]
    own += [f"--num_classes={CLASSES}", f"--feature_sizes={WIDTH}", "--batch_size=8"]
    with pytest.raises(SystemExit) as stop:
        train.main([*own, *argv])
    return stop.value.code


@pytest.fixture
def program(capsys, tmp_path):
    """Runs the program; gives its status, its lines and its errors. `run` is its folder."""

    def run(pattern, *argv, folder="run"):
        status = trained(pattern, tmp_path / folder, *argv)
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return run


# Runs that several tests begin with; those that go on do it in a copy.
WHOLE = ("--num_epochs=4", "--base_learning_rate=0.1")


def once(shards, tmp_path_factory, *argv):
    folder = tmp_path_factory.mktemp("once") / "run"
    assert trained(shards, folder, *argv) == 0
    return folder


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """An unbroken run of four passes: 20 steps."""
    return once(shards, tmp_path_factory, *WHOLE)


@pytest.fixture(scope="module")
def _thirteen(shards, tmp_path_factory):
    return once(shards, tmp_path_factory, *WHOLE, "--max_steps=13")


@pytest.fixture(scope="module")
def _one(shards, tmp_path_factory):
    return once(shards, tmp_path_factory, "--max_steps=1")


@pytest.fixture
def thirteen(_thirteen, tmp_path):
    """`run`, stopped in its third pass: checkpoints of the steps 10 and 13."""
    return shutil.copytree(_thirteen, tmp_path / "run")


@pytest.fixture
def one(_one, tmp_path):
    """`run`, stopped after its first step."""
    return shutil.copytree(_one, tmp_path / "run")


def newest(folder):
    """The arrays of the newest checkpoint."""
    with np.load(checkpoints.newest(folder), allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != "progress"}


def same(one, other):
    assert sorted(map(stored._plain, one)) == sorted(map(stored._plain, other))
    for a, b in zip(sorted(one, key=stored._plain), sorted(other, key=stored._plain), strict=True):
        np.testing.assert_array_equal(one[a], other[b], err_msg=a)


def test_a_run_logs_summarises_saves_and_ends_with_the_data(program, shards, tmp_path):
    status, lines, err = program(shards, "--num_epochs=3", "--base_learning_rate=0.1")
    assert (status, err) == (0, "")
    steps = [line for line in lines if line.startswith("training step")]
    assert len(steps) == 15 and all(re.fullmatch(LOOK if k == 9 else STEP, s) for k, s in enumerate(steps))
    losses = [float(re.match(STEP, line)[2]) for line in steps]
    assert losses[-1] < 0.7 * losses[0]
    assert lines[-2] == "Done training -- epoch limit reached."
    run = tmp_path / "run"
    saved = sorted(p.name for p in (run / "checkpoints").glob("*.npz"))
    assert saved == ["step-00000010.npz", "step-00000015.npz"]
    tree = json.loads((run / "model_flags.json").read_text())
    assert (tree["model"], tree["feature_sizes"], tree["frame_features"]) == ("LogisticModel", "6", False)
    assert set(tree) == set(checkpoints.STORED)
    tags = {}
    for path in run.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags[value.tag] = event.step
    wanted = (
        "model/Training_Hit@1",
        "model/Training_Perr",
        "model/Training_GAP",
        "global_step/Examples/Second",
    )
    assert {tag: tags.get(tag) for tag in (*wanted, "label_loss")} == dict.fromkeys(
        [*wanted, "label_loss"], 10
    )


def test_the_program_runs_as_a_file_from_anywhere(shards, tmp_path):
    argv = [f"--train_data_pattern={shards}", "--num_classes=4", "--feature_sizes=6", "--max_steps=1"]
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "starter/train.py",
            *argv,
            f"--train_dir={tmp_path / 'run'}",
            "--batch_size=8",
        ],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "training step 1 | Loss: " in result.stdout, result.stderr
    # TensorFlow 2.21 has lines of its own, which no setting silences.
    own = [n for n in result.stderr.splitlines() if not re.match(r"[IWE]0000 |WARNING: All log|To enable", n)]
    assert not own, own


@pytest.mark.slow
def test_stopping_and_going_on_ends_where_one_run_does(program, shards, whole, thirteen):
    status, lines, _ = program(shards, *WHOLE, "--max_steps=13")
    assert status == 0 and lines[-1] == "step 13: --max_steps=13 is reached already"
    status, lines, _ = program(shards, *WHOLE)
    assert status == 0 and "reading past the 13 batches that it has seen" in lines
    assert next(line for line in lines if line.startswith("training")).startswith("training step 14 ")
    same(newest(whole), newest(thirteen))
    status, lines, _ = program(shards, *WHOLE)
    assert status == 0 and "all passes over the data are done; ask for more by --num_epochs (now 4)" in lines


def test_frames_are_drawn_again_as_they_were(program, tmp_path):
    write(tmp_path / "frames.tfrecord", [clip(k) for k in range(16)])
    model = [
        "--frame_features",
        "--feature_names=rgb",
        "--model=DbofModel",
        "--iterations=3",
        "--num_epochs=2",
    ]
    model += ["--dbof_cluster_size=5", "--dbof_hidden_size=3"]
    program(tmp_path / "frames.tfrecord", *model, folder="whole")
    program(tmp_path / "frames.tfrecord", *model, "--max_steps=1")
    program(tmp_path / "frames.tfrecord", *model)
    same(newest(tmp_path / "whole"), newest(tmp_path / "run"))


def test_a_damaged_checkpoint_costs_only_what_came_after_the_one_before(program, shards, whole, thirteen):
    path = thirteen / "checkpoints/step-00000013.npz"
    path.write_bytes(path.read_bytes()[:-50])
    status, lines, _ = program(shards, *WHOLE)
    assert status == 0 and sum("passing over it" in line for line in lines) == 1
    assert not path.exists()  # it would take the place of a whole one
    same(newest(whole), newest(thirteen))


def test_where_every_checkpoint_is_damaged_it_stops_and_removes_none(program, shards, thirteen):
    paths = sorted((thirteen / "checkpoints").glob("*.npz"))
    for path in paths:
        path.write_bytes(path.read_bytes()[:-50])
    status, _, err = program(shards)
    assert status == 1 and err.count("\n") == 1 and "--start_new_model" in err and len(paths) == 2
    assert all(f"{path}: damaged (its checksum differs)" in err and path.exists() for path in paths)
    assert program(shards, "--start_new_model", "--max_steps=1")[0] == 0


def test_what_changed_since_is_said_and_in_force(program, shards, one):
    before = newest(one)
    _, lines, _ = program(shards, "--max_steps=2", "--base_learning_rate=0", "--seed=1")
    assert "  from here on, base_learning_rate: 0.01 -> 0.0" in lines and "  the data begins anew" in lines
    after = newest(one)
    kernel = next(name for name in before if name.endswith("kernel"))
    np.testing.assert_array_equal(before[kernel], after[kernel])
    _, lines, _ = program(shards, "--max_steps=3", "--optimizer=AdagradOptimizer", "--seed=1")
    assert "  AdagradOptimizer starts fresh" in lines
    status, lines, _ = program(shards, "--max_steps=4", "--optimizer=AdagradOptimizer", "--seed=1")
    assert status == 0 and not any("starts fresh" in line or "from here on" in line for line in lines)


def test_other_flags_of_the_model_stop_it(program, shards, one):
    for flag, words in (
        ("--model=MoeModel", "model: LogisticModel -> MoeModel"),
        ("--label_loss=HingeLoss", "label_loss: CrossEntropyLoss -> HingeLoss"),
        ("--moe_num_mixtures=4", "moe_num_mixtures: 2 -> 4"),
    ):
        status, _, err = program(shards, flag)
        assert status == 1 and words in err and err.count("\n") == 1


def test_a_new_model_removes_only_what_training_wrote(program, shards, thirteen):
    run = thirteen
    (run / "notes.txt").write_text("mine")
    (run / "eval").mkdir()
    status, lines, _ = program(shards, "--start_new_model", "--model=MoeModel", "--max_steps=1")
    assert status == 0 and any("removed 6 files" in line for line in lines)
    assert f"{run / 'eval'}: stays; it is not of the new model" in lines
    assert sorted(p.name for p in (run / "checkpoints").glob("*.npz")) == ["step-00000001.npz"]
    assert (run / "notes.txt").read_text() == "mine"
    status, _, err = program("nothing*", "--start_new_model")
    assert status == 1 and (run / "checkpoints/step-00000001.npz").is_file() and err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model=LogisticModle"], "did you mean 'LogisticModel'"),
        (["--optimizer=Adam"], "unknown optimizer 'Adam'"),
        (["--label_loss=CrossEntropy"], "did you mean 'CrossEntropyLoss'"),
        (["--feature_names=mean_rgb,mean_audio"], "a size for each"),
        (["--feature_names="], "expected the names of streams, as rgb,audio"),
        (["--feature_sizes=٨"], "feature_sizes='٨': expected whole numbers"),
        (["--feature_sizes=99999999999"], "feature_sizes='99999999999': expected whole numbers"),
        (["--train_dir="], "--train_dir: empty"),
        (["--train_dir=gs://b/x"], "--train_dir=gs://b/x: no local folder"),
        (["--train_dir=/proc/x"], "--train_dir=/proc/x: No such file or directory"),
        (["--feature_sizes=7"], "mean_rgb"),
        (["--feature_names=mean_rbg"], "mean_rgb"),
        (["--frame_features"], "reads one vector a video"),
        (["--model=DbofModel"], "reads frames"),
        (["--num_classes=2"], "label"),
        (["--segment_labels"], "only with --frame_features"),
        (["--use_label_weights"], "only with --segment_labels"),
        (["--init_from=no/model.ckpt-1"], "no checkpoint of TensorFlow 1"),
        (
            ["--base_learning_rate=1e30", "--clip_gradient_norm=0", "--optimizer=GradientDescentOptimizer"],
            "step ",
        ),
    ],
)
def test_errors_are_one_line(argv, words, program, shards, tmp_path):
    status, _, err = program(shards, "--on_corrupt=stop", *argv)
    assert status == 1 and err.startswith("error: ") and words in err and err.count("\n") == 1, err
    assert checkpoints.newest(tmp_path / "run") is None


@pytest.mark.parametrize("about", [{}, {"settings": {}}, {"settings": {}, "data_from": 0}])
def test_a_checkpoint_of_another_program_is_refused(about, program, shards, one):
    path = one / "checkpoints/step-00000001.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["progress"] = np.array(json.dumps(json.loads(str(arrays["progress"])) | {"about": about}))
    stored._write(path, arrays)
    note = json.loads(path.with_suffix(".json").read_text()) | {"sha256": files.sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(note))
    status, _, err = program(shards)
    assert status == 1 and "a checkpoint of another program" in err and err.count("\n") == 1


def test_no_file_and_no_batch(program, tmp_path):
    status, _, err = program(tmp_path / "none*")
    assert status == 1 and "none*" in err and err.count("\n") == 1
    write(tmp_path / "empty.tfrecord", [])
    status, _, err = program(tmp_path / "empty.tfrecord")
    assert status == 1 and "empty.tfrecord" in err and err.count("\n") == 1
    status, _, err = program("")
    assert status == 1 and err.count("\n") == 1


def test_a_truncated_shard_is_named_and_training_goes_on(program, shards, tmp_path):
    shards = shutil.copytree(shards.parent, tmp_path / "shards") / shards.name
    path = tmp_path / "shards/train1.tfrecord"
    path.write_bytes(path.read_bytes()[:-30])
    status, lines, _ = program(shards, "--num_epochs=1")
    assert status == 0 and any("train1.tfrecord, byte" in line for line in lines)
    assert any("skipped 1 place" in line for line in lines)
    status, _, err = program(shards, "--on_corrupt=stop", folder="other")
    assert status == 1 and "train1.tfrecord, byte" in err and err.count("\n") == 1


def test_ctrl_c_saves_and_the_same_command_goes_on(program, shards, tmp_path, monkeypatch):
    save = stored.save

    def save_and_interrupt(*arguments):
        save(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(stored, "save", save_and_interrupt)
    status, lines, err = program(shards, "--num_epochs=4")
    monkeypatch.undo()
    assert status == 128 + signal.SIGTERM and "to go on: python -m starter.train '--train_data" in err
    assert "saved at step 10; the same command goes on from there" in lines or "saved at step 11" in lines[-1]
    status, lines, _ = program(shards, "--num_epochs=4")
    assert status == 0 and lines[-2] == "Done training -- epoch limit reached."


def test_ctrl_c_before_the_first_checkpoint_says_that_nothing_is_saved(
    program, shards, _one, tmp_path, monkeypatch
):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    words = {
        "stopped; nothing was saved; to go on:": None,
        "stopped at once; nothing was saved since the last checkpoint; to go on:": _one,
    }
    for wanted, before in words.items():
        if before:
            shutil.copytree(before, tmp_path / "run", dirs_exist_ok=True)
        with monkeypatch.context() as patched:
            patched.setattr(train, "_model", interrupted)
            status, _, err = program(shards)
        assert status == 130 and err.startswith(wanted), err


def test_a_checkpoint_every_15_minutes_too(program, shards, tmp_path, monkeypatch):
    now = time.perf_counter
    monkeypatch.setattr("starter.steps.time.perf_counter", lambda: 500 * now())
    monkeypatch.setattr("starter.steps.SAVE_SECONDS", 0)
    program(shards, f"--max_steps={checkpoints.KEEP + 1}")
    assert len(list((tmp_path / "run/checkpoints").glob("*.npz"))) == checkpoints.KEEP


def test_segments_train_with_and_without_their_weights(program, tmp_path):
    write(tmp_path / "segments.tfrecord", [clip(k, segments=True) for k in range(16)])
    argv = ["--frame_features", "--feature_names=rgb", "--segment_labels", "--model=FrameLevelLogisticModel"]
    argv += ["--max_steps=1"]
    losses = []
    for more in ([], ["--use_label_weights"]):
        status, lines, err = program(tmp_path / "segments.tfrecord", *argv, *more, "--start_new_model")
        assert status == 0, err
        losses += [float(re.match(STEP, line)[2]) for line in lines if line.startswith("training")]
    assert losses[1] < 0.7 * losses[0]  # two of four classes are rated


def test_a_checkpoint_of_tensorflow_1_goes_on(program, shards, tmp_path):
    random = np.random.default_rng(0)
    arrays = {"tower/fully_connected/weights": random.normal(size=(WIDTH, CLASSES)).astype("float32")}
    arrays |= {"tower/fully_connected/biases": np.zeros(CLASSES, "float32")}
    prefix = write_tf1(tmp_path / "model.ckpt-70", arrays, step=70)
    argv = ["--base_learning_rate=0", "--max_steps=71"]
    status, lines, _ = program(shards, f"--init_from={prefix}", *argv)
    assert status == 0 and any("2 variables from" in line for line in lines)
    kernel = next(v for k, v in newest(tmp_path / "run").items() if k.endswith("connected/kernel"))
    np.testing.assert_array_equal(kernel, arrays["tower/fully_connected/weights"])
    # An original's folder goes on as it stands.
    (tmp_path / "old").mkdir()
    write_tf1(tmp_path / "old/model.ckpt-70", arrays, step=70)
    status, lines, _ = program(shards, *argv, folder="old")
    assert status == 0 and any(line.startswith("training step 71 ") for line in lines)


def test_bfloat16_trains_and_restores_the_policy(program, shards):
    status, lines, _ = program(shards, "--precision=bfloat16", "--max_steps=2", "--model=MoeModel")
    assert status == 0 and keras.config.dtype_policy().name == "float32"
    assert sum(line.startswith("training") for line in lines) == 2


def test_more_gpus_than_there_are_is_said(program, shards):
    _, lines, _ = program(shards, "--num_gpu=3", "--optimizer=none")  # which is refused later
    if not tf.config.list_physical_devices("GPU"):
        assert "No GPUs found. Training on CPU, one replica for --num_gpu=3." in lines
