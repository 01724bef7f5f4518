"""Writes what was measured beside what was printed: a page and a picture for each study.

    python -m experiments.report                   results/results.jsonl -> results/<study>.md and .png
    python -m experiments.report --results=FILE --out=FOLDER

It reads nothing but the lines of `experiments.run`."""

import itertools
import statistics
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from experiments import per_class, pictures, results, study
from experiments.study import label
from tfvc import cli, files, plots, recipe


@dataclass
class Measured:
    """What the lines tell of a row."""

    row: study.Row
    tried: dict  # point of the grid -> its line, of those that were tried
    choice: tuple  # the best of them; () = none was tried
    runs: list  # lines of the reported runs with that choice, by seed

    def values(self, metric):
        """The metric of each reported run, in the paper's unit."""
        return [run["metrics"]["test"][metric.name] * metric.scale for run in self.runs]


def write(path=results.FILE, out="results", names=()):
    """Writes the page and the picture of every study that has lines.

    Args:
        path: `results.jsonl`.
        out: folder.
        names: of the studies; none = all.

    Returns:
        list of the files written.

    Raises:
        FileNotFoundError: no results yet.
        ValueError: a line that is no result of a run.
    """
    lines = results.read(path)
    if not lines:
        raise FileNotFoundError(f"{path}: no results yet; make some with python -m experiments.run NAME")
    written = []
    for name in sorted({line["study"] for line in lines} & set(names or [line["study"] for line in lines])):
        if name not in study.available():
            print(f"{path}: its lines of {name!r} are left out: experiments/studies has no such study now")
            continue
        a_study = study.load(name)
        mine, digest = latest(results.find(lines, study=name))
        table = [measured(a_study, row, mine) for row in a_study.rows]
        with files.aside(Path(out) / f"{name}.md") as temporary:
            text = page(a_study, table, mine, digest)
            temporary.write_text(text, encoding="utf-8")
        written.append(Path(out) / f"{name}.md")
        for file, figure in _pictures(a_study, table):
            with files.aside(Path(out) / file) as temporary:
                figure.savefig(temporary, format="png", dpi=120)
            written.append(Path(out) / file)
    return written


def _pictures(a_study, table):
    """File name and figure of each picture of a page."""
    if figure := _picture(a_study, [m for m in table if m.runs]):
        yield f"{a_study.name}.png", figure
    if rows := per_class.compared(a_study, table):
        yield per_class.file(a_study), per_class.picture(a_study, rows)


def _picture(a_study, table):
    """Learning curves, or the first metric against the study's axis; None without runs."""
    if not table:
        return None
    if a_study.axis:
        (field, words), metric = a_study.axis, a_study.metrics[0]
        points = [(recipe.flatten(a_study.recipe(m.row))[field], m.values(metric)) for m in table]
        return pictures.sweep(points, words, metric.title, a_study.title)
    title = next(m.title for m in a_study.metrics if m.name == a_study.choose_by)
    curves = {m.row.title or m.row.name: _curves(a_study, m) for m in table}
    return plots.curves(curves, _unit(table[0].runs[0]), f"{title}, choosing part", a_study.title)


def _unit(run):
    """What a run counts: steps or epochs."""
    return "epoch" if "epoch" in run["curve"] else "step"


def latest(lines):
    """The lines of the data that were used last, and what is to be said of others."""
    digest = lines[-1]["data"]["digest"]
    mine = [line for line in lines if line["data"]["digest"] == digest]
    return mine, len(lines) - len(mine)


def measured(a_study, row, lines):
    """What the lines tell of a row, as the study is now: settings that it has no more are left out."""
    mine, tried, points = results.find(lines, row=row.name), {}, a_study.points()

    def found(choice, phase):
        those = results.find(mine, overrides=a_study.overrides(row, choice), phase=phase)
        return [line for line in those if line.get("recipe") == those[-1].get("recipe")]  # changed meanwhile

    if a_study.chooses:
        tried = {choice: chose[0] for choice in points if (chose := found(choice, "choose"))}
        top = results.best(tried.values(), a_study.choose_by)
        choice = next((choice for choice, line in tried.items() if line is top), None)
    else:
        choice = points[0]
    runs = [] if choice is None else found(choice, "report")
    runs, choice = {run["seed"]: run for run in runs}, choice or ()  # each seed counts once
    return Measured(row, tried, choice, [runs[seed] for seed in sorted(runs)])


