"""Studies on clips: the demo set and others, several models, runs that two studies share, sweeps."""

# ruff: noqa: F401, F811 - fixtures come by import

import dataclasses
from pathlib import Path

import pytest
from studied import clips, data, go, raised, stopped, trainer

from experiments import baselines, page, pictures, report, results, run, study
from tfvc import recipe

TABLES = [study.load(f"mafnet_table{n}") for n in (1, 2, 3, 4)]
FIGURE = study.load("mafnet_figure6")


def printed(table):
    return {row.name: row.printed["accuracy"] for row in table.select()}


def test_the_tables_of_mafnet_have_the_printed_numbers():
    numbers = [list(printed(table).values()) for table in TABLES]
    assert numbers[0] == [80.71, 80.96, 90.86]
    assert numbers[1] == [75.63, 69.29, 84.77, 89.34, 88.83, 87.56]
    assert numbers[2] == [87.82, 88.92, 88.66, 89.34]
    assert numbers[3] == [86.55, 87.62, 90.86, 90.61]
    compared = {row.name: tuple(row.printed.values()) for row in TABLES[0].rows if row.not_run}
    assert compared["i3d"] == (73.28, 86.92, 80.22) and compared["mars"] == (79.44, 97.83)
    assert compared["r2plus1d"] == (79.19, 95.54, 79.10) and compared["slowfast"] == (80.41, 91.78, 81.91)
    assert compared["dmrn_own"] == (85.02, 81.04) and len(compared) == 5
    mafnet = TABLES[0].rows[-1]
    assert (mafnet.printed["ucf51"], mafnet.printed["kinetics_sounds"]) == (86.72, 83.94)


@pytest.mark.parametrize("table", [*TABLES, FIGURE, study.load("mafnet_missing")], ids=lambda t: t.name)
def test_rows_of_mafnet_share_one_set_of_features(table):
    resolved = [table.recipe(row, parts=study.clips("")) for row in table.select()]
    assert {recipe.streams(each) for each in resolved} == {("frames", "audio")}
    made_by = {
        key: {recipe.flatten(each)[key] for each in resolved}
        for key in recipe.flatten(resolved[0])
        if key.startswith(("data.", "backbone.", "audio."))
    }
    assert {key: values for key, values in made_by.items() if len(values) > 1} == {}
    told = " ".join(table.differs)
    for each in resolved:  # those in force, and no others: the width is the paper's
        for text in each.demo_overrides:
            assert (text in told) == (recipe.override(each, [text]) == each), text
    assert {each.data.demo_form for each in resolved} == {"multimodal"}
    plain = table.recipe(table.rows[0], parts=study.clips("somewhere"))
    assert plain.data.fps == 16 and plain.backbone.size == (224, 224)


def test_rows_differ_in_what_the_table_says():
    args = [[table.recipe(row).model_args for row in table.rows] for table in TABLES]
    assert [a["film"] for a in args[3]] == ["block", "both", "audio", "visual"]
    assert [a["attention"] for a in args[2]] == ["none", "temporal", "modality", "both"]
    assert {a["film"] for a in args[1] + args[2]} == {"none"}
    assert [a.get("modality") for a in args[1][:2]] == ["visual", "audio"]
    assert [a["fusion"] for a in args[1][2:]] == ["addition", "concat", "mcb", "dmr"]
    assert [row.model for row in TABLES[0].select()] == ["attention_cluster", "dmrn", ""]
    assert [FIGURE.recipe(row).train.drop_visual for row in FIGURE.rows] == [0, 0.1, 0.3, 0.5, 0.7, 0.9]


def test_a_run_is_shared_by_all_studies_that_have_it(go, trainer, clips, capsys, tmp_path):
    first = go(TABLES[1], data=clips, rows=["concat", "dmr"])
    assert len(trainer.calls) == 6 and all(call[3] == clips for call in trainer.calls)
    assert [(x["phase"], x["seed"]) for x in first[1:4]] == [("report", s) for s in range(3)]
    capsys.readouterr()
    both = go(TABLES[2], data=clips, rows=["both", "none"])[len(first) :]
    assert capsys.readouterr().out.count("as concat of mafnet_table2") == 3
    assert len(trainer.calls) == 6 + 3  # only those of `none`
    assert {x["study"] for x in both} == {"mafnet_table3"}
    mine = results.find(both, row="both")
    assert [x["seed"] for x in mine] == [0, 1, 2] and {x["phase"] for x in mine} == {"report"}
    theirs = results.find(first, row="concat")
    assert [x["metrics"] for x in mine] == [x["metrics"] for x in theirs]
    assert mine[0]["overrides"] == TABLES[2].overrides(TABLES[2].select(["both"])[0])
    again = go(TABLES[2], data=clips, rows=["both", "none"])
    assert len(again) == len(first) + len(both) and len(trainer.calls) == 9


def test_a_changed_recipe_and_other_clips_are_run_anew(go, trainer, clips):
    table = dataclasses.replace(TABLES[3], seeds=1, baseline=None)
    go(table, data=clips, rows=["audio"])
    changed = dataclasses.replace(table, fidelity="original")
    lines = go(changed, data=clips, rows=["audio"])
    assert len(trainer.calls) == len(lines) == 2 and lines[0]["overrides"] == lines[1]["overrides"]
    measured = page.measured(changed, changed.select(["audio"])[0], lines)
    assert measured.runs == [lines[1]]
    text = Path(clips).read_text()
    Path(clips).write_text(text + text.splitlines()[1].replace("dog0_0,", "another,", 1) + "\n")
    assert len(go(changed, data=clips, rows=["audio"])) == 3


