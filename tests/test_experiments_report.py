"""Lines of results, baselines, pages and pictures of studies, and the two commands."""

# ruff: noqa: F401, F811 - fixtures come by import

import dataclasses
import json
import re
import subprocess

import numpy as np
import oracles
import pytest
import tensorflow as tf
from studied import LINE, RUNS, TABLE, data, go, raised, stopped, trainer

from experiments import baselines, hparams, report, results, run, study
from tfvc import plots, recipe
from tfvc.data import schema

# --- lines --------------------------------------------------------------------------------------------------


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


TRAINED = LINE | {
    "study": "mfb_table1",
    "row": "mfb",
    "data": {"digest": "d", "name": "made", "clips": 3, "classes": 2},
    "phase": "report",
    "metrics": {
        "validation": {"gap": 0.5, "epoch": 2},
        "test": {m.name: 0.5 for m in TABLE.metrics},
    },
    "parameters": 9,
    "curve": {"epoch": [1, 2], "gap": [0.25, 0.5]},
}


def changed(*place, value=None):
    """The text of a trained run's line with another value at a place; None: without it."""
    line = json.loads(json.dumps(TRAINED))
    tree = line
    for key in place[:-1]:
        tree = tree[key]
    if value is None:
        del tree[place[-1]]
    else:
        tree[place[-1]] = value
    return json.dumps(line)


ODD = {
    "parameters is missing": changed("parameters"),
    "curve is missing": changed("curve"),
    "data.name is missing": changed("data", "name"),
    "metrics.validation is missing": changed("metrics", "validation"),
    "metrics.test is missing": changed("metrics", "test"),
    "metrics.test.gap is missing": changed("metrics", "test", "gap"),
    "metrics.validation.step is missing": changed("curve", value={"step": [1], "gap": [0.5]}),
    "metrics.test.gap: 'high', expected a number": changed("metrics", "test", "gap", value="high"),
    "metrics.test.gap: nan, expected": changed("metrics", "test", "gap", value=float("nan")),
    "metrics.validation.gap: None, expected": changed("metrics", "validation", "gap", value=0).replace(
        '"validation": {"gap": 0', '"validation": {"gap": null'
    ),
    "curve.gap: inf": changed("curve", "gap", value=[0.5, float("inf")]),
    "curve: 2 epochs, 1 values of gap": changed("curve", "gap", value=[0.5]),
    "overrides: dict, expected text": changed("overrides", value=[{}]),
    "weights: list, expected text": changed("weights", value={"frames": []}),
    "hardware.x: expected text": changed("hardware", value={"x": [[]]}),
    "metrics.test.gap: 7, expected a number from 0 to 1": changed("metrics", "test", "gap", value=7),
    "metrics.validation.epoch: -4, expected": changed("metrics", "validation", "epoch", value=-4),
    "curve.gap: 1.5, expected": changed("curve", "gap", value=[0.5, 1.5]),
    "seconds: -5, expected a number, at least 0": changed("seconds", value=-5),
    "parameters: -1, expected": changed("parameters", value=-1),
    "data.clips: -3, expected": changed("data", "clips", value=-3),
    "(blank)": " ",
    "seconds: nan": changed("seconds", value=float("nan")),
    "seed: bool, expected a whole number": changed("seed", value=True),
    "nested too deep": '{"a":' * 100_000,
}


@pytest.mark.parametrize("wrong", ODD)
def test_a_line_with_missing_or_odd_fields_is_refused_in_one_line(tmp_path, wrong):
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps(TRAINED)}\n{ODD[wrong]}\n")
    for write in (report.write, hparams.write):
        told = raised(write, path, tmp_path / "out")
        assert f"{path}: line 2 is no result of a run (" in told and wrong in told and "\n" not in told
    assert not (tmp_path / "out").exists()


def test_the_line_that_the_odd_ones_are_made_of_is_taken_and_so_is_every_stored_one(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(TRAINED) + "\n")
    assert results.of_study(path, results.some(path), TABLE) == [TRAINED]
    for stored in report.TABLES.glob("*.jsonl"):
        lines = results.some(stored)
        for name in {line["study"] for line in lines} & set(study.available()):
            assert results.of_study(stored, lines, study.load(name))


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
    measured = baselines.class_prior(parts, recipe.get("mfb", overrides=["data.num_classes=25"]), rows)
    predicted = np.tile(labels["train"].mean(0).astype("float32"), (17, 1))
    assert measured["gap"] == pytest.approx(oracles.gap(predicted, labels["test"], 20), abs=1e-9)
    assert measured["hit_at_one"] == pytest.approx(np.mean(labels["test"][:, predicted[0].argmax()]))
    assert measured["clips"] == 17


