"""Tables of clips with several labels, F1 class by class, and the studies of raf and resbilstm."""

# ruff: noqa: F401, F811 - fixtures come by import

import pytest
from studied import RARE, clips, data, go, trainer

from experiments import baselines, per_class, report, run, study
from tfvc import plots, recipe
from tfvc.data import datasets, splits

RAF, RESBILSTM = (study.load(name) for name in ("raf_table1", "resbilstm_table2"))


@pytest.fixture
def labelled(tmp_path):
    """A manifest of 60 made-up clips: two labels that most have, one that a sixth has."""
    rows = []
    for number in range(60):
        file = tmp_path / "media" / f"{number}.mp4"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        labels = ["speak"] * (number % 4 != 0) + ["flood"] * (number % 3 != 0) + [RARE] * (number % 6 == 0)
        rows.append(f"{number},{file},{';'.join(labels)},water rises")
    path = tmp_path / "labelled.csv"
    path.write_text("\n".join(["id,path,labels,text", *rows]) + "\n")
    return str(path)


def printed(table, metric):
    return [row.printed.get(metric) for row in table.rows]


# --- the two tables -----------------------------------------------------------------------------------------


def test_the_tables_have_the_printed_numbers():
    assert printed(RAF, "micro_f1") == [0.502, 0.677, 0.779, 0.812, 0.902, 0.933, 0.947, 0.95]
    assert printed(RAF, "map") == [0.42, 0.602, 0.695, 0.735, 0.841, 0.891, 0.91, 0.92]
    assert set(printed(RAF, "hamming_loss")) == {None} and "abstract" in RAF.rows[-1].note
    assert printed(RESBILSTM, "micro_f1") == [
        *(0.6767, 0.5022, 0.7789, 0.6667, 0.823, 0.8586),
        *(0.812, 0.9022, 0.9414),
    ]
    assert printed(RESBILSTM, "hamming_loss") == [
        *(0.1586, 0.2565, 0.1187, 0.1652, 0.0969, 0.078),
        *(0.102, 0.0575, 0.0348),
    ]
    assert printed(RESBILSTM, "map") == [
        *(0.6015, 0.4197, 0.6945, 0.5928, 0.7472, 0.7882),
        *(0.7351, 0.8409, 0.8993),
    ]


def test_rows_differ_in_what_the_tables_say():
    rows = {row.name: RAF.recipe(row) for row in RAF.rows}
    assert [rows[n].model_args["modality"] for n in ("audio", "visual", "text")] == [
        "audio",
        "visual",
        "text",
    ]
    assert rows["early"].model_args == {"fusion": "early", "attention": "none"}
    assert rows["late"].model_args == {"fusion": "late", "attention": "none"}
    raf = [rows[n].model_args["attention"] for n in RAF.per_class.rows]
    assert raf == ["late", "full", "late_residual"]
    assert [n for n, r in rows.items() if r.second_stage.name == "svm"] == list(RAF.per_class.rows)
    rows = {row.name: RESBILSTM.recipe(row) for row in RESBILSTM.rows}
    static = [n for n, r in rows.items() if r.model_args.get("temporal") is False]
    assert static == ["visual", "audio", "text", "visual_audio", "visual_text", "audio_text"]
    assert [rows[n].model_args["modality"] for n in static] == static
    assert [rows[n].model_args["fusion"] for n in RESBILSTM.per_class.rows] == ["early", "late", "separate"]
    assert [n for n, r in rows.items() if r.second_stage.name == "svm"] == ["proposed"]
    assert rows["proposed"].second_stage.eliminate


def test_rows_of_both_tables_share_one_set_of_features():
    resolved = [t.recipe(row, parts=study.clips("")) for t in (RAF, RESBILSTM) for row in t.rows]
    assert {recipe.streams(each) for each in resolved} == {("frames", "audio", "text")}
    flat = [recipe.flatten(each) for each in resolved]
    made_by = [key for key in flat[0] if key.startswith(("data.", "backbone.", "audio.", "text."))]
    assert [key for key in made_by if len({each[key] for each in flat}) > 1] == []
    assert {(each.data.demo_form, each.data.clips) for each in resolved} == {("disaster", 308)}
    plain = RAF.recipe(RAF.rows[0], parts=study.clips("somewhere"))
    assert plain.data.clips == 0 and plain.data.frames == 40
    told = " ".join(RAF.differs)
    for text in recipe.get("raf").demo_overrides:
        assert text.partition("=")[2] in told


