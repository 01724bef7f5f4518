"""What a run loses where a stream is missing, and the silence that stands for it."""

import pytest
import sounded
from studied import raised, stopped

from experiments import missing_stream, study
from tfvc import workdir


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of both streams and one of the picture alone, on the same records."""
    root = tmp_path_factory.mktemp("runs")
    records = sounded.make_records(root / "records")
    both = sounded.trained(root / "both", records)
    visual = sounded.trained(root / "visual", records, "model_args.modality=visual")
    return both, visual


@pytest.mark.slow
def test_each_stream_tells_a_bit_and_is_missed(runs):
    run = workdir.load(runs[0])
    whole = missing_stream.accuracy(run)
    assert whole == pytest.approx(run.metrics()["test"]["accuracy"])
    assert whole >= 0.75  # some clips have no sound: there half the answers are right
    for stream in ("audio", "frames"):
        assert missing_stream.accuracy(run, stream) <= whole - 0.15
    values = missing_stream.further(runs[0])
    assert values == {f"without_{name}": missing_stream.accuracy(run, name) for name in ("frames", "audio")}


def test_a_model_does_not_miss_what_it_does_not_read(runs):
    values, run = missing_stream.further(runs[1]), workdir.load(runs[1])
    assert values["without_audio"] == missing_stream.accuracy(run) > values["without_frames"]
    text = raised(missing_stream.accuracy, run, "audio")
    assert "its model reads frames" in text and str(runs[1]) in text


def test_the_command_prints_each_run_and_the_mean(runs, capsys):
    assert stopped(missing_stream.main, f"--workdir={runs[0]},{runs[0]}", "--stream=audio") == 0
    head, first, second, mean = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "whole", "without", "audio", "loss"] and first == second
    whole, without, loss = map(float, mean.split()[-3:])
    assert "mean of 2" in mean and loss == pytest.approx(whole - without, abs=2e-4)
    for argument, message in (
        (f"--workdir={runs[0]}", "unknown stream 'sound'"),
        ("--workdir=", "expected folders of runs"),
        (f"--workdir={runs[1]}", "expected a run that reads audio"),
    ):
        stream = "sound" if "unknown" in message else "audio"
        assert stopped(missing_stream.main, argument, f"--stream={stream}") == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_the_study_compares_dropout_and_single_modalities():
    table = study.load("mafnet_missing")
    args = [table.recipe(row).model_args for row in table.rows]
    assert [a.get("modality_dropout", 0) for a in args] == [0, 0.3, 0, 0]
    assert [a.get("modality", "both") for a in args] == ["both", "both", "visual", "audio"]
    assert table.further is missing_stream.further and table.seeds == 3
    assert [metric.name for metric in table.metrics] == ["accuracy", "without_audio", "without_frames"]
