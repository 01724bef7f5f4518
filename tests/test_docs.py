"""The docs are true: each command in them runs.

A command runs as it stands where it is light (`--dry_run` for training, which checks all that can be known
without the clips), or on small runs and made-up data that lie where the docs say. What takes minutes, or asks
for a machine that is not here, has its flags read by its own parser. A command that no rule knows fails.
"""

import argparse
import csv
import functools
import glob
import importlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, called

from experiments import study
from tfvc import cli
from tfvc.data import demo, demo_records

DOCS = [ROOT / "README.md", ROOT / "starter/README.md", *sorted((ROOT / "experiments").rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
PROGRAMS = ["python", "make", "pip", "tensorboard", "saved_model_cli", "docker", "curl", "export", "source"]
# They serve until stopped, take minutes, or ask for what is not here; their own tests run them in small.
PARSED = {
    "tfvc": "demo convert evaluate predict export data.ucf51",
    "starter": "train eval inference segment_eval_inference extract_tfrecords_main repack",
    "experiments": "run report tsne esc10 tweets missing_stream powerset leave_one_group_out kills full_disk "
    "fuzz benchmarks hparams serving",
}


def commands(text):
    """The command lines of a page: indented blocks that are no listing of files, and code in a sentence.

    `... --flag` goes on the command before it; the notes behind `#` are left out.
    """
    text, found, last = FENCE.sub("", text), [], ""
    blocks = r"(?:(?<=\n\n)|(?<=\A))(?:    \S.*\n)+"
    for match in re.finditer(rf"(?P<block>{blocks})|`(?P<inline>[^`]+)`", text):
        if match["inline"]:
            line = " ".join(match["inline"].split())
            if line.startswith("... ") and not line.startswith("... --"):
                continue  # a message
            program = re.sub(r"\.venv/bin/|python3 ", "python ", line).split()[0]
            lines = [line] if program in (*PROGRAMS, "...") and " " in line else []
        else:
            lines = [line.strip() for line in match["block"].splitlines() if line.strip()]
            lines = lines if any(" " in line for line in lines) else []  # a listing of files
        for line in lines:
            words = shlex.split(line, comments=True)
            if words and words[0] == "...":
                words = [*shlex.split(last), *words[1:]]
            elif words and words[0] == "python":
                last = shlex.join(words)
            if words:
                found.append(shlex.join(w.removeprefix(".venv/bin/") for w in words))
    return found


COMMANDS = sorted({line for path in DOCS for line in commands(path.read_text(encoding="utf-8"))})

# ---- what the commands find ----

WORDS = ("roofs are gone", "a bridge under water", "people are missing", "water in the streets")
SMALL = ["--set=train.epochs=1", "--set=train.batch_size=4"]
# Of the two workers of the example, the first.
CREW = '{"cluster": {"worker": ["a:9800", "b:9800"]}, "task": {"type": "worker", "index": 0}}'
RUNS = {  # a small run of each family, where the docs have theirs
    "runs/mine": ["--data=videos", "--set=model_args.mode=cnn3d", "--set=model_args.dense=4", *SMALL],
    "runs/disaster": [
        "--model=resbilstm",
        "--data=words.csv",
        "--set=model_args.modality=text",
        "--set=text.embedding=learned",
        "--set=model_args.temporal=false",
        "--set=data.frames=5",
        *SMALL,
    ],
    "runs/mfb": [
        "--model=mfb",
        "--data=yt8m/train*.tfrecord",
        "--set=data.validation=yt8m/validate*.tfrecord",
        "--set=data.num_classes=12",
        "--set=model_args.o=8",
        "--set=train.batch_size=32",
        "--set=train.steps=4",
        "--set=train.evaluate_steps=2",
    ],
}


def draw(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(-20, 20, (12, 40, 60, 3))
    demo.write_clip(path, np.clip(noise + value, 0, 255).astype("uint8"), fps=6)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder in which the files stand that the docs name."""
    root = tmp_path_factory.mktemp("docs")
    for name in ["UCF-101", "sounds", "records", "AVE_Dataset", "FOLDER", "CLIPS", "RUN", "lists"]:
        (root / name).mkdir()
    for name in ["kinetics.csv", "manifest.csv", "sports.csv", "sounds.txt", "AVE_Dataset/Annotations.txt"]:
        (root / name).touch()
    (root / "ucf51.txt").write_text("punch\n")
    for label, value in (("juggling", 60), ("punch", 190)):
        for k in range(4):
            draw(root / f"videos/{label}/{k}.mp4", value + k)
    for name in ("new.mp4", "clip.mp4", "more_videos/a.mp4"):
        draw(root / name, 100)
    rows = [(k, "", "ab"[k % 2], WORDS[k % 4]) for k in range(20)]
    for name, some in (("words.csv", rows), ("more.csv", rows[:3])):
        with open(root / name, "w", newline="") as file:
            csv.writer(file).writerows([("id", "path", "labels", "text"), *some])
    patterns, _ = demo_records.ensure("video")
    (root / "yt8m/frame").mkdir(parents=True)
    for part, name in (("train", "train"), ("validation", "validate"), ("test", "test")):
        for file in sorted(Path(patterns[part]).parent.glob(Path(patterns[part]).name)):
            shutil.copy(file, root / "yt8m" / file.name.replace(part, name))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made.cache_clear()
        yield root


@functools.cache
def made(run):
    """A finished run of `RUNS`, or the starter's."""
    if run == "runs/moe":
        flags = "--model=LogisticModel --num_classes=12 --batch_size=64 --feature_names=mean_rgb,mean_audio"
        flags += " --feature_sizes=1024,128 --train_data_pattern=yt8m/train*.tfrecord --train_dir=runs/moe"
        called(importlib.import_module("starter.train"), *flags.split())
    else:
        called(importlib.import_module("tfvc.train"), *RUNS[run], f"--workdir={run}")
    return run


@functools.cache
def exported(run):
    module = "starter.export_model" if run == "runs/moe" else "tfvc.export"
    flag = "train_dir" if run == "runs/moe" else "workdir"
    called(importlib.import_module(module), f"--{flag}={made(run)}")
    return run


def flag(words, name):
    return next((w.split("=", 1)[1] for w in words if w.startswith(f"--{name}=")), "")


def module_of(words):
    """The module that `python -m x ...` or `python x.py ...` runs, and its arguments."""
    if words[1] == "-m":
        return words[2], words[3:]
    return words[1].removesuffix(".py").replace("/", "."), words[2:]


# ---- rules ----


def parsed(module, words):
    """What a command's own parser makes of its arguments; nothing is run."""
    seen, launch = [], cli.launch

    def keep(prog, values, doc, run, *rest, **options):
        launch(prog, values, doc, seen.append, *rest, **options)

    def read(parser, arguments):
        known, unknown = parser.parse_known_args(arguments)
        assert not unknown, f"no such flag: {unknown}"
        seen.append(known)
        raise SystemExit(0)

    package = (ROOT / module.replace(".", "/")).is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "launch", keep)
        patch.setattr(argparse.ArgumentParser, "parse_args", read)
        called(importlib.import_module(f"{module}.__main__" if package else module), *words)
    assert seen, f"{module} reads no flags"
    return seen[0]


def python(words, monkeypatch):
    module, words = module_of(words)
    words = [word for word in words if not word.endswith("=...")]
    run = flag(words, "workdir") or flag(words, "train_dir")
    if module == "tfvc.train":
        if "--strategy=multiworker" in words:
            monkeypatch.setenv("TF_CONFIG", CREW)
        called(importlib.import_module(module), *words, "--dry_run")
    elif module == "tfvc.extract":
        cli.recipe_of(parsed(module, words))
    elif module == "tfvc.backbones":
        Path("sound8.npy").touch()
        called(importlib.import_module("tfvc.backbones.__main__"), *[w for w in words if w != "sound8.npz"])
    elif runs_here(module, words, run):
        exported(run) if "export" in module else made(run)
        called(importlib.import_module(module), *words)
    else:
        room, _, name = module.partition(".")
        assert name in PARSED.get(room, "").split(), f"no rule for {module}"
        if "NAME" not in words:
            arguments = parsed(module, words)
        if module == "experiments.run":
            assert all(study.load(name) for name in arguments.paths)


def runs_here(module, words, run):
    """Whether a finished run of `made` serves. DenseNet201, VGGish and records of frames are not here."""
    if module == "tfvc.export":
        return run in RUNS
    if module in ("starter.eval", "starter.inference", "starter.export_model"):
        return run == "runs/moe" and "--segment_labels" not in words
    reads = {"runs/mine": "new.mp4", "runs/disaster": "clip.mp4", "runs/mfb": "none.mp4"}
    if module == "tfvc.predict":
        return reads.get(run) in words or "more.csv" in words
    return module == "tfvc.evaluate" and run in RUNS and not (flag(words, "data") or flag(words, "compare"))


def saved_model_cli(words, *_):
    from tensorflow.python.tools import saved_model_cli as program

    folder, inputs = (words[words.index(name) + 1] for name in ("--dir", "--inputs"))
    exported(os.path.dirname(folder))
    name, path = inputs.split("=")
    records = tf.data.TFRecordDataset(glob.glob("yt8m/test*")).take(2).as_numpy_iterator()
    clips = np.zeros((2, 2, 60, 40, 3), "uint8")
    np.save(path, clips if name == "frames" else np.array(list(records), dtype=object))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            program.main()
    assert not stop.value.code


def tensorboard(words, *_):
    from tensorboard import program

    program.TensorBoard().configure(argv=words)


def make(words, *_):
    targets = [word for word in words[1:] if "=" not in word]
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M) for target in targets)


