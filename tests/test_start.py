"""A command's start: what TensorFlow and Keras need not import."""

import subprocess
import sys

import pytest
from conftest import ROOT

from tfvc import start

CODE = """
import sys
from tfvc import start
start.spare()
start.spare()
import tensorflow, keras
spared = {"matplotlib", "pandas", "sklearn"}
assert not spared & set(sys.modules), spared & set(sys.modules)
import matplotlib, sklearn.base
print(keras.ops.sum(sklearn.base.np.ones(3)), sys.meta_path.count(sys.meta_path[0]))
"""


def test_they_are_not_imported_within_tensorflow_and_are_there_afterwards():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf.Tensor(3.0") and done.stdout.endswith(" 1\n")


@pytest.mark.parametrize("package", start._SPARING)
def test_they_are_missed_only_while_it_is_being_imported(package, monkeypatch):
    finder = start._Spared()
    assert finder.find_spec("pandas") is None
    monkeypatch.setattr(sys.modules[package].__spec__, "_initializing", True, raising=False)
    assert finder.find_spec("numpy") is None
    with pytest.raises(ModuleNotFoundError, match="pandas: spared for a quicker start"):
        finder.find_spec("pandas")
