"""Trains a model on YouTube-8M records: `python -m starter.train`."""

import contextlib
import os
import shlex
import signal
import sys
import warnings
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from starter import checkpoints, flags, models
from tfvc import files, start
from tfvc import strategy as strategies
from tfvc.recipe import differences

_DOC = """Trains a model on records of YouTube-8M, or goes on where an earlier run in --train_dir stopped.

Flags, log lines and files are those of Google's starter code, on TensorFlow 2."""

_TRAINING = {  # what may change when a run goes on
    "regularization_penalty": ("share", 1.0, "weight of the model's own penalties; the label loss has 1"),
    "base_learning_rate": ("share", 0.01, "rate of the first step"),
    "learning_rate_decay": ("share", 0.95, "factor of the rate after every learning_rate_decay_examples"),
    "learning_rate_decay_examples": ("amount", 4000000.0, "examples from one decay to the next"),
    "clip_gradient_norm": ("share", 1.0, "L2 norm that the gradient of no variable exceeds; 0 = no clipping"),
    "optimizer": ("string", "AdamOptimizer", "by its name in TensorFlow 1, as AdagradOptimizer"),
    "use_label_weights": ("boolean", False, "with --segment_labels: leave unrated classes out of the loss"),
    "precision": (("float32", "bfloat16"), "float32", "of the products; weights and loss stay float32"),
}
_ORDER = (
    flags.reading(1024, 8, "skip") | flags.SEGMENTS
)  # with the pattern: what the order of batches hangs on
_ORDER |= {
    "train_data_pattern": ("string", "", "the records: file names, `*` and `?` allowed, separated by commas"),
    "seed": ("seed", 0, "of the first weights, the order of the records and the frames that are drawn"),
}
_SITTING = {
    "num_gpu": ("natural", 1, "at most so many GPUs, each with a whole batch; without a GPU: one CPU"),
    "start_new_model": ("boolean", False, "remove the earlier run's files from --train_dir and begin anew"),
    "init_from": ("string", "", "begin with a checkpoint of TensorFlow 1, as run/model.ckpt-1000"),
    "num_epochs": ("positive", 5, "passes over the data"),
    "max_steps": ("positive", None, "stop at this step, if that comes first"),
    "export_model_steps": ("positive", 1000, "steps from one checkpoint to the next; also every 15 minutes"),
}
FLAGS = flags.TRAIN_DIR | flags.IDENTITY | flags.VOCABULARY | _ORDER | _TRAINING | _SITTING
FLAGS |= flags.PLACEMENT | flags.MODEL


def train(settings, strategy=""):
    """Trains, or goes on with, the run in `settings.train_dir`.

    **Source** `Trainer.run` of YouTube-8M's train.py.

    **Differs** The original forgets where in the data it was, and starts `num_epochs` passes anew when it
    goes on; ours goes on with the next batch, as long as the data and the batch are what they were. Flags
    such as the rate, which the original then takes from the old graph, are taken from the command line;
    what has changed is said. `start_new_model` removes what training wrote, not the whole folder.

    Args:
        settings: object with one attribute for each name of `FLAGS`.
        strategy: `cpu:N` for N replicas on logical CPUs, for tests; "" = what `num_gpu` says, or where the
            environment has TF_CONFIG, `multiworker`.

    Returns:
        int, the global step.

    Raises:
        ValueError: a flag or a record does not fit, the run was begun with other flags, or the loss is no
            longer finite (the step is named; earlier checkpoints are kept).
        FileNotFoundError: no file matches.
        KeyboardInterrupt: SIGINT or SIGTERM came; a checkpoint was saved.
    """
    strategy = strategy or ("multiworker" if os.environ.get("TF_CONFIG") else "")
    if strategy and not strategies.is_chief(strategy):  # which holds the lock, and alone writes
        return _begin(_folder(settings.train_dir), settings, strategy)
    with _locked(settings.train_dir) as folder:
        files.sweep(folder, checkpoints.FLAGS_FILE)
        return _begin(folder, settings, strategy)


@contextlib.contextmanager
def _locked(train_dir):
    """Yields the folder of a flag, which no other training uses meanwhile."""
    said, folder = f"--train_dir={train_dir}", _folder(train_dir)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder, "training in"))
        except OSError as error:
            remedy = "expected a folder in one that can be written to"
            raise ValueError(f"{said}: {error.strerror}; {remedy}") from None
        yield folder


def _folder(train_dir):
    """The folder of a flag."""
    said, folder = f"--train_dir={train_dir}", Path(train_dir)
    if not train_dir:
        raise ValueError("--train_dir: empty; expected a folder, which need not exist yet")
    if "://" in train_dir:
        raise ValueError(f"{said}: no local folder; train into one, and copy it there afterwards")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{said}: a file; expected a folder, which need not exist yet")
    return folder


