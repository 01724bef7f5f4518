"""Studies of records by pattern, and their runner. Training itself is made up here, but for one whole run."""

# ruff: noqa: F401, F811 - fixtures come by import

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from studied import PEAK, RATES, RUNS, TABLE, data, go, raised, trainer

from experiments import baselines, page, results, run, study
from tfvc import recipe
from tfvc.data import schema
from tfvc.models import mfb

# --- studies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", study.available())
def test_every_study_is_whole(name):
    each = study.load(name)
    assert each.name == name and each.rows and each.differs and each.source and each.select()
    names = [row.name for row in each.rows]
    assert len(set(names)) == len(names) and each.baseline_title not in names
    assert all(re.fullmatch(r"[\w.-]+", row) for row in names)  # a folder each
    for row in each.rows:
        assert set(row.printed) <= {metric.name for metric in (*each.metrics, *each.also_printed)}
        for choice in each.points():
            each.recipe(row, choice)  # every override is a field that there is
    assert any(metric.name == each.choose_by for metric in each.metrics)


def test_the_tables_of_mfb_have_the_printed_numbers():
    printed = {row.name: row.printed.get("gap") for row in TABLE.rows}
    assert [printed[name] for name in PEAK] == [38.1, 69.6, 74.2, 81.8, 83.3]
    assert printed["mfb_scaled"] is None
    frames = [study.load(name) for name in ("mfb_table2", "mfb_table3")]
    numbers = [[row.printed["gap"] for row in table.rows] for table in frames]
    assert numbers == [[50.7, 82.3, 85.0, 84.6, 85.5], [48.9, 81.8, 84.0, 84.1, 85.9]]
    for table, aggregation in zip(frames, ("netvlad", "dbof"), strict=True):
        assert {table.recipe(row).model_args["aggregation"] for row in table.rows} == {aggregation}
        assert [row.name for row in table.rows] == list(PEAK)
    sizes = [TABLE.recipe(row).model_args for row in TABLE.select(["mfb", "fc_concat"])]
    assert all(a["k"] * a["o"] <= 500 for a in sizes) and sizes[0]["k"] == sizes[1]["k"]
    assert max(TABLE.grid["train.learning_rate"]) >= 0.01
    scaled = [row.name for row in TABLE.rows if TABLE.recipe(row).model_args.get("scale")]
    assert scaled == ["mfb_scaled"]


def test_the_table_of_attention_boosted_has_the_printed_numbers():
    table = study.load("attention_boosted")
    printed = {row.name: tuple(row.printed.values()) for row in table.rows}
    assert len(printed) == 1 + 5 * 3 and printed["cnn3d"] == (0.53, 0.604)
    assert printed["vgg19_lstm_attention"] == (0.958, 0.961) and printed["vgg16_lstm"] == (0.91, 0.914)
    assert printed["inceptionv3_attention_lstm"] == (0.82, 0.909)
    assert printed["resnet50_attention_lstm"] == (0.513, 0.573)
    assert printed["xception_lstm_attention"] == (0.57, 0.61)
    for row in table.rows[1:]:
        resolved = table.recipe(row)
        words = [row.name.partition("_")[0], *row.name.split("_")[1:]]
        assert resolved.backbone.name.replace("_", "") == words[0]
        assert resolved.model_args["mode"] == "_".join(["cnn", *words[1:]])


def test_made_up_frames_stand_in_for_those_of_youtube8m(tmp_path, monkeypatch):
    monkeypatch.setenv("TFVC_CACHE", str(tmp_path))
    table = study.load("mfb_table2")
    parts = table.parts("")
    resolved = table.recipe(table.rows[-1], parts=parts)
    assert parts.demo and resolved.data.num_classes == 12 and resolved.train.steps == 60
    assert parts.describe() | {"digest": ""} == {"digest": "", "train": 3, "validation": 2, "test": 2}
    assert 0 < table.baseline(parts, resolved)["gap"] < 0.5
    paper = table.recipe(table.rows[-1]).train
    assert (paper.steps, paper.batch_size, paper.learning_rate) == (250000, 128, 2e-4)
    assert "has no folder train/" in raised(table.parts, str(tmp_path))


