"""README's way to add a paper: its two files, put into a copy of the tree, are a model like the others."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

_BLOCK = re.compile(r"```python\n# ((?:tfvc|tests)/[\w/]+\.py)\n(.+?)```", re.S)

# The commands one after the other in one process: each would spend seconds on loading TensorFlow.
_COMMANDS = """
import sys
from pathlib import Path
import tfvc
assert Path(tfvc.__file__).is_relative_to(Path.cwd()), tfvc.__file__
from tfvc import evaluate, export, predict, train
from tfvc.data import demo
clip = next(demo.ensure("motion", clips=24).glob("*/*.mp4"))
small = ["data.clips=24", "backbone.weights=random", "backbone.size=32,32", "train.epochs=2"]
run = "--workdir=run"
for module, *arguments in (
    (train, f"--model={sys.argv[1]}", run, *(f"--set={text}" for text in small)),
    (evaluate, run),
    (predict, run, str(clip)),
    (export, run),
):
    try:
        module.main(arguments)
    except SystemExit as end:
        assert not end.code, (module, end.code)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with the model's two files, and README's case for the tests."""
    blocks = dict(_BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    *sources, case = sorted(blocks, key=lambda path: path.startswith("tests"))
    assert [path.split("/")[:2] for path in sorted(sources)] == [["tfvc", "models"], ["tfvc", "recipes"]]
    folder = tmp_path_factory.mktemp("tree")
    for room in ("tfvc", "tests"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for path in sources:
        assert not (folder / path).exists()
        (folder / path).write_text(blocks[path])
    name = os.path.basename(sources[0]).removesuffix(".py")
    return folder, name, case, blocks[case]


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )


def test_the_help_lists_it_and_its_recipe_resolves(tree):
    folder, name, *_ = tree
    assert re.search(rf"which paper: .*\b{name}\b", run(folder, "-m", "tfvc.train", "--help").stdout)
    for fidelity in ("original", "corrected"):
        done = run(folder, "-m", "tfvc.train", f"--model={name}", f"--fidelity={fidelity}", "--dry_run")
        assert done.returncode == 0 and f"{name}" in done.stdout, done.stderr


@pytest.mark.slow
def test_it_is_trained_evaluated_applied_and_exported(tree):
    folder, name, *_ = tree
    done = run(folder, "-c", _COMMANDS, name)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout and "balanced accuracy" in done.stdout
    assert (folder / "run" / "predictions.csv").is_file()
    assert f"# {name}".replace("_", r"\_") in (folder / "run" / "export" / "README.md").read_text()
    assert "frames: reloaded without tfvc" in done.stdout


@pytest.mark.slow
def test_the_tests_of_all_models_ask_for_its_case_and_take_it(tree):
    folder, name, case, rows = tree
    text = (folder / case).read_text()
    assert text.count("\nROWS = [") == 1
    with_it = case.replace(".py", "_with_it.py")
    (folder / with_it).write_text(text.replace("\nROWS = [", f"\n{rows}\nROWS = ["))
    which = f"{name} or has_a_small_row"
    done = run(folder, "-m", "pytest", "-q", "-rpf", "-p", "no:cacheprovider", case, with_it, "-k", which)
    failed, passed = (re.findall(f"^{word} ([^:]+)::", done.stdout, re.M) for word in ("FAILED", "PASSED"))
    assert failed == [case] * 2, done.stdout  # no row, and no keyword of it
    assert passed == [with_it] * 5, done.stdout
