"""F1 class by class: which classes the proposed row of a study gains at, and how rare they are."""

import statistics

from tfvc import plots, workdir


def further(folder):
    """For a study: what a run's `metrics.json` does not say at its top.

    Args:
        folder: of a finished run.

    Returns:
        dict, `network_micro_f1`: of the network's own decision, where a second stage made the run's; and
        `training_clips`: class -> how many of the training clips have it.
    """
    from tfvc.data import datasets

    run = workdir.load(folder)
    metrics, train = run.metrics(), set(run.split()["train"])
    counts = dict.fromkeys(run.facts.classes, 0)
    for clip in datasets.load(run.recipe.data, run.facts.source).clips:
        for name in clip.labels if clip.id in train else ():
            counts[name] += 1
    alone = metrics.get("network", metrics["test"])
    return {"network_micro_f1": alone["micro_f1"], "training_clips": counts}


def compared(a_study, table):
    """The measured rows of a study's figure; [] where it has none, or the proposed one has nothing beside it.

    Args:
        a_study: a `study.Study`.
        table: a `report.Measured` for each of its rows.
    """
    if not (figure := a_study.per_class):
        return []
    found = [m for name in figure.rows for m in table if m.row.name == name and m.runs]
    return found if {figure.rows[-1], figure.against} <= {m.row.name for m in found} else []


def file(a_study):
    """Name of the picture."""
    return f"{a_study.name}_classes.png"


def picture(a_study, rows):
    """Bars of each class's mean F1, the rarest first; the number of training clips is beside its name."""
    clips = _clips(rows)
    bars = {title(m): [f1 / 100 for f1 in _means(m, clips)] for m in rows}
    names = [f"{name} ({count:.0f})" for name, count in clips.items()]
    return plots.f1_bars(bars, names, f"{a_study.title} (training clips)")


def section(a_study, rows):
    """Parts of the page: the table and what it tells."""
    clips = _clips(rows)
    means = {m.row.name: _means(m, clips) for m in rows}
    proposed, against = rows[-1], next(m for m in rows if m.row.name == a_study.per_class.against)
    pairs = zip(means[proposed.row.name], means[against.row.name], strict=True)
    gains = dict(zip(clips, [ours - theirs for ours, theirs in pairs], strict=True))
    heads = ["class", "training clips", *map(title, rows), f"gain over {title(against)}"]
    lines = [heads, ["---"] * len(heads)]
    for name, count in clips.items():
        cells = [_cell(_f1(m, name)) for m in rows]
        lines.append([name, f"{count:.0f}", *cells, f"{gains[name]:+.1f}"])
    return [
        "## Class by class",
        a_study.per_class.source,
        "\n".join(f"| {' | '.join(cells)} |" for cells in lines),
        "F1, %, mean ± standard deviation over the seeds; training clips: mean over the seeds; the rarest "
        "class first.",
        _told(title(proposed), title(against), clips, gains),
        f"![F1 of each class]({file(a_study)})",
    ]


def title(m):
    """The words of a row."""
    return m.row.title or m.row.name


def _told(proposed, against, clips, gains):
    """Where the proposed row gains most, beside how rare these classes are."""
    order = sorted(gains, key=gains.get, reverse=True)
    most = "; ".join(f"{name} {gains[name]:+.1f} ({clips[name]:.0f} training clips)" for name in order[:2])
    half = len(clips) // 2
    rare, frequent = (statistics.mean(gains[name] for name in part) for part in _halves(clips, half))
    return (
        f"{proposed} gains most over {against} at: {most}; least at {order[-1]} {gains[order[-1]]:+.1f} "
        f"({clips[order[-1]]:.0f}). Mean gain of the rarest {half}: {rare:+.1f}; of the most frequent "
        f"{half}: {frequent:+.1f}."
    )


def _halves(clips, half):
    names = list(clips)
    return names[:half], names[-half:]


def _clips(rows):
    """Class -> mean number of training clips, the rarest first."""
    counts = [run["metrics"]["test"]["training_clips"] for m in rows for run in m.runs]
    means = {name: statistics.mean(count[name] for count in counts) for name in counts[0]}
    return dict(sorted(means.items(), key=lambda pair: pair[1]))


def _means(m, names):
    return [statistics.mean(_f1(m, name)) for name in names]


def _f1(m, name):
    """F1 of a class in each run, in per cent."""
    classes = [{c["class"]: c for c in run["metrics"]["test"]["classes"]} for run in m.runs]
    return [each[name]["f1"] * 100 for each in classes]


def _cell(values):
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"
