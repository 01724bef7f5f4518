"""The page of a study: what was measured beside what was printed, from the lines of `experiments.run`."""

import itertools
import statistics
from dataclasses import dataclass

from experiments import per_class, pictures, results, study
from experiments.study import label
from tfvc import plots, recipe


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


def drawn(a_study, table):
    """File name and figure of each picture of a study's page."""
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
    return plots.curves(curves, _unit(table[0].runs[0]), f"{title}, validation part", a_study.title)


def _unit(run):
    """What a run counts: steps or epochs."""
    return "epoch" if "epoch" in run["curve"] else "step"


def latest(lines):
    """The lines of the data that were used last, and how many others there are."""
    if not lines:
        return [], 0
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
    parts += orders(a_study, table)
    if any(m.runs for m in table):
        words = f"against the {a_study.axis[1]}" if a_study.axis else "learning curves"
        parts.append(f"![{words}]({a_study.name}.png)")
    if rows := per_class.compared(a_study, table):
        parts += per_class.section(a_study, rows)
    parts.append("## What differs from the paper\n\n" + bullets(a_study.differs))
    if missing := [*not_run(a_study, table), *elsewhere(a_study)]:
        parts.append("## What was not run\n\n" + bullets(missing))
    if any(m.tried for m in table):
        parts.append("## How the settings were chosen\n\n" + "\n".join(_choices(a_study, table)))
    if a_study.full:
        parts.append("## The paper's own sets\n\n" + commands(a_study.full))
    parts.append("## With what\n\n" + bullets(circumstances(a_study, lines, others)))
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


def printed(a_study):
    """The metrics that the paper prints, also those of data that are not measured here."""
    every = [*a_study.metrics, *a_study.also_printed]
    return [m for m in every if any(m.name in row.printed for row in a_study.rows)]


def heads(a_study):
    """Titles of the columns: the row, the paper's numbers, ours."""
    paper = [f"{m.title}: paper" + " (not run here)" * bool(m.not_run) for m in printed(a_study)]
    return ["row", *paper, *(f"{m.title}: here" for m in a_study.metrics)]


def numbers(a_study, m):
    """Cells of a row under those titles.

    Args:
        m: its Measured.
    """
    cells = [m.row.title or m.row.name, *(f"{m.row.printed.get(p.name, '')}" for p in printed(a_study))]
    if not m.runs:
        return cells + ["**not run**" if m.row.not_run else "not run yet"] * len(a_study.metrics)
    return cells + [spread(m.values(metric), metric.digits) for metric in a_study.metrics]


def prior(a_study, line):
    """Cells of the baseline's line."""
    reached = line["metrics"]["test"]
    values = [
        f"{reached[m.name] * m.scale:.{m.digits}f}" if m.name in reached else "" for m in a_study.metrics
    ]
    return [a_study.baseline_title, *[""] * len(printed(a_study)), *values]


def _table(a_study, table, baseline):
    unit = next((_unit(run) for m in table for run in m.runs), "step")
    yield from head([*heads(a_study), "setting", f"best {unit}", "minutes", "parameters", "note"])
    for m in table:
        cells = ["", "", "", ""]
        if m.runs:
            step = statistics.mean(run["metrics"]["validation"][unit] for run in m.runs)
            minutes = statistics.mean(run["seconds"] for run in m.runs) / 60
            cells = [label(m.choice), f"{step:.0f}", f"{minutes:.1f}", f"{m.runs[0]['parameters']:,}"]
        yield in_cells([*numbers(a_study, m), *cells, m.row.note])
    for line in baseline[:1]:
        yield in_cells([*prior(a_study, line), "", "", "", "", a_study.baseline_note])


def orders(a_study, table):
    """The rows from the best to the worst, in the paper and here: where levels cannot be compared."""
    for metric in a_study.metrics:
        both = [m for m in table if m.runs and metric.name in m.row.printed]
        if len(both) < 2:
            continue
        here = {m.row.name: round(statistics.mean(m.values(metric)), metric.digits) for m in both}
        paper = {m.row.name: m.row.printed[metric.name] for m in both}
        first, second = (_order(both, values, metric.lower) for values in (paper, here))
        yield f"Order by {metric.title.split(',')[0]}, paper: {first}.\nHere: {second}."


