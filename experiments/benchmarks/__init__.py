"""Benchmarks: a file here is a benchmark, `python -m experiments.benchmarks NAME` runs it.

A benchmark file has a docstring, `OPTIONS` (flag -> default) and `run(options)`, which returns a list of
`Result`. What all share is here: alternating rounds, medians, the table against the bars.
"""

import platform
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tfvc import files


@dataclass
class Result:
    """One line of the table: a ratio and the bar that it must reach."""

    name: str
    value: float
    bar: float | None = None  # None: nothing is promised
    note: str = ""
    details: dict = field(default_factory=dict)  # medians and single rounds
    slower: bool = False  # than a stored table, beyond noise

    @property
    def verdict(self):
        bar = "" if self.bar is None else ("met" if self.value >= self.bar else "missed")
        return ", ".join(filter(None, (bar, "slower" if self.slower else "")))

    @property
    def failed(self):
        """Whether the command ends with status 1."""
        return self.slower or "missed" in self.verdict


def alternate(cases, rounds):
    """Seconds of each case, the cases taking turns so that a busy machine meets all of them alike.

    Args:
        cases: dict, name -> function without arguments. Warm them up first.
        rounds: how often.

    Returns:
        dict, name -> list of seconds.

    Raises:
        ValueError: no rounds.

    Example:
        >>> {name: len(times) for name, times in alternate({"a": int, "b": float}, 3).items()}
        {'a': 3, 'b': 3}
    """
    if rounds < 1:
        raise ValueError(f"--rounds={rounds}: expected 1 or more")
    seconds = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds):
    """Median of each case."""
    return {name: statistics.median(times) for name, times in seconds.items()}


def table(results):
    """Results as a Markdown table."""
    lines = ["| what | value | bar | verdict | note |", "|---|---|---|---|---|"]
    for r in results:
        bar = "" if r.bar is None else f"{r.bar:g}"
        lines.append(f"| {r.name} | {r.value:.3f} | {bar} | {r.verdict} | {r.note} |")
    return "\n".join(lines)


def machine():
    """What the numbers were taken on."""
    import importlib
    import os

    import keras

    backend = keras.backend.backend()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": sum("gpu" in device.lower() for device in keras.distribution.list_devices()),
        "backend": backend,
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
    }


def has_bfloat16():
    """Whether the processor multiplies bfloat16 itself."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    return any(flag in text.split() for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def memory(name):
    """MB of this process: `VmRSS`, what it holds now, or `VmHWM`, its peak. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1000  # KiB, near enough


def check_writable(out):
    """Before anything is measured: OSError where `write` could not write."""
    folder = Path(out).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(f"--out={out} cannot be written ({error.strerror}); give another") from None


def write(out, title, options, results, page=""):
    """Writes `<out>.md`, with `page` after the table, and `<out>.json`."""
    tree = {"benchmark": title, "machine": machine(), "options": options}
    tree["results"] = [{**asdict(r), "verdict": r.verdict} for r in results]
    files.write_json(f"{out}.json", tree)
    on = ", ".join(f"{key} {value}" for key, value in tree["machine"].items())
    with files.aside(f"{out}.md") as temporary:
        temporary.write_text(f"# {title}\n\n{on}; {options}\n\n{table(results)}\n{page}", encoding="utf-8")
