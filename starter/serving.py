"""A trained model of the starter: found in a train_dir, loaded, kept for inference, exported.

What evaluation keeps is a folder, `<train_dir>/inference_model/inference_model` (of segments:
`segment_inference_model`), with `model.keras` and `model_flags.json`. Inference needs nothing else.
"""

import contextlib
import gzip
import os
import shlex
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from starter import checkpoints, flags, models, submissions
from tfvc import files
from tfvc.data import records
from tfvc.data.schema import SEGMENT_FRAMES

FRAMES = 300  # the most that a video may have
TOLERANCE = 1e-5  # of an exported model, against the Keras model
_KEPT, _MODEL = "inference_model", "model.keras"
# A packed model may unpack to so many times its size, and so many bytes: weights hardly shrink.
_UNPACKED, _SMALL = 20, 16 << 20


class DamagedError(ValueError):
    """A kept model that cannot be loaded; a checkpoint may stand in for it."""


@dataclass
class Served:
    """A model with its weights, and what it was trained as."""

    model: keras.Model
    flags: dict  # of model_flags.json
    step: int  # of training
    source: Path  # where the weights were

    @property
    def num_classes(self):
        """C."""
        return self.model.output_shape[-1]

    def rows(self, max_frames=FRAMES):
        """Its streams, as rows of the reader; `max_frames` for windows of a video."""
        return _rows(self.flags, max_frames)

    def load(self, path):
        """Takes the weights of another checkpoint of the same model."""
        try:
            self.step, self.source = checkpoints.load(str(path), self.model), Path(path)
        except (zipfile.BadZipFile, EOFError, KeyError) as error:
            raise ValueError(
                f"{path}: damaged ({files.first_line(error)}); take another checkpoint"
            ) from None


def _rows(settings, max_frames):
    wanted = ("feature_names", "feature_sizes", "frame_features")
    return models.rows(*(settings[name] for name in wanted), max_frames)


def home(settings):
    """The train_dir that flags mean: `train_dir`; of `init_from` alone, the folder of that checkpoint."""
    if settings.init_from and "train_dir" not in settings.given:
        folder = Path(settings.init_from).parent
        return folder.parent if folder.name in (checkpoints.SUBFOLDER, _KEPT) else folder
    return Path(settings.train_dir)


def flags_for(path, train_dir, settings):
    """The model's flags of a checkpoint: model_flags.json beside it, else that of the train_dir."""
    folders = [*Path(path).absolute().parents[:2], *([Path(train_dir)] if train_dir else [])]
    having = [folder for folder in folders if (folder / checkpoints.FLAGS_FILE).is_file()]
    return checkpoints.flags_of((having or folders[-1:])[0], settings)


def restored(path, model_flags, segments):
    """A model built from its flags, with the weights of a checkpoint, ours or TensorFlow 1's.

    Args:
        path: `step-N.npz`, or `model.ckpt-N`.
        model_flags: of `flags_for`.
        segments: it is to read segments, not whole videos.
    """
    max_frames = SEGMENT_FRAMES if segments else FRAMES
    served = Served(built(model_flags, _rows(model_flags, max_frames)), model_flags, 0, Path(path))
    served.load(path)
    return served


def signature(model):
    """The inputs of a model as a `tf.function` is told them, batches of any size."""
    return {name: tf.TensorSpec((None, *x.shape[1:]), x.dtype, name) for name, x in model.input.items()}


def built(settings, rows, stream_sizes=None):
    """The network of a dict of flags, with fresh weights; `rows`, `stream_sizes`: of `models.build_model`."""
    own = {name: settings[name] for name in flags.MODEL if name in settings}
    return models.build_model(settings["model"], rows, settings["num_classes"], own, stream_sizes)


def batches(pattern, served, settings, segments, report, labels=True):
    """Batches of records for a model, `tfvc.data.records`; iterate within `records.readable`.

    Args:
        pattern: of `records.files`.
        settings: has `batch_size` and `on_corrupt`.
        segments: rated segments of the records, not whole videos.
        report: `records.Report`, for what is skipped.
        labels: False does not look at labels, which may then be of other classes than the model's.
    """
    if segments and not served.flags["frame_features"]:
        raise ValueError("--segment_labels: needs a model of frames (--frame_features); this one reads means")
    if "num_readers" in settings.given:
        print(f"--num_readers: {submissions.READERS}")
    size = SEGMENT_FRAMES if segments else 0
    source = records.Records(pattern, served.rows(), served.num_classes if labels else None, size)
    return records.batches(source, settings.batch_size, on_corrupt=settings.on_corrupt, report=report)


