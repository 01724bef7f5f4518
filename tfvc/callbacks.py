"""What happens around each step of `fit`: the clock of the data, the guard, the board, the books.

They run in this order: Validation, Meter (measures, stops on NaN), Board (TensorBoard), Books (history,
CSV log, best model, early stopping, checkpoints, Ctrl-C).
"""

import math
import signal
import threading
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvc import checkpoints, files


class Stopped(KeyboardInterrupt):
    """A signal ended the training after a checkpoint was saved. `number` is the signal's."""

    def __init__(self, number):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class DataWait:
    """How long a pipeline lets its reader wait: `seconds`, since the beginning.

    Keras pulls batches inside the compiled step, where no callback can look. So the dataset is given a
    clock on either side: the time is taken, then the batch is pulled, then the time is taken again and the
    difference added up. What the pipeline prepares ahead (its own prefetch) costs nothing here; nothing may
    prefetch behind the second clock, or it would time the pipeline's work instead of the step's wait.
    (The clocks are Python's: `tf.timestamp` is refused where operations must be deterministic.)

    **Differs**: under a distribution strategy TensorFlow feeds the replicas from a thread that runs ahead of
    the step, so there the wait is that of the feed: an upper bound.
    """

    def __init__(self):
        self.seconds = 0.0
        self._start = 0.0

    @tf.autograph.experimental.do_not_convert
    def wrap(self, dataset):
        """The same batches, timed."""

        def before(_):
            return tf.numpy_function(self._begin, [], tf.int64)

        def after(_, batch):
            with tf.control_dependencies([tf.numpy_function(self._end, [], tf.int64)]):
                return tf.nest.map_structure(tf.identity, batch)

        clock = tf.data.Dataset.from_tensors(0).repeat().map(before)
        timed = tf.data.Dataset.zip((clock, dataset)).map(after)  # zip pulls from left to right
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return timed.with_options(options)

    def _begin(self):
        self._start = time.perf_counter()
        return np.int64(0)

    def _end(self):
        self.seconds += time.perf_counter() - self._start
        return np.int64(0)


class Signals:
    """Between `with` and its end, the first SIGINT or SIGTERM is only noted, in `caught`; the second acts."""

    def __init__(self):
        self.caught = 0
        self._old = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            self._old = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        self._restore()

    def obey(self, number):
        """Raises Stopped, where a signal came, to this process or to another worker.

        Args:
            number: of the signal; 0 = none came.
        """
        if not number:
            return
        if not self.caught:
            print("another worker was told to stop, and all do", flush=True)
        raise Stopped(number)

    def _note(self, number, _):
        self.caught = number
        self._restore()
        print(
            f"\n{signal.Signals(number).name}: saving after this step (once more: stop at once)", flush=True
        )

    def _restore(self):
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}


class Validation(keras.callbacks.Callback):
    """Measures the validation part at the end of each epoch, on one device, and adds `val_*` to the logs.

    `fit` would do it under the strategy, and there a last batch that cannot be shared equally among the
    replicas makes the loss wrong, or NaN where a replica gets nothing.

    Args:
        judge: a `tfvc.training.Judge` of the network that is trained.
        dataset: finite, of (inputs, labels).
        crew: `tfvc.workers.Crew`; the chief measures, and all take its word, or they would part ways.
    """

    def __init__(self, judge, dataset, crew):
        super().__init__()
        self._judge, self._dataset, self._crew = judge, dataset, crew

    def on_epoch_end(self, epoch, logs=None):
        names = [*(measure.name for measure in self._judge.measures), "loss"]

        def measured():
            values = self._judge.measure(self._dataset)
            return [values[name] for name in names]

        values = self._crew.from_chief(measured, len(names))
        logs.update({f"val_{name}": value for name, value in zip(names, values, strict=True)})


