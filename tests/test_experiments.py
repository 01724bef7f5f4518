"""The runner of studies and its report. Training itself is a made-up function here, but for one whole run."""

import dataclasses
import json
import re
import subprocess

import numpy as np
import oracles
import pytest
import tensorflow as tf

from experiments import baselines, report, results, run, study
from tfvc import plots, recipe
from tfvc.data import schema
from tfvc.models import mfb

TABLE = study.load("mfb_table1")
# GAP of the validation part by fusion and rate: another rate is the best for mfb.
PEAK = {"audio": 0.003, "video": 0.003, "concat": 0.001, "fc_concat": 0.003, "mfb": 0.01}
RATES = TABLE.grid["train.learning_rate"]
RUNS = len(RATES) + 2  # of a row, with three seeds


class Trainer:
    """Stands in for `tfvc.train.train`: writes and returns what it would, in no time."""

    def __init__(self):
        self.calls, self.fail_at = [], None

    def __call__(self, resolved, *, data, workdir, seed):
        fusion, rate = resolved.model_args["fusion"], resolved.train.learning_rate
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((fusion, rate, seed))
        gap = 0.6 - abs(np.log10(rate / PEAK[fusion])) / 10 + 0.02 * seed
        (workdir / "checkpoints").mkdir(parents=True)
        (workdir / "model.keras").touch()
        log = f"epoch;loss;val_gap\n1;2.0;{gap / 2}\n2;1.0;{gap}\n3;0.5;{gap - 0.1}\n"
        (workdir / "log.csv").write_text(log)
        assert resolved.data.validation.count("validate") == resolved.data.test.count("validate") == 2 * 3
        assert data.endswith("train/*.tfrecord")
        return {
            "validation": {"gap": gap, "hit_at_one": gap + 0.1, "step": 112},
            "test": {"gap": gap - 0.01, "hit_at_one": gap + 0.05, "clips": 9},
            "steps": 150,
            "parameters": 12345,
            "training_seconds": 60.0,
        }


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(run.train, "train", trainer)
    return trainer


@pytest.fixture
def data(tmp_path):
    """Six validate shards and two of train; the trainer above does not read them."""
    for part, count in (("train", 2), ("validate", 6)):
        (tmp_path / "data" / part).mkdir(parents=True)
        for k in range(count):
            (tmp_path / "data" / part / f"{part}{k:04}.tfrecord").write_bytes(b"x" * (k + 1))
    return str(tmp_path / "data")


@pytest.fixture
def go(tmp_path, data, trainer):
    """Runs the study with a made-up baseline."""
    tiny = dataclasses.replace(TABLE, baseline=lambda parts, classes: {"gap": 0.05, "hit_at_one": 0.2})

    def go(a_study=tiny, **options):
        given = {"data": data, "workdir": tmp_path / "runs", "path": tmp_path / "results.jsonl"} | options
        run.run(a_study, **given)
        return results.read(tmp_path / "results.jsonl")

    return go


def raised(function, *arguments, **options):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        function(*arguments, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


# --- studies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", study.available())
def test_every_study_is_whole(name):
    each = study.load(name)
    assert each.name == name and each.rows and each.differs and each.source and each.select()
    names = [row.name for row in each.rows]
    assert len(set(names)) == len(names) and each.baseline_title not in names
    assert all(re.fullmatch(r"[\w.-]+", row) for row in names)  # a folder each
    for row in each.rows:
        assert set(row.printed) <= {metric.name for metric in each.metrics}
        for choice in each.points():
            each.recipe(row, choice)  # every override is a field that there is
    assert any(metric.name == each.choose_by for metric in each.metrics)


def test_table_1_has_the_printed_numbers_and_says_what_is_not_run():
    printed = {row.name: row.printed.get("gap") for row in TABLE.rows}
    assert [printed[name] for name in PEAK] == [38.1, 69.6, 74.2, 81.8, 83.3]
    assert printed["netvlad_mfb"] == 85.5 and printed["dbof_mfb"] == 85.9 and printed["mfb_scaled"] is None
    assert [row.name for row in TABLE.rows if row.not_run] == [
        f"{aggregation}_{fusion}" for aggregation in ("netvlad", "dbof") for fusion in PEAK
    ]
    sizes = [TABLE.recipe(row).model_args for row in TABLE.select(["mfb", "fc_concat"])]
    assert all(a["k"] * a["o"] <= 500 for a in sizes) and sizes[0]["k"] == sizes[1]["k"]
    assert max(TABLE.grid["train.learning_rate"]) >= 0.01
    scaled = [row.name for row in TABLE.rows if TABLE.recipe(row).model_args.get("scale")]
    assert scaled == ["mfb_scaled"]


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.name)
def test_every_row_of_table_1_can_be_built(row):
    resolved = TABLE.recipe(row)
    shapes = {"mean_rgb": (1024,), "mean_audio": (128,), "rgb": (6, 16), "audio": (6, 8)}
    rows = [recipe.Feature(name, shapes[name]) for name in resolved.data.streams.split(",")]
    model = mfb.build_model(rows, 3, **resolved.model_args)
    assert {row.name for row in rows} <= set(model.input) and model.output_shape == (None, 3)


