"""The one trainer: Keras' `fit`, with everything that a long run needs around it.

The model that is saved is the bare network: no optimiser, no loss, no wrapper.
"""

import contextlib
import sys
import warnings
from pathlib import Path

import keras
import tensorflow as tf

from tfvc import checkpoints, losses, metrics
from tfvc.callbacks import (
    Board,
    Books,
    DataWait,
    Meter,
    Signals,
    Stopped,
    Validation,
    patience_is_out,
    write_log,
)
from tfvc.optimizers import by_path, optimizer
from tfvc.trainee import Trainee, of_tensors
from tfvc.updates import HeadLosses, PathUpdates
from tfvc.workdir import classifier_of, heads_of, probabilities_of
from tfvc.workers import Crew

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class Judge:
    """What a network is judged by. It is traced once, for any number of passes and, as it shares the
    network's variables, for whatever weights these have by then. `measures` are its metrics.

    Args:
        model: functional keras.Model; made under a strategy or not, it is judged on one device.
        train: `recipe.Train`.
        multi_label: as `fit` takes it.

    Example:
        >>> from tfvc import recipe
        >>> x = keras.Input((3,))
        >>> network = keras.Model(x, keras.layers.Dense(2, "softmax")(x))
        >>> data = tf.data.Dataset.from_tensors((tf.ones((4, 3)), tf.one_hot([0, 1, 1, 0], 2)))
        >>> found = Judge(network, recipe.get("attention_boosted").train).measure(data)
        >>> found["accuracy"], found["clips"]
        (0.5, 4)
    """

    def __init__(self, model, train, multi_label=False):
        self.measures = measures(multi_label)
        self._model = keras.Model(model.input, probabilities_of(model))
        self._model.compile(loss=_loss(train, multi_label), metrics=self.measures, jit_compile=False)
        self._dataset = self._iterator = self._given = self._step = None

    def measure(self, dataset):
        """Goes through a finite dataset of (inputs, labels) once.

        Returns:
            dict: `loss` and `accuracy` (with several labels a clip `hit_at_one`, `perr`, `gap`, `micro_f1`
            instead), floats; `clips`, how many there were.

        Raises:
            ValueError: no clip has a label, so that a ranking has nothing to find.
        """
        count = int(dataset.cardinality())
        if count < 1 or not of_tensors(dataset):  # < 1: not known before, as of a pattern of records
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
                self._model.evaluate(dataset, verbose=0)
        else:
            self._pass(dataset, count)
        rankings = [measure.ranking for measure in self.measures if hasattr(measure, "ranking")]
        if any(ranking.positives is None or not ranking.positives.any() for ranking in rankings):
            raise ValueError(
                "no label in the records of the validation or test part; expected labelled ones "
                "(data.validation, data.test)"
            )
        found = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        return found | {"clips": int(keras.ops.convert_to_numpy(self.measures[0].count))}

    def _pass(self, dataset, count):
        """As Keras' `evaluate`, which opens the dataset anew each time: a tenth of a second, as long as an
        epoch of a small set takes; and which traces its step twice, where one dataset has full batches only
        and the next has not."""
        if dataset is not self._dataset:
            self._dataset, self._iterator = dataset, iter(dataset.repeat())
            given = tf.nest.map_structure(_of_any_size, dataset.element_spec)
            if given != self._given:
                step = tf.function(self._model.test_step, input_signature=[given], autograph=False)
                self._given, self._step = given, step
        self._model.reset_metrics()
        for _ in range(count):
            self._step(next(self._iterator))


