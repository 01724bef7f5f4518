"""A command's start: what the import of TensorFlow and Keras is spared."""

import copy
import gc
import importlib
import os
import platform
import subprocess
import sys
import threading
from concurrent import futures

import pytest
from conftest import ROOT, called

from experiments import leave_one_group_out, report
from experiments import run as experiments_run
from starter import train as starter_train
from tfvc import start, train

CODE = """
import gc, importlib.resources, inspect, sys
from tfvc import start
start.spare()
start.spare()
passes = []
gc.callbacks.append(lambda *given: passes.append(given))
import keras, tensorflow
assert not passes and gc.isenabled() and gc.get_freeze_count() > 100_000, passes
spared = {"matplotlib", "pandas", "sklearn"} | ({"jax"} - {keras.backend.backend()})
assert not spared & set(sys.modules), spared & set(sys.modules)
import jax, matplotlib, sklearn.base
assert "def " in inspect.getsource(keras.Model) and inspect.getsource(keras) and inspect.getsource(tensorflow)
assert importlib.resources.files("keras").joinpath("__init__.py").is_file()
print(float(keras.ops.sum(sklearn.base.np.ones(3))), sum(type(f) is start._Finder for f in sys.meta_path))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_nothing_needless_is_imported_or_collected_and_all_is_there_afterwards(backend):
    environment = os.environ | {"KERAS_BACKEND": backend}
    line = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3.0 1\n"


def test_packages_are_missed_only_by_the_thread_that_imports():
    finder = start._Finder()
    assert finder.find_spec("pandas") is finder.find_spec("numpy") is None
    finder.importer, finder.hidden = threading.get_ident(), ("pandas",)
    assert finder.find_spec("numpy") is None
    with pytest.raises(ModuleNotFoundError, match="pandas: spared for a quicker start"):
        finder.find_spec("pandas")
    with futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(finder.find_spec, "pandas").result() is None


@pytest.mark.parametrize("package", start._SPARED)
def test_a_spec_can_be_copied_and_tells_its_source(package):
    spec = copy.deepcopy(start._Finder().find_spec(package))
    assert spec.loader.get_source(package) and spec.name == package


@pytest.mark.parametrize("collects", [True, False])
def test_a_package_that_fails_leaves_the_collector_as_it_was(collects, monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text(
        "import gc\nassert not gc.isenabled()\nraise ImportError(1)\n"
    )
    monkeypatch.setitem(start._SPARED, "broken_package", ())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [start._Finder(), *sys.meta_path])
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("nothing was imported"))
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ImportError, match="1"):
            importlib.import_module("broken_package")
        assert gc.isenabled() is collects and sys.meta_path[0].importer is None
    finally:
        gc.enable()


FREES = """
import resource, sys
from tfvc import start
if sys.argv[1] == "kept":
    start.keep_memory()
    start.keep_memory()
size = 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    b"x" * size
print(round((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / size))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_memory is for glibc's malloc")
@pytest.mark.parametrize("how, times", [("freed", 10), ("kept", 1)])
def test_memory_is_kept_for_the_next_step(how, times):
    """64 MB ten times in turn: how many times their pages came from the kernel."""
    line = [sys.executable, "-c", FREES, how]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == times


@pytest.mark.parametrize(
    "module, work, line",
    [
        (train, "train", ["--model=raf"]),
        (starter_train, "train", []),
        (experiments_run, "run", ["raf_table1"]),
        (leave_one_group_out, "study", ["--workdir=."]),
    ],
)
def test_commands_that_train_keep_their_memory(module, work, line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    did = []
    monkeypatch.setattr(start, "keep_memory", lambda: did.append("kept"))
    monkeypatch.setattr(module, work, lambda *given, **named: did.append("trained"))
    monkeypatch.setattr(report, "write", lambda *given: [])
    called(module, *line)
    assert did == ["kept", "trained"]
