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
    with files.aside(path) as temporary:
        _write(temporary, arrays | {"progress": np.array(json.dumps(asdict(progress)))})
        digest = files.sha256(temporary)
    best = {"best_step": progress.best_step, "best_sha256": progress.best_sha256}
    files.write_json(path.with_suffix(".json"), {"sha256": digest, **best})
    _prune(folder, keep, progress.step)


def restore(folder, model, optimizer, keep=2):
    """Puts the newest whole checkpoint back into a built model and optimiser.

    A damaged one is passed over, with a line that names it. What a kill in a save left is removed, as are
    the checkpoints beyond the newest `keep`.

    Returns:
        Its `Progress`, or None where there is no whole checkpoint.

    Raises:
        ValueError: the checkpoint is of another model or optimiser.
    """
    files.sweep(folder)
    for path in sorted(Path(folder).glob("step-*.npz"), reverse=True):
        fault = _fault(path)
        if fault:
            print(f"{path}: {fault}; passing over it")
            continue
        with np.load(path, allow_pickle=False) as stored:
            _assign(path, stored, _variables(model, optimizer))
            progress = _progress(stored)
        _prune(Path(folder), keep, progress.step)
        return progress
    return None


def newest(folder):
    """Path of the newest whole checkpoint, or None. It removes nothing: a run may be writing there."""
    for path in sorted(Path(folder).glob("step-*.npz"), reverse=True):
        try:
            if not _fault(path):
                return path
        except FileNotFoundError:  # the run has removed it meanwhile
            continue
    return None


def load(path, model):
    """Puts the weights of a checkpoint into a built model; its optimiser's state is left out.

    Returns:
        Its `Progress`.

    Raises:
        ValueError: the checkpoint is of another model.
        FileNotFoundError: it is not there (any more).
    """
    with np.load(path, allow_pickle=False) as stored:
        _assign(path, stored, _variables(model))
        return _progress(stored)


def _variables(model, optimizer=None):
    """(key, variable) pairs. `model.variables` holds the seed states of dropout too."""
    groups = [("model", model.variables)]
    if optimizer is not None:
        groups.append(("optimizer", optimizer.variables))
    return [(f"{g}/{i:04d}/{v.path}", v) for g, variables in groups for i, v in enumerate(variables)]


def _progress(stored):
    tree = json.loads(str(stored["progress"]))
    return Progress(**{f.name: tree[f.name] for f in fields(Progress) if f.name in tree})


def _plain(key):
    """A key without the numbers that Keras gives to the second layer of a name in a process."""
    return re.sub(r"_\d+(?=/|$)", "", key)


def _assign(path, stored, variables):
    groups = {key.split("/")[0] for key, _ in variables}
    keys = [k for k in stored.files if k.split("/")[0] in groups]
    if len(keys) != len(variables):
        raise ValueError(
            f"{path}: {len(keys)} variables; expected {len(variables)} ({' and '.join(sorted(groups))})"
        )
    for old, (key, variable) in zip(sorted(keys), sorted(variables, key=lambda pair: pair[0]), strict=True):
        value = stored[old]
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
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fault(path):
    """What is wrong with a checkpoint, or ""."""
    record = _recorded(path)
    if record is None:
        return "its checksum is missing or damaged (killed while saving?)"
    if files.sha256(path) != record["sha256"]:
        return "damaged (its checksum differs)"
    best = path.with_name(f"best-{record['best_step']:08d}.keras")
    if record["best_step"] and not (best.is_file() and files.sha256(best) == record["best_sha256"]):
        return f"its best model, {best.name}, is missing or damaged"
    return ""


def _prune(folder, keep, step):
    """Keeps the newest checkpoints up to `step`, and the best models that they speak of; nothing else.

    What lies beyond `step` was passed over when the run went on from an earlier one.
    """
    kept, wanted = 0, set()
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        record = _recorded(path)
        if record and kept < keep and path.stem <= f"step-{step:08d}":
            kept += 1
            wanted |= {path.name, f"{path.stem}.json", f"best-{record['best_step']:08d}.keras"}
    for path in (*folder.glob("step-*"), *folder.glob("best-*.keras")):
        if path.name not in wanted:
            path.unlink()
