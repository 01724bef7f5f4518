"""The model card of an export: only facts of the run, Markdown whatever the names are, its example runs."""

import re
import subprocess
import sys
from dataclasses import replace

import keras
import made
import pytest
from conftest import ROOT

from tfvc import card, export, files, names, recipe, workdir
from tfvc.backbones import weights
from tfvc.data import demo_records
from tfvc.recipe import Feature

CLASSES = ["left", "right"]
SIGNATURES = {
    "serving_default": (
        {"frames": ((-1, 4, 6), "float32")},
        {"classes": ((2,), "string"), "probabilities": ((-1, 2), "float32")},
    )
}
METRICS = {
    "validation": {"accuracy": 0.75, "loss": 0.5, "epoch": 2, "step": 8},
    "test": {"accuracy": 0.8125, "loss": 0.625, "clips": 16},
    "epochs": 3,
    "stopped_early": False,
    "parameters": 1234,
}


@pytest.fixture
def run(tmp_path):
    """A finished run on converted features, so that no network for pictures is needed."""
    converted = "converted (features of others)"
    records = made.make_records(tmp_path / "records", CLASSES, groups=4, weights=converted)
    ids = [f"{c}/{g}_{k}" for c in CLASSES for g in range(4) for k in range(2)]
    overrides = ["data.channel_order=bgr", "backbone.size=32,32", "data.frames=4"]
    facts = workdir.Facts("made-up", records, records, CLASSES, [Feature("frames", (4, 6))])
    facts.weights = "converted (features of others)"
    facts.notes += ["split: 1 training clip", "group leakage: 5 of 16 test clips share a group"]
    folder = tmp_path / "run"
    folder.mkdir()
    split = {"train": ids[:1], "validation": [], "test": ids}
    workdir.save(folder, recipe.get("attention_boosted", overrides=overrides), facts, 7, split)
    frames = keras.Input((4, 6), name="frames")
    x = keras.layers.Dense(2, activation="softmax", name="probabilities")(keras.layers.Flatten()(frames))
    keras.Model({"frames": frames}, x).save(folder / "model.keras")
    files.write_json(folder / "metrics.json", METRICS)
    return folder


def written(folder, **facts):
    found = workdir.load(folder)
    found.facts = replace(found.facts, **facts)
    return card.card(found, SIGNATURES, {"serving_default": 1e-7})


def sections(text):
    return dict(re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n?)*)", text, re.M))


def test_the_card_says_what_the_run_holds(run):
    found = sections(written(run))
    assert "You & Korhonen, ICIP 2020" in found["What it is"] and "1,234" in found["What it is"]
    assert "seed 7" in found["What it is"] and "fidelity original" in found["What it is"]
    assert "1 train, 0 validation, 16 test" in found["Trained on"]
    assert "2 classes: left, right" in found["Trained on"] and "5 of 16" in found["Trained on"]
    assert "| test | accuracy | 0.8125 |" in found["Measured"] and "epoch 2 of 3" in found["Measured"]
    assert "test part served" in found["Measured"] and "No interval" in found["Measured"]
    assert "| input | `frames` | (N, 4, 6) | float32 | pictures: rows" in found["Inputs and outputs"]
    assert "differed by 1.0e-07 at most" in found["Inputs and outputs"]
    assert "| `data.channel_order` | bgr |" in found["Preprocessing"]
    assert "OpenCV's BGR" in found["Kept of the authors' program, and what differs"]
    assert "not known here" in found["Weights behind the features, and licences"]
    assert "may flatter" in found["Limitations"]


def test_what_is_not_known_is_said_and_nothing_made_up(run):
    (run / "metrics.json").unlink()
    found = sections(written(run, source="", weights="random (seed 0)", notes=[]))
    assert found["Measured"].strip() == "Nothing: the run has no metrics.json."
    assert "Parameters: not recorded" in found["What it is"]
    assert "random weights" in found["Limitations"] and "drawn" in found["Limitations"]
    assert "flatter" not in found["Limitations"]
    assert "no weights of others" in found["Weights behind the features, and licences"]
    licensed = sections(written(run, weights="imagenet (vgg19.h5, sha256 0123456789ab)"))
    assert "VGG, Oxford: CC BY" in licensed["Weights behind the features, and licences"]


def test_several_labels_and_many_classes(run):
    tree = METRICS | {part: METRICS[part] | {"micro_f1": 0.5} for part in ("test", "validation")}
    files.write_json(run / "metrics.json", tree)
    text = written(run, classes=[f"c{k}" for k in range(300)], multi_label=True)
    assert "300 classes" in text and "c99, and 200 more" in text and "or none" in text
    assert "none of the classes is given one" not in text


def test_hostile_names_stay_text(run):
    evil = [
        "a\n## Owned",
        "<script>alert(1)</script>",
        "x|y",
        "[z](javascript:1)",
        "`w`",
        "\x1b[2J",
        "\udcff",
        "&lt;b&gt;",
        "\u202egnp.exe\u2066",
    ]
    text = written(run, classes=evil, dataset="set\n# head", notes=["note\n- item <b>"])
    assert set(sections(text)) == set(sections(written(run)))
    assert len(re.findall("^# ", text, re.M)) == 1 and "<script>" not in text and "\x1b" not in text
    assert r"\[z\](javascript:1)" in text and r"x\|y" in text
    assert r"\&lt;b\&gt;" in text and "\u202e" not in text and r"\\u202egnp.exe\\u2066" in text
    text.encode()  # what is no text is escaped


