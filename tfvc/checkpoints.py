"""What lets a killed run go on: weights, random states, optimiser and counters in one checked file.

`checkpoints/step-00000123.npz` with its checksum in `step-00000123.json`, and `best-00000100.keras`, the
model of the best epoch so far. Each is written aside and renamed; a pickle is never read or written.
"""

import json
import os
import re
import shutil
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import keras
import numpy as np

from tfvc import files


@dataclass
class Progress:
    """How far a run has come. `step` counts batches since the run's beginning."""

    step: int = 0
    steps_per_epoch: int = 0
    history: list = field(default_factory=list)  # one dict an epoch that is done
    partial: dict = field(default_factory=dict)  # metric sums of an epoch that is not: name -> [total, count]
    best: float | None = None  # the monitor's best value ...
    best_epoch: int = 0  # ... its epoch, counted from 1 ...
    best_step: int = 0  # ... and step, which names its file ...
    best_sha256: str = ""  # ... whose checksum this is
    seconds: float = 0.0  # training time, all sittings together
    about: dict = field(default_factory=dict)  # whatever else a program wants to find again

    @property
    def epoch(self):
        """Epochs that are done, validation included."""
        return len(self.history)


def save_model(model, path):
    """Writes a `.keras` file whole or not at all."""
    with files.aside(path) as temporary:
        named = temporary.with_name(f"{temporary.name}.keras")  # Keras insists on its suffix
        try:
            model.save(named)
            os.replace(named, temporary)
        finally:
            named.unlink(missing_ok=True)