@pytest.mark.parametrize(
    "table, row",
    [
        (table, row)
        for table in map(study.load, ("mfb_table1", "mfb_table2", "mfb_table3"))
        for row in table.rows
    ],
    ids=lambda each: each.name,
)
def test_every_row_of_mfb_can_be_built(table, row):
    resolved = table.recipe(row)
    shapes = {"mean_rgb": (1024,), "mean_audio": (128,), "rgb": (6, 16), "audio": (6, 8)}
    rows = [recipe.Feature(name, shapes[name]) for name in resolved.data.streams.split(",")]
    model = mfb.build_model(rows, 3, **resolved.model_args)
    assert {row.name for row in rows} <= set(model.input) and model.output_shape == (None, 3)


def test_halves_of_validate_choose_and_are_reported(data):
    parts = TABLE.parts(data)
    names = [[p.rpartition("/")[2] for p in part.split(",")] for part in (parts.validation, parts.test)]
    assert names == [[f"validate000{k}.tfrecord" for k in ks] for ks in ((0, 1, 2), (3, 4, 5))]
    assert parts.describe() | {"digest": ""} == {"digest": "", "train": 2, "validation": 3, "test": 3}


def test_a_folder_with_odd_letters_is_that_folder(data, tmp_path):
    odd = tmp_path / "a,b [1]"
    (tmp_path / "data").rename(odd)
    known = TABLE.parts(str(odd)).describe()
    assert (known["train"], known["validation"]) == (2, 3)
    odd.rename(tmp_path / "data")
    assert TABLE.parts(data).describe() == known  # the place is no part of the data
    (tmp_path / "data/train/train0001.tfrecord").write_bytes(b"other")
    assert TABLE.parts(data).describe()["digest"] != known["digest"]


def test_wrong_data_and_rows_are_told_in_a_line(tmp_path, data, go):
    assert "--data=FOLDER" in raised(TABLE.parts, "")
    assert f"{tmp_path}: has no folder train/" in raised(TABLE.parts, str(tmp_path))
    assert "did you mean 'fc_concat'" in raised(go, rows=["fc_concta"])
    assert "row 'i3d' of mafnet_table1 is not run" in raised(study.load("mafnet_table1").select, ["i3d"])
    assert "did you mean 'mfb_table1'" in raised(study.load, "mfb_tabel1")
    wrong = dataclasses.replace(TABLE, common=("train.stesp=1",))
    assert "did you mean 'steps'" in raised(go, wrong) and not (tmp_path / "results.jsonl").exists()
    for shard in (tmp_path / "data/validate").glob("*[1-5].tfrecord"):
        shard.unlink()
    assert "expected two at least" in raised(TABLE.parts, data)


# --- running ------------------------------------------------------------------------------------------------


def test_a_row_is_chosen_by_the_validation_part_and_reported_by_seeds(go, trainer, tmp_path):
    lines = go(rows=["mfb"])
    assert trainer.calls == [("mfb", rate, 0) for rate in RATES] + [
        ("mfb", 0.01, 1),
        ("mfb", 0.01, 2),
    ]
    assert [(x["phase"], x["seed"]) for x in lines[1:]] == [("choose", 0)] * len(RATES) + [
        ("report", s) for s in range(3)
    ]
    line = lines[-1]
    assert line["curve"]["step"] == [56, 112, 150] and len(line["curve"]["gap"]) == 3
    assert set(line["versions"]) == {"python", "tensorflow", "keras", "numpy", "tfvc"}
    assert line["hardware"]["cores"] >= 1 and line["seconds"] == 60.0 and line["data"]["train"] == 2
    assert line["overrides"] == TABLE.overrides(TABLE.select(["mfb"])[0], ("train.learning_rate=0.01",))
    folders = sorted((tmp_path / "runs/mfb_table1/mfb").glob("learning_rate=0.01-*/seed-*"))
    assert [f.name for f in folders] == ["seed-0", "seed-1", "seed-2"]
    assert all((f / "model.keras").exists() and not (f / "checkpoints").exists() for f in folders)


