"""How every command starts, fails and stops."""

import types

import pytest

import tfvc
from tfvc import cli


def command(argv, run=lambda arguments: None, paths=False):
    with pytest.raises(SystemExit) as stop:
        cli.command("tfvc.x", "Doc of x.", ("model", "data", "set", "seed", "dry_run"), run, argv, paths)
    return stop.value.code


def test_flags_arrive_with_their_types():
    seen = []
    run = lambda a: seen.append((a.model, a.data, a.set, a.seed, a.dry_run, a.paths))  # noqa: E731
    argv = ["--data=x", "--set=train.epochs=5", "--set=data.fps=2", "--seed=3", "--dry_run", "a.mp4"]
    assert command(argv, run, paths=True) == 0
    assert seen == [("attention_boosted", "x", ["train.epochs=5", "data.fps=2"], 3, True, ["a.mp4"])]


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--sed=3"], "sed"),
        (["--seed=three"], "--seed=three: expected a whole number"),
        (["--seed=-1"], "--seed=-1"),
        (["--seed=4294967296"], "--seed=4294967296"),
        (["data"], "unexpected argument 'data'"),
        (["--model"], "model"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(argv, word, capsys):
    assert command(argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and word in err and "--help" in err and err.count("\n") == 1 and not out


def test_a_status_is_passed_on():
    assert command([], lambda arguments: 3) == 3


def raising(error):
    def run(arguments):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.csv: no column"), "error: a.csv: no column"),
        (FileNotFoundError("run/x: no such file"), "error: run/x: no such file"),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            "error: /x/y: Permission denied; let this user read and write there, or give another place",
        ),
        (
            OSError(28, "No space left on device"),
            "error: i/o: No space left on device; make room, then run the same command again",
        ),
        (OSError(5, "Input/output error", "/x"), "error: /x: Input/output error"),
    ],
)
def test_a_fault_is_one_line_and_status_1(error, line, capsys):
    assert command([], raising(error)) == 1
    assert capsys.readouterr().err.strip() == line


def test_ctrl_c_is_130():
    assert command([], raising(KeyboardInterrupt())) == 130


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.command("tfvc.x", "Doc.", ("seed",), lambda arguments: 1 / 0, [])


def test_debug_keeps_the_traceback(monkeypatch):
    monkeypatch.setenv("TFVC_DEBUG", "1")
    with pytest.raises(ValueError, match="whole"):
        cli.command("tfvc.x", "Doc.", ("seed",), raising(ValueError("whole")), [])


def test_help_and_version(capsys):
    assert command(["--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: python -m tfvc.x" in out and "--seed" in out and "attention_boosted" in out
    assert command(["--version"]) == 0
    assert capsys.readouterr().out == f"tfvc {tfvc.__version__}\n"


@pytest.mark.parametrize(
    "text", ["data.clips=24", "data.demo_form=motion", "data.lists=x", "data.list_number=2"]
)
def test_a_field_that_the_data_has_no_use_for_is_refused(text, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.touch()
    arguments = types.SimpleNamespace(
        model="attention_boosted", fidelity="original", set=[text], data=str(manifest), backbone=""
    )
    with pytest.raises(ValueError, match=f"--set={text.split('=')[0]}: only for"):
        cli.recipe_of(arguments)
    arguments.data = "" if "clips" in text or "form" in text else str(tmp_path)
    assert cli.recipe_of(arguments)


def test_errors_of_tensorflow_and_of_memory_are_one_line(capsys):
    import tensorflow as tf

    full = "{{node x}} /run/a b/events; No space left on device [Op:Flush]"
    for error, words in (
        (
            tf.errors.ResourceExhaustedError(None, None, full),
            "error: /run/a b/events: No space left on device; make room, then",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
            "error: i/o: No space left",
        ),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore"), "lower train.batch_size"),
        (MemoryError("Unable to allocate 9 TiB"), "Unable to allocate 9 TiB"),
        (tf.errors.InternalError(None, None, "odd\nmore"), "TensorFlow: odd (TFVC_DEBUG=1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.command("tfvc.x", "Doc.", ("seed",), raising(error), [])
        err = capsys.readouterr().err
        assert stopped.value.code == 1 and words in err and len(err.splitlines()) == 1


def test_progress_tells_rate_and_time_left_in_a_log_too(capsys):
    with cli.progress(4, 1, "clip") as bar:
        bar.update(3)
    assert "4/4" in (err := capsys.readouterr().err) and "clip/s" in err
