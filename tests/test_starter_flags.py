"""How the starter's programs read their command lines."""

import ast
import collections
import importlib
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from test_imports import quick

import tfvc
from starter import flags, train

SPECS = {
    "text": ("string", "x", "a text"),
    "yes": ("boolean", False, "a switch"),
    "count": ("positive", 5, "a number"),
    "limit": ("positive", None, "a number or none"),
    "rate": ("share", 0.5, "a rate"),
    "width": ("size", 4, "of a layer"),
    "threads": ("few", 4, "of the reader"),
    "mode": (("skip", "stop"), "skip", "a word"),
}


def command(argv, run=lambda arguments: None, specs=SPECS):
    with pytest.raises(SystemExit) as stop:
        flags.command("starter.x", "Doc of x.", specs, run, argv)
    return stop.value.code


def test_values_arrive_with_their_types_and_what_was_given_is_known():
    seen = []
    argv = ["--text=a,b", "--yes", "--count", "7", "--rate=0", "--mode=stop"]
    assert command(argv, lambda a: seen.append((flags.chosen(a, SPECS), a.given))) == 0
    values = {"text": "a,b", "yes": True, "count": 7, "limit": None, "rate": 0.0, "mode": "stop"}
    values |= {"width": 4, "threads": 4}
    assert seen == [(values, {"text", "yes", "count", "rate", "mode"})]
    assert command(["--noyes"], lambda a: seen.append(a.given)) == 0 and seen[1] == {"yes"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--cuont=3"], "Did you mean: count? See python -m starter.x --help"),
        (["--count=0"], "--count=0"),
        (["--count=many"], "many"),
        (["--count=many"], "--count=many: expected a whole number"),
        (["--count=99999999999999999999"], "--count=99999999999999999999"),
        (["--width=99999999999"], "--width=99999999999"),
        (["--threads=100000"], "--threads=100000"),
        (["--rate=-1"], "--rate=-1"),
        (["--rate=abc"], "--rate=abc: expected a number"),
        (["--rate=nan"], "--rate=nan: expected a number"),
        (["--rate=-inf"], "--rate=-inf"),
        (["--mode=halt"], "skip|stop"),
        (["bare"], "unexpected argument 'bare'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(argv, words, capsys):
    assert command(argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and words in err and err.count("\n") == 1 and not out


def raising(error):
    def run(arguments):
        raise error

    return run


def test_faults_are_one_line_and_memory_names_our_flags(capsys):
    assert command([], raising(FileNotFoundError("x*: no such file"))) == 1
    assert capsys.readouterr().err == "error: x*: no such file\n"
    assert command([], raising(MemoryError("9 TiB"))) == 1
    err = capsys.readouterr().err
    assert "--batch_size" in err and "train.batch_size" not in err and err.count("\n") == 1
    assert command([], lambda arguments: 3) == 3


def test_help_and_version(capsys):
    assert command(["--help"]) == 0
    out = capsys.readouterr().out
    assert (
        "usage: python -m starter.x [flags]" in out
        and "Doc of x." in out
        and "--count: a number (default: 5)" in out
    )
    assert command(["--version"]) == 0 and capsys.readouterr().out == f"tfvc {tfvc.__version__}\n"


# The original's: spec/starter.md.
TRAINING = """
train_dir /tmp/yt8m_model/; train_data_pattern ; feature_names mean_rgb; feature_sizes 1024;
frame_features False; segment_labels False; model LogisticModel; start_new_model False; num_gpu 1;
batch_size 1024;
label_loss CrossEntropyLoss; regularization_penalty 1.0; base_learning_rate 0.01; learning_rate_decay 0.95;
learning_rate_decay_examples 4000000.0; num_epochs 5; max_steps None; export_model_steps 1000; num_readers 8;
optimizer AdamOptimizer; clip_gradient_norm 1.0; log_device_placement False; iterations 30;
dbof_add_batch_norm True; sample_random_frames True; dbof_cluster_size 8192; dbof_hidden_size 1024;
dbof_pooling_method max; dbof_activation sigmoid; video_level_classifier_model MoeModel; lstm_cells 1024;
lstm_layers 2; moe_num_mixtures 2
"""


def test_the_training_program_has_the_originals_flags_and_defaults():
    wanted = dict((pair.strip() + " ").split(" ", 1) for pair in TRAINING.replace("\n", " ").split(";"))
    assert len(wanted) == 33
    for name, text in wanted.items():
        assert str(train.FLAGS[name][1]) == text.strip(), name


PROGRAMS = sorted(
    p for p in (ROOT / "starter").glob("*.py") if "\ndef main(" in p.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_programs_answer_without_tensorflow_in_under_half_a_second(path, tmp_path):
    for start in (["-m", f"starter.{path.stem}"], [str(path)]):
        assert f"usage: python -m starter.{path.stem}" in quick([*start, "--help"], True, tmp_path)[0]
    assert quick(["-m", f"starter.{path.stem}", "--help"], False, tmp_path)[1] < 0.5


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_no_flag_of_a_program_is_accepted_and_ignored(path):
    """Each flag is read somewhere in the starter: as an attribute, by its name, or with its whole table."""
    module = importlib.import_module(f"starter.{path.stem}")
    specs = module.FLAGS if hasattr(module, "FLAGS") else module._FLAGS
    read, named = set(flags.MODEL) | set(flags.IDENTITY) | set(flags.VOCABULARY), collections.Counter()
    for source in (ROOT / "starter").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named[node.value] += 1  # once where it is defined
    assert {name for name in specs if name not in read and named[name] < 2} == set()


def test_device_placement_is_printed(tmp_path):
    code = (
        "from starter import flags\n"
        "def run(a):\n"
        "    flags.place(a)\n"
        "    import tensorflow as tf\n"
        "    tf.function(lambda x: tf.square(x) + 1.0)(tf.constant(2.0))\n"
        "flags.command('starter.x', 'Doc.', flags.PLACEMENT, run)\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code, "--log_device_placement"], env=env, capture_output=True, text=True
    )
    assert result.returncode == 0 and "Square" in result.stderr and "device:CPU:0" in result.stderr


REALS = sorted(name for name, (kind, *_) in train.FLAGS.items() if kind in ("share", "amount"))


@pytest.mark.parametrize("name", REALS)
def test_no_number_of_the_training_may_be_nan_or_infinite(name, capsys):
    assert len(REALS) == 6
    for text in ("nan", "inf"):
        with pytest.raises(SystemExit) as stop:
            train.main([f"--{name}={text}"])
        err = capsys.readouterr().err
        assert stop.value.code == 2 and f"--{name}={text}: expected a number" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["num_classes", "batch_size", "num_epochs", "num_readers", "lstm_layers"])
def test_a_number_far_too_large_is_refused_by_its_flag(name, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([f"--{name}=99999999999"])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and f"--{name}=99999999999" in err and err.count("\n") == 1
