"""Exports served by plain TensorFlow: a small one for real, the table from made-up measurements."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from experiments import serving
from tfvc import card


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A SavedModel with inputs of all kinds, as `tfvc.export` would have them."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.ones((6, 2)))
    specs = {
        "frames": tf.TensorSpec((None, 3, 6), tf.float16, "frames"),
        "rgb": tf.TensorSpec((None, 3, 6), tf.uint8, "rgb"),
        "rgb_length": tf.TensorSpec((None,), tf.int32, "rgb_length"),
        "text": tf.TensorSpec((None,), tf.string, "text"),
    }

    def answer(frames, rgb, rgb_length, text):
        x = tf.cast(frames, tf.float32) + tf.cast(rgb, tf.float32)
        x += tf.cast(rgb_length, tf.float32)[:, None, None]
        x += tf.cast(tf.strings.length(text), tf.float32)[:, None, None]
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(x, 1) @ module.weight)}

    path = tmp_path_factory.mktemp("serving") / "export"
    function = tf.function(answer).get_concrete_function(**specs)
    tf.saved_model.save(module, str(path), signatures={"serving_default": function, "frames": function})
    (path / "assets.extra").mkdir(exist_ok=True)
    (path / "assets.extra" / "recipe.json").write_text(json.dumps({"recipe": {"model": "tiny"}}))
    return path


@pytest.mark.slow
def test_a_process_without_tfvc_answers_each_batch(export):
    inputs, _ = card.signatures_of(export)["serving_default"]
    found = serving.measure(export, "serving_default", inputs, {1: 4, 3: 2}, 2, threads=1)
    assert {size: [len(r) for r in rounds] for size, rounds in found["seconds"].items()} == {
        "1": [4, 4],
        "3": [2, 2],
    }
    cells = serving.row(found)
    assert cells["start"] > 0 and cells["peak_mb"] > 50
    assert cells["p50"] > 0 and cells["p95"] is cells["p99"] is None  # of eight calls
    assert set(cells["rates"]) == {1, 3}


def test_what_cannot_be_served_is_told_in_one_line(export, tmp_path):
    with pytest.raises(ValueError, match="signature absent cannot be served without tfvc: KeyError") as error:
        serving.measure(export, "absent", {}, {1: 1}, 1)
    assert "\n" not in str(error.value)
    for options, message in (
        ({"export": ""}, "--export: expected the folder"),
        ({"export": str(tmp_path)}, "no saved_model.pb"),
        ({"batches": "0"}, "--batches=0: expected whole numbers, at least 1"),
        ({"batches": "8,"}, "--batches=8,: expected"),
        ({"batches": "a"}, "--batches=a: expected"),
        ({"rounds": 0}, "--rounds=0: expected"),
        ({"raw_calls": -1}, "--raw_calls=-1: expected a whole number, at least 0"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            serving.run(serving.OPTIONS | {"export": str(export)} | options)


def test_percentiles_and_rates_are_those_of_the_calls():
    calls = [[0.001 * k for k in range(1, 101)], [0.002] * 100]
    found = {"import": 2.0, "load": 1.0, "first": 0.5, "peak_mb": 300.0}
    cells = serving.row(found | {"seconds": {"1": calls, "8": [[0.1, 0.3], [0.1, 0.1], [0.4, 0.4]]}})
    assert cells["start"] == 3.5
    for q in (50, 95, 99):
        assert cells[f"p{q}"] == pytest.approx(np.percentile(np.ravel(calls), q) * 1e3)
    assert cells["rates"][8] == pytest.approx(40)  # of 40, 80 and 20


def test_the_command_writes_the_table(export, tmp_path, monkeypatch, capsys):
    asked = []

    def measure(path, signature, inputs, calls, rounds, threads):
        asked.append((signature, calls, rounds, threads))
        found = {"import": 2.0, "load": 1.0, "first": 0.5, "peak_mb": 300.0, "tensorflow": "2.16.2"}
        return found | {"seconds": {str(n): [[0.01] * 20] for n in calls}}

    monkeypatch.setattr(serving, "measure", measure)
    out = tmp_path / "serving.md"
    assert serving.main([f"--export={export}", f"--out={out}", "--rounds=3", "--calls=40"]) == 0
    assert ("serving_default", {1: 40, 8: 5, 32: 1}, 3, 0) in asked
    assert ("frames", {1: 2}, 3, 1) in asked and len(asked) == 4
    text = out.read_text()
    assert "| tiny | `serving_default`: frames (3, 6) float16" in text and "| 1 | 3.5 | 10 | 10 |  |" in text
    assert "not measured" in text and "load average" in text
    assert serving.main([f"--export={tmp_path}", f"--out={out}"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_help_answers():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.serving", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--export" in done.stdout
