"""Arrows run one way, the light part stays light, and the examples in docstrings run."""

import ast
import doctest
import importlib
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

import tfvc
from tfvc.data import demo, demo_records

# Room or file -> what it may import besides the standard library and numpy; the longest prefix wins. What
# stands in no row is a command, and may import all of tfvc.
_FIT = {"keras", "tensorflow", "tfvc.names", "tfvc.files", "tfvc.callbacks", "tfvc.checkpoints"}
ARROWS = {
    "tfvc.names": set(),
    "tfvc.files": set(),
    "tfvc.limits": {"tfvc.names"},
    "tfvc.start": set(),
    "tfvc.recipe": {"tfvc.names", "tfvc.limits"},
    "tfvc.cli": {"tfvc", "tfvc.names", "tfvc.recipe", "tfvc.files", "tfvc.start", "absl", "tqdm"},
    "tfvc.workdir": {"tfvc", "tfvc.files", "tfvc.recipe", "keras", "tfvc.layers"},
    "tfvc.inference": {"tensorflow", "tfvc.files", "tfvc.workdir"},
    "tfvc.recipes": {"tfvc.recipe", "tfvc.recipes"},
    "tfvc.layers": {"keras", "tfvc.layers"},
    "tfvc.models": {"keras", "tfvc.layers", "tfvc.models", "tfvc.recipe"},
    "tfvc.backbones": {"keras", "tensorflow", "tensorflow_hub", "h5py", "google.protobuf"}
    | {"tfvc.recipe", "tfvc.files", "tfvc.names", "tfvc.backbones"},
    "tfvc.backbones.text": {"keras", "tensorflow", "sklearn", "tfvc.files", "tfvc.recipe", "tfvc.backbones"},
    "tfvc.backbones.__main__": {"tfvc.cli", "tfvc.backbones"},
    "tfvc.data": {"tensorflow", "tensorflow_io", "google.protobuf", "av", "scipy", "h5py"}
    | {"tfvc.recipe", "tfvc.names", "tfvc.files", "tfvc.data"},
    "tfvc.data.ucf51": {"tfvc.cli", "tfvc.recipe", "tfvc.data", "absl"},
    "tfvc.plan": {"tfvc.names", "tfvc.recipe", "tfvc.workdir", "tfvc.strategy"}
    | {"tfvc.backbones", "tfvc.data"},
    "tfvc.beam": {"apache_beam", "grpc", "tensorflow", "tqdm", "tfvc", "tfvc.cli", "tfvc.encoders"}
    | {"tfvc.extract", "tfvc.names", "tfvc.recipe", "tfvc.data"},
    "tfvc.feed": {"tensorflow", "tfvc.names", "tfvc.data"},
    "tfvc.training": _FIT
    | {"tfvc.recipe", "tfvc.losses", "tfvc.metrics", "tfvc.optimizers", "tfvc.workdir"}
    | {"tfvc.updates", "tfvc.trainee", "tfvc.workers"},
    "tfvc.optimizers": {"keras", "tfvc.names"},
    "tfvc.updates": {"keras", "tfvc.trainee"},
    "tfvc.trainee": {"keras", "tensorflow", "tfvc.workers"},
    "tfvc.workers": {"tensorflow", "tfvc.data.sharing"},
    "tfvc.callbacks": _FIT,
    "tfvc.checkpoints": _FIT,
    "tfvc.losses": {"keras"},
    "tfvc.metrics": {"keras", "tensorflow", "tfvc.topk", "tfvc.ranking"},
    "tfvc.topk": {"tensorflow"},
    "tfvc.ranking": set(),
    "tfvc.estimators": {"sklearn", "scipy", "tfvc.files", "tfvc.layers", "tfvc.estimators"},
    "tfvc.multilabel": {"sklearn"},
    "tfvc.predictions": {"tfvc.files", "tfvc.recipe"},
    "tfvc.strategy": {"tensorflow", "tfvc.names", "tfvc.workers"},
    "tfvc.plots": {"matplotlib", "tfvc.files"},
    "tfvc.board": {"keras", "tensorflow", "tensorboard", "google.protobuf", "tfvc.names", "tfvc.files"}
    | {"tfvc.plots", "tfvc.explain", "tfvc.encoders", "tfvc.recipe", "tfvc.data"},
    "tfvc.explain": {"tfvc.files", "tfvc.plots", "tfvc.recipe", "tfvc.data"},
    "tfvc.answers": {"tfvc.encoders", "tfvc.evaluate", "tfvc.explain", "tfvc.extract", "tfvc.files"}
    | {"tfvc.plots", "tfvc.predict", "tfvc.recipe", "tfvc.data", "tfvc.yt8m"},
    "tfvc.demo": {"absl", "gradio", "tfvc.answers", "tfvc.cli", "tfvc.encoders", "tfvc.files"}
    | {"tfvc.predict", "tfvc.recipe", "tfvc.workdir", "tfvc.data", "starlette", "tfvc.gate"},
    "tfvc.gate": {"starlette"},
    "tfvc.encoders": {"tfvc.recipe", "tfvc.backbones", "tfvc.data"},
    "tfvc.signatures": {"tensorflow", "tfvc.encoders", "tfvc.second_stage", "tfvc.data", "tfvc.backbones"},
}
_COMMAND = {"tfvc", "keras", "tensorflow", "absl", "sklearn", "tqdm"}
COMMANDS = ("train", "extract", "evaluate", "predict", "export", "convert", "demo")
_HEAVY = ("tensorflow", "keras", "sklearn", "matplotlib", "av", "apache_beam", "gradio")


