"""A study is data: a table of a paper, what is tried for it here, and the number that was printed.

A name is a file: `experiments/studies/mfb_table1.py` is the study `mfb_table1`, and holds `STUDY`.
"""

import glob
import importlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tfvc import recipe
from tfvc.names import suggest


@dataclass(frozen=True)
class Metric:
    """A number that a table holds: its key in `metrics.json`, and how the paper writes it."""

    name: str
    title: str
    scale: float = 100.0  # the paper's unit: per cent
    digits: int = 1  # behind the point
    lower: bool = False  # whether lower is better
    not_run: str = ""  # of a column that is only printed: why it is not measured here


@dataclass(frozen=True)
class Parts:
    """YouTube-8M's records: how they are cut, as patterns."""

    train: str
    validation: str  # chooses settings and the moment to stop
    test: str  # is reported, and chooses nothing
    demo: bool = False  # whether the recipe's settings for the made-up records are in force

    @property
    def source(self):
        """What `train` takes as `--data`."""
        return self.train

    def overrides(self):
        """The recipe's fields that name the parts other than the training part."""
        return [f"data.validation={self.validation}", f"data.test={self.test}"]

    def describe(self, recipes=()):
        """What tells data from other data, wherever they lie: names and sizes of the files of each part.

        Returns:
            dict: `digest`, and how many files each part has.
        """
        import tensorflow as tf

        from tfvc.data import sources

        listed = {part: sources.files(getattr(self, part)) for part in ("train", "validation", "test")}
        known = {
            part: [[Path(file).name, tf.io.gfile.stat(file).length] for file in found]
            for part, found in listed.items()
        }
        return {"digest": recipe.digest(known)} | {part: len(found) for part, found in listed.items()}


@dataclass(frozen=True)
class Clips:
    """Clips, which the recipe splits: what `--data` of the train command takes; "" = the demo set."""

    source: str = ""

    @property
    def demo(self):
        """Whether the recipe's settings for the embedded demo set are in force."""
        return not self.source

    def overrides(self):
        """None: the parts are the recipe's."""
        return []

    def describe(self, recipes):
        """What tells data from other data: clips, labels, groups and official parts.

        Args:
            recipes: of all rows.

        Returns:
            dict: `digest`, `name`, and how many `clips` and `classes` there are.

        Raises:
            ValueError: the rows read different clips, so that they cannot stand in one table.
        """
        from tfvc.data import datasets

        found = [datasets.load(data, self.source) for data in {each.data: None for each in recipes}]
        if other := next((d for d in found if d.digest() != found[0].digest()), None):
            raise ValueError(
                f"rows of one study read different clips ({found[0].name}, {other.name}); expected the same "
                "data.kind, data.demo_form, data.clips and data.classes for all of them"
            )
        first = found[0]
        return {"digest": first.digest(), "name": first.name} | {
            "clips": len(first.clips),
            "classes": len(first.classes),
        }


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: short; its folder and what `--rows` takes.
        overrides: recipe fields of this row, as `section.field=value`.
        model: in place of the study's; empty = that.
        title: as the table calls it; empty = `name`.
        printed: metric -> number in the paper, in its unit; empty = the paper has no such row.
        note: what a reader must know of this row.
        not_run: why it is not run here; empty = it is.
    """

    name: str
    overrides: tuple = ()
    title: str = ""
    printed: dict = field(default_factory=dict)
    note: str = ""
    not_run: str = ""
    model: str = ""


@dataclass(frozen=True)
class PerClass:
    """A figure of a paper: F1 of each class.

    Args:
        rows: names of those that are compared, the proposed one last.
        against: the row that its gain is counted from.
        source: the figure, and what the paper reads from it.
    """

    rows: tuple
    against: str
    source: str


@dataclass(frozen=True)
class Study:
    """A table of a paper as data.

    Args:
        name: of its file.
        title: one line.
        source: paper and table.
        differs: sentences, what is not as in the paper.
        model, fidelity: of the recipe.
        common: overrides of all rows.
        demo: further ones, on the embedded demo set (or the made-up records) only.
        rows: the table.
        grid: field -> values tried to choose a row's setting, the same for all rows; {} = one setting.
        choose_by: metric of the validation part that chooses, higher is better; also the learning curve's.
        metrics: what is reported, of the test part.
        also_printed: numbers of the paper on data that are not measured here, and why not.
        further: function of a finished run's folder, gives more metrics of its test part; None = none.
        parts: function of `--data`, gives `Parts` or `Clips`.
        data: what `--data` must be, for messages.
        baseline: function of those parts and the first row's recipe, gives metric -> value; None = none.
        baseline_title: its row in the table and in the lines.
        baseline_note: what it is.
        axis: a numeric field that the rows differ in, and its words: the picture shows the first metric
            against it, in place of learning curves; () = learning curves.
        per_class: the F1 of each class that is shown too; None = not.
        seeds: how many each row is reported with.
        full: commands that make the table from the paper's own sets.
    """

    name: str
    title: str
    source: str
    differs: tuple
    model: str
    rows: tuple
    grid: dict
    choose_by: str
    metrics: tuple
    parts: Callable
    data: str
    fidelity: str = "original"
    common: tuple = ()
    demo: tuple = ()
    also_printed: tuple = ()
    further: Callable | None = None
    baseline: Callable | None = None
    baseline_title: str = "class prior"
    baseline_note: str = "baseline: the most frequent class of the training clips for every clip"
    axis: tuple = ()
    per_class: PerClass | None = None
    seeds: int = 3
    full: tuple = ()

    def points(self):
        """The points of the grid, each a tuple of overrides.

        Example:
            >>> from experiments import study
            >>> study.load("mfb_table1").points()[0]
            ('train.learning_rate=0.001',)
        """
        axes = [[f"{name}={value}" for value in values] for name, values in self.grid.items()]
        return list(itertools.product(*axes))

    @property
    def chooses(self):
        """Whether there is more than one setting to choose from."""
        return len(self.points()) > 1

    def overrides(self, row, choice=()):
        """All overrides of a row at a point of the grid."""
        return [*self.common, *row.overrides, *choice]

    def recipe(self, row, choice=(), parts=None):
        """The resolved recipe. Raises ValueError for a field or value that there is not."""
        demo = bool(parts) and parts.demo
        given = [*(self.demo if demo else ()), *self.overrides(row, choice)]
        given += parts.overrides() if parts else ()
        return recipe.get(row.model or self.model, self.fidelity, given, demo=demo)

    def select(self, names=()):
        """The rows that are run, or those of some names.

        Raises:
            ValueError: no such row, or one that is not run here (the reason is named).
        """
        rows = {row.name: row for row in self.rows}
        for name in names:
            if name not in rows:
                raise ValueError(suggest(f"row of {self.name}", name, rows))
            if rows[name].not_run:
                raise ValueError(f"row {name!r} of {self.name} is not run here: {rows[name].not_run}")
        return [row for row in self.rows if not row.not_run and (not names or row.name in names)]


def named(path, lines, names=()):
    """Yields each study that has lines; of a name that no study has now it tells.

    Args:
        path: of the file of the lines, for the message.
        lines: of results.
        names: of the studies; none = all.

    Raises:
        ValueError: there is none.
    """
    there = {line["study"] for line in lines}
    asked = sorted(there & set(names or there))
    known = sorted(set(asked) & set(available()))
    for name in sorted(set(asked) - set(known)):
        print(f"{path}: its lines of {name!r} are left out: experiments/studies has no such study now")
    if not known:
        raise ValueError(
            f"{path}: no line of a study that is here; it has lines of {', '.join(sorted(there))}"
        )
    yield from map(load, known)


def available():
    """Names of the studies: the files of `experiments/studies`."""
    folder = Path(__file__).parent / "studies"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def load(name):
    """The study of a name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in available():
        raise ValueError(suggest("study", name, available()))
    return importlib.import_module(f"experiments.studies.{name}").STUDY