# --- kept for inference -------------------------------------------------------------------------------------


def _of_segments(folder):
    return folder.name.startswith("segment")


def kept_folder(train_dir, segments):
    """Where evaluation keeps the model, and inference looks for it."""
    return Path(train_dir) / _KEPT / ("segment_inference_model" if segments else "inference_model")


@contextlib.contextmanager
def _replaced(folder, wait=True):
    """Yields a name to write under; the folder is replaced when all is written. One process at a time."""
    with files.locked(folder, "writing", wait):
        files.sweep(folder.parent, folder.name)
        with files.aside(folder) as temporary:
            yield temporary


def keep(served, folder):
    """Writes the model and its flags, whole or not at all; an earlier one is replaced."""
    with _replaced(folder) as temporary:
        temporary.mkdir()
        served.model.save(temporary / _MODEL)
        own = {"num_classes": served.num_classes, "global_step": served.step}
        files.write_json(temporary / checkpoints.FLAGS_FILE, served.flags | own)


def kept(folder, arguments=None):
    """Reads what `keep` wrote, or what the original's evaluation did (`inference_model.index` and its data).

    Args:
        folder: of `kept_folder`.
        arguments: flags of the command line, which must not say otherwise.

    Returns:
        `Served`, or None where there is neither.

    Raises:
        DamagedError: it is damaged.
        ValueError: it was trained with other flags than those of the command line.
    """
    path = folder / _MODEL
    if not path.is_file():
        return _kept_by_the_original(folder, arguments)
    try:
        settings = checkpoints.flags_of(folder)
        files.check_archive(path)
        models.find(settings["model"])  # registers its layers
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        step = int(files.read_json(folder / checkpoints.FLAGS_FILE)["global_step"])
    except files.UNREADABLE as error:
        reason = files.first_line(error).removeprefix(f"{path}: ")
        raise DamagedError(f"{path}: cannot be loaded ({reason}); run starter.eval again") from None
    checkpoints.flags_of(folder, arguments)
    inputs = {name: x.shape[1:] for name, x in model.input.items() if not name.endswith("_length")}
    rows = {
        row.name: row.shape for row in _rows(settings, SEGMENT_FRAMES if _of_segments(folder) else FRAMES)
    }
    classes, said = model.output_shape[-1], settings["num_classes"]
    if inputs != rows or classes != said:
        raise DamagedError(
            f"{path}: reads {inputs} and has {classes} classes, but {checkpoints.FLAGS_FILE} says {rows} and "
            f"{said} classes; run starter.eval again"
        )
    return Served(model, settings, step, path)


def _kept_by_the_original(folder, arguments):
    # Unpacked from its .tgz, or as it lies in its train_dir.
    for index in (*sorted(folder.glob("*.index")), Path(f"{folder}.index")):
        if index.is_file():
            model_flags = flags_for(index, folder.parent, arguments)
            return restored(index.with_suffix(""), model_flags, _of_segments(folder))
    return None


def for_inference(arguments):
    """The model that the flags of inference (or export) ask for.

    It is `init_from`; or the model that evaluation kept, or the newest checkpoint, whichever is the later
    step of training; or the model that `input_model_tgz` holds. Where the kept model is damaged, it is the
    newest checkpoint, and a line says so.

    Raises:
        ValueError, FileNotFoundError: there is none, or the flags contradict one another or the model.
    """
    train_dir, segments = arguments.train_dir, getattr(arguments, "segment_labels", False)
    bundle, path = getattr(arguments, "input_model_tgz", ""), arguments.init_from
    if bundle and (train_dir or path):
        raise ValueError("--input_model_tgz: leave out --train_dir and --init_from; the bundle is the model")
    if not (bundle or train_dir or path):
        raise no_model("")
    served = None
    if bundle:
        folder = kept_folder(arguments.untar_model_dir, segments)
        unpack(bundle, folder)
        served = kept(folder, arguments)
        if served is None:
            raise ValueError(f"{bundle}: holds no model; expected a file of --output_model_tgz")
    elif not path:
        path = checkpoints.newest(train_dir)
        try:
            served = kept(kept_folder(train_dir, segments), arguments)
        except DamagedError as error:
            if not path:
                raise
            print(f"{error}; taken instead: the newest checkpoint", flush=True)
        if served is None and not path:
            raise no_model(train_dir)
    if path and (served is None or _later(path, served)):
        served = restored(path, flags_for(path, train_dir, arguments), segments)
    if segments and not served.flags["frame_features"]:
        raise ValueError(f"--segment_labels: needs a model of frames; {served.source} reads means of videos")
    print(f"model: {files.shown(served.source)}, global step {served.step}", flush=True)
    return served


