"""Seconds until a command answers: `--help` of each, and `--dry_run` of train, which import no TensorFlow.

Each call is a process of its own, as a user starts it; the rounds alternate, medians. The bar is half a
second for the slowest. Beside it, for scale: Python alone, and `import tensorflow`, which every other call
pays. And what `tfvc.start` spares of the import within a command that needs Keras.
"""

import subprocess
import sys
from pathlib import Path

from experiments.benchmarks import Result, alternate, medians

OPTIONS = {"rounds": 5}
_SECONDS = 0.5
_SPARED = "from tfvc import start; start.spare(); import keras"
_COMMANDS = ("train", "extract", "convert", "evaluate", "predict", "export")


def run(options):
    """Measures every command; returns the list of results."""
    cases = {name: _call("-m", f"tfvc.{name}", "--help") for name in _COMMANDS}
    cases["train --dry_run"] = _call("-m", "tfvc.train", "--model=mafnet", "--dry_run")
    answers = list(cases)
    cases |= {"python": _call("-c", "pass"), "tensorflow": _call("-c", "import tensorflow")}
    cases |= {"keras": _call("-c", "import keras"), "keras in a command": _call("-c", _SPARED)}
    for case in cases.values():  # warm: the files lie in the system's cache
        case()
    seconds = alternate(cases, options["rounds"])
    median = medians(seconds)
    slowest = max(answers, key=median.get)
    shown = ", ".join(f"{name} {value:.2f}" for name, value in median.items())
    details = {"seconds": seconds}
    return [
        Result(
            f"{_SECONDS:g} s / the slowest answer", _SECONDS / median[slowest], 1.0, f"s: {shown}", details
        ),
        Result("import tensorflow / the slowest answer", median["tensorflow"] / median[slowest]),
        Result("import keras / the same in a command", median["keras"] / median["keras in a command"]),
    ]


def _call(*words):
    def call():
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"python {' '.join(words)}: {done.stderr.strip()[-300:]}")

    return call