def _begin(folder, settings, strategy):
    from tfvc.workers import Crew

    devices = _devices(settings.num_gpu, strategy)  # before anything else touches a device
    crew = Crew(devices)
    with crew.standing(
        f"start all workers again by the same command, to go on from a checkpoint in {folder}"
    ):
        step = _fit(folder, settings, devices, crew)
        crew.wait()
        return step


def _fit(folder, settings, devices, crew):
    from starter import steps
    from tfvc import callbacks, training
    from tfvc.data import records
    from tfvc.data.sharing import Ending

    # All that can be wrong is found before a file of an earlier run is touched.
    _check(settings)
    described = flags.chosen(settings, checkpoints.STORED)
    if not settings.start_new_model:
        checkpoints.same_flags(folder, described)
    size = settings.batch_size * devices.num_replicas_in_sync
    training.start(settings.seed)
    report = records.Report()
    batches = _batches(settings, size, devices.num_replicas_in_sync > 1, report, crew.share)
    with training.precision(settings.precision), devices.scope():
        model = _model(settings, size)
    parameters = model.network.count_params()
    print(f"{settings.model}: {parameters:,} parameters; batches of {size}", flush=True)
    progress, seen = crew.in_turn(lambda: _resume(folder, settings, size, model, crew.chief))
    told = {"flags": described | progress.about["settings"], "step": progress.step}
    crew.agree(told, f"start all by the same command; all must read one --train_dir ({folder})")
    if settings.start_new_model and crew.chief:
        for line in checkpoints.clear(folder):
            print(line)
    fresh = not (folder / checkpoints.FLAGS_FILE).exists()
    if crew.chief:
        checkpoints.write_flags(folder, described)
    crew.see("--train_dir", folder / checkpoints.FLAGS_FILE)
    if settings.max_steps and progress.step >= settings.max_steps:
        print(f"step {progress.step}: --max_steps={settings.max_steps} is reached already")
        return progress.step

    wait, signals, ending = callbacks.DataWait(), callbacks.Signals(), Ending()
    limits = (settings.max_steps, settings.export_model_steps)
    log = steps.Steps(folder, model.network, progress, wait, signals, *limits, crew, ending)
    left = batches.skip(seen)
    left = crew.placed(wait.wrap(ending.wrap(left) if crew.count > 1 else left))
    try:
        with signals, records.readable(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your input ran out of data")  # no batch left: said below
            model.fit(left, verbose=0, callbacks=[log], shuffle=False)
    except callbacks.Stopped:
        print(f"saved at step {progress.step}; the same command goes on from there")
        raise
    finally:
        log.close()
        if (
            fresh and not progress.step and crew.chief
        ):  # nothing was trained: a mended command line must not be refused
            checkpoints.clear(folder)
    if report.faults:
        print(report.summary())
    if not progress.step:
        raise ValueError(f"--train_data_pattern={settings.train_data_pattern}: not one batch of {size}")
    if not log.taken:
        print(f"all passes over the data are done; ask for more by --num_epochs (now {settings.num_epochs})")
    elif log.over or not model.stop_training:
        print("Done training -- epoch limit reached.")
    waited = f"waited for data {log.wait_share():.0%} of the time"
    print(f"step {progress.step}: the run lies in {folder}; {waited}")
    return progress.step


def _check(settings):
    """Refuses what no reading of the data is needed to refuse."""
    from starter import losses, trainer

    _rows(settings)
    models.find(settings.model)
    losses.find(settings.label_loss)
    trainer.optimizer(settings.optimizer, settings.base_learning_rate)
    if settings.segment_labels and not settings.frame_features:
        raise ValueError("--segment_labels: only with --frame_features; means have no segments")
    if settings.use_label_weights and not settings.segment_labels:
        raise ValueError("--use_label_weights: only with --segment_labels; videos have no label weights")


def _rows(settings, max_frames=300):
    streams = (settings.feature_names, settings.feature_sizes, settings.frame_features)
    return models.rows(*streams, max_frames)


def _model(settings, size):
    """The compiled `starter.trainer.Trainer`; `size` is that of a batch of all replicas."""
    from starter import losses, trainer
    from tfvc.data.schema import SEGMENT_FRAMES
    from tfvc.optimizers import StaircaseDecay

    rows = _rows(settings, SEGMENT_FRAMES) if settings.segment_labels else _rows(settings)
    own = flags.chosen(settings, flags.MODEL)
    network = models.build_model(settings.model, rows, settings.num_classes, own)
    penalty, norm = settings.regularization_penalty, settings.clip_gradient_norm
    model = trainer.Trainer(network, losses.find(settings.label_loss), penalty, norm)
    rate = StaircaseDecay(
        settings.base_learning_rate,
        settings.learning_rate_decay,
        settings.learning_rate_decay_examples,
        size,
    )
    model.compile(trainer.optimizer(settings.optimizer, rate), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def _devices(num_gpu, strategy):
    """The `tf.distribute.Strategy` of `--num_gpu`; it says what it uses."""
    import tensorflow as tf

    if strategy:
        devices = strategies.scope(strategy)
        print(f"strategy {strategy}: {devices.num_replicas_in_sync} replicas, each with a whole batch")
        return devices
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > num_gpu:  # the others stay free, their memory too
        tf.config.set_visible_devices(gpus[:num_gpu], "GPU")
        gpus = gpus[:num_gpu]
    if not gpus:
        print(f"No GPUs found. Training on CPU{f', one replica for --num_gpu={num_gpu}' * (num_gpu > 1)}.")
    else:
        print(f"Using the following GPUs to train: {', '.join(gpu.name for gpu in gpus)}")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def _resume(folder, settings, size, model, tidy):
    """Where the run stands: its Progress, and how many of the batches it has seen already.

    The newest checkpoint of ours is put back, else one of TensorFlow 1, else nothing. `tidy`: what a kill
    left behind is removed.
    """
    from tfvc.checkpoints import Progress, load, prune

    network, optimizer = model.network, model.optimizer
    remedy = "put a whole one back, give another --train_dir, or begin anew with --start_new_model"
    path = None if settings.start_new_model else checkpoints.newest(folder, remedy)
    now = flags.chosen(settings, _TRAINING | _ORDER) | {"examples_a_step": size}
    if not path or not path.endswith(".npz"):
        progress = Progress(step=_begin_from(settings, path, network, optimizer))
        progress.about = {"settings": now, "data_from": progress.step}
        return progress, 0
    if settings.init_from:
        print(f"--init_from={settings.init_from}: no longer; the run has a checkpoint of its own")
    progress = load(path, network)
    past, first = progress.about.get("settings"), progress.about.get("data_from")
    if not (
        isinstance(past, dict)
        and set(now) <= set(past)
        and type(first) is int
        and 0 <= first <= progress.step
    ):
        raise ValueError(f"{path}: a checkpoint of another program; {remedy}")
    print(f"going on from step {progress.step} of {folder}")
    for line in differences(past, now):
        print(f"  from here on, {line}")
    if past["optimizer"] == now["optimizer"]:
        load(path, network, optimizer)
    else:
        print(f"  {now['optimizer']} starts fresh")
        optimizer.iterations.assign(progress.step)
    if tidy:
        files.sweep(folder / checkpoints.SUBFOLDER)
        prune(folder / checkpoints.SUBFOLDER, checkpoints.KEEP, progress.step)
    if any(past[name] != now[name] for name in {*_ORDER, "examples_a_step"} - {"num_readers"}):
        print("  the data begins anew")
        first = progress.step
    elif progress.step > first:
        print(f"reading past the {progress.step - first} batches that it has seen")
    progress.about = {"settings": now, "data_from": first}
    return progress, progress.step - first


def _begin_from(settings, path, network, optimizer):
    """The first step of a run without a checkpoint of ours: 0, or that of one of TensorFlow 1."""
    from starter import tf1

    prefix = settings.init_from or path
    if not prefix:
        print("No checkpoint file found. Building a new model.")
        return 0
    step, lines = tf1.load(prefix, network, optimizer)
    print("\n".join([f"going on from step {step} of {prefix}", *lines]))
    return step


def _batches(settings, size, drop_remainder, report, share):
    """All passes over the data, as batches of (inputs, labels[, label weights])."""
    import tensorflow as tf

    from tfvc.data import records, schema

    segment = schema.SEGMENT_FRAMES if settings.segment_labels else 0
    batches = records.batches(
        records.Records(settings.train_data_pattern, _rows(settings), settings.num_classes, segment),
        size,
        shuffle=True,
        seed=settings.seed,
        epochs=settings.num_epochs,
        drop_remainder=drop_remainder,
        on_corrupt=settings.on_corrupt,
        report=report,
        share=share,
    )
    options = tf.data.Options()
    if "num_readers" in getattr(settings, "given", ()):
        options.threading.private_threadpool_size = settings.num_readers
    weighted = 4 if settings.use_label_weights else 3
    chosen = tf.autograph.experimental.do_not_convert(lambda *batch: (*batch[:2], *batch[3:weighted]))
    return batches.map(chosen).with_options(options)


def main(argv=None):
    def run(arguments):
        flags.place(arguments)
        start.keep_memory()
        try:
            train(arguments)
        except KeyboardInterrupt as error:
            again = shlex.join(sys.argv[1:] if argv is None else argv)
            lost = "" if hasattr(error, "number") else " at once; nothing was saved since the last checkpoint"
            if not checkpoints.any_of(arguments.train_dir):
                lost = "; nothing was saved"
            print(f"stopped{lost}; to go on: python -m starter.train {again}".rstrip(), file=sys.stderr)
            return 128 + getattr(error, "number", signal.SIGINT)

    flags.command("starter.train", _DOC, FLAGS, run, argv)


if __name__ == "__main__":
    main()
