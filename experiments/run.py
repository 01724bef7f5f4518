"""Runs a study: a table of a paper, row by row, beside the numbers that were printed.

    python -m experiments.run                            lists the studies
    python -m experiments.run mfb_table1 --data=FOLDER   chooses each row's setting, then trains its seeds

Every finished run is a line of results.jsonl, and is not run again; the same command goes on where it was
stopped. Without another --results, a run is not repeated after a change of code either: its line names the
commit. `python -m experiments.report` writes the tables."""

import csv
import importlib.metadata
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from absl import flags

import tfvc
from experiments import benchmarks, results, study
from tfvc import cli, files, recipe, train

_ROOT = Path(__file__).resolve().parent.parent


def run(a_study, *, data="", seeds=0, workdir="runs/studies", rows=(), path=results.FILE):
    """Runs what of a study has no line yet.

    Choosing: each row at each point of the grid, with seed 0; the best of the validation part is its setting.
    Reporting: that setting with seeds 0, 1, ...; seed 0 is the run that chose.

    Args:
        a_study: a `study.Study`.
        data: as the study's `parts` takes it.
        seeds: how many to report; 0 = the study's.
        workdir: runs lie in `<workdir>/<study>/<row>/<setting>/seed-N`; checkpoints of finished ones go.
        rows: names of rows; none = all that are run here.
        path: `results.jsonl`.

    Raises:
        ValueError, FileNotFoundError: no such row, wrong data, or what `train` refuses.
    """
    chosen = a_study.select(rows)
    parts = a_study.parts(data)
    with files.locked(Path(workdir) / a_study.name, "running the study in"):
        _run(a_study, parts, chosen, seeds or a_study.seeds, Path(workdir), Path(path))


def _run(a_study, parts, chosen, seeds, workdir, path):
    session = _Session(a_study, parts, describe(parts), workdir, path, results.read(path))
    for row in chosen:  # a field that there is not is told before the first run, not after hours
        for choice in a_study.points():
            a_study.recipe(row, choice, parts)
    points = a_study.points()
    session.total = len(chosen) * (len(points) + seeds - 1)
    if a_study.baseline:
        session.baseline(a_study.recipe(chosen[0]).data.num_classes)
    for row in chosen:
        tried = {choice: session.once(row, choice, 0, "choose") for choice in points}
        top = results.best(tried.values(), a_study.choose_by)
        choice = next(choice for choice, line in tried.items() if line is top)
        print(f"{a_study.name}: {row.name} takes {label(choice)}", flush=True)
        for seed in range(seeds):
            session.once(row, choice, seed, "report")


class _Session:
    """The runs of one command: what they share, and the lines so far."""

    def __init__(self, a_study, parts, data, workdir, path, lines):
        self.study, self.parts, self.data = a_study, parts, data
        self.workdir, self.path, self.lines = workdir, path, lines
        self.total = self.done = 0
        self.circumstances = circumstances()  # of the code that runs, whatever is changed meanwhile

    def once(self, row, choice, seed, phase):
        """The line of a run, which is trained unless it has one."""
        overrides = self.study.overrides(row, choice)
        key = {"row": row.name, "overrides": overrides, "seed": seed}
        known = self._known(**key)
        if phase == "choose" or seed:  # seed 0 is reported by the run that chose
            self.done += 1
            name = f"[{self.done}/{self.total}] {self.study.name}: {row.name}, {label(choice)}, seed {seed}"
            print(f"{name}{f': has its line in {self.path}' if known else ''}", flush=True)
        if same := results.find(known, phase=phase):
            return same[0]
        if known:  # one run may choose and be reported
            return self._add({**known[0], "phase": phase})
        _fresh_session()
        # Another setting of the study, or other data, is another folder.
        folder = f"{label(choice)}-{recipe.digest([overrides, self.data['digest']])}"
        folder = self.workdir / self.study.name / row.name / folder / f"seed-{seed}"
        resolved = self.study.recipe(row, choice, self.parts)
        apart = resolved.train.evaluate_steps
        measured = train.train(resolved, data=self.parts.train, workdir=folder, seed=seed)
        line = self._add(
            {
                **key,
                "phase": phase,
                "choice": list(choice),
                "seconds": measured["training_seconds"],
                "metrics": {part: measured[part] for part in ("validation", "test")},
                "steps": measured["steps"],
                "parameters": measured["parameters"],
                "curve": curve(folder, self.study.choose_by, measured["steps"], apart),
            }
        )
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # three times the model's size each
        return line

    def baseline(self, num_classes):
        """The line of what is reached without a model."""
        row = self.study.baseline_title
        if self._known(row=row):
            return
        measured = self.study.baseline(self.parts, num_classes)
        line = {"row": row, "overrides": [], "seed": 0, "phase": "report", "seconds": 0.0}
        self._add({**line, "metrics": {"test": measured}})
        values = ", ".join(f"{m.name} {measured[m.name]:.4f}" for m in self.study.metrics)
        print(f"{self.study.name}: {row}: {values}", flush=True)

    def _known(self, **key):
        found = results.find(self.lines, study=self.study.name, **key)
        return [line for line in found if line["data"]["digest"] == self.data["digest"]]

    def _add(self, line):
        line = {"study": self.study.name, "data": self.data} | self.circumstances | line
        results.append(self.path, line)
        self.lines.append(line)
        return line


