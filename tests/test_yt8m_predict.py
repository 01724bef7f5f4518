"""tfvc/yt8m/predict.py and export.py: what a run on YouTube-8M's records is used for."""

import csv
import functools
import gzip
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import stand_ins
import tensorflow as tf
from conftest import ROOT

from tfvc import export, files, predict, predictions, recipe, workdir
from tfvc.backbones import yt8m
from tfvc.data import demo, schema
from tfvc.models import mfb
from tfvc.recipe import Feature
from tfvc.yt8m import clips
from tfvc.yt8m import export as yt8m_export

CLASSES = ["cat", "dog", "car", "sea"]
T = 6
FRAMES = [Feature("rgb", (T, 1024), "uint8", True), Feature("audio", (T, 128), "uint8", True)]
MEANS = [Feature("mean_rgb", (1024,)), Feature("mean_audio", (128,))]
KEY = ("path", "part", "start", "end")


def make_run(folder, rows, shards=()):
    facts = workdir.Facts("yt8m", "", "", CLASSES, rows, multi_label=True, kind="yt8m")
    settings = recipe.get("mfb", overrides=["train.batch_size=4"])
    parts = {"train": [str(shard) for shard in shards], "validation": [], "test": []}
    workdir.save(folder, settings, facts, 0, parts)
    keras.utils.set_random_seed(1)
    fusion = "concat" if len(rows) > 1 else "video"
    model = mfb.build_model(rows, len(CLASSES), fusion=fusion)
    for weight in model.trainable_variables:  # far enough from zero that the classes differ
        weight.assign(keras.random.normal(weight.shape))
    model.save(folder / "model.keras")
    return folder


def scale(model, factor):
    """Multiplies the classifier's weights."""
    for weight in model.get_layer("probabilities").trainable_variables:
        weight.assign(weight * factor)


def features(rng, rows, frames):
    return {
        row.name: rng.normal(size=row.shape).astype("float32")
        if len(row.shape) == 1
        else rng.integers(0, 256, (frames, row.shape[1]), "uint8")
        for row in rows
    }


def write(path, rows, names, seed=0):
    """A shard; returns id -> features."""
    rng = np.random.default_rng(seed)
    made = {name: features(rng, rows, 3 + i % 6) for i, name in enumerate(names)}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, one in made.items():
            raw = os.fsencode(name)  # of any bytes; the id comes first in the record
            record = schema.serialize("@" * len(raw), [0, 9999], one, rows)  # labels are not looked at
            writer.write(record.replace(b"@" * len(raw), raw, 1))
    return made


def scores(run, one, rows):
    """What the model says of one video."""
    inputs = {}
    for row in rows:
        value = one.get(row.name)
        if len(row.shape) == 1:
            inputs[row.name] = (np.zeros(row.shape) if value is None else value)[None].astype("float32")
            continue
        real = np.zeros((0, *row.shape[1:])) if value is None else value[:T]
        padded = np.zeros((1, *row.shape), "uint8")
        padded[0, : len(real)] = real
        inputs |= {row.name: padded, f"{row.name}_length": np.int32([len(real)])}
    return model_of(run).predict_on_batch(inputs)[0]


@functools.cache
def model_of(run):
    return workdir.load(run).model()