def _order(rows, values, lower):
    """Titles from the best to the worst, equals joined by `=`; equal means those that are shown alike."""
    rows = sorted(rows, key=lambda m: values[m.row.name] * (1 if lower else -1))
    text, before = "", None
    for m in rows:
        value = values[m.row.name]
        text += ("" if before is None else " = " if value == before else " > ") + (m.row.title or m.row.name)
        before = value
    return text


def not_run(a_study, table):
    """Why rows have no number: each reason once, with its rows."""
    rows = sorted((m.row for m in table if m.row.not_run), key=lambda row: row.not_run)
    reasons = [(reason, list(some)) for reason, some in itertools.groupby(rows, key=lambda row: row.not_run)]
    if left := [m.row for m in table if not m.runs and not m.row.not_run]:
        names = ",".join(row.name for row in left)
        command = f"`python -m experiments.run {a_study.name} --rows={names}`"
        reasons.append((f"no finished run yet; {command}", left))
    return [f"{'; '.join(row.title or row.name for row in some)}: {reason}." for reason, some in reasons]


def elsewhere(a_study):
    """Why a printed column is not measured."""
    return [f"{m.title}: {m.not_run}." for m in printed(a_study) if m.not_run]


def _choices(a_study, table):
    title = next(m for m in a_study.metrics if m.name == a_study.choose_by)
    yield f"{title.title} of the part that chooses, seed 0, at each point of the grid; the best is taken.\n"
    points = a_study.points()
    yield from head(["row", *map(label, points)])
    for m in table:
        if not m.tried:
            continue
        cells = [m.row.title or m.row.name]
        for point in points:
            line = m.tried.get(point)
            value = line["metrics"]["validation"][a_study.choose_by] * title.scale if line else None
            text = "" if value is None else f"{value:.{title.digits}f}"
            cells.append(f"**{text}**" if point == m.choice else text)
        yield in_cells(cells)
    if edge := [m.row.title or m.row.name for m in table if _at_edge(a_study, m.choice)]:
        yield f"\nAt an edge of the grid, so that a better value may lie beyond it: {'; '.join(edge)}."


def _at_edge(a_study, choice):
    """Whether a chosen value is the first or the last of those tried for its field."""
    axes = zip(choice, a_study.grid.values(), strict=False)  # no choice, no axis
    return any(
        len(values) > 1 and text.partition("=")[2] in (str(values[0]), str(values[-1]))
        for text, values in axes
    )


def circumstances(a_study, lines, others):
    """What the lines were made with: each different text once."""
    data = lines[-1]["data"]
    if "train" in data:  # files of each part
        words = f"{data['train']} files train, {data['validation']} choose, {data['test']} are reported"
    else:
        words = f"{data['name']}, {data['clips']} clips of {data['classes']} classes"
    yield f"data {data['digest']}: {words}"
    used = {(name, text) for run in lines for name, text in run.get("weights", {}).items() if text}
    if used:
        yield f"weights of the backbones: {'; '.join(f'{name}, {text}' for name, text in sorted(used))}"
    if others:
        yield f"{others} lines of other data are left out"
    for key in ("commit", "versions", "hardware"):
        kinds = sorted({_flat(line[key]) for line in lines})
        yield f"{key}: {'; or '.join(kinds)}"
    yield cost(a_study, lines)


def cost(a_study, lines):
    """How many runs the lines tell of, and how long they trained."""
    trained = [line for line in lines if line["row"] != a_study.baseline_title]
    runs = {(run["row"], *run["overrides"], run["seed"]): run for run in trained}.values()
    return f"{len(runs)} runs, {sum(run['seconds'] for run in runs) / 60:.0f} min of training in all"


def _flat(value):
    return value if isinstance(value, str) else ", ".join(f"{k} {v}" for k, v in sorted(value.items()))


def _curves(a_study, m):
    scale = next(metric.scale for metric in a_study.metrics if metric.name == a_study.choose_by)
    curves = [run["curve"] for run in m.runs]
    unit = _unit(m.runs[0])
    return [(c[unit], [value * scale for value in c[a_study.choose_by]]) for c in curves]


def commands(pairs):
    """Commands, each under what it needs."""
    return "\n\n".join(f"{words[:1].upper()}{words[1:]}:\n\n    {text}" for words, text in pairs)


def bullets(lines):
    """A list of sentences."""
    return "\n".join(f"- {line}" for line in lines)


def in_cells(cells):
    """A line of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def head(titles):
    """The first two lines of a table."""
    yield in_cells(titles)
    yield in_cells(["---"] * len(titles))