# --- what is measured ---------------------------------------------------------------------------------------


def test_a_baseline_gives_every_clip_the_labels_that_most_have(labelled):
    resolved = RESBILSTM.recipe(RESBILSTM.rows[-1])
    measured = baselines.label_prior(study.clips(labelled), resolved, seeds=1)
    dataset = datasets.load(resolved.data, labelled)
    labels = {clip.id: clip.labels for clip in dataset.clips}
    test = [labels[i] for i in splits.split(dataset, resolved.data, 0).test]
    hit = sum(name in clip for clip in test for name in ("flood", "speak"))
    missed = sum(RARE in clip for clip in test)
    wrong = 2 * len(test) - hit
    assert measured["clips"] == len(test) and hit and missed and wrong
    assert measured["micro_f1"] == pytest.approx(2 * hit / (2 * hit + missed + wrong))
    assert measured["hamming_loss"] == pytest.approx((missed + wrong) / (3 * len(test)))
    assert 0.7 < measured["map"] < 1


def test_a_line_counts_the_training_clips_and_tells_the_network_alone(go, labelled, trainer):
    lines = go(RESBILSTM, data=labelled, rows=["late", "proposed"], seeds=2)
    assert lines[0]["row"] == "label prior" and len(trainer.calls) == 4
    late, proposed = (
        next(x["metrics"]["test"] for x in lines if x["row"] == n) for n in ("late", "proposed")
    )
    assert late["network_micro_f1"] == late["micro_f1"] == proposed["network_micro_f1"] == 0.5
    assert proposed["micro_f1"] == 0.6 and lines[1]["weights"]["text"] == "learned (9 words)"
    assert late["training_clips"] == proposed["training_clips"]
    assert late["training_clips"] == {
        "flood": pytest.approx(24, abs=1),
        RARE: pytest.approx(6, abs=1),
        "speak": pytest.approx(27, abs=1),
    }


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_shows_each_class_and_how_rare_it_is(go, labelled, tmp_path, monkeypatch):
    go(RESBILSTM, data=labelled, rows=["late", "proposed"], seeds=2)
    drawn, draw = [], plots.f1_bars
    monkeypatch.setattr(plots, "f1_bars", lambda *given: drawn.append(given) or draw(*given))
    written = report.write(tmp_path / "results.jsonl", tmp_path)
    names = [f"resbilstm_table2{end}" for end in (".md", ".png", "_classes.png")]
    assert [file.name for file in written] == names
    text = (tmp_path / names[0]).read_text()
    assert (
        "| proposed | 0.9414 | 0.0348 | 0.8993 | 0.605 ± 0.007 (0.600 to 0.610, n = 2) | 0.200 ± 0.000"
        in text
    )
    assert "Order by Hamming loss, paper: proposed > late fusion.\nHere: proposed > late fusion." in text
    assert "| class | training clips | late fusion | proposed | gain over late fusion |" in text
    table = text.partition("## Class by class")[2].partition("## ")[0]
    assert [line.split(" | ")[0] for line in table.splitlines() if line[:2] == "| "] == [
        "| class",
        "| ---",
        f"| {RARE}",
        "| flood",
        "| speak",
    ]
    assert f"| {RARE} | 6 | 50.5 ± 0.7 | 80.5 ± 0.7 | +30.0 |" in table
    assert f"proposed gains most over late fusion at: {RARE} +30.0 (6 training clips); " in table
    assert "Mean gain of the rarest 1: +30.0; of the most frequent 1: +2.0." in table
    assert "(resbilstm_table2_classes.png)" in table and "Figure 2 of the paper" in table
    (bars, classes, _), *_ = drawn
    assert list(bars) == ["late fusion", "proposed"] and classes[0] == f"{RARE} (6)"
    assert bars["proposed"] == pytest.approx([0.805, 0.525, 0.525])
    assert (tmp_path / names[2]).read_bytes()[:4] == b"\x89PNG"


def test_without_the_rows_that_are_compared_no_class_is_shown(go, labelled, tmp_path):
    go(RESBILSTM, data=labelled, rows=["early", "proposed"], seeds=1)  # the gain is over late fusion
    written = report.write(tmp_path / "results.jsonl", tmp_path)
    assert [file.name for file in written] == ["resbilstm_table2.md", "resbilstm_table2.png"]
    assert "Class by class" not in (tmp_path / "resbilstm_table2.md").read_text()
    assert per_class.compared(study.load("mfb_table1"), []) == []
