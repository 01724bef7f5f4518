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


@keras.saving.register_keras_serializable(package="tfvc")
class SeparateStates(keras.optimizers.Optimizer):
    """A rule with several states, for a training in which not every step moves every variable.

        a step that moves the variables V: the states of the row of `steps` that holds V take a step each

    A state has moments of its own and its own count of the steps that it took, by which Adam corrects its
    bias. The learning rate is common; a schedule goes by the steps of the run, whatever they moved.

    Args:
        rule: the optimiser that each state follows, not built.
        states: name -> indices of its variables among those of `build`.
        steps: for each kind of step the names of the states that take it; between them they hold each
            variable that moves once.

    Raises:
        ValueError: `apply` is given variables that are no kind of step.

    Example:
        >>> rule = SeparateStates(keras.optimizers.SGD(0.5), {"a": [0], "b": [1]}, [["a", "b"], ["a"]])
        >>> one, two = keras.Variable(1.0), keras.Variable(1.0)
        >>> rule.build([one, two])
        >>> rule.apply([ops.ones(())], [one])
        >>> float(one.numpy()), float(two.numpy())
        (0.5, 1.0)
    """

    def __init__(self, rule, states, steps, name="separate_states"):
        config = rule.get_config()
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.optimizers.schedules.deserialize(rate)
        super().__init__(learning_rate=rate, name=name)
        self.rule, self.states, self.steps = rule, states, steps
        own = {"learning_rate": lambda: self.learning_rate}
        self._rules = {key: type(rule).from_config(config | own | {"name": key}) for key in states}

    def build(self, variables):
        """Builds every state, also those that no step may come to use: a checkpoint holds them all."""
        if self.built:
            return
        super().build(variables)
        for key, rule in self._rules.items():
            rule.build([variables[i] for i in self.states[key]])

    @property
    def variables(self):
        """Its own (steps of the run, rate), then those of each state."""
        return self._variables + [v for rule in self._rules.values() for v in rule.variables]

    def apply(self, grads, trainable_variables=None):
        """One step.

        Args:
            grads: a gradient for each variable that moves.
            trainable_variables: those; None = all.
        """
        moving = self._trainable_variables if trainable_variables is None else trainable_variables
        gradients = {self._get_variable_index(v): g for v, g in zip(moving, grads, strict=True)}
        for key in self._step_of(gradients):
            indices = self.states[key]
            self._rules[key].apply(
                [gradients[i] for i in indices], [self._trainable_variables[i] for i in indices]
            )
        self._iterations.assign_add(1)

    def _step_of(self, moving):
        for step in self.steps:
            if {i for key in step for i in self.states[key]} == set(moving):
                return step
        raise ValueError(
            f"{self.name}: {len(moving)} variables that are no kind of step; expected those of one of "
            f"{[list(step) for step in self.steps]}"
        )

    def get_config(self):
        return {
            "name": self.name,
            "rule": keras.optimizers.serialize(self.rule),
            "states": {key: list(indices) for key, indices in self.states.items()},
            "steps": [list(step) for step in self.steps],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The optimiser of a config."""
        rule = keras.optimizers.deserialize(config["rule"], custom_objects)
        return cls(**(config | {"rule": rule}))


@keras.saving.register_keras_serializable(package="tfvc")
class AdamTF1(keras.optimizers.Adam):
    """Adam with the small constant of TensorFlow 1, 1e-8.

    **Source**: `tf.train.AdamOptimizer`. **Differs** from Keras' Adam in that number alone, 1e-7 there.

    Args:
        learning_rate: step size.
        epsilon: the small constant.
        **kwargs: of `keras.optimizers.Adam`.

    Example:
        >>> AdamTF1(0.1).epsilon
        1e-08
    """

    def __init__(self, learning_rate=1e-3, epsilon=1e-8, **kwargs):
        super().__init__(learning_rate=learning_rate, epsilon=epsilon, **kwargs)


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adam_tf1": AdamTF1,
    "rmsprop": keras.optimizers.RMSprop,
    "rmsprop_keras2": RMSpropKeras2,
    "sgd": keras.optimizers.SGD,
}


def optimizer(train, replicas=1):
    """The optimiser of a `recipe.Train`: its rule, its rate, how that falls, and how gradients are clipped.

    Args:
        train: a `recipe.Train`.
        replicas: that each hand in a share of the summed gradients, for Keras to add up: shares are clipped.

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
    return OPTIMIZERS[train.optimizer](learning_rate=rate, clipnorm=train.clip_norm / replicas or None)


def by_path(train, count, still, replicas=1):
    """The optimiser of a training in which, in some steps, a path of the network stands still.

    - `train.drop_rule` published: a state for the steps that move everything, and one for the steps without
      each path. A variable that moves in several kinds of step has moments in several states, none of which
      sees all its gradients.
    - mended: each variable is in one state, which rests, moments and count, when the variable does.

    **Source**: published: the authors' program, by spec/mafnet.md.

    Args:
        train: a `recipe.Train`.
        count: of the trainable variables.
        still: name of a path -> indices of the variables that stand still with it; no variable has two.
        replicas: as of `optimizer`.

    Returns:
        SeparateStates, not built.

    Raises:
        ValueError: a variable stands still with two paths.

    Example:
        >>> from tfvc.recipe import Train
        >>> by_path(Train(drop_rule="mended"), 3, {"visual": [1], "audio": [2]}).states["rest"]
        [0]
    """
    moved = [i for indices in still.values() for i in indices]
    if len(set(moved)) < len(moved):
        raise ValueError(f"paths {', '.join(still)}: a layer stands in two of them; expected each in one")
    if train.drop_rule == "published":
        states = {"all": list(range(count))}
        for path, indices in still.items():
            states[f"without_{path}"] = [i for i in range(count) if i not in indices]
        return SeparateStates(optimizer(train, replicas), states, [[name] for name in states])
    states = {"rest": [i for i in range(count) if i not in moved], **still}
    steps = [list(states), *([name for name in states if name != path] for path in still)]
    return SeparateStates(optimizer(train, replicas), states, steps)