def label(choice):
    """A point of the grid, short.

    Example:
        >>> label(("train.learning_rate=0.01",))
        'learning_rate=0.01'
    """
    pairs = (text.partition("=") for text in choice)
    return ",".join(f"{field.rpartition('.')[2]}={value}" for field, _, value in pairs) or "one-setting"


def describe(parts):
    """What tells data from other data, wherever they lie: names and sizes of the files of each part.

    Returns:
        dict: `digest`, and how many files each part has.
    """
    import tensorflow as tf

    from tfvc.data import sources

    listed = {part: sources.files(getattr(parts, part)) for part in ("train", "validation", "test")}
    known = {
        part: [[Path(file).name, tf.io.gfile.stat(file).length] for file in found]
        for part, found in listed.items()
    }
    return {"digest": recipe.digest(known)} | {part: len(found) for part, found in listed.items()}


def circumstances():
    """With what a line was made: commit, versions, hardware."""
    machine = benchmarks.machine()
    versions = {name: machine.pop(name) for name in ("tensorflow", "keras")}
    versions |= {
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "tfvc": tfvc.__version__,
    }
    return {"commit": commit(), "versions": versions, "hardware": machine}


def commit(folder=_ROOT):
    """The commit of a checkout, `-dirty` with changes; `unknown` where there is no checkout."""

    def git(*arguments):
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    if not shutil.which("git") or git("rev-parse", "--show-toplevel") != str(folder):
        return "unknown"
    found = git("describe", "--always", "--abbrev=12", "--exclude=*")
    return found + "-dirty" * bool(git("status", "--porcelain")) if found else "unknown"


def curve(folder, metric, steps, evaluate_steps):
    """The learning curve of a run, from its `log.csv`: `{"step": [...], metric: [...]}`.

    Args:
        folder: of the run.
        metric: of the validation part.
        steps: how many there were in all.
        evaluate_steps: from one evaluation to the next; 0 = they are evenly spread.
    """
    with open(Path(folder) / "log.csv", encoding="utf-8", newline="") as f:
        values = [float(row[f"val_{metric}"]) for row in csv.DictReader(f, delimiter=";")]
    apart = evaluate_steps or steps / max(len(values), 1)
    return {"step": [min(round(apart * k), steps) for k in range(1, len(values) + 1)], metric: values}


def _fresh_session():
    """As in a process of its own: names of layers count from one, and the last run's memory is free."""
    import keras

    keras.backend.clear_session()


def _listing():
    lines = ["studies (python -m experiments.run NAME --data=...):"]
    for name in study.available():
        each = study.load(name)
        lines += [f"  {name}: {each.title}", f"    {each.source}", f"    --data: {each.data}"]
    return "\n".join(lines)


def main(argv=None):
    def command(arguments):
        if not arguments.paths:
            print(_listing())
            return
        name, *more = arguments.paths
        if more:
            raise cli.Usage(f"unexpected argument {more[0]!r}; expected one study, and flags")
        run(
            study.load(name),
            data=arguments.data,
            seeds=arguments.seeds,
            workdir=arguments.workdir,
            rows=[row.strip() for row in arguments.rows if row.strip()],
            path=arguments.results,
        )
        given = "" if arguments.results == results.FILE else f" --results={shlex.quote(arguments.results)}"
        print(
            f"all runs have their lines in {arguments.results}; tables: python -m experiments.report{given}"
        )

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "what the study reads; the list of studies says what", values)
    cli.number("seeds", 0, "seeds that each row is reported with; 0: the study's number", 0, 100, values)
    flags.DEFINE_string("workdir", "runs/studies", "folder of the runs", values)
    flags.DEFINE_list("rows", [], "rows to run, as --rows=audio,mfb; empty: all", values)
    flags.DEFINE_string("results", results.FILE, "file that every finished run is appended to", values)
    cli.launch("experiments.run", values, __doc__, command, argv, paths=True)


if __name__ == "__main__":
    main()