class Meter(keras.callbacks.Callback):
    """Counts steps and measures them. `step_values` and `epoch_values` are what the others write down.

    Raises, at a step whose loss is not finite, a ValueError that names it.
    """

    def __init__(self, progress, metrics, wait):
        super().__init__()
        self.progress, self._metrics, self._wait = progress, metrics, wait
        self.step_values, self.epoch_values = {}, {}
        self._first = True

    def on_epoch_begin(self, epoch, logs=None):
        for name, metric in self._metrics().items():  # the sums of an epoch that was broken off
            if name in self.progress.partial:
                metric.total.assign(self.progress.partial[name][0])
                metric.count.assign(self.progress.partial[name][1])
        self.progress.partial = {}
        self._sums = self._read()
        self._timed = []  # (clips, seconds, waited) of each step

    def on_train_batch_begin(self, batch, logs=None):
        # Here, not at the end of the step before: the time of a checkpoint is not the model's.
        self._clock, self._waited = time.perf_counter(), self._wait.seconds

    def on_train_batch_end(self, batch, logs=None):
        sums, now, waited = self._read(), time.perf_counter(), self._wait.seconds
        self.progress.step += 1
        values = {}
        for name, (total, count) in sums.items():
            before = self._sums[name]
            values[name] = (total - before[0]) / max(count - before[1], 1.0)
        if not math.isfinite(values["loss"]):
            raise ValueError(
                f"step {self.progress.step}: the loss is {values['loss']}. Lower train.learning_rate or look "
                "at the data; an earlier checkpoint, if there is one, is kept"
            )
        took = (sums["loss"][1] - self._sums["loss"][1], now - self._clock, waited - self._waited)
        self._timed.append(took)
        self.step_values = {**values, "learning_rate": self._rate(), **_speed([took])}
        self._sums = sums

    def on_epoch_end(self, epoch, logs=None):
        # The first step of a sitting traces and compiles: it says nothing about the speed of the others.
        timed = self._timed[1:] if self._first and len(self._timed) > 1 else self._timed
        self._first = False
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.epoch_values = {**values, "learning_rate": self._rate(), **_speed(timed)}

    def sums(self):
        """Metric sums so far in this epoch, for a checkpoint in its middle."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def _read(self):
        return {n: (_number(m.total), _number(m.count)) for n, m in self._metrics().items()}

    def _rate(self):
        return _number(self.model.optimizer.learning_rate)


class Board(keras.callbacks.Callback):
    """TensorBoard scalars: `logs/train` a step and (`epoch_*`) an epoch, `logs/validation` an epoch."""

    def __init__(self, folder, meter):
        super().__init__()
        self._meter = meter
        self._train = tf.summary.create_file_writer(str(Path(folder) / "train"))
        self._validation = tf.summary.create_file_writer(str(Path(folder) / "validation"))

    def on_train_batch_end(self, batch, logs=None):
        self._write(self._train, self._meter.step_values, self._meter.progress.step)

    def on_epoch_end(self, epoch, logs=None):
        values = self._meter.epoch_values
        train = {f"epoch_{k}": v for k, v in values.items() if not k.startswith("val_")}
        validation = {f"epoch_{k[4:]}": v for k, v in values.items() if k.startswith("val_")}
        self._write(self._train, train, epoch + 1)
        self._write(self._validation, validation, epoch + 1)
        self.flush()

    def flush(self):
        """Hands what was written to the file system."""
        self._train.flush()
        self._validation.flush()

    def close(self):
        self._train.close()
        self._validation.close()

    def _write(self, writer, values, step):
        with writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)


class Books(keras.callbacks.Callback):
    """History, `log.csv`, the best model, early stopping, checkpoints, and the way out on a signal.

    Args:
        model: what is saved as best: the network alone, without optimiser.
        train: `recipe.Train`.
        folder: of the run.
        meter: the Meter; its `progress` is kept here.
        signals: a `Signals`, looked at after each step.
        crew: `tfvc.workers.Crew`; the chief alone writes, and a signal to one stops all, at the same step.
    """

    def __init__(self, model, train, folder, meter, signals, crew):
        super().__init__()
        self._bare, self._recipe, self._folder = model, train, Path(folder)
        self._meter, self._signals, self._crew = meter, signals, crew
        self._since = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        progress, every = self._meter.progress, self._recipe.checkpoint_steps
        if progress.step % progress.steps_per_epoch == 0:
            return  # the epoch's end is near: validation first, then its checkpoint
        due = bool(every) and progress.step % every == 0
        if due:
            self._broken_off()
        (caught,) = self._crew.largest(self._signals.caught)  # one that came while it was saved, too
        if caught and not due:
            self._broken_off()
        self._signals.obey(caught)

    def _broken_off(self):
        """A checkpoint in the middle of an epoch."""
        progress = self._meter.progress
        progress.partial = self._meter.sums()
        self._checkpoint()
        progress.partial = {}

    def on_epoch_end(self, epoch, logs=None):
        progress, values = self._meter.progress, self._meter.epoch_values
        key = f"val_{self._recipe.monitor}"
        for name, value in values.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"step {progress.step}: {name} is {value}. Lower train.learning_rate or look at the "
                    "data; an earlier checkpoint, if there is one, is kept"
                )
        if progress.history:
            values = {k: values[k] for k in progress.history[0] if k in values}  # one order of columns
        progress.history.append({"epoch": epoch + 1, **values})
        value = values.get(key)
        improved = value is not None and is_better(self._recipe, epoch + 1, value, progress.best)
        if improved:
            progress.best, progress.best_epoch, progress.best_step = value, epoch + 1, progress.step
        if self._crew.chief:
            self._keep(improved)
        if patience_is_out(self._recipe, progress):
            print(f"no better {key} for {self._recipe.patience} epochs: stopping early")
            self.model.stop_training = True
        elif progress.epoch < self._recipe.epochs:
            self._signals.obey(*self._crew.largest(self._signals.caught))

    def _keep(self, improved):
        progress = self._meter.progress
        if improved:
            best = checkpoints.best_path(self._folder / "checkpoints", progress)
            checkpoints.save_model(self._bare, best)
            progress.best_sha256 = files.sha256(best)
        self._checkpoint()
        if improved:
            checkpoints.publish(best, self._folder / "best.keras")
        write_log(self._folder / "log.csv", progress.history)

    def _checkpoint(self):
        if not self._crew.chief:
            return
        progress, now = self._meter.progress, time.perf_counter()
        progress.seconds += now - self._since
        self._since = now
        folder = self._folder / "checkpoints"
        checkpoints.save(folder, self._bare, self.model.optimizer, progress, self._recipe.keep_checkpoints)


def patience_is_out(train, progress):
    """Whether early stopping says that it is enough. Epochs before `train.best_from` do not count."""
    best = max(progress.best_epoch, train.best_from - 1)
    return train.patience > 0 and progress.epoch - best >= train.patience


def is_better(train, epoch, value, best):
    """Whether an epoch is the best so far.

    Args:
        train: `recipe.Train`: its monitor, `min_delta` and `best_from`.
        epoch: counted from 1.
        value: of the monitor.
        best: of the best epoch so far, or None.
    """
    if epoch < train.best_from:
        return False
    if best is None:
        return True
    return (best - value if train.monitor == "loss" else value - best) > train.min_delta


def write_log(path, history):
    """`log.csv`: a line an epoch, separated by `;` as the original's. Written whole: no line comes twice."""
    columns = list(history[0])
    rows = [[row.get(name, "") for name in columns] for row in history]
    files.write_csv(path, [columns, *rows], delimiter=";")


def _speed(timed):
    clips, seconds, waited = (sum(column) for column in zip(*timed, strict=True))
    seconds = max(seconds, 1e-9)
    return {"examples_per_second": clips / seconds, "data_wait_share": min(1.0, waited / seconds)}


def _number(variable):
    return float(keras.ops.convert_to_numpy(variable))
