"""The parts of a second stage, one changed at a time."""

import json

import numpy as np
import pytest
from test_second_stage import CLASSES, STAGE, make_records, trained

from experiments import powerset
from tfvc import second_stage, workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("powerset")
    fixed = ("second_stage.eliminate=False", STAGE[1], "train.epochs=8")
    return trained(folder / "run", make_records(folder / "records"), *fixed)


def test_the_svm_on_label_sets_is_the_run_s_own(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        powerset.main([f"--workdir={run}", f"--out={tmp_path / 'parts.json'}"])
    assert not stop.value.code and "SVM on label sets" in capsys.readouterr().out
    found = json.loads((tmp_path / "parts.json").read_text())[str(run)]
    metrics = json.loads((run / "metrics.json").read_text())
    assert found["label_sets"] == pytest.approx(metrics["test"]["micro_f1"])
    assert found["network"] == pytest.approx(metrics["network"]["micro_f1"])
    assert found["bound"] >= found["label_sets"] and 0 <= found["unseen"] <= 1
    known = second_stage.vectors_of(workdir.load(run))["train"][1]
    assert found["sets"] == len(np.unique(known, axis=0)) and known.shape[1] == len(CLASSES)


def test_runs_it_cannot_take_apart_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        powerset.main([])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        powerset.main([f"--workdir={tmp_path}"])
    assert stop.value.code == 1 and "expected the --workdir of a training run" in capsys.readouterr().err