def _of_any_size(spec):
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def start(seed, deterministic=False):
    """Sets every seed. Call it before the model is built. Layers are named afresh, so that a run started
    again in this process has the names of the first.

    Args:
        seed: of Python, NumPy and Keras.
        deterministic: ask TensorFlow for operations that give the same bits each time (slower; for the rest
            of this process).
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def precision(name):
    """Within it, models are built for `train.precision`; afterwards the policy is what it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[name])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def fit(
    model,
    train,
    batches,
    steps_per_epoch,
    validation,
    folder,
    *,
    multi_label=False,
    paths=None,
    seed=0,
    judge=None,
):
    """Trains a model, or goes on where a killed run stopped.

    The order of the data must be a function of the step alone: `batches(first_step)` is asked again when a
    run goes on. With `train.deterministic`, a run that was killed ends with the weights of one that was not.
    Of several workers each calls this; the chief alone writes into the folder, which all read.

    Args:
        model: a functional keras.Model, built under `precision(train.precision)` and its strategy's scope. Of
            several outputs `probabilities` is trained and judged (with an output `heads` each head is
            trained by its own loss, see `HeadLosses`); what is saved has all.
        train: `recipe.Train`.
        batches: function of the first step that returns an infinite dataset of (inputs, labels): of a worker,
            its part of each batch.
        steps_per_epoch: batches an epoch.
        validation: finite dataset of (inputs, labels), or None.
        folder: of the run; gets `checkpoints/`, `logs/`, `log.csv`, `best.keras`.
        multi_label: whether a clip may have several labels; says which measures there are, and the loss
            where `train.loss` is `auto`.
        paths: `visual`, `audio` -> names of the layers that stand still in the share `train.drop_visual`,
            `train.drop_audio` of the steps (see `PathUpdates`); None = the model has no such paths.
        seed: of the draw which path stands still.
        judge: a `Judge` of the model, which measures the validation part; None = one is made.

    Returns:
        `(network, progress)`: the network with the weights of the last step, uncompiled, and a
        `checkpoints.Progress`.

    Raises:
        ValueError: the loss, or a weight, is no longer finite (the step is named); a checkpoint of another
            model; shares of steps, or a first best epoch, that do not fit; workers that stand at different
            steps.
        Stopped: SIGINT or SIGTERM came; a checkpoint was saved.
    """
    folder = Path(folder)
    drops = _drops(train, paths)
    if train.report == "best" and train.best_from > train.epochs:
        end = f"train.epochs={train.epochs}, or train.report=last"
        raise ValueError(
            f"train.best_from={train.best_from}: no epoch may be the best; expected at most {end}"
        )
    bare = keras.Model(model.input, model.output, name=model.name)  # the same layers, never compiled
    crew = Crew(model.distribute_strategy)
    replicas = model.distribute_strategy.num_replicas_in_sync
    with model.distribute_strategy.scope():
        measure = measures(multi_label)[0]
        step = {
            "parts": train.accumulate,
            "sum_first": train.clip_norm > 0 or train.precision == "float16",
        }
        if drops:
            trained = PathUpdates(classifier_of(model), paths, drops, seed, **step)
            rule = by_path(train, len(trained.trainable_variables), trained.still, replicas)
        else:
            several = heads_of(model) is not None
            trained = HeadLosses(model, **step) if several else Trainee(classifier_of(model), **step)
            rule = optimizer(train, replicas)
        trained.compile(rule, _loss(train, multi_label), metrics=[measure], jit_compile=train.jit)
        trained.optimizer.build(trained.trainable_variables)
    progress = _progress(folder, bare, trained.optimizer, train, steps_per_epoch, crew)
    if drops:
        trained.step = progress.step

    tracker = next(m for m in trained.metrics if m.name == "loss")
    wait, signals = DataWait(), Signals()
    meter = Meter(progress, lambda: {"loss": tracker, measure.name: measure}, wait)
    boards = [Board(folder / "logs", meter)] if crew.chief else []
    callbacks = [meter, *boards, Books(bare, train, folder, meter, signals, crew)]
    if validation is not None:
        callbacks.insert(0, Validation(judge or Judge(model, train, multi_label), validation, crew))
    try:
        with signals:
            while progress.epoch < train.epochs and not patience_is_out(train, progress):
                done = progress.step - progress.epoch * steps_per_epoch
                trained.fit(
                    crew.placed(wait.wrap(batches(progress.step))),
                    initial_epoch=progress.epoch,
                    epochs=progress.epoch + 1 if done else train.epochs,  # first the rest of a broken epoch
                    steps_per_epoch=steps_per_epoch - done,
                    callbacks=callbacks,
                    shuffle=False,  # the batches come in their order already
                    verbose=1 if sys.stdout.isatty() else 2,
                )
    except Stopped:
        print(f"saved at step {progress.step}; the same command goes on from there")
        raise
    finally:
        for board in boards:
            board.close()
    return bare, progress