def _later(path, served):
    """Whether a checkpoint is later than the kept model: in steps, or, of a run begun anew, in time."""

    def written(prefix):
        return max(p.stat().st_mtime for p in Path(prefix).parent.glob(f"{Path(prefix).name}*"))

    return checkpoints.step(path) > served.step or written(path) > written(served.source)


def no_model(train_dir):
    """The error for a train_dir without a model."""
    if not train_dir:
        return ValueError("--train_dir: expected the folder of a training")
    kind = "no whole checkpoint there" if Path(train_dir).is_dir() else "no such folder"
    return FileNotFoundError(
        f"{train_dir}: {kind}; train first: python -m starter.train --train_dir={train_dir}"
    )


def pack(served, path):
    """Bundles a model as a .tgz for another machine; `unpack` reads it."""
    with tempfile.TemporaryDirectory() as folder:
        keep(served, Path(folder) / "model")
        with _replaced(Path(path)) as temporary, tarfile.open(temporary, "w:gz") as tar:
            for part in (_MODEL, checkpoints.FLAGS_FILE):
                tar.add(Path(folder) / "model" / part, arcname=part)


def unpack(path, folder):
    """Puts the files of a bundled model into a folder, which is replaced: ours, or the original's.

    Raises:
        ValueError: it is no such bundle, it would write elsewhere, or unpack to far more than it is.
        FileNotFoundError: no such file.
    """
    room = _UNPACKED * os.path.getsize(path) + _SMALL
    remedy = "expected a file of --output_model_tgz"
    try:
        with _replaced(folder) as temporary, tarfile.open(path, "r:gz") as tar:
            temporary.mkdir()
            for member in tar:
                room -= member.size
                name = str(Path(member.name))  # `tar czf m.tgz ./*` calls them ./model.keras
                if member.isdir() and name == ".":
                    continue
                if not member.isreg() or Path(name).name != name or room < 0:
                    raise ValueError(f"{path}: holds {member.name!r} of {member.size} bytes; {remedy}")
                with tar.extractfile(member) as packed, (temporary / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
            if not (temporary / checkpoints.FLAGS_FILE).is_file():
                raise ValueError(f"{path}: holds no {checkpoints.FLAGS_FILE}; {remedy}")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: cannot be unpacked ({files.first_line(error)}); {remedy}") from None


# --- exported -----------------------------------------------------------------------------------------------


def export(target, function, network, given, expected, arrays):
    """Writes a SavedModel with one signature, `serving_default`; an earlier one is replaced.

    It is loaded again and compared before it takes its place; the largest difference is printed.

    Args:
        target: folder.
        function: `tf.function` with its input signature; gives a dict with "predictions".
        network: the Keras model that it calls.
        given: dict, inputs for the comparison.
        expected: the Keras model's predictions for them.
        arrays: dict, how to write the .npy file of each input, for the closing lines.

    Returns:
        Path of the SavedModel.

    Raises:
        ValueError: the predictions differ by more than `TOLERANCE`; an earlier export stays.
    """
    target = Path(target)
    module = tf.Module()
    # Variables and nothing else: the layers' own code stays out, so that no class is asked for on loading.
    module.held = [v.value for v in network.variables]
    with _replaced(target, wait=False) as temporary:
        tf.saved_model.save(module, str(temporary), signatures={"serving_default": function})
        loaded = tf.saved_model.load(str(temporary)).signatures["serving_default"]
        found = loaded(**{name: tf.convert_to_tensor(value) for name, value in given.items()})
        difference = float(np.max(np.abs(found["predictions"] - expected), initial=0))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{target}: predictions differ by {difference:.2e} after reloading; expected at most "
                f"{TOLERANCE:g}; nothing was exported"
            )
    print(f"exported: {files.shown(target)} (reloaded: maximum difference {difference:.2e})")
    inputs = ";".join(f"{name}={name}.npy" for name in arrays)
    print(
        f"try: saved_model_cli run --dir {shlex.quote(files.shown(target))} --tag_set serve "
        f"--signature_def serving_default --inputs '{inputs}'"
    )
    for name, how in arrays.items():
        print(f"  {name}.npy: {how}")
    return target
