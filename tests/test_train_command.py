"""The train command as a process: stopped, killed and started again; on two replicas."""

import signal
import time

import numpy as np
import pytest
from made import command, flags, make_records, recipe, weights_of

from tfvc import train as train_module
from tfvc.train import train


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records") / "made-up")


def test_a_stopped_command_says_how_to_go_on(monkeypatch, capsys):
    from tfvc.callbacks import Stopped

    def act(*_, **__):
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(train_module, "train", act)
    with pytest.raises(SystemExit) as stopped:
        train_module.main(["--workdir=a run", "--seed=3"])
    assert stopped.value.code == 130
    assert "to go on: python -m tfvc.train '--workdir=a run' --seed=3" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_with_9_in_mid_training_it_ends_with_the_weights_of_an_unbroken_run(records, tmp_path):
    """Bar 4: killed, started, stopped by Ctrl-C, started again."""
    own = ["train.deterministic=true", "train.checkpoint_steps=1", "train.epochs=24", "train.shuffle=true"]
    whole = command(*flags(records, tmp_path / "whole", *own))
    _kill_when(command(*flags(records, tmp_path / "cut", *own)), tmp_path / "cut", 11, signal.SIGKILL)
    assert not (tmp_path / "cut" / "model.keras").exists()
    process, output = _kill_when(
        command(*flags(records, tmp_path / "cut", *own)), tmp_path / "cut", 36, signal.SIGINT
    )
    assert process.returncode == 130, output
    assert "going on from step " in output and "to go on: python -m tfvc.train" in output
    last = command(*flags(records, tmp_path / "cut", *own))
    for process in (whole, last):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    one, two = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert any(np.ptp(w) for w in one)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    log = [(tmp_path / run / "log.csv").read_text().splitlines() for run in ("whole", "cut")]
    assert [line.split(";")[:5] for line in log[0]] == [line.split(";")[:5] for line in log[1]]


def _kill_when(process, folder, step, number):
    """Ends a run once it has a checkpoint at or after a step."""
    limit = time.monotonic() + 240
    while not list((folder / "checkpoints").glob("step-*.npz")) or _newest(folder) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert process.returncode != 0, "it ended before it was stopped"
    return process, out + err


def _newest(folder):
    return max((int(p.stem.split("-")[1]) for p in (folder / "checkpoints").glob("step-*.npz")), default=0)


@pytest.mark.slow
def test_two_replicas_follow_the_loss_of_one(records, tmp_path):
    # 27 training clips, 13 for validation, batches of 15: nothing that two replicas could share equally.
    own = ["model_args.dropout=0", "train.epochs=3", "data.test_fraction=0.325"]
    two = flags(records, tmp_path / "two", *own, "train.batch_size=15")
    process = command(*two, "--strategy=cpu:2")
    train(recipe(*own, "train.batch_size=14"), data=records, workdir=str(tmp_path / "one"))
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert "strategy cpu:2: 2 replicas" in out.splitlines()
    assert "batch of 15 shrunk to 14, a multiple of 2 replicas" in out.splitlines()
    tables = [np.genfromtxt(tmp_path / n / "log.csv", delimiter=";", names=True) for n in ("one", "two")]
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-3)
    for a, b in zip(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
