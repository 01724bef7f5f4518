"""The commands that `experiments.full_disk` lets run out of room, each small, and what they need."""

import csv
import functools
import shutil
import zipfile
from dataclasses import dataclass, field

import h5py
import numpy as np

from experiments import children
from tfvc.data import demo

_CLASSES, _GROUPS = ("left", "right"), 8
_TRAIN = (
    "model_args.units=4",
    "model_args.dense=8",
    "train.batch_size=8",
    "train.epochs=3",
    "train.checkpoint_steps=1",
    "train.deterministic=true",
)
_STAGE = ("model_args.modality=visual_audio", "model_args.temporal=False", "model_args.dense=6")
_STAGE += ("data.frames=3", "train.epochs=2", "train.deterministic=true")
_STAGE += ("second_stage.name=svm", "second_stage.patience=4", "second_stage.trees=20")
# What training replaces as it goes on: each is whole at any time.
_TRAINED = ("run/recipe.json", "run/split.json", "run/log.csv", "run/best.keras", "run/checkpoints/")


def same_files(unbroken, after):
    """Names files that two folders do not share, byte for byte; logs and locks do not count."""
    one, two = (
        {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file() and not passing(p)}
        for root in (unbroken, after)
    )
    for name in sorted(one.keys() | two.keys()):
        if name not in one or name not in two or one[name].read_bytes() != two[name].read_bytes():
            yield f"{name} is other than that of an unbroken run"


@dataclass
class Case:
    """A command on a small disk, and what is to be found there afterwards."""

    name: str
    command: object  # function of the disk: module and arguments
    before: object = lambda disk: None  # function of the disk: puts earlier results there
    replaces: tuple = ()  # beginnings of the names that the command may replace; all else keeps its bytes
    differences: object = same_files  # function of (unbroken disk, disk): names what differs
    environment: dict = field(default_factory=dict)  # variable -> folder on the disk, "" = the disk itself

    def work(self, disk):
        """`children.Child`'s work and variables."""
        return children.command(*self.command(disk)), {k: str(disk / v) for k, v in self.environment.items()}


def same_weights(unbroken, after):
    """Names weights that differ by more than 1e-6 from those of an unbroken run."""
    for path in sorted((*unbroken.rglob("*.keras"), *unbroken.rglob("second_stage.npz"))):
        one, two = _weights(path), _weights(after / path.relative_to(unbroken))
        if one.keys() != two.keys() or not all(np.allclose(one[k], two[k], rtol=0, atol=1e-6) for k in one):
            yield f"{path.relative_to(unbroken)} has other weights than that of an unbroken run"


def same_names(unbroken, after):
    """Names files that two folders do not share, by name: what is in them differs from run to run."""
    one, two = (
        {str(p.relative_to(root)) for p in root.rglob("*") if not passing(p)} for root in (unbroken, after)
    )
    return [f"{name} is there in one of the two" for name in sorted(one ^ two)]


def passing(path):
    """Whether a file is no result: a lock, or a log that grows."""
    return path.name.startswith((".", "events."))


def _weights(path):
    found = {}
    if path.suffix == ".npz" and path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    if path.is_file():
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as f, h5py.File(f) as held:
            held.visititems(lambda key, item: found.update({key: item[()]} if hasattr(item, "shape") else {}))
    return found


class Given:
    """What the commands work on, made when first asked for, where there is room."""

    def __init__(self, folder):
        self.folder = folder

    def made(self, name, *line):
        """The path of what a command makes."""
        path = self.folder / name
        ended = children.Child(children.command(*line)).wait()
        if ended.status:
            raise ValueError(f"{line}: {ended.out}{ended.err}")
        return path

    @functools.cached_property
    def clips(self):
        rng, folder = np.random.default_rng(0), self.folder / "clips"
        for k, name in enumerate(_CLASSES):
            (folder / name).mkdir(parents=True)
            for group in range(_GROUPS):
                frames = rng.integers(0, 128, (8 * (2 + group % 3), 32, 48, 3)) + 100 * k
                demo.write_clip(folder / name / f"{name}_g{group:02}_c01.mp4", frames.astype("uint8"), fps=8)
        (folder / "left" / "left_g99_c01.mp4").write_bytes(b"")
        return folder

    @functools.cached_property
    def network(self):
        """A backbone of few weights."""

        def save():
            import keras

            x = keras.Input((32, 32, 3))
            y = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(x))
            keras.Model(x, keras.layers.GlobalAveragePooling2D()(y)).save(self.folder / "network.keras")

        children.Child(save).wait()
        return self.folder / "network.keras"

    @functools.cached_property
    def flags(self):
        """Of clips: how they are read."""
        fields = (f"backbone.name={self.network}", "backbone.preprocessing=none", "backbone.size=32,32")
        return [f"--set={text}" for text in (*fields, "backbone.batch_size=4", "data.shard_clips=4", *_TRAIN)]

    @functools.cached_property
    def arrays(self):
        """A manifest of clips with labels, several of some, and the folder of their features."""
        rng, folder = np.random.default_rng(0), self.folder / "arrays"
        folder.mkdir()
        rows = [["id", "path", "labels", "group"]]
        for k in range(60):
            held = rng.integers(0, 2, 2)
            labels = [name for name, there in zip(_CLASSES, held, strict=True) if there] or ["left"]
            rows.append([f"c{k:02}", "", ";".join(labels), f"g{k % 10}"])
            frames, audio = rng.normal(size=(3, 64)) + held[0], rng.normal(size=(3, 32)) + held[1]
            np.savez(folder / f"c{k:02}.npz", frames=frames, audio=audio)
        with open(self.folder / "listed.csv", "w", newline="") as f:
            csv.writer(f).writerows(rows)
        return [f"--data={self.folder / 'listed.csv'}", f"--features={folder}"]

    @functools.cached_property
    def records(self):
        path = self.folder / "records"
        return self.made("records", "tfvc.extract", f"--data={self.clips}", f"--workdir={path}", *self.flags)

    @functools.cached_property
    def converted(self):
        return self.made("converted", "tfvc.convert", *self.arrays, f"--workdir={self.folder / 'converted'}")

    @functools.cached_property
    def run(self):
        path = self.folder / "run"
        flags = [*self.flags, "--set=train.epochs=1"]
        return self.made("run", "tfvc.train", f"--data={self.records}", f"--workdir={path}", *flags)

    @functools.cached_property
    def exported(self):
        path = shutil.copytree(self.run, self.folder / "exported")
        return self.made("exported", "tfvc.export", f"--workdir={path}")

    @functools.cached_property
    def videos(self):
        """Flags of the starter's programs: records of means."""
        root, names = self.folder / "yt8m", "mean_rgb,mean_audio"
        from tfvc.data import demo_records

        children.Child(lambda: demo_records.ensure("video", root=root)).wait()
        (folder,) = (path for path in root.iterdir() if path.is_dir())
        return folder, [f"--feature_names={names}", "--feature_sizes=1024,128"]

    @functools.cached_property
    def starter(self):
        folder, flags = self.videos
        path = self.folder / "starter"
        line = [f"--train_data_pattern={folder}/train*", f"--train_dir={path}", *flags, *_STARTER]
        return self.made("starter", "starter.train", *line)