def publish(source, path):
    """Gives a finished file a second name: a hard link, or a copy where the file system has none."""
    with files.aside(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def best_path(folder, progress):
    """The model file of the best epoch so far."""
    return Path(folder) / f"best-{progress.best_step:08d}.keras"


def save(folder, model, optimizer, progress, keep=2):
    """Writes the checkpoint of `progress.step`, then removes those beyond the newest `keep`.

    Raises:
        ValueError: a variable is not finite; the earlier checkpoints stay as they are.
        OSError: the disk is full, or the like; likewise.
    """
    folder = Path(folder)
    arrays = {}
    for key, variable in _variables(model, optimizer):
        arrays[key] = keras.ops.convert_to_numpy(variable)
        if arrays[key].dtype.kind == "f" and not np.isfinite(arrays[key]).all():
            raise ValueError(
                f"step {progress.step}: {variable.path} is not finite. Lower the learning rate or look at "
                f"the data; an earlier checkpoint, if there is one, is kept in {folder}"
            )
    path = folder / f"step-{progress.step:08d}.npz"
    best = {"best_step": progress.best_step, "best_sha256": progress.best_sha256}
    with files.aside(path) as temporary:
        _write(temporary, arrays | {"progress": np.array(json.dumps(asdict(progress)))})
        # The checksum first: a kill in between leaves no checkpoint, not one that looks damaged.
        files.write_json(path.with_suffix(".json"), {"sha256": files.sha256(temporary), **best})
        if path.is_dir():  # not ours
            os.rename(path, path.with_suffix(".folder"))
    prune(folder, keep, progress.step)


def restore(folder, model, optimizer, keep=2):
    """Puts the newest whole checkpoint back into a built model and optimiser.

    A damaged one is passed over, with a line that names it. What a kill in a save left is removed, as are
    the checkpoints beyond the newest `keep`.

    Returns:
        Its `Progress`, or None where there is no checkpoint.

    Raises:
        ValueError: the checkpoint is of another model or optimiser; or all are damaged: then none is removed.
    """
    files.sweep(folder)
    path = newest(folder, "put a whole one back, or move them away to begin anew")
    if path is None:
        return None
    progress = load(path, model, optimizer)
    prune(Path(folder), keep, progress.step)
    return progress


def newest(folder, remedy=""):
    """Path of the newest whole checkpoint, or None. It removes nothing: a run may be writing there.

    A damaged one is passed over, with a line that names it.

    Args:
        folder: of the checkpoints; it need not exist.
        remedy: what to do where all are damaged, for the error; "" = None is returned then.

    Raises:
        ValueError: all are damaged, and there is a `remedy`.
    """
    found, faults = None, []
    for path in sorted(Path(folder).glob("step-*.npz"), reverse=True):
        try:
            fault = _fault(path)
        except FileNotFoundError:  # the run has removed it meanwhile
            continue
        if not fault:
            found = path
            break
        faults.append(f"{path}: {fault}")
    if faults and remedy and not found:
        raise ValueError(f"no checkpoint is whole: {'; '.join(faults)}; {remedy}")
    for line in faults:
        print(f"{line}; passing over it", flush=True)
    return found


def load(path, model, optimizer=None):
    """Puts the weights of a checkpoint into a built model and, if it is given, a built optimiser.

    Returns:
        Its `Progress`.

    Raises:
        ValueError: the checkpoint is of another model or optimiser, or damaged.
        FileNotFoundError: it is not there (any more).
    """
    variables = _variables(model, optimizer)
    try:
        progress, arrays = _read(path, {key.split("/")[0] for key, _ in variables})
    except ValueError as error:
        raise ValueError(f"{path}: {error}; take another checkpoint") from None
    _assign(path, arrays, variables)
    return progress


def _variables(model, optimizer=None):
    """(key, variable) pairs. `model.variables` holds the seed states of dropout too."""
    groups = [("model", model.variables)]
    if optimizer is not None:
        groups.append(("optimizer", optimizer.variables))
    return [(f"{g}/{i:04d}/{v.path}", v) for g, variables in groups for i, v in enumerate(variables)]


def _read(path, groups=()):
    """The Progress in a file, and its arrays of some groups; ValueError where it is not what `save` wrote."""
    try:
        files.check_archive(path, "checkpoint")
        with np.load(path, allow_pickle=False) as stored:
            tree = json.loads(str(stored["progress"]))
            arrays = {key: stored[key] for key in stored.files if key.split("/")[0] in groups}
        progress = Progress(**{f.name: tree[f.name] for f in fields(Progress) if f.name in tree})
    except FileNotFoundError:
        raise
    except (*files.NO_ARRAY, RecursionError) as error:
        raise ValueError(f"damaged ({files.printable(files.first_line(error))})") from None
    for name, default in asdict(Progress(best=0.0)).items():
        value = getattr(progress, name)
        kinds = (int, float, type(None)) if type(default) is float else type(default)
        if not isinstance(value, kinds):
            raise ValueError(f"damaged (its {name} is of type {type(value).__name__})")
    return progress, arrays


def _plain(key):
    """A key without the numbers that Keras gives to the second layer of a name in a process."""
    return re.sub(r"_\d+(?=/|$)", "", key)


def _assign(path, arrays, variables):
    if len(arrays) != len(variables):
        groups = " and ".join(sorted({key.split("/")[0] for key, _ in variables}))
        raise ValueError(f"{path}: {len(arrays)} variables; expected {len(variables)} ({groups})")
    for old, (key, variable) in zip(sorted(arrays), sorted(variables, key=lambda pair: pair[0]), strict=True):
        value = arrays[old]
        if _plain(old) != _plain(key) or value.shape != tuple(variable.shape):
            raise ValueError(
                f"{path}: holds {old} {value.shape}, the model has {key} {tuple(variable.shape)}"
            )
        variable.assign(value)


def _write(path, arrays):
    """An `.npz`. Not by `np.savez`: on a full disk the garbage collector closes its archive once more."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array, allow_pickle=False)


def _recorded(path):
    """The record beside a checkpoint, or None where it is missing or damaged."""
    try:
        tree = files.read_json(path.with_suffix(".json"))
        return {k: kind(tree[k]) for k, kind in (("sha256", str), ("best_step", int), ("best_sha256", str))}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _fault(path):
    """What is wrong with a checkpoint, or ""."""
    if path.is_dir():
        return "a folder, not a file"
    record = _recorded(path)
    if record is None:
        return "its checksum is missing or damaged"
    if files.sha256(path) != record["sha256"]:
        return "damaged (its checksum differs)"
    try:
        step = _read(path)[0].step
    except ValueError as error:
        return str(error)
    if path.stem != f"step-{step:08d}":
        return f"damaged (it says that it is of step {step})"
    best = path.with_name(f"best-{record['best_step']:08d}.keras")
    if record["best_step"] and not (best.is_file() and files.sha256(best) == record["best_sha256"]):
        return f"its best model, {best.name}, is missing or damaged"
    return ""


def prune(folder, keep, step):
    """Keeps the newest checkpoints up to `step`, and the best models that they speak of; nothing else.

    What lies beyond `step` was passed over when the run went on from an earlier one: call it then.

    Args:
        folder: Path of the checkpoints.
        keep: how many.
        step: of the run.
    """
    kept, wanted = 0, set()
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        record = _recorded(path)
        if record and kept < keep and path.stem <= f"step-{step:08d}":
            kept += 1
            wanted |= {path.name, f"{path.stem}.json", f"best-{record['best_step']:08d}.keras"}
    for path in (*folder.glob("step-*"), *folder.glob("best-*.keras")):
        if path.name not in wanted and not path.is_dir():
            path.unlink()
