"""starter.inference, the program, on small models and records. Its text: test_starter_submissions.py."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import served
import tensorflow as tf
from conftest import ROOT
from golden_trainsteps import write_tf1
from served import split

from starter import eval as evaluation
from starter import inference, serving
from starter.inference import format_lines


def predict(folder, pattern, output, **given):
    settings = {"train_dir": str(folder), "input_data_pattern": pattern, "output_file": str(output)}
    settings = {name: value for name, value in (settings | given).items() if value is not None}
    inference.predict(served.settings(inference, **settings))
    return output.read_text()


@pytest.fixture(scope="module")
def moe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moe")
    return served.train_dir(folder / "run"), served.videos(folder / "v.tfrecord", labelled=False)


@pytest.fixture(scope="module")
def dbof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dbof")
    (folder / "ids.csv").write_text("Index\n1\n3\n4\n")
    return served.train_dir(folder / "run", "DbofModel"), served.clips(folder / "c.tfrecord")


def test_videos_without_labels_and_any_batch_size(moe, tmp_path, capsys):
    whole = predict(*moe, tmp_path / "a.csv", top_k=4)
    rows = list(csv.reader(whole.splitlines()))
    assert rows[0] == ["VideoId", "LabelConfidencePairs"]
    assert [row[0] for row in rows[1:]] == [f"v{i:03d}" for i in range(23)]
    scores = [[float(x) for x in row[1].split()[1::2]] for row in rows[1:]]
    assert all(len(s) == 4 and s == sorted(s, reverse=True) for s in scores)
    for size in (1, 7):
        assert same(predict(*moe, tmp_path / f"b{size}.csv", top_k=4, batch_size=size), whole)
    assert "num examples processed: 23 elapsed seconds: " in capsys.readouterr().out


def test_labels_beyond_the_models_classes_are_not_looked_at(moe, tmp_path):
    folder, plain = moe
    records = [tf.train.Example.FromString(r) for r in tf.data.TFRecordDataset(plain).as_numpy_iterator()]
    for number, example in enumerate(records):
        example.features.feature["labels"].int64_list.value[:] = [3861, -1][: number % 3]
    pattern = served.write(tmp_path / "v.tfrecord", [example.SerializeToString() for example in records])
    expected = predict(folder, plain, tmp_path / "a.csv")
    assert same(predict(folder, pattern, tmp_path / "b.csv"), expected)


def same(text, other):
    """The same ids, classes and order; scores to their last printed digits."""
    ours, theirs = ([split(f"{x}\n".encode()) for x in t.splitlines()[1:]] for t in (text, other))
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    np.testing.assert_allclose([row[2] for row in ours], [row[2] for row in theirs], rtol=2e-5)
    return True


def classes(line):
    video, pairs = line.split(",", 1)
    return video, pairs.split()[::2]


def test_the_scores_are_the_models(moe, tmp_path):
    folder, pattern = moe
    text = predict(folder, pattern, tmp_path / "a.csv")
    inputs = next(
        iter(
            serving.records.batches(
                serving.records.Records(pattern, serving._rows(flags_of(folder), 300), 10), 1024
            )
        )
    )[0]
    model = served.build(flags_of(folder))
    served.checkpoints.load(folder / "checkpoints/step-00000300.npz", model)
    ids = [f"v{i:03d}" for i in range(23)]
    expected = b"".join(format_lines(ids, model.predict_on_batch(inputs), 20)).decode()
    assert same(text, "header\n" + expected)


def flags_of(folder):
    return json.loads((folder / "model_flags.json").read_text())


def test_names_in_place_of_numbers(moe, tmp_path):
    (tmp_path / "names.csv").write_text("Index,Name\n" + "".join(f'{i},"Name {i}, x"\n' for i in range(10)))
    numbers = predict(*moe, tmp_path / "a.csv", top_k=2)
    named = predict(*moe, tmp_path / "b.csv", top_k=2, vocabulary=str(tmp_path / "names.csv"))
    for one, (video, pairs) in zip(
        numbers.splitlines()[1:], list(csv.reader(named.splitlines()))[1:], strict=True
    ):
        _, found = classes(one)
        assert [p.rsplit(" ", 1)[0] for p in pairs.split(";")] == [f"Name {c}, x" for c in found]
        assert one.startswith(video)


def test_segments_are_ranked_for_each_listed_class(dbof, tmp_path):
    folder, pattern = dbof
    ids = str(folder.parent / "ids.csv")
    given = {"segment_labels": True, "segment_label_ids_file": ids, "top_k": 2}
    whole = predict(folder, pattern, tmp_path / "a.csv", **given)
    assert whole == predict(folder, pattern, tmp_path / "b.csv", batch_size=2, **given)
    lines = whole.splitlines()
    assert lines[0] == "Class,Segments"
    assert [line.split(",")[0] for line in lines[1:]] == sorted(
        {"1", "3", "4"} & {x.split(",")[0] for x in lines}
    )
    found = {(c, place) for c, places in (x.split(",") for x in lines[1:]) for place in places.split(" ")}
    windows = [f"v{i:03d}:{start}" for i in range(11) for start in range(0, 3 + i % 10, 5)]
    assert len(found) == 2 * len(windows) and {place for _, place in found} == set(windows)
    few = predict(folder, pattern, tmp_path / "c.csv", segment_max_pred=3, **given)
    for short, line in zip(few.splitlines()[1:], lines[1:], strict=True):
        assert short.split(" ") == line.split(" ")[:3]


def test_a_window_is_predicted_as_a_clip_of_its_own(dbof):
    folder, pattern = dbof
    rows = serving._rows(flags_of(folder), 300)
    inputs, *_ = next(iter(serving.records.batches(serving.records.Records(pattern, rows, 10), 64)))
    cut, places = inference.windows(inputs, ["rgb", "audio"], 5)
    n = int(np.flatnonzero((places == [9, 10]).all(-1))[0])
    assert cut["rgb_length"][n] == 2 and cut["rgb"].shape[1:] == (5, 8)
    np.testing.assert_array_equal(cut["audio"][n, :2], inputs["audio"][9, 10:12])
    assert not cut["rgb"][n, 2:].any()


def test_a_shorter_second_stream_ends_by_its_own_length():
    inputs = {"rgb": np.ones((2, 10, 1)), "rgb_length": np.array([10, 0])}
    inputs |= {"audio": np.ones((2, 10, 1)), "audio_length": np.array([7, 6])}
    cut, places = inference.windows(inputs, ["rgb", "audio"], 5)
    assert places.tolist() == [[0, 0], [0, 5], [1, 0], [1, 5]]
    assert cut["rgb_length"].tolist() == [5, 5, 0, 0] and cut["audio_length"].tolist() == [5, 2, 5, 1]


def test_the_kept_model_or_the_newest_checkpoint_whichever_is_later(tmp_path, capsys):
    folder, pattern = served.train_dir(tmp_path / "run"), served.videos(tmp_path / "v.tfrecord")
    first = predict(folder, pattern, tmp_path / "a.csv")
    settings = {"train_dir": str(folder), "eval_data_pattern": pattern, "run_once": True}
    evaluation.evaluate(served.settings(evaluation, **settings))
    capsys.readouterr()
    assert same(predict(folder, pattern, tmp_path / "b.csv"), first)
    assert "inference_model/inference_model/model.keras, global step 300" in capsys.readouterr().out
    served.save(folder, flags_of(folder), 400, seed=5)
    assert predict(folder, pattern, tmp_path / "c.csv") != first
    assert "step-00000400.npz, global step 400" in capsys.readouterr().out
    # A run begun anew: fewer steps, but later.
    evaluation.evaluate(served.settings(evaluation, **settings))
    shutil.rmtree(folder / "checkpoints")
    served.save(folder, flags_of(folder), 100, seed=7)
    predict(folder, pattern, tmp_path / "e.csv")
    assert "step-00000100.npz, global step 100" in capsys.readouterr().out
    served.save(folder, flags_of(folder), 300, seed=0)
    older = str(folder / "checkpoints/step-00000300.npz")
    assert same(predict(None, pattern, tmp_path / "d.csv", train_dir=None, init_from=older), first)


# --- bundles ------------------------------------------------------------------------------------------------


def test_a_bundled_model_predicts_the_same_elsewhere(moe, tmp_path):
    bundle, elsewhere = str(tmp_path / "m.tgz"), tmp_path / "elsewhere"
    first = predict(*moe, tmp_path / "a.csv", output_model_tgz=bundle)
    given = {"train_dir": None, "input_model_tgz": bundle, "untar_model_dir": str(elsewhere)}
    for _ in range(2):
        assert same(predict(None, moe[1], tmp_path / "b.csv", **given), first)
    with pytest.raises(ValueError, match="leave out --train_dir"):
        predict(*moe, tmp_path / "b.csv", input_model_tgz=bundle)
    # As `tar czf m.tgz .` packs it again.
    with tarfile.open(tmp_path / "again.tgz", "w:gz") as tar:
        tar.add(serving.kept_folder(elsewhere, False), ".")
        assert tar.getnames()[0] == "."
    given["input_model_tgz"] = str(tmp_path / "again.tgz")
    assert same(predict(None, moe[1], tmp_path / "c.csv", **given), first)


@pytest.mark.parametrize(
    "name", ["../../escaped", "/tmp/escaped", "./sub/model.keras", "sub/model.keras", "sub/..", "link"]
)
def test_a_bundle_writes_nowhere_else(tmp_path, name):
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        else:
            member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match=f"m.tgz: holds '{name}'.*--output_model_tgz"):
        serving.unpack(tmp_path / "m.tgz", tmp_path / "out/model")
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".model.lock", "m.tgz", "out"]


def test_a_bundle_that_is_none_is_named(tmp_path):
    for text in (b"", b"no archive", b"\x1f\x8b\x08broken"):
        (tmp_path / "m.tgz").write_bytes(text)
        with pytest.raises(ValueError, match="m.tgz: .*expected a file of --output_model_tgz"):
            serving.unpack(tmp_path / "m.tgz", tmp_path / "out")
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("model.keras")
        member.size = 64 << 20
        with open("/dev/zero", "rb") as zeros:
            tar.addfile(member, zeros)
    with pytest.raises(ValueError, match="m.tgz: holds 'model.keras' of 67108864 bytes"):
        serving.unpack(tmp_path / "m.tgz", tmp_path / "out")


# --- what is wrong ------------------------------------------------------------------------------------------


def test_no_model_is_looked_for_in_the_current_folder(moe, tmp_path, monkeypatch):
    monkeypatch.chdir(moe[0])
    with pytest.raises(ValueError, match="--train_dir: expected"):
        predict(None, moe[1], tmp_path / "a.csv", train_dir=None)


def test_a_kept_model_of_other_flags_is_refused(moe, tmp_path):
    folder = served.kept_copy(moe[0], tmp_path / "run")
    path = serving.kept_folder(folder, False) / "model_flags.json"
    path.write_text(path.read_text().replace('"8,4"', '"8,5"'))
    with pytest.raises(
        ValueError, match="model.keras: reads .*model_flags.json says .*run starter.eval again"
    ):
        predict(folder, moe[1], tmp_path / "a.csv")
    path.write_text(
        path.read_text().replace('"8,5"', '"8,4"').replace('"num_classes": 10', '"num_classes": 12')
    )
    with pytest.raises(ValueError, match="and has 10 classes, but .* and 12 classes; run starter.eval again"):
        predict(folder, moe[1], tmp_path / "a.csv")


def test_wrong_flags_are_one_line(moe, dbof, tmp_path):
    folder, pattern = moe
    output = tmp_path / "a.csv"
    for given, match in [
        ({"input_data_pattern": ""}, "--input_data_pattern: expected"),
        ({"output_file": ""}, "--output_file: expected"),
        ({"output_file": "gs://bucket/a.csv"}, "expected a local file"),
        ({"output_file": str(tmp_path)}, "is a folder"),
        ({"train_dir": ""}, "--train_dir: expected"),
        ({"segment_labels": True}, "--segment_labels: needs a model of frames"),
        ({"moe_num_mixtures": 5}, "model_flags.json: .*moe_num_mixtures"),
        ({"vocabulary": str(tmp_path / "none.csv")}, "none.csv"),
        ({"input_data_pattern": str(tmp_path / "none*")}, "none"),
        ({"train_dir": str(tmp_path / "none")}, "none: no such folder; train first"),
    ]:
        with pytest.raises((ValueError, OSError), match=match):
            predict(folder, given.pop("input_data_pattern", pattern), output, **given)
    with pytest.raises(ValueError, match="record"):
        predict(dbof[0], pattern, output)
    assert not list(tmp_path.iterdir())


def test_a_damaged_kept_model_says_how_to_mend_it(moe, tmp_path):
    folder = served.kept_copy(moe[0], tmp_path / "run")
    (serving.kept_folder(folder, False) / "model.keras").write_bytes(b"no")
    with pytest.raises(ValueError, match="model.keras: cannot be loaded .not a whole .keras file"):
        predict(folder, moe[1], tmp_path / "a.csv")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, "flags"])
def test_where_the_kept_model_is_damaged_the_checkpoint_is_taken(moe, tmp_path, capsys, place):
    folder = served.kept_copy(moe[0], tmp_path / "run")
    shutil.copy(moe[0] / "model_flags.json", folder)
    shutil.copytree(moe[0] / "checkpoints", folder / "checkpoints")
    kept = serving.kept_folder(folder, False)
    if place == "flags":
        (kept / "model_flags.json").write_text("{")
    else:
        data = bytearray((kept / "model.keras").read_bytes())
        start = int(len(data) * place)
        data[start : start + 64] = b"\xff" * len(data[start : start + 64])
        (kept / "model.keras").write_bytes(data)
    expected = predict(*moe, tmp_path / "a.csv")
    capsys.readouterr()
    assert same(predict(folder, moe[1], tmp_path / "b.csv"), expected)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert re.search(r"model.keras: cannot be loaded .*; taken instead: the newest checkpoint$", first)
    assert second.endswith("step-00000300.npz, global step 300")


def test_a_killed_run_leaves_the_earlier_file(moe, tmp_path):
    folder = served.kept_copy(moe[0], tmp_path / "run")  # no checkpoint: the process loads what was kept
    pattern = served.videos(tmp_path / "v.tfrecord", count=4000)
    (tmp_path / "a.csv").write_text("earlier")
    line = [
        sys.executable,
        "starter/inference.py",
        f"--train_dir={folder}",
        f"--input_data_pattern={pattern}",
    ]
    line += [f"--output_file={tmp_path}/a.csv", "--batch_size=8"]
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    for text in process.stdout:
        if text.startswith("num examples processed"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait(60)
    assert (tmp_path / "a.csv").read_text() == "earlier"
    text = predict(folder, served.videos(tmp_path / "w.tfrecord", count=5), tmp_path / "a.csv")
    assert text.count("\n") == 6
    assert not list(tmp_path.glob(".*.part"))


# --- a train_dir of the original ----------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path):
    """Five flags and a checkpoint of TensorFlow 1, as Google's train.py leaves them; and its weights."""
    rng = np.random.default_rng(3)
    shapes = {"gates/weights": (12, 30), "experts/weights": (12, 20), "experts/biases": (20,)}
    arrays = {f"tower/{name}": rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    folder = tmp_path / "original"
    folder.mkdir()
    values = {"model": "MoeModel", "feature_names": "mean_rgb,mean_audio", "feature_sizes": "8,4"}
    values |= {"frame_features": False, "label_loss": "CrossEntropyLoss"}
    (folder / "model_flags.json").write_text(json.dumps(values))
    write_tf1(folder / "model.ckpt-7", arrays, 7)
    return folder, arrays


def moe_by_hand(x, arrays):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    gates = (x @ arrays["tower/gates/weights"]).reshape(len(x), 10, 3)
    gates = np.exp(gates) / np.exp(gates).sum(-1, keepdims=True)
    experts = (x @ arrays["tower/experts/weights"] + arrays["tower/experts/biases"]).reshape(len(x), 10, 2)
    return (gates[..., :2] / (1 + np.exp(-experts))).sum(-1)


def test_checkpoints_of_the_original_evaluate_and_predict(original, tmp_path, capsys):
    folder, arrays = original
    pattern = served.videos(tmp_path / "v.tfrecord")
    given = {"train_dir": str(folder), "eval_data_pattern": pattern, "run_once": True, "num_classes": 10}
    assert evaluation.evaluate(served.settings(evaluation, **given))["epoch_id"] == 7
    rows = serving._rows(json.loads((folder / "model_flags.json").read_text()), 300)
    inputs, *_ = next(iter(serving.records.batches(serving.records.Records(pattern, rows, 10), 64)))
    expected = moe_by_hand(np.concatenate([inputs["mean_rgb"], inputs["mean_audio"]], 1), arrays)
    ids = [f"v{i:03d}" for i in range(23)]
    expected = "header\n" + b"".join(format_lines(ids, expected, 20)).decode()
    assert same(predict(folder, pattern, tmp_path / "a.csv"), expected)  # what our evaluation kept
    shutil.rmtree(folder / "inference_model")
    assert same(predict(folder, pattern, tmp_path / "b.csv", num_classes=10), expected)
    # What the original's evaluation kept, alone and in its bundle.
    (folder / "inference_model").mkdir()
    kept = write_tf1(folder / "inference_model/inference_model", arrays, 9)
    capsys.readouterr()
    assert same(predict(folder, pattern, tmp_path / "c.csv", num_classes=10), expected)
    assert "inference_model/inference_model, global step 9" in capsys.readouterr().out
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as tar:
        for path in (folder / "inference_model").glob("inference_model.*"):
            tar.add(path, path.name)
        tar.add(folder / "model_flags.json", "model_flags.json")
    given = {"train_dir": None, "input_model_tgz": str(tmp_path / "m.tgz"), "num_classes": 10}
    given["untar_model_dir"] = str(tmp_path / "untar")
    assert same(predict(None, pattern, tmp_path / "d.csv", **given), expected)
    assert same(
        predict(None, pattern, tmp_path / "e.csv", train_dir=None, init_from=str(kept), num_classes=10),
        expected,
    )
