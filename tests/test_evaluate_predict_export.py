"""What a finished run is used for: evaluate, predict, export."""

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import called

from tfvc import (
    encoders,
    evaluate,
    export,
    extract,
    files,
    plots,
    predict,
    predictions,
    recipe,
    train,
    workdir,
)
from tfvc.backbones import visual
from tfvc.data import datasets, demo, video

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = [
    "backbone.name=vgg16",
    "backbone.weights=random",
    "backbone.size=32,32",
    "backbone.pooling=avg",
]
SMALL += ["backbone.batch_size=4", "train.epochs=8", "train.batch_size=4", "data.test_fraction=0.4"]
SMALL += ["model_args.units=8", "model_args.dense=16", "model_args.dropout=0.0"]
COLOURS = {"blue": (20, 20, 220), "green": (20, 220, 20), "red": (220, 20, 20)}


def draw(path, colour, seconds, seed=0):
    noise = np.random.default_rng(seed).integers(-20, 20, (8 * seconds, 32, 48, 3))
    demo.write_clip(path, np.clip(noise + np.array(colour), 0, 255).astype("uint8"), fps=8)


pytestmark = pytest.mark.usefixtures("networks_once")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips") / "set"
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(6):
            draw(root / name / f"{name}_{i}.mp4", colour, 2 + i % 3, i)
    return root


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory, networks_once):
    """A run as published (BGR, random weights) that has learnt three colours."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    r = recipe.get("attention_boosted", "original", SMALL)
    train.train(r, data=str(clips), workdir=str(folder), seed=0)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    return export.export(run)


@pytest.fixture(scope="module")
def few(clips, tmp_path_factory):
    """Two clips of each class, of two and three seconds."""
    folder = tmp_path_factory.mktemp("few") / "set"
    for name in COLOURS:
        (folder / name).mkdir(parents=True)
        for i in range(2):
            (folder / name / f"{i}.mp4").symlink_to(clips / name / f"{name}_{i}.mp4")
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("export"))


def test_measures_agree_with_the_numbers_written_out():
    result = evaluate.measures([0, 0, 0, 1, 1], [0, 0, 1, 1, 2], ["a", "b", "c"])
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    rows = {row["class"]: row for row in result["classes"]}
    assert (
        rows["a"]["precision"] == 1
        and rows["a"]["recall"] == pytest.approx(2 / 3)
        and rows["a"]["clips"] == 3
    )
    assert rows["b"]["precision"] == 0.5 and rows["b"]["f1"] == 0.5
    assert rows["c"] == {"class": "c", "precision": 0, "recall": 0, "f1": 0, "clips": 0}


def test_the_confusion_picture_is_not_blank():
    picture = plots.pixels(plots.confusion([[3, 1], [0, 4]], ["run", "walk"], "title"))
    assert picture.dtype == np.uint8 and picture.shape[2] == 4 and len(np.unique(picture)) > 20


def test_class_names_are_no_formulas():
    figure = plots.confusion([[3, 1], [0, 4]], ["$a_{$", r"$\frac$"], "title")
    assert plots.pixels(figure).ndim == 3


def test_evaluate_writes_tables_pictures_and_the_board(run, capsys):
    import tensorflow as tf

    result = evaluate.evaluate(run)
    tree = files.read_json(run / "metrics.json")
    assert tree["evaluation"] == result and tree["test"]["accuracy"] == pytest.approx(result["accuracy"])
    with open(run / "evaluation" / "confusion.csv", newline="") as f:
        rows = list(csv.reader(f))
    assert rows[0][1:] == sorted(COLOURS)
    matrix = np.array([row[1:] for row in rows[1:]], int)
    assert matrix.sum() == result["clips"] and np.trace(matrix) / matrix.sum() == pytest.approx(
        result["accuracy"]
    )
    assert (run / "evaluation" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "balanced accuracy" in capsys.readouterr().out
    tags = set()
    for path in (run / "logs" / "evaluation").glob("events*"):
        for event in tf.data.TFRecordDataset(str(path)):
            tags |= {value.tag for value in tf.compat.v1.Event.FromString(event.numpy()).summary.value}
    assert {"evaluation/accuracy", "evaluation/f1/red", "evaluation/confusion"} <= tags


def test_evaluate_does_not_depend_on_the_batch_size(run, bare_board):
    results = [evaluate.evaluate(run, overrides=[f"train.batch_size={n}"]) for n in (1, 7)]
    assert results[0] == results[1]


def test_evaluate_reads_another_data_set_by_class_name(run, tmp_path, capsys):
    for name in ("green", "red"):  # a subset: the labels are numbered otherwise there
        (tmp_path / "other" / name).mkdir(parents=True)
        for i in range(3):
            draw(tmp_path / "other" / name / f"{i}.mp4", COLOURS[name], 3, 50 + i)
    result = evaluate.evaluate(run, str(tmp_path / "other"))
    assert result["clips"] == 6 and result["accuracy"] == 1.0
    assert [row["clips"] for row in result["classes"]] == [0, 3, 3]
    records = capsys.readouterr().out.split("clips/s: ")[1].splitlines()[0]
    assert evaluate.evaluate(run, records)["accuracy"] == 1.0
    (tmp_path / "other" / "red").rename(tmp_path / "other" / "mauve")
    with pytest.raises(ValueError, match=r"mauve.*this run knows 3"):
        evaluate.evaluate(run, str(tmp_path / "other"))


def test_evaluate_refuses_records_that_were_made_otherwise(run, few, tmp_path):
    found = workdir.load(run)
    other = recipe.override(found.recipe, ["data.fps=2", "data.channel_order=rgb"])
    dataset = datasets.load(other.data, str(few))
    seeded = visual.load(found.recipe.backbone, seed=1, channel_order="bgr")
    seeded = encoders.Encoders(found.recipe, seeded)
    for name, r, networks, message in (
        ("fps", other, None, r"data.fps: 2.0 -> 1.0; data.channel_order: rgb -> bgr"),
        ("seed", found.recipe, seeded, r"backbone.weights: random \(seed 1\) -> random \(seed 0\)"),
    ):
        folder = extract.extract(dataset, r, out=tmp_path / name, encoders=networks)
        with pytest.raises(ValueError, match=message):
            evaluate.evaluate(run, str(folder))


@pytest.mark.parametrize("call", [evaluate.evaluate, export.export])
def test_damaged_records_are_named(call, copy, tmp_path):
    found = workdir.load(copy)
    records = shutil.copytree(found.facts.records, tmp_path / "records")
    moved = dataclasses.replace(found.facts, records=str(records))
    workdir.save(copy, found.recipe, moved, found.seed, found.split())
    for shard in records.glob("*.tfrecord"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"shard-00000\.tfrecord: damaged"):
        call(copy)


def test_evaluate_refuses_clips_with_several_labels(run, clips, tmp_path):
    (tmp_path / "two.csv").write_text(f"id,path,labels\nx,{clips}/red/red_0.mp4,red;blue\n")
    with pytest.raises(ValueError, match="two.csv: clips with several labels"):
        evaluate.evaluate(run, str(tmp_path / "two.csv"))


def test_evaluate_measures_a_folder_of_one_class(run, clips, tmp_path, bare_board):
    shutil.copytree(clips / "red", tmp_path / "one" / "red")
    result = evaluate.evaluate(run, str(tmp_path / "one"), overrides=["data.kind=folder"])
    assert result["clips"] == 6 and result["accuracy"] == 1.0


@pytest.mark.parametrize(
    "setting", ["data.fps=5", "data.frames=2", "data.channel_order=rgb", "data.cache_mb=1"]
)
def test_evaluate_changes_nothing_under_a_trained_model(run, clips, setting):
    with pytest.raises(ValueError, match="fixed since the run was trained"):
        evaluate.evaluate(run, str(clips), overrides=[setting])


def test_evaluate_refuses_how_to_read_what_is_not_read(run):
    for setting in ("data.max_seconds=5", "data.kind=folder", "backbone.batch_size=2"):
        with pytest.raises(ValueError, match=f"{setting}: without --data no video is read"):
            evaluate.evaluate(run, overrides=[setting])
        with pytest.raises(ValueError, match="records|no clips"):
            evaluate.evaluate(run, workdir.load(run).facts.records, overrides=[setting])


@pytest.mark.parametrize("call", [evaluate.evaluate, export.export, lambda f: predict.predict(f, [f])])
def test_no_run_and_an_unfinished_run_are_told_in_one_line(call, copy, tmp_path):
    (copy / "model.keras").unlink()
    (copy / "x.mp4").touch()
    for folder, message in (
        (copy, "has not finished; start the same train"),
        (tmp_path, "expected the --work"),
    ):
        with pytest.raises(FileNotFoundError, match=message) as error:
            call(folder)
        assert "\n" not in str(error.value)


def test_evaluate_refuses_what_was_fixed_and_what_is_no_run(run, tmp_path):
    with pytest.raises(ValueError, match="fixed since the run was trained"):
        evaluate.evaluate(run, overrides=["train.epochs=3"])
    with pytest.raises(ValueError, match="has no clip"):
        evaluate.evaluate(run, part="validation")
    with pytest.raises(FileNotFoundError, match="expected the --workdir"):
        evaluate.evaluate(tmp_path)


def test_records_that_are_gone_are_extracted_again(copy, capsys, bare_board):
    found = workdir.load(copy)
    before = evaluate.evaluate(copy)
    moved = dataclasses.replace(found.facts, records=str(copy / "records"))
    workdir.save(copy, found.recipe, moved, found.seed, found.split())
    assert evaluate.evaluate(copy)["classes"] == before["classes"]
    assert "extracting them again" in capsys.readouterr().out


def test_windows_cover_a_video_and_end_with_it():
    assert predict.window_starts(3, 4) == [0] and predict.window_starts(4, 4) == [0]
    assert predict.window_starts(5, 4) == [0, 1] and predict.window_starts(8, 4) == [0, 4]
    assert predict.window_starts(9, 4, 2) == [0, 2, 4, 5]


def test_predict_names_classes_with_scores_and_attention(run, clips, tmp_path):
    rows = predict.predict(run, [clips / "red" / "red_0.mp4", clips / "blue"], tmp_path / "out.json")
    assert len(rows) == 7 + 2 * 2 and rows == json.loads((tmp_path / "out.json").read_text())  # two of 4 s
    whole = [row for row in rows if row["part"] == "video"]
    assert [row["top"][0]["label"] for row in whole] == ["red"] + ["blue"] * 6
    assert sum(one["score"] for one in whole[0]["top"]) == pytest.approx(1, abs=1e-5)
    assert whole[0]["end"] == 2.0 and [a["time"] for a in whole[0]["attention"]] == [0.0, 1.0]
    assert 0 < sum(a["weight"] for a in whole[0]["attention"]) < 1  # the padding frame holds the rest


def test_predict_slides_windows_over_a_long_video(run, tmp_path):
    frames = np.zeros((64, 32, 48, 3), "uint8")
    frames[:32], frames[32:] = COLOURS["red"], COLOURS["green"]
    demo.write_clip(tmp_path / "long.mp4", frames, fps=8)
    rows = predict.predict(run, [tmp_path / "long.mp4"], tmp_path / "o.csv", ["predict.window_step=1"])
    assert [row["part"] for row in rows] == ["video"] + ["window"] * 6  # T = 3 of 8 frames
    assert [(row["start"], row["end"]) for row in rows[1:]] == [(float(i), float(i + 3)) for i in range(6)]
    assert rows[1]["top"][0]["label"] == "red" and rows[-1]["top"][0]["label"] == "green"
    score = {t["label"]: t["score"] for t in rows[0]["top"]}
    windows = [{t["label"]: t["score"] for t in row["top"]} for row in rows[1:]]
    assert score["red"] == pytest.approx(np.mean([w["red"] for w in windows]), abs=1e-5)
    assert predictions.read(tmp_path / "o.csv") == rows
    assert sum(a["weight"] for a in rows[1]["attention"]) == pytest.approx(1, abs=1e-3)


def test_predict_gives_the_same_for_any_batch_size(run, clips, tmp_path):
    one, many = (
        predict.predict(run, [clips], tmp_path / f"{n}.csv", [f"backbone.batch_size={n}"]) for n in (1, 13)
    )
    assert [r["path"] for r in one] == [r["path"] for r in many]
    for a, b in zip(one, many, strict=True):
        assert [t["label"] for t in a["top"]] == [t["label"] for t in b["top"]]
        assert [t["score"] for t in a["top"]] == pytest.approx([t["score"] for t in b["top"]], abs=2e-5)


def test_predict_goes_on_and_decodes_only_what_changed(run, clips, tmp_path, monkeypatch):
    folder = shutil.copytree(clips / "red", tmp_path / "clips")
    decoded = []
    real = video.iter_frames
    monkeypatch.setattr(video, "iter_frames", lambda path, **k: decoded.append(path.name) or real(path, **k))
    first = predict.predict(run, [folder], tmp_path / "out.csv")
    assert len(decoded) == 6
    assert predict.predict(run, [folder], tmp_path / "out.csv") == first and len(decoded) == 6
    draw(folder / "red_3.mp4", COLOURS["green"], 3)
    again = predict.predict(run, [folder], tmp_path / "out.csv")
    assert decoded[6:] == ["red_3.mp4"]
    changed = [row["path"] for row, old in zip(again, first, strict=False) if row != old]
    assert str(folder / "red_3.mp4") in changed
    predict.predict(run, [folder], tmp_path / "out.csv", ["predict.top_k=1"])
    assert len(decoded) == 7 + 6  # other settings: nothing is kept


def test_predict_that_dies_midway_keeps_what_was_written(run, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_SECONDS", 0.0)
    real, seen = predict.rows_of, []

    def rows(path, *rest):
        seen.append(path)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(predict, "rows_of", rows)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(run, [clips / "red"], tmp_path / "out.csv")
    kept = {row["path"] for row in predictions.read(tmp_path / "out.csv")}
    assert 2 <= len(kept) <= 4
    predict.predict(run, [clips / "red"], tmp_path / "out.csv")
    assert not kept & set(seen[5:]) and len({r["path"] for r in predictions.read(tmp_path / "out.csv")}) == 6


def test_predict_does_not_trip_over_an_edited_state(run, clips, tmp_path, capsys):
    predict.predict(run, [clips / "red" / "red_0.mp4"], tmp_path / "out.csv")
    for state in ([], None, {"files": 3}, {}):
        capsys.readouterr()
        files.write_json(tmp_path / "out.csv.state.json", state)
        assert len(predict.predict(run, [clips / "red" / "red_0.mp4"], tmp_path / "out.csv")) == 1
        assert "it is written anew" in capsys.readouterr().out, state


def test_predict_lists_bad_files_and_refuses_absent_ones(run, clips, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    good = clips / "red" / "red_0.mp4"
    rows = predict.predict(run, [tmp_path / "bad.mp4", good], tmp_path / "out.csv")
    assert {row["path"] for row in rows} == {str(good)}
    assert str(tmp_path / "bad.mp4") in (tmp_path / "out.csv.skipped.csv").read_text()
    with pytest.raises(ValueError, match="not one of 1 files could be predicted"):
        predict.predict(run, [tmp_path / "bad.mp4"], tmp_path / "none.csv")
    kept = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(ValueError, match="not one of 1 files could be predicted"):
        predict.predict(run, [tmp_path / "bad.mp4"], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == kept
    with pytest.raises(FileNotFoundError, match=r"absent.mp4: no such file"):
        predict.predict(run, [tmp_path / "absent.mp4"])
    with pytest.raises(ValueError, match=r"ends in .csv or .json"):
        predict.predict(run, [good], tmp_path / "out.txt")


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_predict_names_files_whose_names_are_no_text(run, clips, tmp_path, ending, monkeypatch):
    folder = tmp_path / os.fsdecode(b"in\xff")
    folder.mkdir()
    good, bad = (folder / os.fsdecode(name) for name in (b"good\xff.mp4", b"bad\xff.mp4"))
    shutil.copy(clips / "red" / "red_0.mp4", good)
    bad.write_bytes(b"")
    output = folder / f"out.{ending}"
    with monkeypatch.context() as patch:  # as Python opens it in UTF-8 mode
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape"))
        called(predict, f"--workdir={run}", f"--output={output}", folder)
        sys.stdout.flush()
        printed = sys.stdout.buffer.getvalue()
    assert rb"good\xff.mp4: red" in printed
    assert {row["path"] for row in predictions.read(output)} == {str(good)}
    assert b"bad\xff.mp4,the file is empty" in (folder / f"out.{ending}.skipped.csv").read_bytes()
    state = files.read_json(folder / f"out.{ending}.state.json")
    assert list(state["files"]) == [str(good)]


def test_predict_clears_what_a_killed_one_left_and_nothing_else(run, clips, tmp_path):
    for name in (".out.csv.99.part", ".mine.csv.99.part"):
        (tmp_path / name).touch()
    predict.predict(run, [clips / "red" / "red_0.mp4"], tmp_path / "out.csv")
    assert not (tmp_path / ".out.csv.99.part").exists() and (tmp_path / ".mine.csv.99.part").exists()
    with files.locked(tmp_path / "out.csv", "writing"), pytest.raises(ValueError, match="another process"):
        predict.predict(run, [clips / "red" / "red_0.mp4"], tmp_path / "out.csv")


def test_predict_reads_an_unlabelled_manifest(run, clips, tmp_path):
    (tmp_path / "list.csv").write_text(f"id,path\nx,{clips / 'green' / 'green_0.mp4'}\n")
    rows = predict.predict(run, [tmp_path / "list.csv"], tmp_path / "out.csv")
    assert [row["top"][0]["label"] for row in rows] == ["green"]


def test_the_weights_that_made_the_features_are_asked_for_again(copy):
    found = workdir.load(copy)
    other = dataclasses.replace(found.facts, weights="imagenet (other.h5, sha256 123)")
    workdir.save(copy, found.recipe, other, found.seed, found.split())
    with pytest.raises(ValueError, match=r"made with weights imagenet .*found random"):
        encoders.of_run(workdir.load(copy))


def test_the_exported_model_agrees_and_names_its_classes(run, exported, clips, capsys):
    import tensorflow as tf

    assert (exported / "assets" / "classes.txt").read_text().split() == sorted(COLOURS)
    assert files.read_json(exported / "assets.extra" / "recipe.json") == files.read_json(run / "recipe.json")
    loaded = tf.saved_model.load(str(exported))
    assert set(loaded.signatures) == {"serving_default", "serialized", "frames"}
    # From the outside: RGB pictures of a clip, short of T, against what predict says of the file.
    frames = video.read_frames(clips / "red" / "red_0.mp4", size=(32, 32)).frames
    given = np.zeros((1, 3, 32, 32, 3), "uint8")
    given[0, : len(frames)] = frames
    result = loaded.signatures["frames"](frames=tf.constant(given))
    row = predict.predict(run, [clips / "red" / "red_0.mp4"], run / "one.json")[0]
    named = dict(zip(sorted(COLOURS), result["probabilities"][0].numpy(), strict=True))
    assert {t["label"]: t["score"] for t in row["top"]} == pytest.approx(named, abs=1e-5)
    assert result["classes"].numpy().tolist() == [name.encode() for name in sorted(COLOURS)]


def test_an_export_replaces_nothing_but_an_export(copy):
    shutil.rmtree(copy / "export", ignore_errors=True)
    (copy / "export").mkdir()
    for name in ("README.md", "mine.txt"):
        (copy / "export" / name).write_text("mine")
    with pytest.raises(ValueError, match="export/mine.txt: is of no export, and would be lost; move it away"):
        export.export(copy)
    shutil.rmtree(copy / "export")
    (copy / "export").write_text("mine")
    with pytest.raises(ValueError, match="export: is of no export, and would be lost"):
        export.export(copy)
    assert (copy / "export").read_text() == "mine"


def test_export_refuses_a_difference_and_leaves_nothing(copy, reloaded_here, monkeypatch):
    compare = export._compare

    def other(path, run, model, networks):
        """What is saved is a little off the model that it is compared with."""
        kernel = model.get_layer("probabilities").kernel
        kernel.assign(kernel * 1.01)
        return compare(path, run, model, networks)

    monkeypatch.setattr(export, "_compare", other)
    shutil.rmtree(copy / "export", ignore_errors=True)
    with pytest.raises(ValueError, match=r"signature .* differs by .* expected at most 1e-05"):
        export.export(copy)
    assert not (copy / "export").exists() and not list(copy.glob(".export.*.part"))


def test_an_export_that_stepped_aside_when_killed_comes_back(exported, copy, monkeypatch):
    shutil.rmtree(copy / "export", ignore_errors=True)
    shutil.copytree(exported, copy / ".export.99.old")  # killed between the two renames
    (copy / ".export.99.part").mkdir()
    (copy / ".best.keras.99.part").touch()  # of a training that goes on
    monkeypatch.setattr(export, "_compare", lambda *_: {"frames": 1.0})
    with files.locked(copy / "export", "writing"), pytest.raises(ValueError, match="another process"):
        export.export(copy)
    assert not (copy / "export").exists()  # a live one's leftovers are left alone
    with pytest.raises(ValueError, match="differs by"):
        export.export(copy)
    assert (copy / "export" / "saved_model.pb").is_file() and not list(copy.glob(".export.*.*"))
    assert (copy / ".best.keras.99.part").exists()


@pytest.mark.slow
def test_export_twice_and_in_bfloat16_and_from_raw_frames(run, exported, few, tmp_path, reloaded_here):
    assert export.export(run) == exported
    half = ["backbone.precision=bfloat16", "backbone.dtype=float16"]
    raw = ["model_args.mode=cnn3d", "backbone.size=60,40"]
    raw += ["train.epochs=1", "train.batch_size=4", "data.test_fraction=0.4"]
    for name, overrides in (("half", [*SMALL, *half, "train.epochs=1"]), ("raw", raw)):
        r = recipe.get("attention_boosted", "original", overrides)
        train.train(r, data=str(few), workdir=str(tmp_path / name))
        assert (export.export(tmp_path / name) / "saved_model.pb").is_file()
        rows = predict.predict(tmp_path / name, [few / "red" / "0.mp4"])
        assert rows[0]["attention"] == [] if name == "raw" else rows[0]["attention"]


@pytest.mark.parametrize(
    "overrides, rows",
    [([], [5, 1, 0]), (["data.pool=second", "data.fps=4"], [8, 4, 0]), (["data.sampling=even"], [8, 8, 0])],
)
def test_black_frames_at_the_end_are_padding_but_for_those_of_a_row(overrides, rows, monkeypatch):
    clips = [{"frames": np.zeros((8, 2, 2, 3), "uint8")} for _ in rows]
    clips[0]["frames"][:5] = clips[1]["frames"][:1] = 9
    monkeypatch.setattr(export, "_clips", lambda *_: clips)
    run = SimpleNamespace(recipe=recipe.get("attention_boosted", "original", overrides))
    _, real = export._raw(run, None, {"frames": ((8, 2, 2, 3), "uint8")}, [])
    assert [len(one["frames"]) for one in real] == rows


@pytest.mark.slow
def test_the_commands_run_and_saved_model_cli_serves_the_export(
    run, exported, clips, tmp_path, capsys, monkeypatch, bare_board
):
    from tensorflow.python.tools import saved_model_cli

    features = np.zeros((2, 3, 512), "float32")
    np.save(tmp_path / "x.npy", features)
    command = [
        "saved_model_cli", "run", "--dir", str(exported), "--tag_set=serve",
        "--signature_def=serving_default", "--inputs", f"frames={tmp_path / 'x.npy'}",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        saved_model_cli.main()
    out = capsys.readouterr().out
    assert not stop.value.code and "Result for output key probabilities" in out and "red" in out
    called(predict, f"--workdir={run}", clips / "red" / "red_1.mp4")
    called(evaluate, f"--workdir={run}")
    out = capsys.readouterr().out
    assert "red_1.mp4: red" in out and "balanced accuracy" in out


@pytest.mark.parametrize("module", ["extract", "evaluate", "predict", "export"])
def test_help_does_not_import_tensorflow(module):
    code = (
        f"import sys; from tfvc import {module}\ntry:\n {module}.main(['--help'])\nexcept SystemExit as e:\n"
        " assert not e.code\nassert not {'tensorflow', 'keras', 'av', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m tfvc.{module}" in done.stdout