def test_halves_of_validate_choose_and_are_reported(data):
    parts = TABLE.parts(data)
    names = [[p.rpartition("/")[2] for p in part.split(",")] for part in (parts.validation, parts.test)]
    assert names == [[f"validate000{k}.tfrecord" for k in ks] for ks in ((0, 1, 2), (3, 4, 5))]
    assert run.describe(parts) | {"digest": ""} == {"digest": "", "train": 2, "validation": 3, "test": 3}


def test_a_folder_with_odd_letters_is_that_folder(data, tmp_path):
    odd = tmp_path / "a,b [1]"
    (tmp_path / "data").rename(odd)
    known = run.describe(TABLE.parts(str(odd)))
    assert (known["train"], known["validation"]) == (2, 3)
    odd.rename(tmp_path / "data")
    assert run.describe(TABLE.parts(data)) == known  # the place is no part of the data
    (tmp_path / "data/train/train0001.tfrecord").write_bytes(b"other")
    assert run.describe(TABLE.parts(data))["digest"] != known["digest"]


def test_wrong_data_and_rows_are_told_in_a_line(tmp_path, data, go):
    assert "--data=FOLDER" in raised(TABLE.parts, "")
    assert f"{tmp_path}: has no folder train/" in raised(TABLE.parts, str(tmp_path))
    assert "did you mean 'fc_concat'" in raised(go, rows=["fc_concta"])
    assert "1.5 TB" in raised(go, rows=["dbof_mfb"])
    assert "did you mean 'mfb_table1'" in raised(study.load, "mfb_table2")
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
        baseline=lambda parts, classes: baselines.class_prior(parts, classes, rows[1:]),
        seeds=2,
    )
    path = tmp_path / "results.jsonl"
    run.run(only, data=str(tmp_path), workdir=tmp_path / "runs", rows=["mfb"], path=path)
    lines = results.read(path)
    assert [(x["phase"], x["seed"]) for x in lines[1:]] == [("choose", 0), ("report", 0), ("report", 1)]
    for line in lines[1:]:
        assert line["curve"]["step"] == [2, 4] and line["steps"] == 4 and line["parameters"] > 0
        assert max(line["curve"]["gap"]) == pytest.approx(line["metrics"]["validation"]["gap"])
        assert 0 < line["metrics"]["test"]["gap"] <= 1 and line["metrics"]["test"]["clips"] == 8
    assert lines[0]["metrics"]["test"]["clips"] == 8
    measured = report.measured(only, only.select(["mfb"])[0], lines)
    assert len(measured.runs) == 2 and len(measured.tried) == 1


# --- lines --------------------------------------------------------------------------------------------------

LINE = {key: kind() for key, kind in results._KEYS.items()} | {"data": {"digest": "d"}}


def test_a_torn_last_line_is_told_and_mended(tmp_path, capsys):
    path = tmp_path / "sub/results.jsonl"
    results.append(path, LINE | {"row": "a"})
    whole = path.read_bytes()
    results.append(path, LINE | {"row": "b"})
    path.write_bytes(path.read_bytes()[:-10])
    assert [x["row"] for x in results.read(path)] == ["a"]
    assert "the last line is cut off" in capsys.readouterr().out
    results.append(path, LINE | {"row": "c"})
    assert path.read_bytes().startswith(whole) and [x["row"] for x in results.read(path)] == ["a", "c"]
    path.write_bytes(path.read_bytes()[:-1])  # whole but for its end
    assert [x["row"] for x in results.read(path)] == ["a", "c"]
    results.append(path, LINE | {"row": "d"})
    assert [x["row"] for x in results.read(path)] == ["a", "c", "d"]
    assert not capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", '{"study": "x"}', json.dumps(LINE | {"data": 5}), ""])