def _progress(folder, bare, rule, train, steps_per_epoch, crew):
    """Where the run stands: its newest checkpoint's progress, or a fresh one; the same for all workers."""

    def found():
        if crew.chief:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            return _resumed(folder, bare, rule, train, steps_per_epoch)
        path = checkpoints.newest(folder / "checkpoints")
        return checkpoints.load(path, bare, rule) if path else None

    progress = crew.in_turn(found) or checkpoints.Progress(steps_per_epoch=steps_per_epoch)
    crew.agree(
        {"step": progress.step, "steps an epoch": steps_per_epoch},
        f"expected a folder of the run that all workers read, not each its own ({folder})",
    )
    return progress


def _resumed(folder, bare, rule, train, steps_per_epoch):
    """The newest checkpoint's progress, whose weights are put back; None where there is none."""
    where = folder / "checkpoints"
    progress = checkpoints.restore(where, bare, rule, train.keep_checkpoints)
    if progress is None:
        return None
    if progress.steps_per_epoch != steps_per_epoch:
        raise ValueError(
            f"{where}: made with {progress.steps_per_epoch} steps an epoch, now there are {steps_per_epoch}: "
            "the data or the batch has changed; give another --workdir"
        )
    if progress.epoch > train.epochs:
        raise ValueError(
            f"{where}: has {progress.epoch} epochs already; expected train.epochs of at least that"
        )
    if progress.history:
        write_log(folder / "log.csv", progress.history)
    if progress.best_step:
        checkpoints.publish(checkpoints.best_path(where, progress), folder / "best.keras")
    print(f"going on from step {progress.step} ({progress.epoch} of {train.epochs} epochs done)")
    return progress


def _drops(train, paths):
    """Name of a path -> share of the steps in which it stands still, {} where none ever does."""
    drops = {"visual": train.drop_visual, "audio": train.drop_audio}
    if not any(drops.values()):
        return {}
    given = " and ".join(f"train.drop_{path}={share}" for path, share in drops.items() if share)
    if not paths:
        raise ValueError(f"{given}: this model has no paths that could stand still; expected 0")
    if sum(drops.values()) > 1:
        raise ValueError(f"{given}: shares of the steps; expected a sum of at most 1")
    return drops


def keep(network, folder, progress, report):
    """Writes `model.keras`, the weights that are reported.

    Args:
        network: with the weights of the last step.
        folder: of the run.
        progress: the `checkpoints.Progress` of the end.
        report: `last`, or `best`: the epoch with the best monitor.
    """
    if report == "best":
        checkpoints.publish(Path(folder) / "best.keras", Path(folder) / "model.keras")
    else:
        checkpoints.save_model(network, Path(folder) / "model.keras")


def transfer(model, source):
    """Copies weights between two models, by layer name and shape.

    Args:
        model: receives.
        source: a trained model.

    Returns:
        list of str: a line for each layer that starts fresh, and why.

    Raises:
        ValueError: not one layer fits.
    """
    given = {layer.name: layer for layer in source.layers if layer.weights}
    lines, fitted = [], 0
    for layer in model.layers:
        if not layer.weights:
            continue
        here = [tuple(w.shape) for w in layer.weights]
        there = [tuple(w.shape) for w in given[layer.name].weights] if layer.name in given else None
        if here == there:
            layer.set_weights(given[layer.name].get_weights())
            fitted += bool(layer.trainable_weights)  # statistics alone are no start
        else:
            why = "it is not in the other run" if there is None else f"{there} there, {here} here"
            lines.append(f"layer {layer.name!r} starts fresh: {why}")
    if not fitted:
        raise ValueError("--init_from: no layer of that run fits this model; " + "; ".join(lines))
    return lines


def _loss(train, multi_label):
    name = train.loss
    if name == "auto":
        name = "binary" if multi_label else "categorical"
    return {
        "categorical": keras.losses.CategoricalCrossentropy,
        "binary": keras.losses.BinaryCrossentropy,
        "cross_entropy": losses.CrossEntropyLoss,
    }[name]()


def measures(multi_label):
    """Fresh metrics: what a run is judged by. The first is a mean, so that each step's can be told."""
    if not multi_label:
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]
    ranked = [metrics.PrecisionAtEqualRecall(), metrics.GlobalAveragePrecision(name="gap")]
    return [metrics.HitAtOne(), *ranked, metrics.MicroF1()]
