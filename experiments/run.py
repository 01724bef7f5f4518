"""Runs studies: tables of a paper, row by row, beside the numbers that were printed.

    python -m experiments.run                            lists the studies
    python -m experiments.run mfb_table1 --data=FOLDER   chooses each row's setting, then trains its seeds
    python -m experiments.run mafnet_table1 mafnet_table2   on the embedded demo set; several in one command

Every finished run is a line of results.jsonl, and is not run again, nor is what another study has run;
the same command goes on where it was stopped. Without another --results, a run is not repeated after a
change of code either, unless that changed its recipe: its line names the commit. At the end the tables are
written, as by `python -m experiments.report`."""

import csv
import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

from absl import flags

import tfvc
from experiments import benchmarks, report, results, study
from experiments.study import label
from tfvc import cli, files, recipe, start, train
from tfvc import workdir as workdirs

_ROOT = Path(__file__).resolve().parent.parent
_PLACES = ("data.validation", "data.test")


def run(a_study, *, data="", seeds=0, workdir="runs/studies", rows=(), path=results.FILE):
    """Runs what of a study has no line yet.

    Choosing: each row at each point of the grid, with seed 0; the best of the validation part is its setting.
    Where there is one point, nothing is chosen.
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
    points = a_study.points()
    # A field that there is not is told before the first run, not after hours.
    recipes = [a_study.recipe(row, choice, parts) for row in chosen for choice in points]
    session = _Session(a_study, parts, parts.describe(recipes), workdir, path, results.read(path))
    session.total = len(chosen) * (len(points) + seeds - 1)
    if a_study.baseline:
        session.baseline(recipes[0])
    for row in chosen:
        choice = session.choice(row, points)
        for seed in range(seeds):
            session.once(row, choice, seed, "report")


class _Session:
    """The runs of one command: what they share, and the lines so far."""

    def __init__(self, a_study, parts, data, workdir, path, lines):
        self.study, self.parts, self.data = a_study, parts, data
        self.workdir, self.path, self.lines = workdir, path, lines
        self.total = self.done = 0
        self.circumstances = circumstances()  # of the code that runs, whatever is changed meanwhile

    def choice(self, row, points):
        """The setting of a row: the best of the points of the grid, each tried with seed 0."""
        if not self.study.chooses:
            return points[0]
        tried = {choice: self.once(row, choice, 0, "choose") for choice in points}
        top = results.best(tried.values(), self.study.choose_by)
        choice = next(choice for choice, line in tried.items() if line is top)
        print(f"{self.study.name}: {row.name} takes {label(choice)}", flush=True)
        return choice

    def once(self, row, choice, seed, phase):
        """The line of a run, which is trained unless it has one, here or in another study."""
        resolved = self.study.recipe(row, choice, self.parts)
        same = identity(resolved)
        key = {"row": row.name, "overrides": self.study.overrides(row, choice), "seed": seed, "recipe": same}
        known = self._known(**key)
        found = known or self._elsewhere(same, seed)
        if phase == "choose" or seed or not self.study.chooses:  # seed 0 is reported by the run that chose
            self.done += 1
            name = f"[{self.done}/{self.total}] {self.study.name}: {row.name}, {label(choice)}, seed {seed}"
            where = f": has its line in {self.path}" if found else ""
            where += f", as {found[0]['row']} of {found[0]['study']}" if found and not known else ""
            print(f"{name}{where}", flush=True)
        if line := next(iter(results.find(known, phase=phase)), None):
            return line
        if found:  # one run may choose and be reported, and be a row of two studies
            mine = {**key, "study": self.study.name, "phase": phase, "choice": list(choice)}
            return self._add({**found[0], **mine})
        _fresh_session()
        # Another setting of the study, or other data, is another folder.
        folder = f"{label(choice)}-{recipe.digest([same, self.data['digest']])}"
        folder = self.workdir / self.study.name / row.name / folder / f"seed-{seed}"
        measured = train.train(resolved, data=self.parts.source, workdir=folder, seed=seed)
        facts = workdirs.load(folder).facts
        further = self.study.further(folder) if self.study.further else {}
        line = self._add(
            {
                **key,
                "phase": phase,
                "choice": list(choice),
                "seconds": measured["training_seconds"],
                "metrics": {"validation": measured["validation"], "test": measured["test"] | further},
                "steps": measured["steps"],
                "parameters": measured["parameters"],
                "weights": facts.made_with,
                "curve": curve(
                    folder, self.study.choose_by, measured["steps"], resolved.train.evaluate_steps
                ),
            }
        )
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # three times the model's size each
        return line

    def baseline(self, resolved):
        """The line of what is reached without a model."""
        row = self.study.baseline_title
        if self._known(row=row):
            return
        measured = self.study.baseline(self.parts, resolved)
        line = {"row": row, "overrides": [], "seed": 0, "phase": "report", "seconds": 0.0}
        self._add({**line, "metrics": {"test": measured}})
        names = [metric.name for metric in self.study.metrics if metric.name in measured]
        values = ", ".join(f"{name} {measured[name]:.4f}" for name in names)
        print(f"{self.study.name}: {row}: {values}", flush=True)

    def _known(self, recipe=None, **key):
        """This study's lines of a run. Lines of older versions do not say which recipe theirs was."""
        found = self._of_data(results.find(self.lines, study=self.study.name, **key))
        return [line for line in found if line.get("recipe", recipe) == recipe]

    def _elsewhere(self, same, seed):
        """Lines of another study that tell of the same run all that this one asks."""
        wanted = {metric.name for metric in self.study.metrics}
        return [
            line
            for line in self._of_data(results.find(self.lines, recipe=same, seed=seed))
            if wanted <= line["metrics"]["test"].keys() and self.study.choose_by in line["curve"]
        ]

    def _of_data(self, lines):
        return [line for line in lines if line["data"]["digest"] == self.data["digest"]]

    def _add(self, line):
        line = {"study": self.study.name, "data": self.data} | self.circumstances | line
        results.append(self.path, line)
        self.lines.append(line)
        return line


