"""What lies in a train_dir: model_flags.json, checkpoints of ours, checkpoints of TensorFlow 1.

Ours are `checkpoints/step-00000123.npz` (tfvc.checkpoints). Those of the original starter and of WILLOW are
`model.ckpt-123.index` and its data file; their name without a suffix, `model.ckpt-123`, stands for them.
"""

import re
from pathlib import Path

from starter import flags
from starter.model_flags import fault
from tfvc import files
from tfvc.recipe import differences

KEEP = 5  # checkpoints of ours in a train_dir
SUBFOLDER = "checkpoints"
FLAGS_FILE = "model_flags.json"
STORED = flags.IDENTITY | flags.VOCABULARY | flags.MODEL  # in FLAGS_FILE; in the original's: IDENTITY only


def newest(train_dir, remedy=""):
    """The newest whole checkpoint of a train_dir: one of ours, else one of TensorFlow 1, else None.

    A damaged one is passed over, with a line that names it.

    Args:
        train_dir: folder of a run of ours or of the original.
        remedy: what to do where all of ours are damaged, for the error; "" = no error then.

    Returns:
        path as str, for `load`; None where there is no checkpoint (yet).

    Raises:
        ValueError: all of ours are damaged, and there is a `remedy`.

    Example:
        >>> newest("no/such/folder") is None
        True
    """
    from tfvc import checkpoints  # here, so that `--help` answers at once

    ours = checkpoints.newest(Path(train_dir) / SUBFOLDER, remedy)
    if ours:
        return str(ours)
    found = [re.fullmatch(r"(model\.ckpt-(\d+))\.index", p.name) for p in Path(train_dir).glob("*.index")]
    last = max((match for match in found if match), key=lambda match: int(match[2]), default=None)
    return str(Path(train_dir) / last[1]) if last else None


def any_of(train_dir):
    """Whether a train_dir holds a checkpoint of ours, whole or damaged."""
    return any((Path(train_dir) / SUBFOLDER).glob("step-*.npz"))


def step(path):
    """The global step that the name of a checkpoint tells.

    Example:
        >>> step("run/checkpoints/step-00000120.npz"), step("run/model.ckpt-7")
        (120, 7)
    """
    match = re.search(r"-(\d+)(\.npz)?$", str(path))
    if not match:
        raise ValueError(f"{path}: expected step-N.npz or model.ckpt-N")
    return int(match[1])


def load(path, model):
    """Puts the weights of a checkpoint into a model; no optimiser.

    Args:
        path: `step-N.npz` of ours, or `model.ckpt-N` of TensorFlow 1.
        model: built keras.Model of the same flags.

    Returns:
        int, the global step.

    Raises:
        ValueError: the checkpoint is of another model; what is missing is named.
        FileNotFoundError: it is not there.
    """
    from starter import tf1
    from tfvc import checkpoints

    if str(path).endswith(".npz"):
        return checkpoints.load(path, model).step
    return tf1.load(path, model)[0]


def flags_of(train_dir, arguments=None):
    """The model's flags of a run: what model_flags.json holds, the rest from the command line or by default.

    **Differs** The original's file holds `flags.IDENTITY` only, so that its eval needs the sizes of the model
    repeated on the command line. Ours holds every flag of the model; the original's is read too.

    Args:
        train_dir: folder of the run.
        arguments: of `flags.command`, with the flags of `STORED` among them; None = no command line.

    Returns:
        dict, one value for each name of `STORED`.

    Raises:
        FileNotFoundError: there is no model_flags.json, and the command line does not name the model.
        ValueError: it is damaged, or the command line says otherwise; the difference is named.
    """
    path = Path(train_dir) / FLAGS_FILE
    given = {name: getattr(arguments, name) for name in STORED if name in getattr(arguments, "given", ())}
    if not path.is_file() and "model" in given:
        print(f"{path}: no such file; the model is what the flags say")
        stored = {}
    else:
        stored = _read(path)
    other = differences(
        {k: v for k, v in stored.items() if k in given}, {k: given[k] for k in given if k in stored}
    )
    if other:
        raise ValueError(f"{path}: the command line differs ({'; '.join(other)}); leave those flags out")
    return {name: default for name, (_, default, _) in STORED.items()} | given | stored


def write_flags(train_dir, values):
    """Writes model_flags.json, after `same_flags`.

    Args:
        train_dir: folder of the run.
        values: dict, one value for each name of `STORED`.
    """
    same_flags(train_dir, values)
    files.write_json(Path(train_dir) / FLAGS_FILE, {name: values[name] for name in STORED})


def same_flags(train_dir, values):
    """Finds that a run, if there is one, was begun with these flags.

    Raises:
        ValueError: it was begun with others; the difference is named.
    """
    path = Path(train_dir) / FLAGS_FILE
    stored = _read(path) if path.is_file() else {}
    other = differences(stored, {name: values[name] for name in stored})
    if other:
        raise ValueError(
            f"{path}: this run was begun with other flags ({'; '.join(other)}); give those, another "
            "--train_dir, or --start_new_model"
        )


def _read(path):
    """The flags of STORED in a file, each of its kind; a model and a loss that there are."""
    remedy = "expected a folder that starter.train has written, or the flags of the model (--model=...)"
    tree = files.read_json(path, remedy)
    if not isinstance(tree, dict) or "model" not in tree:
        raise ValueError(f"{path}: not the flags of a model; {remedy}")
    stored = {name: value for name, value in tree.items() if name in STORED}
    for name, value in stored.items():
        kind, default, _ = STORED[name]
        wanted = fault(kind, default, value)
        if wanted:
            raise ValueError(f"{path}: {name} is {value!r}; expected {wanted}")
    try:
        _check_names(stored)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; mend the file, or train anew") from None
    return stored


def _check_names(stored):
    from starter import losses, models  # here: they bring Keras

    models.find(stored["model"])
    if "label_loss" in stored:
        losses.find(stored["label_loss"])
    streams = ("feature_names", "feature_sizes", "frame_features")
    if all(name in stored for name in streams):
        models.rows(*(stored[name] for name in streams))


def clear(train_dir):
    """Removes what training writes into a train_dir, and nothing else.

    Returns:
        list of str: a line that names what went, and one for each thing that stays and was made of it.
    """
    folder = Path(train_dir)
    gone = [p for p in [folder / FLAGS_FILE] if p.is_file()]
    gone += [p for p in folder.glob("events.out.tfevents.*.v2") if p.is_file()]
    gone += [
        p
        for p in (folder / SUBFOLDER).glob("step-*")
        if re.fullmatch(r"step-\d{8}\.(npz|json)", p.name) and p.is_file()
    ]
    for path in gone:
        path.unlink()
    lines = [f"--start_new_model: removed {len(gone)} files of the earlier run from {folder}"] if gone else []
    rest = sorted(p.name for p in folder.glob("*") if p.is_dir() and p.name != SUBFOLDER)
    stays = [p.name for p in folder.glob("model.ckpt-*.index")]
    lines += [f"{folder / name}: stays; it is not of the new model" for name in [*rest, *stays]]
    return lines
