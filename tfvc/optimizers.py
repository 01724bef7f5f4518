"""Update rules and learning rates: what Keras has, and what the papers' programs had."""

import keras
from keras import ops

from tfvc import names


@keras.saving.register_keras_serializable(package="tfvc")
class StaircaseDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of a step: it falls after every so many examples.

        rate(step) = base * decay ^ floor(step * examples_per_step / decay_examples)

    **Source**: `tf.train.exponential_decay(..., staircase=True)` as YouTube-8M's train.py calls it.
    **Differs**: the floor is taken in whole numbers and double precision; the original's single precision is
    off by a few steps beyond 16.7 million examples.

    Args:
        base: rate of the first step.
        decay: factor.
        decay_examples: after how many examples it is applied once more.
        examples_per_step: batch size times replicas.

    Example:
        >>> rate = StaircaseDecay(0.5, 0.5, 12, 6)
        >>> [float(rate(step)) for step in range(4)]
        [0.5, 0.5, 0.25, 0.25]
    """

    def __init__(self, base, decay, decay_examples, examples_per_step):
        self.base, self.decay = base, decay
        self.decay_examples, self.examples_per_step = decay_examples, examples_per_step

    def __call__(self, step):
        examples = ops.cast(step, "int64") * self.examples_per_step
        times = ops.floor(ops.cast(examples, "float64") / self.decay_examples)
        return ops.cast(self.base * ops.power(ops.convert_to_tensor(self.decay, "float64"), times), "float32")

    def get_config(self):
        return {
            "base": self.base,
            "decay": self.decay,
            "decay_examples": self.decay_examples,
            "examples_per_step": self.examples_per_step,
        }


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
        >>> from tfvc.optimizers import RMSpropKeras2
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
    """The optimiser of a `recipe.Train`: its rule, its rate, how that falls, and how gradients are clipped.

    Raises:
        ValueError: a name that is no row of `OPTIMIZERS`.

    Example:
        >>> from tfvc.recipe import Train
        >>> optimizer(Train(clip_norm=1.0)).clipnorm
        1.0
    """
    if train.optimizer not in OPTIMIZERS:
        raise ValueError(names.suggest("train.optimizer", train.optimizer, OPTIMIZERS))
    rate = train.learning_rate
    if train.decay != 1:
        rate = StaircaseDecay(rate, train.decay, train.decay_examples, train.batch_size)
    return OPTIMIZERS[train.optimizer](learning_rate=rate, clipnorm=train.clip_norm or None)
