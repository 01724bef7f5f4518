"""Runs a benchmark by name and holds its ratios against the bars; exit status 1 where one is missed.

`all` runs them all and shows what has become slower since the stored table."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from experiments import benchmarks
from tfvc import cli, start
from tfvc.names import suggest


def available():
    """Names: the files of this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def main(argv=None):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    argv = sys.argv[1:] if argv is None else argv
    usage = (
        f"usage: python -m experiments.benchmarks NAME [--option=value ...]; NAME: {', '.join(available())}"
    )
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return 0 if argv else 2
    if argv[0] not in available():
        print(f"error: {suggest('benchmark', argv[0], available())}", file=sys.stderr)
        return 2
    start.spare()
    module = importlib.import_module(f"experiments.benchmarks.{argv[0]}")
    parser = argparse.ArgumentParser(
        f"python -m experiments.benchmarks {argv[0]}", description=module.__doc__
    )
    for name, default in {**module.OPTIONS, "out": f"results/benchmarks/{argv[0]}"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default!r}")
    options = vars(parser.parse_args(argv[1:]))
    out = options.pop("out")
    try:
        benchmarks.check_writable(out)
        results = module.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return cli.interrupted()
    page = module.page(results) if hasattr(module, "page") else ""
    benchmarks.write(out, argv[0], options, results, page)
    if hasattr(module, "tidy"):
        module.tidy(options)
    print(f"{benchmarks.table(results)}\n\nwritten: {out}.md, {out}.json")
    return int(any(r.failed for r in results))


if __name__ == "__main__":
    sys.exit(main())
