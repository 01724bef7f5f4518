"""What an export costs to serve: start, latency of one clip, throughput of batches, memory.

The SavedModel is loaded by plain TensorFlow in a process of its own where `tfvc` cannot be imported, and is
asked for made-up inputs (features from a normal distribution, noise for pictures and sound), on the
processor. One such process a row: TensorFlow's own number of threads, or one. In each, the batch sizes take
turns for some rounds, so that a disturbance does not hit one of them alone; a latency is a percentile over
all calls, a throughput the median over the rounds. Pictures go through the networks inside, so their
signature is asked for one clip at a time.

    python -m experiments.serving --export=runs/mine/export
    python -m experiments.serving --export=runs/a/export,runs/b/export --out=experiments/tables/serving.md
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from experiments import benchmarks
from tfvc import card, cli, files

OPTIONS = {
    "export": "",  # folders of exports, separated by commas
    "batches": "8,32",  # clips a call, besides 1
    "rounds": 5,
    "calls": 40,  # of batch 1 a round; larger batches are called fewer times, for about as many clips
    "raw_calls": 2,  # of the signature of raw clips, a round; 0 = it is not measured
    "out": "results/serving.md",
}

# Runs where tfvc cannot be imported. Its argument is JSON; it prints JSON.
_SERVER = """
import sys
sys.modules["tfvc"] = None  # importing it fails, even where it is installed
import json, os, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
given = json.loads(sys.argv[1])
begin = time.perf_counter()
import numpy as np
import tensorflow as tf
imported = time.perf_counter()
if given["threads"]:
    tf.config.threading.set_intra_op_parallelism_threads(given["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(given["threads"])
model = tf.saved_model.load(given["path"])
function = model.signatures[given["signature"]]
rng = np.random.default_rng(0)

def value(shape, dtype, clips):
    shape = [clips, *shape[1:]]
    if dtype == "uint8":
        return tf.constant(rng.integers(0, 256, shape, "uint8"))
    if dtype == "int32":
        return tf.constant(rng.integers(1, 5, shape, "int32"))
    if dtype == "string":
        return tf.constant(np.full(shape, "water"))
    return tf.cast(tf.constant(rng.normal(0, 0.1, shape)), dtype)

def ask(clips):
    inputs = {name: value(shape, dtype, clips) for name, (shape, dtype) in given["inputs"].items()}
    def call():
        before = time.perf_counter()
        result = function(**inputs)["probabilities"].numpy()
        assert len(result) == clips and np.isfinite(result).all()
        return time.perf_counter() - before
    return call

loaded = time.perf_counter()
calls = {int(size): ask(int(size)) for size in given["calls"]}
first = calls[min(calls)]()
for call in calls.values():
    call(), call()
seconds = {size: [] for size in calls}
for _ in range(given["rounds"]):
    for size, call in calls.items():
        seconds[size].append([call() for _ in range(given["calls"][str(size)])])
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
assert not [name for name in sys.modules if name.startswith("tfvc.")]
print(json.dumps({
    "import": imported - begin, "load": loaded - imported, "first": first,
    "seconds": seconds, "peak_mb": int(peak[0]) / 1024, "tensorflow": tf.__version__,
}))
"""


def measure(export, signature, inputs, calls, rounds, threads=0):
    """Serves one signature in a process without tfvc.

    Args:
        export: folder of a SavedModel.
        signature: its name.
        inputs: name -> (shape, dtype), as `tfvc.card.signatures_of` gives them.
        calls: clips a call -> calls a round.
        rounds: how often.
        threads: 0 = as many as TensorFlow takes.

    Returns:
        dict of `import`, `load` and `first` (seconds), `peak_mb`, `tensorflow`, `seconds`: clips a call -> of
        each round its calls.

    Raises:
        ValueError: it cannot be served.
    """
    calls = {str(size): count for size, count in calls.items()}
    given = {"path": str(Path(export).absolute()), "signature": signature, "inputs": inputs, "calls": calls}
    given |= {"rounds": rounds, "threads": threads}
    done = subprocess.run(
        [sys.executable, "-I", "-c", _SERVER, json.dumps(given)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{export}: signature {signature} cannot be served without tfvc: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def row(found):
    """The cells of a measurement.

    Returns:
        dict of `start` (seconds from nothing to the first answer), `p50`, `p95`, `p99` (milliseconds, of the
        smallest batch; None where no call would lie beyond it), `rates` (clips a call -> clips a second) and
        `peak_mb`.
    """
    import numpy as np

    seconds = {int(size): np.array(rounds) for size, rounds in found["seconds"].items()}
    least = min(seconds)
    enough = {q: seconds[least].size * (100 - q) >= 100 for q in (50, 95, 99)}
    return {
        "start": found["import"] + found["load"] + found["first"],
        **{
            f"p{q}": 1e3 * float(np.percentile(seconds[least], q)) if ok else None for q, ok in enough.items()
        },
        "rates": {size: float(np.median(size / times.mean(1))) for size, times in seconds.items()},
        "peak_mb": found["peak_mb"],
    }


def run(options):
    """Measures the exports; returns the page."""
    exports = [name.strip() for name in options["export"].split(",") if name.strip()]
    if not exports:
        raise ValueError("--export: expected the folder of an export, as --export=runs/mine/export")
    given = options["batches"].split(",")
    if not all(size.isascii() and size.isdecimal() and int(size) for size in given):
        raise ValueError(f"--batches={options['batches']}: expected whole numbers, at least 1, as 8,32")
    sizes = sorted({1, *map(int, given)})  # latencies are of 1
    for name, least in (("rounds", 1), ("calls", 1), ("raw_calls", 0)):
        if options[name] < least:
            raise ValueError(f"--{name}={options[name]}: expected a whole number, at least {least}")
    lines, version = [], ""
    for export in exports:
        if not (Path(export) / "saved_model.pb").is_file():
            raise FileNotFoundError(
                f"{export}: no saved_model.pb; expected the folder that tfvc.export wrote"
            )
        tree = files.read_json(Path(export) / "assets.extra" / "recipe.json", "expected an export of tfvc")
        for name, (inputs, _) in card.signatures_of(export).items():
            if name == "serialized" or (name != "serving_default" and not options["raw_calls"]):
                continue
            raw = name != "serving_default"
            if raw and any(-1 in shape[1:] for shape, _ in inputs.values()):
                continue  # whole sounds: of no length of their own
            some = {1: options["raw_calls"]} if raw else {n: max(1, options["calls"] // n) for n in sizes}
            for threads in (0, 1):
                found = measure(export, name, inputs, some, options["rounds"], threads)
                version = found["tensorflow"]
                lines.append((tree["recipe"]["model"], name, inputs, threads, row(found)))
                print(f"{export}: {name}, {threads or 'all'} threads: {lines[-1][-1]}", flush=True)
    return page(lines, version, options)


def page(lines, version, options):
    """Markdown of what was measured."""
    sizes = sorted({size for *_, cells in lines for size in cells["rates"]})
    head = ["model", "signature: inputs of a clip", "threads", "start s", "p50 ms", "p95 ms", "p99 ms"]
    head += [*(f"clips/s at {size}" for size in sizes), "peak MB"]
    rows = []
    for model, name, inputs, threads, cells in lines:
        shapes = ", ".join(f"{key} {tuple(shape[1:])} {dtype}" for key, (shape, dtype) in inputs.items())
        rates = [f"{cells['rates'][n]:.3g}" if n in cells["rates"] else "" for n in sizes]
        times = [cells[f"p{q}"] for q in (50, 95, 99)]
        shown = [
            "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in times
        ]
        numbers = [f"{cells['start']:.1f}", *shown, *rates]
        rows.append([model, f"`{name}`: {shapes}", threads or "all", *numbers, f"{cells['peak_mb']:.0f}"])
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *rows))
    about = benchmarks.machine() | {"tensorflow": version}
    here = ", ".join(f"{name} {value}" for name, value in about.items())
    load = os.getloadavg()[0]
    return f"""# Serving

Made by `python -m experiments.serving`: each export loaded by plain TensorFlow in a process that cannot
import tfvc, fed made-up inputs, on the processor. start: import of TensorFlow, load and first answer. p50,
p95, p99: one clip a call. clips/s: median over the rounds.

{here}; load average at the end {load:.1f}: what is over the number of cores was other work beside, so the
machine alone would be faster. {options["rounds"]} rounds of {options["calls"]} calls (raw clips: \
{options["raw_calls"]}).

{table}

TensorFlow Serving was not measured: no Docker daemon runs on this machine. Its command
is in each export's README.md.
"""


def main(argv=None):
    parser = argparse.ArgumentParser("python -m experiments.serving", description=__doc__.partition("\n")[0])
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default!r}")
    options = vars(parser.parse_args(argv))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        benchmarks.check_writable(options["out"])
        text = run(options)
        with files.aside(options["out"]) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except cli.failures() as error:
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return cli.interrupted()
    print(f"written: {options['out']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
