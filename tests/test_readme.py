"""README is true: its commands parse, its Python names exist, its make targets are there."""

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTER = (ROOT / "starter/README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m ((?:tfvc|starter)\.\w+[^`#\n]*)", README + STARTER)))


# Of the two workers of the example, the first.
CREW = '{"cluster": {"worker": ["a:9800", "b:9800"]}, "task": {"type": "worker", "index": 0}}'


def run(*arguments, cwd=ROOT):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env |= {"TF_CONFIG": CREW} if "--strategy=multiworker" in arguments else {}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_main_job_is_in_it():
    assert "tfvc.train --model=attention_boosted --backbone=vgg19" in COMMANDS


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_one_of_ours(line, tmp_path):
    module, *words = shlex.split(line)
    for name in ("videos", "UCF-101", "yt8m", "sounds", "records", "AVE_Dataset"):
        (tmp_path / name).mkdir()
    for name in (
        "yt8m/train00.tfrecord",
        "kinetics.csv",
        "manifest.csv",
        "sounds.txt",
        "ucf51.txt",
        "AVE_Dataset/Annotations.txt",
    ):
        (tmp_path / name).touch()
    if module == "tfvc.train":
        assert "fidelity" in run(module, *words, "--dry_run", cwd=tmp_path).splitlines()[0]
    text = run(module, "--help")
    for flag in (w.split("=")[0] for w in words if w.startswith("--")):
        assert f"{flag}:" in text, f"{module} has no {flag}"


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.M))
def test_each_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_the_python_example_calls_what_there_is():
    tree = ast.parse(re.search(r"## In Python\n+```python\n(.+?)```", README, re.S).group(1))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    for call in calls:
        function = getattr(importlib.import_module(f"tfvc.{call.func.value.id}"), call.func.attr)
        inspect.signature(function).bind(*call.args, **{k.arg: k.value for k in call.keywords})
    assert len(calls) == 4


def test_the_starters_python_example_trains(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.+?)```", STARTER, re.S).group(1)
    for big, small in (("1024", "8"), ("128", "4"), ("300", "6"), ("3862", "5")):
        code = code.replace(big, small)
    folder = tmp_path / "yt8m/frame"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    import numpy as np
    import tensorflow as tf

    from tfvc.data import schema
    from tfvc.recipe import Feature

    rows = [Feature(name, (None, size), "uint8") for name, size in (("rgb", 8), ("audio", 4))]
    with tf.io.TFRecordWriter(str(folder / "train0.tfrecord")) as writer:
        for k in range(6):
            frames = {row.name: np.full((3 + k, row.shape[1]), 40 * k, "uint8") for row in rows}
            writer.write(schema.serialize(str(k), [k % 5], frames, rows))
    found = {}
    exec(compile(code, "starter/README.md", "exec"), found)
    assert found["model"].output_shape == (None, 5) and "gap" in capsys.readouterr().out


@pytest.mark.parametrize("field", sorted(set(re.findall(r"--set=([\w.]+)=", README)) - {"section.field"}))
def test_each_recipe_field_exists(field):
    from tfvc import names, recipe

    assert any(field in recipe.flatten(recipe.get(model)) for model in names.available("models"))


@pytest.mark.parametrize("quote", re.findall(r"^\| `([^`]*\.\.\.[^`]*)` \|", README, re.M))
def test_each_quoted_message_is_one_of_ours(quote):
    paths = [path for room in ("tfvc", "starter") for path in (ROOT / room).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    words = [w.strip("() .") for w in quote.split("...")]
    assert all(w in source for w in words), words
