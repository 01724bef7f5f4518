"""The frame of the benchmarks; the benchmarks themselves are run by hand."""

import importlib
import json
import multiprocessing.pool
import types
from pathlib import Path

import keras
import pytest

from experiments import benchmarks
from experiments.benchmarks import __main__ as command
from experiments.benchmarks import (
    _paper,
    backends,
    bilinear,
    extraction,
    mafnet_extraction,
    reading,
    scale,
    startup,
    step,
)
from experiments.benchmarks import all as every
from tfvc.data import demo


def test_cases_take_turns_and_medians_are_taken():
    turns = []
    cases = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    seconds = benchmarks.alternate(cases, 3)
    with pytest.raises(ValueError, match="--rounds=0: expected 1 or more"):
        benchmarks.alternate(cases, 0)
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
    small = {"backbones": "mobilenet_v2", "rounds": 1, "clips": 1, "size": "32,32"}
    results = extraction.run(extraction.OPTIONS | small | {"data": str(demo.ensure("motion", clips=24))})
    assert len(results) == 4 and all(r.value > 0 for r in results)
    assert set(results[0].details["seconds"]) == {"ours", "bare", "original", "bfloat16"}
    assert results[3].value <= 1.0


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_vggish")
def test_the_extraction_of_two_streams_is_measured_both_ways():
    small = {"backbone": "mobilenet_v2", "rounds": 1, "clips": 2, "size": "32,32", "fps": 2}
    small["data"] = str(demo.ensure("multimodal", clips=48))
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


@pytest.fixture
def in_this_process(monkeypatch):
    """A process of its own takes 5 s."""
    here = types.SimpleNamespace(Pool=lambda count, **_: multiprocessing.pool.ThreadPool(count))
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: here)


@pytest.mark.slow
def test_the_reading_benchmark_reads_every_record_in_every_way(in_this_process):
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


@pytest.mark.slow
def test_the_scale_benchmark_goes_through_all_the_data_of_each_size(in_this_process):
    small = {"cases": "read_frames,clips_kept,extract", "factors": "1,2", "steps": 0}
    small |= {"shards": 2, "frame": 3, "short": 3, "video": 3, "means": 3, "few": 4, "clips": 64}
    results = scale.run(scale.OPTIONS | small | {"media": 4, "seconds": 2})
    counts = {r.details["case"]: [row["count"] for row in r.details["rows"]] for r in results}
    assert counts == {
        "read_frames": [6, 12],
        "clips_kept": [64, 128],
        "extract": [4, 8],
    }
    assert "| tfvc.extract, short clips |" in scale.page(results)
    with pytest.raises(ValueError, match="did you mean"):
        scale.run(scale.OPTIONS | {"cases": "extrat"})


def test_what_must_be_kept_is_taken_off_before_memory_is_compared():
    def rows(*peaks):
        counts = (1_000_000, *(10_000_000, 100_000_000)[1 - len(peaks) :])
        return [
            {"count": n, "rate": 1.0, "peak": p, "before": 0.0, "end": 0.0}
            for n, p in zip(counts, peaks, strict=True)
        ]

    assert scale._result("read_frames", rows(1000.0, 1100.0), [1, 100]).verdict == "met"
    assert scale._result("read_frames", rows(1000.0, 1101.0), [1, 100]).verdict == "missed"
    assert scale._result("read_frames", rows(1000.0, 1200.0, 1000.0), [1, 10, 100]).verdict == "missed"
    kept = scale._result("starter_eval", rows(1160.0, 17000.0), [1, 100])
    assert kept.value == pytest.approx(1.0) and kept.details["slope"] == pytest.approx(160)