def page(a_study, table, lines, others):
    """The page of a study, as Markdown.

    Args:
        a_study: the study.
        table: a Measured for each of its rows.
        lines: of its results, all of the same data.
        others: how many lines of other data were left out.
    """
    parts = [
        f"# {a_study.title}",
        f"{a_study.source}. Written by `python -m experiments.report`; the runs are those of "
        f"`python -m experiments.run {a_study.name}`.",
        "\n".join(_table(a_study, table, results.find(lines, row=a_study.baseline_title))),
        "Mean ± standard deviation over the seeds (lowest to highest, number of seeds), of the part of the "
        "data that chose nothing. Minutes are of training, for one run.",
    ]
    parts += _orders(a_study, table)
    if any(m.runs for m in table):
        words = f"against the {a_study.axis[1]}" if a_study.axis else "learning curves"
        parts.append(f"![{words}]({a_study.name}.png)")
    if rows := per_class.compared(a_study, table):
        parts += per_class.section(a_study, rows)
    parts.append("## What differs from the paper\n\n" + _bullets(a_study.differs))
    if missing := _not_run(table):
        parts.append("## Rows that were not run\n\n" + _bullets(missing))
    if any(m.tried for m in table):
        parts.append("## How the settings were chosen\n\n" + "\n".join(_choices(a_study, table)))
    parts.append("## With what\n\n" + _bullets(_circumstances(a_study, lines, others)))
    return "\n\n".join(parts) + "\n"


def spread(values, digits=1):
    """Numbers as mean, standard deviation, range and count.

    Example:
        >>> spread([55.0, 57.0]), spread([0.55], 3)
        ('56.0 ± 1.4 (55.0 to 57.0, n = 2)', '0.550 (n = 1)')
    """

    def shown(value):
        return f"{value:.{digits}f}"

    if len(values) == 1:
        return f"{shown(values[0])} (n = 1)"
    mean, deviation = shown(statistics.mean(values)), shown(statistics.stdev(values))
    return f"{mean} ± {deviation} ({shown(min(values))} to {shown(max(values))}, n = {len(values)})"


def _table(a_study, table, baseline):
    printed = [*a_study.metrics, *a_study.also_printed]
    printed = [m for m in printed if any(m.name in row.printed for row in a_study.rows)]
    heads = ["row", *(f"{m.title}: paper" for m in printed), *(f"{m.title}: here" for m in a_study.metrics)]
    unit = next((_unit(run) for m in table for run in m.runs), "step")
    yield from _rule([*heads, "setting", f"best {unit}", "minutes", "parameters", "note"])
    for m in table:
        row = m.row
        cells = [row.title or row.name, *(f"{row.printed.get(p.name, '')}" for p in printed)]
        if not m.runs:
            state = "**not run**" if row.not_run else "not run yet"
            yield _line([*cells, *[state] * len(a_study.metrics), "", "", "", "", row.note])
            continue
        step = statistics.mean(run["metrics"]["validation"][unit] for run in m.runs)
        minutes = statistics.mean(run["seconds"] for run in m.runs) / 60
        cells += [spread(m.values(metric), metric.digits) for metric in a_study.metrics]
        cells += [label(m.choice), f"{step:.0f}", f"{minutes:.1f}", f"{m.runs[0]['parameters']:,}", row.note]
        yield _line(cells)
    for line in baseline[:1]:
        reached = line["metrics"]["test"]
        values = [
            f"{reached[m.name] * m.scale:.{m.digits}f}" if m.name in reached else "" for m in a_study.metrics
        ]
        cells = [a_study.baseline_title, *[""] * len(printed), *values, "", "", "", ""]
        yield _line([*cells, a_study.baseline_note])