def test_a_comparison_is_told_and_a_broken_one_refused(run):
    row = {"first": 0.5, "second": 0.75, "difference": 0.25, "low": 0.1, "high": 0.4, "resamples": 2000}
    tree = {"runs": ["/a/run", "/b/better"], "clips": 16, "interval": "95 % interval", "data": "test"}
    tree["models"] = [files.sha256(run / "model.keras"), "0"]
    path = run / "compare" / "better.json"
    files.write_json(path, tree | {"measures": {"accuracy": row}})
    found = sections(written(run))["Measured"]
    assert "better minus this run, 16 clips, on the test part; 95 %" in found
    assert "| accuracy | +0.2500 | +0.1000 | +0.4000 |" in found
    files.write_json(path, tree | {"measures": {"map": row | {"low": None, "high": None}}, "data": "/x.csv"})
    found = sections(written(run))["Measured"]
    assert "| map | +0.2500 | - | - |" in found
    assert r"on /x.csv (training clips may be among them); 95 %" in found
    for models in ({"models": ["1", "0"]}, {"models": ["", ""]}):
        files.write_json(path, tree | {"measures": {"accuracy": row}} | models)
        found = sections(written(run))["Measured"]
        assert "better is left out: it is of another model" in found and "+0.2500" not in found
    for broken in ([], tree, tree | {"measures": {"accuracy": {}}}, tree | {"measures": {}, "runs": []}):
        files.write_json(path, broken)
        with pytest.raises(ValueError, match="better.json: not a comparison of ours .*; remove it"):
            written(run)


def test_a_validation_part_of_the_official_lists_is_no_test_part(run):
    split = workdir.load(run).split()
    assert "test part served" in written(run)
    files.write_json(run / "split.json", split | {"validation": ["left/0_0"]})
    assert "test part served" not in written(run)


def test_who_standardises_is_said(run):
    assert "They go in as they were extracted." in written(run)
    text = sections(written(run, standardized=True))["Preprocessing"]
    assert "as they were extracted; the model itself standardises them" in text


def test_the_export_has_a_card_whose_example_runs_without_tfvc(run, reloaded_here):
    import tensorflow as tf

    path = export.export(run)
    text = (path / "README.md").read_text()
    assert (path / "assets.extra" / "recipe.json").read_bytes() == (run / "recipe.json").read_bytes()
    loaded = tf.saved_model.load(str(path))
    found = card.signatures_of(path)
    assert set(found) == set(loaded.signatures) == {"serving_default", "serialized"}
    for name, (inputs, outputs) in found.items():
        given = loaded.signatures[name].structured_input_signature[1]
        assert {key: dtype for key, (_, dtype) in inputs.items()} == {
            k: v.dtype.name for k, v in given.items()
        }
        assert set(outputs) == set(loaded.signatures[name].structured_outputs)
        assert f"`{name}`; reloaded without tfvc" in text
    snippet = re.search(r"```python\n(.+?)```", text, re.S)[1]
    code = f"import sys\nsys.modules['tfvc'] = None\n{snippet}"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in CLASSES and 0.5 <= float(done.stdout.split()[1]) <= 1


def test_a_card_that_cannot_be_made_leaves_the_earlier_export(run, reloaded_here):
    path = export.export(run)
    before = (path / "README.md").read_bytes()
    files.write_json(run / "compare" / "x.json", [])
    with pytest.raises(ValueError, match="not a comparison"):
        export.export(run)
    assert (path / "README.md").read_bytes() == before
    assert [p.name for p in run.glob(".export.*part")] == []


def test_damaged_metrics_are_told_before_anything_is_saved(run):
    (run / "metrics.json").write_text('{"epochs": 3}')
    with pytest.raises(ValueError, match="metrics.json: not the metrics of a run; remove it"):
        export.write(workdir.load(run), pytest.fail, pytest.fail)
    assert not (run / "export").exists()


def test_a_run_on_records_by_pattern_has_a_card(run):
    rows = [replace(row, shape=(300, *row.shape[1:])) for row in demo_records.ROWS["frame"]]
    found = workdir.load(run)
    own = recipe.get("mfb", overrides=["data.num_classes=3"])
    found = workdir.Run(run, own, workdir.Facts("yt8m", "p", "p", list("abc"), rows, True, kind="yt8m"), 0)
    inputs = {rows[0].name: ((-1, *rows[0].shape), "uint8"), f"{rows[0].name}_length": ((-1,), "int32")}
    files.write_json(
        run / "metrics.json",
        METRICS | {"test": {"gap": 0.5, "clips": 3}, "validation": {"gap": 0.5, "epoch": 1}},
    )
    text = card.card(found, {"serving_default": (inputs, {})}, {})
    assert (
        "8 bits for -2 to 2" in text
        and "how many rows are real" in text
        and "| test | gap | 0.5000 |" in text
    )


@pytest.mark.parametrize("model", names.available("models"))
def test_every_model_names_its_source(model):
    module = names.load("models", model)
    assert card._paragraph(module, "Source") and card._paragraph(module, "Differs")


def test_the_licences_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| ([^|]+) \| ([^|]+) \|$", readme, re.M)
    listed = {n: f"{who}: {what}" for each, who, what in rows for n in each.split(", ") if n in weights.FILES}
    assert listed == weights.LICENCES


def test_a_shape_is_read_as_it_is_called():
    assert card._shape((-1, 4, -1), "uint8") == ("(N, 4, -1)", "uint8")