def pip(words, *_):
    assert all((ROOT / words[k + 1]).is_file() for k, word in enumerate(words) if word == "-c")
    known = re.findall(r'^        "(\w+)": \[', (ROOT / "setup.py").read_text(), re.M)
    for extras in re.findall(r"\[(.+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(known)


def export(words, *_):
    name, value = words[1].split("=", 1)
    assert name != "TF_CONFIG" or json.loads(value)["task"]


def read_only(words, *_):
    """Needs a daemon, a server that another line started, or an environment: the line is only taken apart."""


RULES = {"python": python, "saved_model_cli": saved_model_cli, "tensorboard": tensorboard, "make": make}
RULES |= {"pip": pip, "export": export}
RULES |= dict.fromkeys(("python3", "source", "docker", "curl"), read_only)


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[:95])
def test_each_command_runs(line, reloaded_here, monkeypatch):
    words = shlex.split(line)
    assert words[0] in RULES, f"no rule for {words[0]}"
    RULES[words[0]](words, monkeypatch)


def test_the_serving_example_answers(reloaded_here, capsys):
    exported("runs/mine")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"^## Serving$.+?```python\n(.+?)```", text, re.M | re.S)[1]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.split()[-1] in ("juggling", "punch")


def test_commands_are_found_where_they_stand():
    text = """Text `python -m a --b=c` and
`python -m d
--e`, `... --f`, `make`; no command: `python`, `x=1`.

    python -m g   # note
    .venv/bin/pip install h

    python -m i

A listing:

    a/b.mp4
    c.txt

```python
python -m j
```
"""
    found = "python -m a --b=c|python -m d --e|python -m d --e --f|python -m g|pip install h|python -m i"
    assert commands(text) == found.split("|")
    assert len(COMMANDS) > 100
