"""The one trainer: Keras' `fit`, with everything that a long run needs around it.

The model that is saved is the bare network: no optimiser, no loss, no wrapper.
"""

import contextlib
import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import ops

from tfvc import checkpoints, names
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

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@keras.saving.register_keras_serializable(package="tfvc")
class RMSpropKeras2(keras.optimizers.Optimizer):
    """RMSprop as Keras 2 had it: the small constant stands outside the root.

        a <- rho a + (1 - rho) g^2
        w <- w - rate g / (sqrt(a) + epsilon)

    **Source**: Tieleman & Hinton 2012, in the form of Keras 2.2.4, with which attention_boosted was trained.
    **Differs**: Keras 3 divides by sqrt(a + epsilon), a floor of sqrt(1e-7) = 3e-4 instead of 1e-7: where
    gradients are small, its steps are smaller.

    Args:
        learning_rate: step size.
        rho: decay of the mean square.
        epsilon: the small constant.

    Example:
        >>> from tfvc.training import RMSpropKeras2
        >>> RMSpropKeras2(learning_rate=0.01).get_config()["rho"]
        0.9
    """

    def __init__(self, learning_rate=1e-3, rho=0.9, epsilon=1e-7, name="rmsprop_keras2", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.rho = rho
        self.epsilon = epsilon

    def build(self, variables):
        """Makes one mean square a variable."""
        if self.built:
            return
        super().build(variables)
        self._mean_squares = self.add_optimizer_variables(variables, "mean_square")

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        mean_square = self._mean_squares[self._get_variable_index(variable)]
        new = self.rho * mean_square + (1 - self.rho) * ops.square(gradient)
        self.assign(mean_square, new)
        self.assign_sub(variable, rate * gradient / (ops.sqrt(new) + self.epsilon))

    def get_config(self):
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "rmsprop_keras2": RMSpropKeras2,
    "sgd": keras.optimizers.SGD,
}


def optimizer(train):
    """The optimiser of a `recipe.Train`. Raises ValueError for a name that is no row of `OPTIMIZERS`."""
    if train.optimizer not in OPTIMIZERS:
        raise ValueError(names.suggest("train.optimizer", train.optimizer, OPTIMIZERS))
    return OPTIMIZERS[train.optimizer](learning_rate=train.learning_rate)


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


def fit(model, train, batches, steps_per_epoch, validation, folder, *, multi_label=False):
    """Trains a model, or goes on where a killed run stopped.

    The order of the data must be a function of the step alone: `batches(first_step)` is asked again when a
    run goes on. With `train.deterministic`, a run that was killed ends with the weights of one that was not.

    Args:
        model: a functional keras.Model, built under `precision(train.precision)` and its strategy's scope.
        train: `recipe.Train`.
        batches: function of the first step that returns an infinite dataset of (inputs, labels).
        steps_per_epoch: batches an epoch.
        validation: finite dataset of (inputs, labels), or None.
        folder: of the run; gets `checkpoints/`, `logs/`, `log.csv`, `best.keras`.
        multi_label: binary cross-entropy a class instead of categorical cross-entropy.

    Returns:
        `(network, progress)`: the network with the weights of the last step, uncompiled, and a
        `checkpoints.Progress`.

    Raises:
        ValueError: the loss, or a weight, is no longer finite (the step is named); a checkpoint of another
            model.
        Stopped: SIGINT or SIGTERM came; a checkpoint was saved.
    """
    folder = Path(folder)
    bare = keras.Model(model.input, model.output, name=model.name)  # the same layers, never compiled
    with model.distribute_strategy.scope():
        accuracy = _accuracy(multi_label)
        model.compile(optimizer(train), _loss(multi_label), metrics=[accuracy], jit_compile=train.jit)
        model.optimizer.build(model.trainable_variables)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    progress = _progress(folder, bare, model.optimizer, train, steps_per_epoch)

    tracker = next(m for m in model.metrics if m.name == "loss")
    wait, signals = DataWait(), Signals()
    meter = Meter(progress, lambda: {"loss": tracker, "accuracy": accuracy}, wait)
    board = Board(folder / "logs", meter)
    callbacks = [meter, board, Books(bare, train, folder, meter, signals)]
    if validation is not None:
        judge = keras.Model(model.input, model.output)
        _judged(judge, multi_label)
        callbacks.insert(0, Validation(judge, validation))
    try:
        with signals:
            while progress.epoch < train.epochs and not patience_is_out(train, progress):
                done = progress.step - progress.epoch * steps_per_epoch
                model.fit(
                    wait.wrap(batches(progress.step)),
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
        board.close()
    return bare, progress


def _progress(folder, bare, rule, train, steps_per_epoch):
    """Where the run stands: its newest checkpoint's progress, or a fresh one."""
    progress = checkpoints.restore(folder / "checkpoints", bare, rule, train.keep_checkpoints)
    if progress is None:
        return checkpoints.Progress(steps_per_epoch=steps_per_epoch)
    where = folder / "checkpoints"
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


def measure(model, dataset, multi_label=False):
    """`{"accuracy": ..., "loss": ...}` of a model over a finite dataset of (inputs, labels)."""
    _judged(model, multi_label)
    result = model.evaluate(dataset, verbose=0, return_dict=True)
    return {"accuracy": float(result["accuracy"]), "loss": float(result["loss"])}


def _judged(model, multi_label):
    model.compile(loss=_loss(multi_label), metrics=[_accuracy(multi_label)], jit_compile=False)


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


def _loss(multi_label):
    return keras.losses.BinaryCrossentropy() if multi_label else keras.losses.CategoricalCrossentropy()


def _accuracy(multi_label):
    kind = keras.metrics.BinaryAccuracy if multi_label else keras.metrics.CategoricalAccuracy
    return kind(name="accuracy")
