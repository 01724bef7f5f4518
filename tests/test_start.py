"""A command's start: what the import of TensorFlow and Keras is spared."""

import gc
import importlib
import subprocess
import sys

import pytest
from conftest import ROOT

from tfvc import start

CODE = """
import gc, importlib.resources, inspect, sys
from tfvc import start
start.spare()
start.spare()
passes = []
gc.callbacks.append(lambda *given: passes.append(given))
import keras, tensorflow
assert not passes and gc.isenabled() and gc.get_freeze_count() > 100_000, passes
spared = {"matplotlib", "pandas", "sklearn"}
assert not spared & set(sys.modules), spared & set(sys.modules)
import matplotlib, sklearn.base
assert "def " in inspect.getsource(keras.Model) and inspect.getsource(keras) and inspect.getsource(tensorflow)
assert importlib.resources.files("keras").joinpath("__init__.py").is_file()
print(keras.ops.sum(sklearn.base.np.ones(3)), sum(type(f) is start._Finder for f in sys.meta_path))
"""


def test_nothing_needless_is_imported_or_collected_and_all_is_there_afterwards():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf.Tensor(3.0") and done.stdout.endswith(" 1\n")


@pytest.mark.parametrize("package", start._SPARING)
def test_packages_are_missed_only_while_it_is_being_imported(package, monkeypatch):
    finder = start._Finder()
    assert finder.find_spec("pandas") is None and finder.find_spec(package)
    monkeypatch.setattr(sys.modules[package].__spec__, "_initializing", True, raising=False)
    assert finder.find_spec("numpy") is finder.find_spec(package) is None
    with pytest.raises(ModuleNotFoundError, match="pandas: spared for a quicker start"):
        finder.find_spec("pandas")


@pytest.mark.parametrize("collects", [True, False])
def test_a_package_that_fails_leaves_the_collector_as_it_was(collects, monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text(
        "import gc\nassert not gc.isenabled()\nraise ImportError(1)\n"
    )
    monkeypatch.setattr(start, "_SPARING", ("broken_package",))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [start._Finder(), *sys.meta_path])
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("nothing was imported"))
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ImportError, match="1"):
            importlib.import_module("broken_package")
        assert gc.isenabled() is collects
    finally:
        gc.enable()