def label(choice):
    """A point of the grid, short.

    Example:
        >>> label(("train.learning_rate=0.01",))
        'learning_rate=0.01'
    """
    pairs = (text.partition("=") for text in choice)
    return ",".join(f"{field.rpartition('.')[2]}={value}" for field, _, value in pairs) or "one-setting"


def clips(data):
    """Clips: a folder of them, a manifest, a data set's own folder; "" = the embedded demo set.

    Example:
        >>> clips("").demo
        True
    """
    return Clips(os.path.abspath(data) if data else "")


def pattern(*paths):
    """Paths as one pattern of records that means these files and no others.

    Example:
        >>> pattern("/data/a,b/x[1].tfrecord", "y")
        '/data/a?b/x[[]1].tfrecord,y'
    """
    # A comma would part two patterns (`data.sources.files`).
    return ",".join(glob.escape(str(path)).replace(",", "?") for path in paths)


def halves(data, what):
    """YouTube-8M's folders: `train/` trains; of the sorted shards of `validate/` the first half chooses and
    the other half is reported.

    Args:
        data: folder that holds both.
        what: the study's words for such a folder, for messages.

    Raises:
        ValueError: no folder given, or fewer than two shards to choose and report with.
        FileNotFoundError: no shards there.
    """
    from tfvc.data import sources

    if not data:
        raise ValueError(f"no data; expected --data=FOLDER, {what}")
    if "://" not in data:
        data = os.path.abspath(data)
        for part in ("train", "validate"):
            if not os.path.isdir(os.path.join(data, part)):
                raise FileNotFoundError(f"{data}: has no folder {part}/; expected {what}")
    train, held = (f"{pattern(data)}/{part}/*.tfrecord" for part in ("train", "validate"))
    shards = sources.files(held)
    if len(shards) < 2:
        raise ValueError(f"{held}: one file; expected two at least, to choose with and to report on")
    half = len(shards) // 2
    return Parts(train, pattern(*shards[:half]), pattern(*shards[half:]))
