"""Fuzzing of all that reads files of others: no bytes may give anything but an error of ours, in one line.

    python -m experiments.fuzz                                   # every parser, 200,000 executions each
    python -m experiments.fuzz --parser=glove --runs=10000000 --seed=1

Needs `pip install -e .[fuzz]`: the engine is libFuzzer through atheris, guided by which lines of tfvc,
starter and Python's own readers an input reaches. A fault is another error, one that does not name the file,
over 10 seconds for an input, over 1 GB of memory on top of the start, or a process that dies. Its input is
kept under --out, and the command ends with status 1. A line a parser is appended to --table."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SECONDS, _GROWTH = 10, 1024  # bounds of one input: seconds, MB
_LONGEST = 4096  # bytes of an input; a longer example counts instead
_READERS = ["tfvc", "starter", "json", "csv", "zipfile", "tarfile", "gzip", "numpy.lib.format"]
_HEADER = (
    "| parser | executions | seconds | faults | MB at the start | growth, MB |\n|---|---|---|---|---|---|\n"
)


def engine(name, options):
    """Fuzzes one parser in this process, and ends it: libFuzzer does not return.

    Args:
        name: of the parser.
        options: of libFuzzer, as `-runs=1000`.
    """
    import atheris

    with atheris.instrument_imports(include=_READERS):
        from experiments import fuzzing

        read, examples = fuzzing.PARSERS[name]()
    with tempfile.TemporaryDirectory() as folder:  # below that of `fuzz`, which removes it
        folder, corpus = Path(folder), Path(folder, "corpus")
        work = folder / "work"
        corpus.mkdir()
        work.mkdir()
        for number, example in enumerate(examples):
            (corpus / str(number)).write_bytes(example)
            read(work, example)  # what it loads is not growth
        start = _megabytes()
        print(f"start_mb: {start}", file=sys.stderr, flush=True)
        longest = max(_LONGEST, *map(len, examples))
        bounds = [f"-timeout={_SECONDS}", f"-rss_limit_mb={start + _GROWTH}", f"-max_len={longest}"]
        bounds += ["-print_final_stats=1", "-len_control=10"]
        with open(os.devnull, "w", encoding="utf-8") as null:

            def once(data):
                with contextlib.redirect_stdout(null):
                    read(work, data)

            atheris.Setup(["fuzz", *bounds, *options, str(corpus)], once)
            atheris.Fuzz()


def fuzz(name, runs, seed, out):
    """Fuzzes one parser in a process of its own.

    Args:
        name: of the parser.
        runs: executions.
        seed: of the mutations.
        out: folder for the inputs that find a fault.

    Returns:
        dict: `executions`, `seconds`, `start` and `growth` in MB, and the `faults`, paths.

    Raises:
        ValueError: atheris is not there, or the fuzzer did not start.
    """
    folder = Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    options = [f"-runs={runs}", f"-seed={seed + 1}", f"-artifact_prefix={folder}/"]  # of 0 it draws one
    code = "import sys; from experiments import fuzz; fuzz.engine(sys.argv[1], sys.argv[2:])"
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="tfvc-fuzz-") as room:
        environment = {
            **os.environ,
            "TMPDIR": room,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        done = subprocess.run(
            [sys.executable, "-c", code, name, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
        )
    log = folder / "log.txt"
    log.write_text(done.stdout, encoding="utf-8")
    found = {key: int(number) for key, number in re.findall(r"(\w+): +(\d+)", done.stdout)}
    if "start_mb" not in found:
        last = (done.stdout.strip().splitlines() or ["no word of it"])[-1]
        raise ValueError(f"{name}: the fuzzer did not start ({last}); pip install -e .[fuzz]; see {log}")
    faults = sorted(str(path) for path in set(folder.iterdir()) - before - {log})
    if done.returncode and not faults:
        faults = [str(log)]
    return {
        "executions": found.get("number_of_executed_units", 0),
        "seconds": time.monotonic() - begin,
        "start": found["start_mb"],
        "growth": max(0, found.get("peak_rss_mb", 0) - found["start_mb"]),
        "faults": faults,
    }


def row(name, result):
    """A line of the table.

    Example:
        >>> row("glove", {"executions": 9, "seconds": 1.23, "start": 90, "growth": 4, "faults": []})
        '| glove | 9 | 1 | 0 | 90 | 4 |\\n'
    """
    numbers = result["executions"], round(result["seconds"]), len(result["faults"])
    return f"| {' | '.join(map(str, (name, *numbers, result['start'], result['growth'])))} |\n"


def _megabytes():
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def _memory():
    """A folder in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main(argv=None):
    """The command; see the module."""
    from absl import flags

    from experiments import fuzzing
    from tfvc import cli, names

    def run(arguments):
        wanted = arguments.parser or list(fuzzing.PARSERS)
        for name in wanted:
            if name not in fuzzing.PARSERS:
                raise ValueError(names.suggest("parser", name, list(fuzzing.PARSERS)))
        found = []
        for name in wanted:
            result = fuzz(name, arguments.runs, arguments.seed, arguments.out)
            found += result["faults"]
            print(row(name, result), end="", flush=True)
            for path in result["faults"]:
                print(f"fault: {path}; see {Path(path).parent / 'log.txt'}", flush=True)
            if arguments.table:
                table = Path(arguments.table)
                text = table.read_text(encoding="utf-8") if table.is_file() else _HEADER
                table.write_text(text + row(name, result), encoding="utf-8")
        if found:
            raise ValueError(
                f"{len(found)} faults; mend the parser, and keep the input in tests/test_fuzz_finds.py"
            )

    values = flags.FlagValues()
    flags.DEFINE_list("parser", [], "which ones; empty: all of experiments/fuzzing", values)
    flags.DEFINE_integer("runs", 200_000, "executions a parser", 1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of the mutations", 0, flag_values=values)
    flags.DEFINE_string("out", "fuzz", "folder for what finds a fault", values)
    flags.DEFINE_string("table", "", "a Markdown table to append to; empty: none", values)
    cli.launch("experiments.fuzz", values, __doc__, run, argv)


if __name__ == "__main__":
    main()
