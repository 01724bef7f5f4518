"""What lets a run go on: checkpoints, and the stop at a signal or at a loss that is not finite."""

import contextlib
import errno
import gc
import json
import os
import resource
import shutil
import signal
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from fitted import STEPS, TRAIN, arrays, assert_same, batches, fit, network, validation

from tfvc import callbacks, checkpoints, files, optimizers, training


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and weights of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder)[0].get_weights()


@pytest.fixture(scope="module")
def unbroken(whole, tmp_path_factory):
    """Weights of runs that nothing interrupts: epochs -> list of arrays."""
    longer = shutil.copytree(whole[0], tmp_path_factory.mktemp("unbroken") / "longer")
    return {2: whole[1], 3: fit(longer, replace(TRAIN, epochs=3))[0].get_weights()}


@pytest.fixture
def done(whole, tmp_path):
    """A run of two epochs, to spoil: its folder."""
    return shutil.copytree(whole[0], tmp_path / "done")


# ---- checkpoints ----


def broken(monkeypatch, step, error):
    """Lets training fail right after a step, once."""
    whole = callbacks.Meter.on_train_batch_end

    def act(self, batch, logs=None):
        whole(self, batch, logs)
        if self.progress.step == step:
            monkeypatch.setattr(callbacks.Meter, "on_train_batch_end", whole)
            raise error

    monkeypatch.setattr(callbacks.Meter, "on_train_batch_end", act)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_broken_in_mid_epoch_ends_as_an_unbroken_one(precision, tmp_path, monkeypatch, capsys):
    train = replace(TRAIN, checkpoint_steps=1, epochs=3, precision=precision)
    whole, one = fit(tmp_path / "whole", train)
    broken(monkeypatch, STEPS + 3, RuntimeError("cut"))
    with pytest.raises(RuntimeError, match="cut"):
        fit(tmp_path / "cut", train)
    again, two = fit(tmp_path / "cut", train, seed=99)  # weights and random states come from the checkpoint
    assert f"going on from step {STEPS + 2} (1 of 3 epochs done)" in capsys.readouterr().out
    for a, b in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    for a, b in zip(one.history, two.history, strict=True):
        assert {k: a[k] for k in ("loss", "val_loss", "accuracy")} == pytest.approx(
            {k: b[k] for k in ("loss", "val_loss", "accuracy")}, rel=1e-5
        )


def test_the_random_state_of_dropout_is_in_the_checkpoint(whole):
    stored = np.load(sorted((whole[0] / "checkpoints").glob("step-*.npz"))[-1], allow_pickle=False)
    assert any("seed" in key for key in stored.files)
    assert any(key.startswith("optimizer/") and "iteration" in key for key in stored.files)
    assert len([k for k in stored.files if k.startswith("model/")]) == len(network().variables)


def test_only_the_newest_checkpoints_and_their_best_models_stay(tmp_path):
    fit(tmp_path, replace(TRAIN, epochs=5, keep_checkpoints=2))
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if not p.name.startswith("best"))
    assert names == [f"step-{s:08d}.{e}" for s in (4 * STEPS, 5 * STEPS) for e in ("json", "npz")]
    assert 1 <= len(list((tmp_path / "checkpoints").glob("best-*.keras"))) <= 2


def test_a_kill_in_a_save_leaves_nothing_behind(done):
    folder = done / "checkpoints"
    names = {p.name for p in folder.iterdir()}
    left = [".best-00000008.keras.7.part.keras", ".step-00000012.npz.7.part", ".step-00000012.json.7.part"]
    left += ["best-00000012.keras", "step-00000002.npz", "step-00000012.json"]  # of a save, of a removal
    for name in left:
        (folder / name).write_bytes(b"half")
    fit(done)  # all epochs are done: nothing more is saved
    assert {p.name for p in folder.iterdir()} == names


@pytest.mark.parametrize("damage", ["bytes", "cut", "emptied", "no checksum", "checksum cut"])
def test_a_damaged_newest_checkpoint_is_passed_over_by_name(damage, done, capsys, unbroken):
    newest = sorted((done / "checkpoints").glob("step-*.npz"))[-1]
    content = newest.read_bytes()
    if damage == "bytes":
        newest.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    elif damage == "cut":
        newest.write_bytes(content[:-100])
    elif damage == "emptied":
        newest.write_bytes(b"")
    elif damage == "no checksum":
        newest.with_suffix(".json").unlink()
    else:
        newest.with_suffix(".json").write_text("{")
    again, progress = fit(done, replace(TRAIN, epochs=3))
    out = capsys.readouterr().out
    assert f"{newest}: " in out and "passing over it" in out and f"going on from step {STEPS} " in out
    assert progress.epoch == 3
    assert_same(again, unbroken[3])


def edited(path, change):
    """Changes a checkpoint's arrays, and gives it the checksum of what it is then."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    checkpoints._write(path, arrays)
    note = files.read_json(path.with_suffix(".json")) | {"sha256": files.sha256(path)}
    files.write_json(path.with_suffix(".json"), note)


def noted(**changes):
    """A change of a checkpoint's progress."""

    def change(arrays):
        arrays["progress"] = np.array(json.dumps(json.loads(str(arrays["progress"])) | changes))

    return change


