"""The frame of the benchmarks; the benchmarks themselves are run by hand."""

import json
import multiprocessing.pool
import types

import keras
import pytest

from experiments import benchmarks
from experiments.benchmarks import __main__ as command
from experiments.benchmarks import bilinear, extraction, mafnet_extraction, reading, step


def test_cases_take_turns_and_medians_are_taken():
    turns = []
    cases = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    seconds = benchmarks.alternate(cases, 3)
    assert turns == ["a", "b"] * 3 and [len(times) for times in seconds.values()] == [3, 3]
    assert benchmarks.medians({"a": [9.0, 1.0, 2.0]}) == {"a": 2.0}


def test_a_missed_bar_is_told_and_ends_with_status_1(tmp_path, monkeypatch, capsys):
    found = [benchmarks.Result("x", 1.0, 0.9), benchmarks.Result("y", 1.0, 1.5), benchmarks.Result("z", 1.0)]
    monkeypatch.setattr(extraction, "run", lambda options: found)
    out = tmp_path / "table"
    assert command.main(["extraction", "--rounds=2", f"--out={out}"]) == 1
    tree = json.loads((tmp_path / "table.json").read_text())
    assert [r["verdict"] for r in tree["results"]] == ["met", "missed", ""]
    assert (
        tree["options"]["rounds"] == 2
        and "| y | 1.000 | 1.5 | missed |" in (tmp_path / "table.md").read_text()
    )
    monkeypatch.setattr(extraction, "run", lambda options: found[:1])
    assert command.main(["extraction", f"--out={out}"]) == 0
    assert command.main(["extractoin"]) == 2 and "did you mean 'extraction'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_extraction_benchmark_measures_every_case(tmp_path):
    options = extraction.OPTIONS | {"backbones": "mobilenet_v2", "rounds": 1, "clips": 3, "size": "32,32"}
    results = extraction.run(options)
    assert len(results) == 4 and all(r.value > 0 for r in results)
    assert set(results[0].details["seconds"]) == {"ours", "bare", "original", "bfloat16"}
    assert results[3].value <= 1.0


@pytest.mark.slow
def test_the_extraction_of_two_streams_is_measured_both_ways():
    small = {"backbone": "mobilenet_v2", "rounds": 1, "clips": 2, "size": "32,32", "fps": 2}
    (result,) = mafnet_extraction.run(mafnet_extraction.OPTIONS | small)
    assert result.bar == 2.2 and result.value > 0 and set(result.details["seconds"]) == {"ours", "original"}
    assert result.details["frames"] == 2 * 6 * 2  # the demo's clips last 6 s


@pytest.mark.slow
def test_the_step_benchmark_measures_every_case():
    small = {"rounds": 1, "lstm_rounds": 1, "batch": 2, "lstm_batch": 2, "frames": 30}
    results = step.run(step.OPTIONS | small | {"classes": 3, "clusters": 4, "hidden": 4})
    assert len(results) == 6 and all(r.value > 0 for r in results)
    assert set(results[0].details["seconds"]) == {"ours", "plain", "bfloat16"}
    assert keras.config.dtype_policy().name == "float32"
    with pytest.raises(ValueError, match="unknown model 'MoeModel'"):
        step.run(step.OPTIONS | {"models": "MoeModel"})


@pytest.mark.slow
def test_the_reading_benchmark_reads_every_record_in_every_way(monkeypatch):
    here = types.SimpleNamespace(Pool=lambda count, **_: multiprocessing.pool.ThreadPool(count))
    monkeypatch.setattr(reading.multiprocessing, "get_context", lambda kind: here)  # a process takes 5 s
    small = {"rounds": 1, "shards": 2, "records": 3, "passes": 2, "batch_size": 5}
    results = reading.run(reading.OPTIONS | small)
    assert [r.bar for r in results] == [2.0, 0.75, None, None, None, None] and all(
        r.value > 0 for r in results
    )
    assert set(results[0].details["seconds"]) == set(reading._CASES) and results[0].details["records"] == 12


def test_the_bilinear_benchmark_measures_every_case():
    small = {"rounds": 1, "batch": 2, "visual": 4, "audio": 3, "k": 2, "o": 3}
    results = bilinear.run(bilinear.OPTIONS | small)
    assert all(r.value > 0 for r in results) and [r.bar for r in results] == [1 / 1.3, None, None, None]
    assert set(results[0].details["seconds"]) == {"ours", "projections"}