@pytest.mark.slow
def test_what_has_a_line_is_not_run_again(go, trainer, capsys, data):
    before = go(rows=["concat", "mfb"])
    count = len(trainer.calls)
    capsys.readouterr()
    assert go(rows=["concat", "mfb"]) == before and len(trainer.calls) == count
    assert capsys.readouterr().out.count("has its line in") == count == 2 * RUNS
    go(rows=["concat", "mfb"], seeds=4)  # one more of each
    assert trainer.calls[count:] == [("concat", 0.001, 3), ("mfb", 0.01, 3)]
    with open(f"{data}/train/train0000.tfrecord", "ab") as f:  # other data: all anew
        f.write(b"more")
    assert len(go(rows=["concat"])) == len(before) + 2 + 1 + RUNS + 1  # a baseline; seed 0 twice
    assert len(trainer.calls) == count + 2 + RUNS


def test_a_killed_study_goes_on_where_it_stopped(go, trainer):
    trainer.fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        go(rows=["mfb"])
    trainer.fail_at = None
    assert len(go(rows=["mfb"])) == 1 + RUNS + 1
    assert len(trainer.calls) == len(set(trainer.calls)) == RUNS


def test_of_equals_the_first_of_the_grid_is_taken():
    lines = [{"metrics": {"validation": {"gap": value}}} for value in (0.1, 0.5, 0.5)]
    assert results.best(lines, "gap") is lines[1] and results.best([], "gap") is None


def test_a_real_study_of_made_up_records_runs_to_its_table(tmp_path):
    rows, rng = (
        [recipe.Feature("mean_rgb", (6,)), recipe.Feature("mean_audio", (4,))],
        np.random.default_rng(0),
    )
    for part, shards in (("train", 2), ("validate", 2)):
        (tmp_path / part).mkdir()
        for shard in range(shards):
            with tf.io.TFRecordWriter(str(tmp_path / part / f"{shard}.tfrecord")) as writer:
                for k in range(8):
                    values = {row.name: rng.normal(size=row.shape).astype("float32") for row in rows}
                    writer.write(schema.serialize(f"{part}{shard}{k}", [k % 5], values, rows))
    small = ("data.num_classes=5", "train.batch_size=8", "train.steps=4", "train.evaluate_steps=2")
    only = dataclasses.replace(
        TABLE,
        common=(*(text for text in TABLE.common if "steps" not in text), *small),
        grid={"train.learning_rate": (0.01,)},
        baseline=lambda parts, recipe: baselines.class_prior(parts, recipe, rows[1:]),
        seeds=2,
    )
    path = tmp_path / "results.jsonl"
    run.run(only, data=str(tmp_path), workdir=tmp_path / "runs", rows=["mfb"], path=path)
    lines = results.read(path)
    assert [(x["phase"], x["seed"]) for x in lines[1:]] == [("report", 0), ("report", 1)]  # nothing to choose
    for line in lines[1:]:
        assert line["curve"]["step"] == [2, 4] and line["steps"] == 4 and line["parameters"] > 0
        assert max(line["curve"]["gap"]) == pytest.approx(line["metrics"]["validation"]["gap"])
        assert 0 < line["metrics"]["test"]["gap"] <= 1 and line["metrics"]["test"]["clips"] == 8
    assert lines[0]["metrics"]["test"]["clips"] == 8
    measured = page.measured(only, only.select(["mfb"])[0], lines)
    assert len(measured.runs) == 2 and measured.tried == {}