def test_the_whole_set_on_paper():
    assert _paper.reading(1, 1e9, 1e9) == pytest.approx(1.7e12 / 1e9 / 3600)  # the link
    assert _paper.reading(2, 1000, 1e12) == pytest.approx(6.1e6 / 1000 / 3600 / 2)  # the processor
    alone = _paper.training(1, 1000, 1000, 1e6, 100, 1e12)
    assert alone == pytest.approx(6.1e6 * 2 / 1000 / 3600)  # reads, then computes; nothing to add up
    four = _paper.training(4, 1000, 1000, 1e6, 100, 1e9, "video")
    sums = 6.1e6 / 100 / 4 * 2 * 3 / 4 * 4e6 / 1e9 / 3600
    assert four == pytest.approx(alone / 4 + sums)
    steps = {n: {"rate": 100.0, "parameters": 10, "batch": 128} for n in [*_paper.MODELS, "InceptionV3"]}
    text = "\n".join(_paper.page(5000, 50000, steps))
    assert "| 1 | 170.8 |" in text and text.count("| 64 |") == 3 and text.count("(computed)") == 3


def test_the_backends_benchmark_measures_models_and_compares_two_runs(tmp_path):
    small = {
        "rounds": 1,
        "batch": 2,
        "frames": 3,
        "width": 8,
        "classes": 3,
        "models": "attention_cluster,MoeModel",
    }
    options = backends.OPTIONS | small
    results = backends.run(options)
    assert len(results) == 4 and all(r.value > 0 for r in results)
    benchmarks.write(tmp_path / "here", "backends", options, results)
    ratios = backends.run(options | {"against": f"{tmp_path}/here.json"})[4:]
    assert [r.name for r in ratios[:2]] == [
        "attention_cluster: forward: tensorflow / tensorflow",
        "attention_cluster: training step: tensorflow / tensorflow",
    ]
    with pytest.raises(ValueError, match="width 8; expected 16, as here"):
        backends.run(options | {"against": f"{tmp_path}/here.json", "width": 16})
    with pytest.raises(FileNotFoundError, match="against=nowhere.json: no such file"):
        backends.run(options | {"against": "nowhere.json"})


def row(value, bar=None):
    return {"value": value, "bar": bar, "note": ""}