def identity(resolved):
    """Hex digits that name a run but for its seed and data: its recipe's fields that are not the usual ones.

    Where YouTube-8M's parts lie is no part of it; what they are, the data's digest says.

    Example:
        >>> identity(recipe.get("mfb")) == identity(recipe.get("mfb", overrides=["train.steps=7"]))
        False
    """
    usual = recipe.flatten(
        recipe.Recipe(resolved.model, resolved.fidelity)
    )  # so that a new field changes none
    fields = {key: value for key, value in recipe.flatten(resolved).items() if value != usual[key]}
    return recipe.digest([resolved.model, {k: v for k, v in fields.items() if k not in _PLACES}])


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
    """The learning curve of a run, from its `log.csv`: `{"step" or "epoch": [...], metric: [...]}`.

    Args:
        folder: of the run.
        metric: of the validation part.
        steps: how many there were in all.
        evaluate_steps: from one evaluation to the next; 0 = the run counts epochs.
    """
    with open(Path(folder) / "log.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f, delimiter=";"))
    values = {metric: [float(row[f"val_{metric}"]) for row in rows]}
    if not evaluate_steps:
        return {"epoch": [int(row["epoch"]) for row in rows]} | values
    return {"step": [min(evaluate_steps * k, steps) for k in range(1, len(rows) + 1)]} | values


def _fresh_session():
    """As in a process of its own: names of layers count from one, and the last run's memory is free."""
    import keras

    keras.backend.clear_session()


def _listing():
    lines = ["studies (python -m experiments.run NAME ... --data=...):"]
    for name in study.available():
        each = study.load(name)
        lines += [f"  {name}: {each.title}", f"    {each.source}", f"    --data: {each.data}"]
    return "\n".join(lines)


def main(argv=None):
    def command(arguments):
        if not arguments.paths:
            print(_listing())
            return
        rows = [row.strip() for row in arguments.rows if row.strip()]
        if rows and len(arguments.paths) > 1:
            raise cli.Usage(
                f"--rows={','.join(rows)}: rows of one study; expected one, and not {arguments.paths}"
            )
        start.keep_memory()
        for each in [study.load(name) for name in arguments.paths]:
            run(
                each,
                data=arguments.data,
                seeds=arguments.seeds,
                workdir=arguments.workdir,
                rows=rows,
                path=arguments.results,
            )
        print(f"all runs have their lines in {arguments.results}")
        for file in report.write(arguments.results, arguments.out, arguments.paths):
            print(f"written: {file}")

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "what the study reads; the list of studies says what", values)
    cli.number("seeds", 0, "seeds that each row is reported with; 0: the study's number", 0, 100, values)
    flags.DEFINE_string("workdir", "runs/studies", "folder of the runs", values)
    flags.DEFINE_list("rows", [], "rows to run, as --rows=audio,mfb; empty: all", values)
    flags.DEFINE_string("results", results.FILE, "file that every finished run is appended to", values)
    flags.DEFINE_string("out", "results", "folder of the pages and pictures", values)
    cli.launch("experiments.run", values, __doc__, command, argv, paths=True)


if __name__ == "__main__":
    main()