def test_a_line_that_is_no_result_is_named(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n{text}\n{json.dumps(LINE)}\n")
    assert f"{path}: line 2 is no result of a run" in raised(results.read, path)


def test_a_commit_is_told_only_in_a_checkout(tmp_path):
    assert run.commit(tmp_path) == "unknown"
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "a").write_text("1")
    author = ["-c", "user.name=x", "-c", "user.email=x@y"]
    for command in (["init", "-q"], ["add", "a"], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    clean = run.commit(folder)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (folder / "a").write_text("2")
    assert run.commit(folder) == f"{clean}-dirty"
    (folder / "sub").mkdir()
    assert run.commit(folder / "sub") == "unknown"  # of another project's checkout


# --- the baseline -------------------------------------------------------------------------------------------


def test_the_class_prior_is_that_of_the_training_part(tmp_path):
    rows, rng = [recipe.Feature("mean_audio", (2,), "float32")], np.random.default_rng(0)
    labels = {"train": rng.random((23, 25)) < 0.2, "test": rng.random((17, 25)) < 0.2}
    for part, matrix in labels.items():
        with tf.io.TFRecordWriter(str(tmp_path / f"{part}.tfrecord")) as writer:
            for k, hot in enumerate(matrix):
                values = {"mean_audio": np.ones(2, "float32")}
                writer.write(schema.serialize(f"{part}{k}", np.flatnonzero(hot).tolist(), values, rows))
    parts = study.Parts(str(tmp_path / "train.tfrecord"), "", str(tmp_path / "test.tfrecord"))
    measured = baselines.class_prior(parts, 25, rows)
    predicted = np.tile(labels["train"].mean(0).astype("float32"), (17, 1))
    assert measured["gap"] == pytest.approx(oracles.gap(predicted, labels["test"], 20), abs=1e-9)
    assert measured["hit_at_one"] == pytest.approx(np.mean(labels["test"][:, predicted[0].argmax()]))
    assert measured["clips"] == 17


# --- the report ---------------------------------------------------------------------------------------------


def test_the_report_sets_the_paper_beside_what_was_measured(go, tmp_path):
    go(rows=["video", "concat", "mfb"])
    written = report.write(tmp_path / "results.jsonl", tmp_path / "out")
    assert [file.name for file in written] == ["mfb_table1.md", "mfb_table1.png"]
    assert (tmp_path / "out/mfb_table1.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = (tmp_path / "out/mfb_table1.md").read_text()
    table = [line.split(" | ") for line in text.split("## ")[0].splitlines() if "|" in line]
    rows = {cells[0].strip("| "): cells for cells in table}
    assert rows["MFB"][1:6] == [
        "83.3",
        "61.0 ± 2.0 (59.0 to 63.0, n = 3)",
        "67.0 ± 2.0 (65.0 to 69.0, n = 3)",
        "learning_rate=0.01",
        "112",
    ]
    assert rows["class prior"][1:4] == ["", "5.0", "20.0"]
    assert rows["audio only"][2] == "not run yet" and rows["NetVLAD, MFB"][1:3] == ["85.5", "**not run**"]
    assert "Order by GAP@20, paper: MFB > concatenation > video only.\n" in text
    assert "Here: video only > concatenation > MFB." in text  # equals: as listed
    assert "At an edge of the grid, so that a better value may lie beyond it: concatenation." in text
    assert text.count("1.5 TB") == 1 and all(sentence in text for sentence in TABLE.differs)
    assert f"{3 * RUNS} runs, {3 * RUNS} min of training in all" in text and "**60.0**" in text
    assert "2 files train, 3 choose, 3 are reported" in text


def test_the_report_takes_the_data_used_last_and_known_studies(go, tmp_path, data, capsys):
    go(rows=["mfb"])
    with open(f"{data}/train/train0000.tfrecord", "ab") as f:
        f.write(b"more")
    go(rows=["video"], seeds=1)
    path = tmp_path / "results.jsonl"
    results.append(path, LINE | {"study": "gone"})
    report.write(path, tmp_path)
    text = (tmp_path / "mfb_table1.md").read_text()
    assert (
        f"{1 + RUNS + 1} lines of other data are left out" in text
        and "59.0 (n = 1)" in text
        and "n = 3" not in text
    )
    assert "its lines of 'gone' are left out" in capsys.readouterr().out


def test_without_results_the_report_says_how_to_make_some(tmp_path):
    assert "no results yet; make some with" in raised(report.write, tmp_path / "results.jsonl", tmp_path)


def test_curves_have_a_colour_a_name_and_a_line_a_run():
    figure = plots.curves({"a": [([1], [0.5]), ([1, 2], [0.5, 0.6])], "b$": [([1], [0.1])]}, "step", "GAP")
    axes = figure.get_axes()[0]
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", r"b\$"]


# --- commands -----------------------------------------------------------------------------------------------


def stopped(main, *argv):
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    return stop.value.code


def test_the_commands_list_run_and_fail_in_a_line(data, tmp_path, trainer, capsys, monkeypatch):
    assert stopped(run.main) == 0 and "mfb_table1: Five fusions" in capsys.readouterr().out
    monkeypatch.setattr(study, "load", lambda name: dataclasses.replace(TABLE, baseline=None))
    options = [f"--results={tmp_path}/r.jsonl", f"--workdir={tmp_path}/runs", "--rows=mfb", "--seeds=2"]
    assert stopped(run.main, "mfb_table1", f"--data={data}", *options) == 0
    assert len(trainer.calls) == RUNS - 1 and "python -m experiments.report" in capsys.readouterr().out
    assert stopped(report.main, f"--results={tmp_path}/r.jsonl", f"--out={tmp_path}") == 0
    assert "written:" in capsys.readouterr().out
    monkeypatch.undo()
    for status, text, main, *argv in (
        (1, "did you mean 'mfb_table1'", run.main, "mfb_tabel1"),
        (1, "expected --data=FOLDER", run.main, "mfb_table1"),
        (2, "unexpected argument 'more'", run.main, "mfb_table1", "more"),
        (2, "--seeds=x: expected a whole number", run.main, "mfb_table1", "--seeds=x"),
        (1, "no results yet", report.main, f"--results={tmp_path}/none.jsonl"),
    ):
        assert stopped(main, *argv) == status
        out, err = capsys.readouterr()
        assert err.startswith("error: ") and text in err and err.count("\n") == 1 and not out