_STARTER = ("--model=LogisticModel", "--batch_size=32", "--num_classes=12", "--num_epochs=4")
_STARTER += ("--export_model_steps=5",)


def cases(folder, wanted=()):
    """The commands, by name.

    Args:
        folder: where there is room for what they need.
        wanted: names; none = all.

    Returns:
        list of `Case`.

    Raises:
        ValueError: no such name.
    """
    from tfvc import names

    found = {case.name: case for case in _cases(Given(folder))}
    for name in wanted:
        if name not in found:
            raise ValueError(names.suggest("command", name, found))
    return [found[name] for name in wanted or found]


def _cases(given):
    def with_run(disk):
        shutil.copytree(given.run, disk / "run")

    def with_starter(disk):
        shutil.copytree(given.starter, disk / "starter")

    def train(disk, *flags):
        return "tfvc.train", f"--data={given.records}", f"--workdir={disk / 'run'}", *given.flags, *flags

    def of_run(module, *flags):
        return lambda disk: (f"tfvc.{module}", f"--workdir={disk / 'run'}", *flags)

    def starter(module, pattern, *flags):
        def line(disk):
            folder, own = given.videos
            records = [f"--{pattern}={folder}/train*"] if pattern else []
            return f"starter.{module}", *records, f"--train_dir={disk / 'starter'}", *own, *flags

        return line

    yield Case(
        "extract",
        lambda disk: ("tfvc.extract", f"--data={given.clips}", f"--workdir={disk / 'records'}", *given.flags),
    )
    yield Case(
        "extract-demo",
        lambda disk: ("tfvc.extract", *given.flags, "--set=data.clips=24"),
        environment={"TFVC_CACHE": "cache"},
    )
    yield Case("convert", lambda disk: ("tfvc.convert", *given.arrays, f"--workdir={disk / 'records'}"))
    yield Case("train", train, differences=same_weights)
    yield Case(
        "train-on",  # a finished run asked for more epochs
        train,
        with_run,
        (*_TRAINED, "run/model.keras", "run/metrics.json", "run/learning_curve.png"),
        same_weights,
    )
    yield Case(
        "train-svm",
        lambda disk: (
            "tfvc.train",
            "--model=resbilstm",
            f"--data={given.converted}",
            f"--workdir={disk / 'run'}",
            *(f"--set={text}" for text in _STAGE),
        ),
        differences=same_weights,
    )
    yield Case("evaluate", of_run("evaluate"), with_run, ("run/metrics.json",), same_files)
    explained = lambda disk: f"--explain={disk / 'run' / 'explained.png'}"  # noqa: E731
    clip = lambda: given.clips / "left" / "left_g00_c01.mp4"  # noqa: E731
    yield Case(
        "predict",
        lambda disk: ("tfvc.predict", f"--workdir={disk / 'run'}", explained(disk), clip()),
        with_run,
    )
    yield Case("export", of_run("export"), with_run, differences=same_names)
    yield Case(
        "export-again",  # the earlier one stays until the new one is whole
        of_run("export"),
        lambda disk: shutil.copytree(given.exported, disk / "run"),
        differences=same_names,
    )
    yield Case(
        "export-temporary",  # the disk of TMPDIR is full, not that of the run
        lambda disk: ("tfvc.export", f"--workdir={given.exported}"),
        differences=lambda unbroken, disk: [],
        environment={"TMPDIR": ""},
    )
    yield Case("starter.train", starter("train", "train_data_pattern", *_STARTER), differences=same_names)
    yield Case("starter.export_model", starter("export_model", ""), with_starter, differences=same_names)