# --- the report ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_report_sets_the_paper_beside_what_was_measured(go, tmp_path, monkeypatch):
    reason = "needs what is not here"
    given = [dataclasses.replace(r, not_run=reason) if r.name == "mfb_scaled" else r for r in TABLE.rows]
    other = study.Metric("elsewhere", "GAP elsewhere", 1.0, 1, not_run="too far")
    given[0] = dataclasses.replace(given[0], printed=given[0].printed | {"elsewhere": 5.5})
    table = dataclasses.replace(TABLE, rows=tuple(given), also_printed=(other,))
    monkeypatch.setattr(study, "load", lambda name: table)
    go(rows=["video", "concat", "mfb"])
    written = report.write(tmp_path / "results.jsonl", tmp_path / "out")
    assert [file.name for file in written] == ["mfb_table1.md", "mfb_table1.png"]
    assert (tmp_path / "out/mfb_table1.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = (tmp_path / "out/mfb_table1.md").read_text()
    table = [line.split(" | ") for line in text.split("## ")[0].splitlines() if "|" in line]
    rows = {cells[0].strip("| "): cells for cells in table}
    assert rows["MFB"][1:7] == [
        "83.3",
        "",
        "61.0 ± 2.0 (59.0 to 63.0, n = 3)",
        "67.0 ± 2.0 (65.0 to 69.0, n = 3)",
        "learning_rate=0.01",
        "112",
    ]
    assert rows["class prior"][1:5] == ["", "", "5.0", "20.0"]
    assert rows["audio only"][1:4] == ["38.1", "5.5", "not run yet"]
    assert rows["MFB, times sqrt(o)"][1:4] == ["", "", "**not run**"]
    assert "GAP elsewhere: paper (not run here)" in text and "\n- GAP elsewhere: too far.\n" in text
    assert f"\n- MFB, times sqrt(o): {reason}.\n" in text
    assert "Order by GAP@20, paper: MFB > concatenation > video only.\n" in text
    assert "Here: video only = concatenation = MFB." in text  # shown alike: as listed
    assert "At an edge of the grid, so that a better value may lie beyond it: concatenation." in text
    assert TABLE.full[0][1] in text and all(sentence in text for sentence in TABLE.differs)
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
    (tmp_path / "others.jsonl").write_text(json.dumps(LINE | {"study": "gone"}) + "\n")
    told = raised(report.write, tmp_path / "others.jsonl", tmp_path / "out")
    assert "others.jsonl: no line of a study that is here; it has lines of gone" in told


def test_without_results_the_report_says_how_to_make_some(tmp_path):
    path = tmp_path / "results.jsonl"
    assert "no such file; make one with" in raised(report.write, path, tmp_path)
    path.touch()
    assert "no results yet; make some with" in raised(report.write, path, tmp_path)


def test_curves_have_a_colour_a_name_and_a_line_a_run():
    figure = plots.curves({"a": [([1], [0.5]), ([1, 2], [0.5, 0.6])], "b$": [([1], [0.1])]}, "step", "GAP")
    axes = figure.get_axes()[0]
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", r"b\$"]


# --- commands -----------------------------------------------------------------------------------------------


def test_the_commands_list_run_and_fail_in_a_line(data, tmp_path, trainer, capsys, monkeypatch):
    assert stopped(run.main) == 0 and "mfb_table1: Five fusions" in capsys.readouterr().out
    monkeypatch.setattr(study, "load", lambda name: dataclasses.replace(TABLE, baseline=None))
    options = [f"--results={tmp_path}/r.jsonl", f"--workdir={tmp_path}/runs", "--rows=mfb", "--seeds=2"]
    options.append(f"--out={tmp_path}")
    assert stopped(run.main, "mfb_table1", f"--data={data}", *options) == 0
    assert len(trainer.calls) == RUNS - 1 and f"written: {tmp_path}/mfb_table1.md" in capsys.readouterr().out
    assert stopped(report.main, f"--results={tmp_path}/r.jsonl", f"--out={tmp_path}") == 0
    assert "written:" in capsys.readouterr().out
    monkeypatch.undo()
    for status, text, main, *argv in (
        (1, "did you mean 'mfb_table1'", run.main, "mfb_tabel1"),
        (1, "expected --data=FOLDER", run.main, "mfb_table1"),
        (1, "unknown study 'more'", run.main, "mfb_table1", "more"),
        (2, "--seeds=x: expected a whole number", run.main, "mfb_table1", "--seeds=x"),
        (1, "no such file", report.main, f"--results={tmp_path}/none.jsonl"),
        (2, "expected no --results", report.main, "--published", f"--results={tmp_path}/none.jsonl"),
    ):
        assert stopped(main, *argv) == status
        out, err = capsys.readouterr()
        assert err.startswith("error: ") and text in err and err.count("\n") == 1 and not out