@pytest.mark.parametrize(
    "now, stored, verdict",
    [
        ([2.0, 2.1, 2.2], [2.1, 2.2, 2.3], "met"),  # within the noise
        ([1.85], [2.0], "met"),  # less than a tenth
        ([1.2, 1.7, 2.6], [2.5, 2.5, 2.5], "met"),  # as noisy as this, nothing can be said
        ([1.7, 1.75, 1.8], [2.4, 2.5, 2.6], "met, slower"),
        ([1.4, 1.45, 1.5], [2.4, 2.5, 2.6], "missed, slower"),
        ([1.7, 1.7, 30.0], [2.5, 2.5, 2.5], "met, slower"),  # one odd repeat is no noise
        ([3.0], [2.0], "met"),
    ],
)
def test_a_value_is_slower_where_it_falls_by_more_than_the_noise(now, stored, verdict):
    before = {"value": sorted(stored)[len(stored) // 2], "details": {"values": stored}}
    found = every.result("x", [row(v, 1.6) for v in now], before)
    assert found.verdict == verdict and found.failed == ("slower" in verdict)
    assert "stored" in found.note


def test_all_benchmarks_run_in_turn_and_are_held_against_the_stored_table(tmp_path, monkeypatch, capsys):
    asked, speed = [], [2.0]

    def measured(name, sizes, part):
        asked.append(name)
        return [row(speed[0], 1.0) | {"name": "ratio"}]

    monkeypatch.setattr(every, "_measured", measured)
    table, parts = f"--out={tmp_path / 'table'}", tmp_path / "parts"
    line = ["all", "--names=reading,step", "--repeats=2", f"--parts={parts}"]
    assert command.main([*line, table, "--against="]) == 0 and asked == ["reading", "step"] * 2
    again = [*line, f"--out={tmp_path / 'now'}", f"--against={tmp_path / 'table.json'}"]
    assert command.main(again) == 0 and "stored 2 (2 to 2): +0%" in capsys.readouterr().out
    speed[0] = 1.5
    assert command.main(again) == 1 and "met, slower" in capsys.readouterr().out
    assert command.main([*line, "--against=nothere.json"]) == 1
    assert command.main(["all", "--names=raeding"]) == 1
    assert command.main(["all", "--repeats=0", "--against="]) == 1
    (tmp_path / "odd.json").write_text('{"a": 1}')
    assert command.main([*line, f"--against={tmp_path}/odd.json"]) == 1
    assert command.main([*line, f"--out={tmp_path}/odd.json/x"]) == 1
    told = capsys.readouterr().err
    assert "odd.json: no table of a benchmark; --against= compares with nothing" in told
    assert "odd.json/x cannot be written (File exists); give another" in told and told.count("\n") == 5
    assert "nothere.json: no such file" in told and "did you mean 'reading'" in told and "repeats=0" in told


def test_each_size_of_all_is_an_option_of_its_benchmark():
    for name, sizes in every._SIZES.items():
        module = importlib.import_module(f"experiments.benchmarks.{name}")
        assert set(sizes) <= set(module.OPTIONS)
    assert set(command.available()) - set(every._SIZES) == {"all", "backends"}  # which are no ratios


@pytest.mark.slow
def test_a_benchmark_that_fails_names_itself(tmp_path):
    with pytest.raises(ValueError, match="^step: unknown model 'NoModel'"):
        every._measured("step", {"models": "NoModel"}, tmp_path / "step-1.json")


def test_all_goes_on_with_what_was_measured_before_it_was_cut_off(tmp_path, monkeypatch, capsys):
    runs = []

    def run(line, **_):
        name, out = line[3], line[4].removeprefix("--out=")
        runs.append(Path(out).name)
        if len(runs) == 3:
            raise KeyboardInterrupt
        benchmarks.write(out, name, {"rounds": 2, "batch": 1}, [benchmarks.Result("ratio", len(runs))])

    monkeypatch.setattr(every.subprocess, "run", run)
    monkeypatch.setattr(every, "_SIZES", {"reading": {"rounds": 2}, "step": {"rounds": 2}})
    parts, others = tmp_path / "parts", tmp_path / "parts" / "notes.json"
    line = ["all", "--repeats=2", "--against=", f"--parts={parts}", f"--out={tmp_path / 'table'}"]
    assert command.main(line) == 130 and "stopped by Ctrl-C" in capsys.readouterr().err
    others.write_text("{}")
    assert not (tmp_path / "table.json").exists()
    assert command.main(line) == 0 and runs == ["reading-1", "step-1", "reading-2", "reading-2", "step-2"]
    assert capsys.readouterr().out.count("measured already") == 2
    table = json.loads((tmp_path / "table.json").read_text())["results"]
    assert [r["details"]["values"] for r in table] == [[1, 4], [2, 5]] and list(parts.iterdir()) == [others]
    monkeypatch.setattr(every, "_SIZES", {"reading": {"rounds": 3}})  # of another size is measured anew
    (parts / "reading-1.json").write_text('{"options": {"rounds": 2}, "results": []}')
    every.run(every.OPTIONS | {"repeats": 1, "against": "", "parts": str(parts)})
    assert runs[5:] == ["reading-1"]
    (parts / "reading-1.json").write_text("[1]")
    with pytest.raises(ValueError, match="reading-1.json: no table of a benchmark; remove it"):
        every.run(every.OPTIONS | {"repeats": 1, "against": "", "parts": str(parts)})


def test_the_startup_benchmark_times_every_command(monkeypatch):
    monkeypatch.setattr(startup, "_call", lambda *words: lambda: None)
    answer, scale_of_it, spared = startup.run({"rounds": 1})
    assert answer.bar == 1.0 and len(answer.details["seconds"]) == 11
    assert scale_of_it.bar is None and spared.bar is None and spared.value > 0


@pytest.mark.parametrize("value", [float("nan"), 0.0, float("inf")])
def test_what_is_no_ratio_is_refused(value, monkeypatch):
    monkeypatch.setattr(every, "_measured", lambda *_: [row(value) | {"name": "ratio"}])
    with pytest.raises(ValueError, match="step: ratio: .*expected a ratio over 0"):
        every.run(every.OPTIONS | {"names": "step", "against": ""})