def _orders(a_study, table):
    """The rows from the best to the worst, in the paper and here: where levels cannot be compared."""
    for metric in a_study.metrics:
        both = [m for m in table if m.runs and metric.name in m.row.printed]
        if len(both) < 2:
            continue
        sign = 1 if metric.lower else -1
        paper = sorted(both, key=lambda m: sign * m.row.printed[metric.name])
        here = sorted(both, key=lambda m: sign * statistics.mean(m.values(metric)))
        orders = [" > ".join(m.row.title or m.row.name for m in order) for order in (paper, here)]
        yield f"Order by {metric.title.split(',')[0]}, paper: {orders[0]}.\nHere: {orders[1]}."


def _not_run(table):
    reasons = itertools.groupby(
        sorted((m.row for m in table if m.row.not_run), key=lambda row: row.not_run),
        key=lambda row: row.not_run,
    )
    return [f"{'; '.join(row.title or row.name for row in rows)}: {reason}." for reason, rows in reasons]


def _choices(a_study, table):
    title = next(m for m in a_study.metrics if m.name == a_study.choose_by)
    yield f"{title.title} of the part that chooses, seed 0, at each point of the grid; the best is taken.\n"
    points = a_study.points()
    yield from _rule(["row", *map(label, points)])
    for m in table:
        if not m.tried:
            continue
        cells = [m.row.title or m.row.name]
        for point in points:
            line = m.tried.get(point)
            value = line["metrics"]["validation"][a_study.choose_by] * title.scale if line else None
            text = "" if value is None else f"{value:.{title.digits}f}"
            cells.append(f"**{text}**" if point == m.choice else text)
        yield _line(cells)
    if edge := [m.row.title or m.row.name for m in table if _at_edge(a_study, m.choice)]:
        yield f"\nAt an edge of the grid, so that a better value may lie beyond it: {'; '.join(edge)}."


def _at_edge(a_study, choice):
    """Whether a chosen value is the first or the last of those tried for its field."""
    axes = zip(choice, a_study.grid.values(), strict=False)  # no choice, no axis
    return any(
        len(values) > 1 and text.partition("=")[2] in (str(values[0]), str(values[-1]))
        for text, values in axes
    )


def _circumstances(a_study, lines, others):
    """What the lines were made with: each different text once."""
    trained = [line for line in lines if line["row"] != a_study.baseline_title]
    runs = {(run["row"], *run["overrides"], run["seed"]): run for run in trained}.values()
    data = lines[-1]["data"]
    if "train" in data:  # files of each part
        words = f"{data['train']} files train, {data['validation']} choose, {data['test']} are reported"
    else:
        words = f"{data['name']}, {data['clips']} clips of {data['classes']} classes"
    yield f"data {data['digest']}: {words}"
    used = {(name, text) for run in runs for name, text in run.get("weights", {}).items() if text}
    if used:
        yield f"weights of the backbones: {'; '.join(f'{name}, {text}' for name, text in sorted(used))}"
    if others:
        yield f"{others} lines of other data are left out"
    for key in ("commit", "versions", "hardware"):
        kinds = sorted({_flat(line[key]) for line in lines})
        yield f"{key}: {'; or '.join(kinds)}"
    yield f"{len(runs)} runs, {sum(run['seconds'] for run in runs) / 60:.0f} min of training in all"


def _flat(value):
    return value if isinstance(value, str) else ", ".join(f"{k} {v}" for k, v in sorted(value.items()))


def _curves(a_study, m):
    scale = next(metric.scale for metric in a_study.metrics if metric.name == a_study.choose_by)
    curves = [run["curve"] for run in m.runs]
    unit = _unit(m.runs[0])
    return [(c[unit], [value * scale for value in c[a_study.choose_by]]) for c in curves]


def _bullets(lines):
    return "\n".join(f"- {line}" for line in lines)


def _line(cells):
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _rule(heads):
    yield _line(heads)
    yield _line(["---"] * len(heads))


def main(argv=None):
    def command(arguments):
        for file in write(arguments.results, arguments.out):
            print(f"written: {file}")

    values = flags.FlagValues()
    flags.DEFINE_string("results", results.FILE, "lines of experiments.run", values)
    flags.DEFINE_string("out", "results", "folder of the pages and pictures", values)
    cli.launch("experiments.report", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
