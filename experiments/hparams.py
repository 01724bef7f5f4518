"""The runs of a study in TensorBoard's tab HPARAMS: their settings beside what they reached.

    python -m experiments.hparams --results=experiments/tables/disaster.jsonl
    tensorboard --logdir=results/hparams/raf_table1

Each line of `experiments.run` becomes a run: the recipe's fields in which the lines differ, the seed, the
measures of the test part as the table writes them, minutes of training and parameters. The learning curve
goes beside them. Each study has a folder, written whole or not at all; one that is there is replaced."""

from pathlib import Path

from absl import flags

from experiments import results, study
from tfvc import cli, files, recipe


def write(path=results.FILE, out="results/hparams", names=()):
    """Writes a folder for TensorBoard for each study that has lines.

    Args:
        path: `results.jsonl`.
        out: folder; the study's is `<out>/<study>`.
        names: of the studies; none = all.

    Returns:
        dict: folder -> how many runs are in it.

    Raises:
        FileNotFoundError: no such file, or no results yet.
        ValueError: a line that is no result of a run, no line of a study that was named, or a folder there
            that is not of this command.
    """
    lines = results.some(path)
    there = sorted({line["study"] for line in lines})
    if strange := sorted(set(names) - set(there)):
        raise ValueError(f"{path}: no line of {', '.join(strange)}; it has {', '.join(there)}")
    written = {}
    for a_study in study.named(path, lines, names):
        _check_ours(Path(out) / a_study.name)
        mine = results.of_study(path, lines, a_study)
        try:
            runs = runs_of(a_study, mine)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if not runs:
            print(f"{path}: {a_study.name}: no run of a row that the study has now")
            continue
        with files.aside(Path(out) / a_study.name) as folder:
            _write(folder, a_study, runs)
        written[Path(out) / a_study.name] = len(runs)
    if not written:
        raise ValueError(f"{path}: no run of a row that its study has now; nothing was written")
    return written


def _check_ours(folder):
    """What is replaced must be event files alone: a study's trained runs lie in folders of the same name."""
    inside = sorted(folder.rglob("*")) if folder.is_dir() else [folder] * folder.exists()
    for path in inside:
        if not path.is_dir() and not path.name.startswith("events.out.tfevents"):
            raise ValueError(f"{folder} would be replaced, but holds {path.name}; give another --out")


def runs_of(a_study, lines):
    """The runs that are shown: of the data used last, each row, setting and seed once, the last of them.

    Args:
        a_study: the study.
        lines: of it. Those of a baseline, and of rows that the study has no more, are no runs.

    Returns:
        list of `(name, settings, line)`; the settings are a dict of the fields in which the lines differ.
    """
    rows, found = {row.name: row for row in a_study.rows}, {}
    for line in lines:
        if line["row"] in rows and line["data"]["digest"] == lines[-1]["data"]["digest"]:
            found[line["row"], *line["overrides"], line["phase"], line["seed"]] = line
    resolved = [_settings(a_study, rows[line["row"]], line) for line in found.values()]
    said = {recipe.key_of(text) for line in found.values() for text in line["overrides"]} | {"model"}
    varied = sorted(key for key in said if len({str(each.get(key)) for each in resolved}) > 1)
    runs = []
    for line, each in zip(found.values(), resolved, strict=True):
        settings = {"row": line["row"]} | {key: each[key] for key in varied if key in each}
        chosen = [study.label(line.get("choice") or ()), line["phase"]] if a_study.chooses else []
        place = "-".join([line["row"], *chosen, str(line["seed"])])
        runs.append((place, settings | {"seed": line["seed"]}, line))
    return runs


def _settings(a_study, row, line):
    """The recipe of a line, flat: what a row does not say has the model's own value."""
    model = row.model or a_study.model
    try:
        return recipe.flatten(recipe.get(model, a_study.fidelity, line["overrides"])) | {"model": model}
    except ValueError as error:
        where = f"the line of {a_study.name}, row {row.name}, seed {line['seed']}"
        raise ValueError(f"{where}: its overrides are refused ({error}); remove the line") from None


def _write(folder, a_study, runs):
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    fields = list(dict.fromkeys(key for _, settings, _ in runs for key in settings))
    metrics = [api.Metric(f"test/{m.name}", display_name=m.title) for m in a_study.metrics]
    metrics += [api.Metric("minutes"), api.Metric("parameters")]
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams_config([api.HParam(name) for name in fields], metrics)
    writer.close()
    for place, settings, line in runs:
        writer = tf.summary.create_file_writer(str(folder / place))
        with writer.as_default():
            api.hparams({key: _value(value) for key, value in settings.items()}, trial_id=place)
            for name, value in _measured(a_study, line).items():
                tf.summary.scalar(name, value, step=line.get("steps", 0))
            for name, step, value in _curve(a_study, line):
                tf.summary.scalar(f"curve/{name}", value, step=step)
        writer.close()


def _measured(a_study, line):
    test = line["metrics"].get("test", {})
    reached = {f"test/{m.name}": test[m.name] * m.scale for m in a_study.metrics if m.name in test}
    return reached | {"minutes": line["seconds"] / 60, "parameters": line["parameters"]}


def _curve(a_study, line):
    curve, name = line.get("curve", {}), a_study.choose_by
    steps = curve.get("epoch", curve.get("step", []))
    return [(name, step, value) for step, value in zip(steps, curve.get(name, []), strict=True)]


def _value(value):
    """What the tab can show: a number, a truth value or text."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def main(argv=None):
    def command(arguments):
        names = tuple(filter(None, arguments.study.split(",")))
        for folder, count in write(arguments.results, arguments.out, names).items():
            print(f"written: {folder}, {count} runs; tensorboard --logdir={folder}")

    values = flags.FlagValues()
    flags.DEFINE_string("results", results.FILE, "lines of experiments.run", values)
    flags.DEFINE_string("out", "results/hparams", "folder of the studies' folders", values)
    flags.DEFINE_string("study", "", "names of studies, separated by commas; empty: all", values)
    cli.launch("experiments.hparams", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