def assert_top(row, expected, k=4):
    order = np.argsort(-expected, kind="stable")[:k]
    assert [t["label"] for t in row["top"]] == [CLASSES[i] for i in order]
    np.testing.assert_allclose([t["score"] for t in row["top"]], expected[order], atol=2e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    write(folder / "train0.tfrecord", FRAMES, ["t0", "t1", "t2"], 7)
    return make_run(folder, FRAMES, [folder / "train0.tfrecord"])


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder of small stand-ins for the published files."""
    folder = tmp_path_factory.mktemp("networks")
    return stand_ins.sound(stand_ins.pictures(folder))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """loud.mp4, 3 s with 2 s of sound; a/silent.mp4, 8 s; a/bad.mp4, no video."""
    folder = tmp_path_factory.mktemp("videos")
    pictures = [np.full((16, 16, 3), 40 + 5 * i, "uint8") for i in range(32)]
    sound = 0.3 * np.sin(2 * np.pi * 440 / 16000 * np.arange(2 * 16000))
    demo.write_clip(folder / "loud.mp4", pictures[:12], 4, sound, 16000)
    (folder / "a").mkdir()
    demo.write_clip(folder / "a/silent.mp4", pictures, 4)
    (folder / "a/bad.mp4").write_text("no video")
    return folder


# --- records --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_records_are_predicted_in_the_order_given(run, tmp_path, ending):
    made = write(tmp_path / "b.tfrecord", FRAMES, [f"b{i}" for i in range(7)])
    made |= write(tmp_path / "a1.tfrecord", FRAMES, ["a0", "a1"], 1)
    made |= write(tmp_path / "a2.tfrecord", FRAMES, [os.fsdecode(b'\xff,\n"')], 2)
    output = tmp_path / f"out.{ending}"
    paths = [tmp_path / "b.tfrecord", f"{tmp_path}/a*.tfrecord", tmp_path]  # the folder: nothing new
    rows = predict.predict(run, paths, output)
    assert len(rows) == 10 and [row["path"] for row in rows] == list(made)
    for row in rows:
        one = made[row["path"]]
        assert (row["part"], row["start"], row["attention"]) == ("video", 0.0, [])
        assert row["end"] == float(min(len(one["rgb"]), T))
        assert_top(row, scores(run, one, FRAMES))
    whole = json.loads(output.read_text()) if ending == "json" else predictions.read(output)
    assert whole == list(rows) == list(rows)
    assert not [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")]


def test_top_k_and_means_without_a_time(tmp_path):
    run = make_run(tmp_path, MEANS)
    made = write(tmp_path / "v.tfrecord", MEANS, ["x", "y"])
    out = tmp_path / "o.csv"
    (x, y) = predict.predict(run, [tmp_path / "v.tfrecord"], out, ["predict.top_k=2"])
    assert x["end"] is None and len(x["top"]) == 2
    assert_top(y, scores(run, made["y"], MEANS), 2)
    with open(out, newline="") as f:
        header, first, _ = csv.reader(f)
    assert header == [*KEY, "label_1", "score_1", "label_2", "score_2", "attention"]
    assert first[:4] == ["x", "video", "0.0", ""]


def test_a_damaged_shard_is_named_counted_and_costs_what_is_damaged(run, tmp_path, capsys):
    write(tmp_path / "a.tfrecord", FRAMES, ["a0", "a1"])
    write(tmp_path / "b.tfrecord", FRAMES, ["b0", "b1", "b2"], 1)
    data = bytearray((tmp_path / "b.tfrecord").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "b.tfrecord").write_bytes(gzip.compress(data))
    (tmp_path / "c.tfrecord").write_text("no records at all, but some words that are long enough")
    out = tmp_path / "o.csv"
    rows = predict.predict(run, [f"{tmp_path}/*.tfrecord"], out)
    assert {row["path"] for row in rows} == {"a0", "a1", "b0", "b2"}
    said = capsys.readouterr().out
    assert f"skipped: {tmp_path}/b.tfrecord, byte" in said and "in 2 files" in said
    listed = (tmp_path / "o.csv.skipped.csv").read_text()
    assert "b.tfrecord,byte" in listed and 'c.tfrecord,"byte 0: no TFRecord file' in listed
    predict.predict(run, [tmp_path / "a.tfrecord"], out)
    assert not (tmp_path / "o.csv.skipped.csv").exists()


def test_nothing_whole_leaves_an_earlier_output_as_it_is(run, tmp_path):
    (tmp_path / "c.tfrecord").write_text("no records at all, but some words that are long enough")
    (tmp_path / "o.csv").write_text("earlier")
    message = r"nothing could be predicted \(.*c.tfrecord: .*no whole record"
    with pytest.raises(ValueError, match=message) as error:
        predict.predict(run, [tmp_path / "c.tfrecord"], tmp_path / "o.csv")
    assert "\n" not in str(error.value) and (tmp_path / "o.csv").read_text() == "earlier"


def test_wrong_words_are_one_line(run, tmp_path):
    record = tmp_path / "a.tfrecord"
    write(record, FRAMES, ["a0"])
    for paths, output, overrides, message in (
        ([], "o.csv", [], "expected PATHs: records"),
        ([record], "o.txt", [], "ends in .csv or .json"),
        ([record], "o.csv", ["predict.window_step=2"], "settable here: predict.top_k, backbone.weights"),
        ([tmp_path / "none*.tfrecord"], "o.csv", [], "no such file; expected the path or pattern"),
        ([tmp_path / "none.mp4"], "o.csv", [], "no such file or folder; expected a video"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
            predict.predict(run, paths, tmp_path / output, overrides)
        assert "\n" not in str(error.value)


def test_scores_that_are_not_finite_stop_it_with_the_name(tmp_path):
    run = make_run(tmp_path, MEANS)
    model = workdir.load(run).model()
    scale(model, np.nan)
    model.save(run / "model.keras")
    write(tmp_path / "v.tfrecord", MEANS, ["x"])
    told = "scores of 1 of 1 clips are NaN or infinite, first of x;"
    with pytest.raises(ValueError, match=told):
        predict.predict(run, [tmp_path / "v.tfrecord"], tmp_path / "o.csv")


# --- raw video ------------------------------------------------------------------------------------------


def test_clips_and_records_mixed(run, networks, videos, tmp_path, capsys):
    made = write(tmp_path / "r.tfrecord", FRAMES, ["r0"])
    where = [f"backbone.weights={networks}", "backbone.batch_size=2"]
    paths = [videos / "loud.mp4", tmp_path / "r.tfrecord", videos / "a"]
    rows = predict.predict(run, paths, tmp_path / "o.json", where)
    said = capsys.readouterr()
    assert [row["path"] for row in rows] == [str(paths[0]), "r0", str(videos / "a/silent.mp4")]
    assert [row["end"] for row in rows] == [3.0, 3.0, float(T)]  # cut to T
    assert "inception: the published graph" in said.out and "vggish: given" in said.out
    assert "silent.mp4: its audio stream is absent: no sound in it" in said.err
    assert "1 skipped" in said.out and "bad.mp4" in (tmp_path / "o.json.skipped.csv").read_text()
    loaded = yt8m.load(str(networks))
    expected = [clips.streams(paths[0], loaded), made["r0"], clips.streams(videos / "a/silent.mp4", loaded)]
    for row, one in zip(rows, expected, strict=True):
        assert_top(row, scores(run, one, FRAMES))


def test_means_of_clips_and_networks_that_are_not_wanted(networks, videos, tmp_path):
    run = make_run(tmp_path, MEANS[:1])  # no sound: VGGish is not asked for
    only = tmp_path / "only"
    only.mkdir()
    for name in (yt8m.GRAPH_FILE, *yt8m.PCA_FILES):
        os.link(networks / name, only / name)
    (row,) = predict.predict(run, [videos / "loud.mp4"], tmp_path / "o.csv", [f"backbone.weights={only}"])
    found = clips.streams(videos / "loud.mp4", yt8m.load(str(only), sound=False))
    assert set(found) == {"rgb", "mean_rgb"} and row["end"] == 3.0
    assert_top(row, scores(run, found, MEANS[:1]))


def test_missing_networks_are_told_before_anything_is_read(run, videos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.tfrecord", FRAMES, ["a0"])
    with pytest.raises(FileNotFoundError, match="mean.npy: no such file.*yt8m_pca.tgz.*predict records"):
        predict.predict(run, [tmp_path / "a.tfrecord", videos / "loud.mp4"], tmp_path / "o.csv")
    with pytest.raises(FileNotFoundError, match="backbone.weights=/nowhere: no such folder; expected one"):
        predict.predict(run, [videos], tmp_path / "o.csv", ["backbone.weights=/nowhere"])
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    "row", [Feature("rgb", (T, 8), "uint8", True), Feature("flow", (1024,)), Feature("rgb", (1024,))]
)
def test_streams_that_raw_video_does_not_give(row, videos, tmp_path):
    run = make_run(tmp_path, [row])
    with pytest.raises(ValueError, match=f"reads {row.name}.*raw video gives rgb and audio.*give records"):
        predict.predict(run, [videos / "loud.mp4"], tmp_path / "o.csv")


def test_the_command_says_what_it_did(run, networks, videos, tmp_path):
    write(tmp_path / "r.tfrecord", FRAMES, ["r0"])
    command = [sys.executable, "-m", "tfvc.predict", f"--workdir={run}", f"--output={tmp_path}/o.csv"]
    command += [f"--set=backbone.weights={networks}", f"{tmp_path}/*.tfrecord", str(videos / "loud.mp4")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[-2:]
    assert first[0].startswith("r0: ") and first[1].startswith(f"{videos}/loud.mp4: ")
    assert f"predicted 2 videos: {tmp_path}/o.csv" in done.stdout


# --- export ---------------------------------------------------------------------------------------------


def test_the_exported_model_agrees(run, tmp_path, capsys):
    path = export.export(run)
    said = capsys.readouterr().out
    assert said.count("reloaded without tfvc") == 2 and "drawn" not in said
    loaded = tf.saved_model.load(str(path))
    assert set(loaded.signatures) == {"serving_default", "serialized"}
    made = write(tmp_path / "v.tfrecord", FRAMES, ["v0", "v1"], 5)
    records = [schema.serialize(name, [], one, FRAMES) for name, one in made.items()]
    result = loaded.signatures["serialized"](examples=tf.constant(records))
    assert result["ids"].numpy().tolist() == [b"v0", b"v1"]
    assert result["classes"].numpy().tolist() == [name.encode() for name in CLASSES]
    expected = [scores(run, one, FRAMES) for one in made.values()]
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)
    inputs = loaded.signatures["serving_default"].structured_input_signature[1]
    assert set(inputs) == {"rgb", "rgb_length", "audio", "audio_length"}
    assert (path / "assets" / "classes.txt").read_text().split() == CLASSES
    assert files.read_json(path / "assets.extra" / "recipe.json") == files.read_json(run / "recipe.json")


def test_export_refuses_a_difference_also_where_the_records_are_gone(
    tmp_path, monkeypatch, capsys, reloaded_here
):
    run, real = make_run(tmp_path, MEANS, [tmp_path / "gone.tfrecord"]), yt8m_export.served

    def other(found, model):
        """What is saved is a little off the model that it is compared with."""
        copy = found.model()
        scale(copy, 1.01)
        return real(found, copy)

    monkeypatch.setattr(yt8m_export, "served", other)
    with pytest.raises(ValueError, match="differs by .* expected at most 1e-05"):
        export.export(run)
    assert not (run / "export").exists()
    assert "compared on drawn ones" in capsys.readouterr().out