def imports(path, top_only=False):
    """Modules that a file imports, anywhere in it or only when it is itself imported."""
    found = set()
    todo = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            # `from tfvc import files` imports the module tfvc.files, `from tfvc.files import aside` too.
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in whole if _is_module(name)}
            found |= modules | ({node.module} if whole - modules else set())
        if not (top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            todo += list(ast.iter_child_nodes(node))
    return found


def _is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def breaches(path):
    """Imports of a file that the table forbids."""
    name = _module(path)
    rooms = [room for room in ARROWS if f"{name}.".startswith(f"{room}.")]
    allowed = ARROWS[max(rooms, key=len)] if rooms else _COMMAND
    allowed = allowed | {"numpy"} | sys.stdlib_module_names
    inside = allowed - {"tfvc"} if rooms else allowed  # in a row, "tfvc" is the package's own file only
    return sorted(
        i for i in imports(path) if i not in allowed and not any(i.startswith(f"{a}.") for a in inside)
    )


SOURCES = sorted(p for room in ("tfvc", "starter", "experiments") for p in (ROOT / room).rglob("*.py"))
# Who may not be asked for what: arrows run from experiments to starter to tfvc.
_BELOW = {"tfvc": {"starter", "experiments"}, "starter": {"experiments"}, "experiments": set()}


@pytest.mark.parametrize("path", SOURCES, ids=_module)
def test_imports_follow_the_arrows(path):
    room = _module(path).split(".")[0]
    assert room != "tfvc" or not breaches(path)
    assert not {i.split(".")[0] for i in imports(path)} & (_BELOW[room] | {"tests"})
    assert not any(i.startswith(("keras.src", "pickle")) for i in imports(path))


def test_a_wrong_arrow_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name in ("names", "files", "layers/bad", "recipes/bad", "cli"):
        path = tmp_path / "tfvc" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def f():\n    import tensorflow as tf\n    from tfvc import training\n")
        (tmp_path / "tfvc/training.py").touch()
        assert breaches(path) == ["tensorflow", "tfvc.training"], name
    (tmp_path / "tfvc/train.py").write_text("import starter.train\nfrom tfvc import training\n")
    assert breaches(tmp_path / "tfvc/train.py") == ["starter.train"]


# --- the light part -----------------------------------------------------------------------------------------

LIGHT = [
    "names",
    "recipe",
    "cli",
    "files",
    "workdir",
    "data/video",
    "data/audio",
    "data/datasets",
    "data/demo",
]
LIGHT += ["data/shards", "backbones/weights", "plan", "strategy", *COMMANDS]


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_module_imports_nothing_heavy_when_it_is_imported(name):
    heavy = {i.split(".")[0] for i in imports(ROOT / f"tfvc/{name}.py", top_only=True)} & set(_HEAVY)
    assert heavy <= ({"av"} if name.startswith("data/") else set())


_BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("tensorflow", "keras"):
            raise SystemExit(f"imported {name}")
sys.meta_path.insert(0, Block())
"""


def quick(arguments, blocked, folder):
    """Output and best wall time of runs of `python arguments`, TensorFlow and Keras blocked or not.

    Timed until a run takes under half a second, for a minute at most: other tests run beside, and there are
    moments in which ten runs one after the other take three times as long.
    """
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    if blocked:
        (folder / "sitecustomize.py").write_text(_BLOCK)
        env["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"
    best, limit = float("inf"), time.perf_counter() + (0 if blocked else 60)
    while best == float("inf") or (best >= 0.5 and time.perf_counter() < limit):
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, *arguments], env=env, cwd=folder, capture_output=True, text=True
        )
        best = min(best, time.perf_counter() - start)
        assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, best


QUICK = [
    (["-c", "import tfvc; print(tfvc.__version__)"], tfvc.__version__),
    (["-m", "tfvc.train", "--dry_run"], "<from the data>"),
    *[(["-m", f"tfvc.{command}", "--help"], f"usage: python -m tfvc.{command}") for command in COMMANDS],
    (["-m", "tfvc.data.ucf51", "--help"], "usage: python -m tfvc.data.ucf51"),
    *[(["-m", f"tfvc.{command}", "--version"], f"tfvc {tfvc.__version__}") for command in COMMANDS],
]


@pytest.mark.parametrize(
    "arguments, expected", QUICK, ids=lambda v: " ".join(v[1:]) if isinstance(v, list) else ""
)
def test_answers_without_tensorflow_in_under_half_a_second(arguments, expected, tmp_path):
    assert expected in quick(arguments, True, tmp_path)[0]
    assert quick(arguments, False, tmp_path)[1] < 0.5


def test_the_block_on_tensorflow_works(tmp_path):
    with pytest.raises(AssertionError, match="imported keras"):
        quick(["-c", "import keras"], True, tmp_path)


# --- examples -----------------------------------------------------------------------------------------------


def _with_examples():
    return [_module(p) for p in SOURCES if ">>> " in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("module", _with_examples())
def test_the_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    if module == "tfvc.gate":
        pytest.importorskip("starlette", reason="needs starlette (extra demo)")
    clip = next(demo.ensure("motion", clips=24).glob("*/*.mp4"))
    (tmp_path / "clip.mp4").symlink_to(clip)  # what the examples read
    if module == "tfvc.data.demo_records":  # while another process draws, its example would say that it waits
        demo_records.ensure("video")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert tried and not failed


def test_examples_were_found():
    assert {"tfvc.names", "tfvc.recipe", "tfvc.files", "tfvc.layers.attention"} <= set(_with_examples())