EDITS = {
    "no progress": lambda arrays: arrays.pop("progress"),
    "no JSON": lambda arrays: arrays.update(progress=np.array("{")),
    "deep JSON": lambda arrays: arrays.update(progress=np.array("[" * 100_000)),
    "another step": noted(step=-5),
    "no dict": noted(about=3),
    "no list": noted(history=None),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_checkpoint_is_a_damaged_one(edit, done, capsys):
    first, last = sorted((done / "checkpoints").glob("step-*.npz"))
    edited(last, EDITS[edit])
    assert checkpoints.newest(done / "checkpoints") == first
    out = capsys.readouterr().out.splitlines()[-1]
    assert out.startswith(f"{last}: damaged (") and out.endswith("passing over it") and len(out) < 400


def test_a_folder_in_place_of_a_checkpoint_is_passed_over_and_moved_away(done, capsys):
    last = sorted((done / "checkpoints").glob("step-*.npz"))[-1]
    last.unlink()
    (last / "mine").mkdir(parents=True)
    fit(done)
    assert f"{last}: a folder, not a file; passing over it" in capsys.readouterr().out
    assert last.is_file() and (last.with_suffix(".folder") / "mine").is_dir()


def test_where_all_checkpoints_are_damaged_nothing_is_trained_or_removed(done):
    paths = sorted((done / "checkpoints").glob("step-*.npz"))
    for path in paths:
        path.write_bytes(path.read_bytes()[:-50])
    before = sorted((done / "checkpoints").iterdir())
    with pytest.raises(ValueError, match="move them away to begin anew") as error:
        fit(done)
    assert all(f"{path}: damaged (its checksum differs)" in str(error.value) for path in paths)
    assert sorted((done / "checkpoints").iterdir()) == before


def test_a_kill_before_the_first_checkpoint_has_its_name_is_a_beginning(tmp_path, monkeypatch):
    replace_file = os.replace

    def killed(source, target):
        if str(target).endswith(".npz"):
            raise RuntimeError("killed")
        replace_file(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tmp_path)
    assert list((tmp_path / "checkpoints").glob("step-*.json"))
    assert fit(tmp_path)[1].epoch == 2


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_best_model_is_passed_over_and_made_again(damage, done, capsys, unbroken):
    best = sorted((done / "checkpoints").glob("best-*.keras"))[-1]
    content = best.read_bytes()
    best.unlink()  # it may share its bytes with best.keras
    if damage == "cut":
        best.write_bytes(content[:1000])
    again, progress = fit(done, replace(TRAIN, epochs=3))
    assert f"its best model, {best.name}, is missing or damaged; passing over it" in capsys.readouterr().out
    assert progress.epoch == 3 and checkpoints.best_path(done / "checkpoints", progress).is_file()
    assert_same(again, unbroken[3])


def test_a_checkpoint_of_another_model_is_refused_by_name(done):
    with pytest.raises(
        ValueError, match=r"step-00000008.npz: .*hidden/kernel|step-00000008.npz: 1\d variables"
    ):
        fit(done, extra=keras.layers.Dense(3, name="more"))


def test_other_steps_an_epoch_are_refused(done):
    with pytest.raises(ValueError, match="4 steps an epoch, now there are 5"):
        training.start(0)
        training.fit(network(), TRAIN, batches, 5, validation(), done)


def test_a_full_disk_stops_with_the_earlier_checkpoint_intact(tmp_path, monkeypatch, capsys):
    write, calls = checkpoints._write, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path)
    left = sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith((".", "step")))
    assert left == [f"step-{STEPS:08d}.json", f"step-{STEPS:08d}.npz"]
    assert fit(tmp_path)[1].epoch == 2
    assert f"going on from step {STEPS} " in capsys.readouterr().out


@contextlib.contextmanager
def small_disk(size):
    """No file of this process can be larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_in_a_checkpoint_is_told_with_the_file(tmp_path, monkeypatch):
    ignored, path = [], tmp_path / "step.npz"
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)  # "Exception ignored in ..."
    with small_disk(4096):
        try:
            with files.aside(path) as temporary:
                checkpoints._write(temporary, {"weights": np.zeros(9999)})
        except OSError as error:
            told = str(error)
        gc.collect()  # what the error held is closed now
    assert "File too large" in told and str(path) in told
    assert not ignored and not list(tmp_path.iterdir())


# ---- stopping ----


def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path):
    x, y = arrays()
    y[-1] = np.nan  # in the last batch of the epoch

    with pytest.raises(ValueError, match=f"step {STEPS}: the loss is nan"):
        fit(tmp_path, replace(TRAIN, checkpoint_steps=STEPS - 1), lambda first: batches(first, (x, y)))
    assert [p.name for p in (tmp_path / "checkpoints").glob("*.npz")] == [f"step-{STEPS - 1:08d}.npz"]


def test_weights_that_are_not_finite_are_never_a_checkpoint(tmp_path):
    training.start(0)
    model = network()
    rule = optimizers.optimizer(TRAIN)
    rule.build(model.trainable_variables)
    checkpoints.save(tmp_path, model, rule, checkpoints.Progress(step=1))
    model.get_layer("hidden").kernel.assign(np.full((12, 8), np.inf))
    with pytest.raises(ValueError, match="step 2: hidden/kernel is not finite"):
        checkpoints.save(tmp_path, model, rule, checkpoints.Progress(step=2))
    assert [p.name for p in tmp_path.glob("*.npz")] == ["step-00000001.npz"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [STEPS - 1, STEPS])  # in the middle of an epoch, and at its end
def test_a_signal_saves_and_a_new_start_goes_on(number, step, tmp_path, monkeypatch, capsys, unbroken):
    count = callbacks.Meter.on_train_batch_end

    def act(self, batch, logs=None):
        count(self, batch, logs)
        if self.progress.step == step:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(callbacks.Meter, "on_train_batch_end", act)
        with pytest.raises(callbacks.Stopped) as stopped:
            fit(tmp_path / "cut")
    assert stopped.value.number == number and signal.getsignal(number) is before
    again, _ = fit(tmp_path / "cut")
    assert f"going on from step {step} " in capsys.readouterr().out
    assert_same(again, unbroken[2])