def test_lines_of_clips_count_epochs_and_tell_the_data(go, clips, tmp_path):
    lines = go(TABLES[0], data=clips, seeds=2)
    assert lines[0]["row"] == "class prior" and 0 < lines[0]["metrics"]["test"]["accuracy"] < 1
    assert lines[1]["curve"]["epoch"] == [1, 2] and lines[1]["data"]["classes"] == 3
    assert lines[1]["weights"] == {
        "frames": "random (seed 0)",
        "audio": "audioset (x, digest 1)",
        "text": "",
    }
    report.write(tmp_path / "results.jsonl", tmp_path, ["mafnet_table1"])
    text = (tmp_path / "mafnet_table1.md").read_text()
    heads = "| row | Accuracy, %: paper | Accuracy on UCF51, %: paper (not run here) | Accuracy on Kinetics-S"
    assert heads in text and "| best epoch |" in text
    assert "| MAFnet | 90.86 | 86.72 | 83.94 | 69.5 ± 0.7 (69.0 to 70.0, n = 2) | one-setting | 2 |" in text
    assert "frames, random (seed 0)" in text and "72 clips of 3 classes" in text
    assert "How the settings were chosen" not in text and "the most frequent class" in text


def test_the_demo_set_has_settings_of_its_own(go, trainer, monkeypatch):
    monkeypatch.setattr(study.Clips, "describe", lambda self, recipes: {"digest": "d"})
    table = dataclasses.replace(TABLES[0], demo=("train.epochs=3",), baseline=None, seeds=1)
    seen = []
    monkeypatch.setattr(run.train, "train", lambda r, **given: seen.append(r) or trainer(r, **given))
    go(table, data="", rows=["mafnet"])
    assert seen[0].train.epochs == 3 and seen[0].backbone.size == (64, 64) and trainer.calls[0][3] == ""


def test_rows_that_read_different_clips_are_refused(clips, tmp_path):
    (tmp_path / "two.txt").write_text("dog\nrain\n")
    rows = (study.Row("all"), study.Row("two", (f"data.classes={tmp_path}/two.txt",)))
    table = dataclasses.replace(TABLES[0], rows=rows)
    resolved = [table.recipe(row) for row in table.rows]
    assert "read different clips" in raised(study.clips(clips).describe, resolved)
    assert study.clips(clips).describe(resolved[1:])["clips"] == 8 * (2 + 3)


def test_the_majority_class_is_that_of_the_training_part(clips):
    resolved = recipe.get("mafnet", "corrected")
    measured = baselines.majority(study.clips(clips), resolved, seeds=2)
    assert 4 / 9 - 0.1 < measured["accuracy"] < 4 / 9 + 0.1  # 2, 3 and 4 clips a group
    assert measured["clips"] > 20


def test_a_study_may_measure_more_than_training_did(go, clips, tmp_path, capsys):
    more = dataclasses.replace(
        TABLES[3],
        further=lambda folder: {"seed": float(folder.name[-1])},
        metrics=(study.Metric("accuracy", "Accuracy, %"), study.Metric("seed", "Seed", 1.0)),
    )
    go(TABLES[3], data=clips, rows=["audio"])
    lines = go(more, data=clips, rows=["visual"])
    found = results.find(lines, row="visual")
    assert [x["metrics"]["test"]["seed"] for x in found] == [0.0, 1.0, 2.0]
    # A line that does not hold what is asked for is no line of this run for another study.
    other = dataclasses.replace(more, name="other")
    count = len(lines)
    capsys.readouterr()
    lines = go(other, data=clips, rows=["audio"])[count:]
    assert "as audio of" not in capsys.readouterr().out and lines[-1]["metrics"]["test"]["seed"] == 2.0


@pytest.mark.slow
def test_a_sweep_is_drawn_against_its_axis(go, clips, tmp_path, monkeypatch):
    go(FIGURE, data=clips, seeds=2)
    seen, draw = [], pictures.sweep
    monkeypatch.setattr(pictures, "sweep", lambda *given: seen.append(given) or draw(*given))
    report.write(tmp_path / "results.jsonl", tmp_path)
    points, xlabel, ylabel, _ = seen[0]
    assert (
        [x for x, _ in points] == [0, 0.1, 0.3, 0.5, 0.7, 0.9]
        and "drop rate" in xlabel
        and "Accuracy" in ylabel
    )
    assert points[2][1] == pytest.approx([67.0, 68.0])
    assert (tmp_path / "mafnet_figure6.png").read_bytes()[:4] == b"\x89PNG"
    assert "![against the drop rate of the visual path]" in (tmp_path / "mafnet_figure6.md").read_text()


def test_one_command_runs_several_studies_and_writes_their_tables(clips, tmp_path, trainer, capsys):
    where = [f"--{flag}={tmp_path}/{flag}" for flag in ("results", "workdir", "out")] + [f"--data={clips}"]
    assert stopped(run.main, "mafnet_table1", "mafnet_table4", "--seeds=1", *where) == 0
    assert len(trainer.calls) == 3 + 3  # mafnet is a row of both
    out = capsys.readouterr().out
    for name in ("mafnet_table1", "mafnet_table4"):
        assert f"written: {tmp_path}/out/{name}.md" in out and (tmp_path / f"out/{name}.png").is_file()
    assert stopped(run.main, "mafnet_table1", "mafnet_table4", "--rows=mafnet", *where) == 2
    assert "rows of one study" in capsys.readouterr().err
    assert stopped(run.main, "mafnet_table1", "mafnet_tabel4", *where) == 1 and len(trainer.calls) == 6
