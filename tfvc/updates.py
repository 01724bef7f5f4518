"""Update rules of the papers' own, as models that `fit` trains in the place of the network."""

import keras
import numpy as np

from tfvc.trainee import Trainee


@keras.saving.register_keras_serializable(package="tfvc")
class PathUpdates(Trainee):
    """A network of several paths, for a training in which a path stands still in some of the steps.

        u ~ U(0, 1), one a step
        step moves  all but the visual path    if u < drops["visual"]
                    all but the audio path     else if u < drops["visual"] + drops["audio"]
                    all                        else

    The draw is made on the host, from seed and step alone: every replica gets the same, and a run that goes
    on draws what an unbroken one would have. Each kind of step is a compiled function of its own. Population
    statistics of batch norms move in every kind of step, as does all else that is not trained by gradient.
    Compile it with `optimizers.by_path`, which says which moments move.

    **Source**: Brousmiche, Rouat and Dupont 2021; the authors' program, by spec/mafnet.md.
    **Differs**: the paper drops updates of the visual path; here either path may stand still.

    Args:
        network: keras.Model, inputs -> probabilities `(B, C)`. It is what is saved.
        paths: name of a path -> names of the layers that stand still with it. Those that this variant of
            the network lacks are passed over.
        drops: name of a path -> share of the steps in which it stands still.
        seed: of the draw.
        **kwargs: of `Trainee`.

    Input: as the network. Output: as the network.

    Attributes:
        step: steps that the run has taken; set it where a run goes on.
        still: name of a path -> indices of its variables among the trainable ones.

    Raises:
        ValueError: a path that is to stand still has no layer in the network.

    Example:
        >>> x, y = keras.Input((2,), name="x"), keras.Input((2,), name="y")
        >>> both = [keras.layers.Dense(1, name="see")(x), keras.layers.Dense(1, name="hear")(y)]
        >>> network = keras.Model([x, y], keras.layers.add(both))
        >>> model = PathUpdates(network, {"visual": ["see"], "audio": ["hear"]}, {"visual": 0.25, "audio": 0})
        >>> model.still["audio"], [model.drawn(step) for step in range(4)]
        ([2, 3], ['visual', '', '', ''])
    """

    def __init__(self, network, paths, drops, seed=0, **kwargs):
        super().__init__(network, **kwargs)
        self.paths, self.drops, self.seed = paths, drops, seed
        self.step = 0
        self.still = {path: found for path, names in paths.items() if (found := self._indices(names))}
        for path, share in drops.items():
            if share and path not in self.still:
                raise ValueError(
                    f"train.drop_{path}={share}: this variant of the model has none of the layers "
                    f"{', '.join(paths.get(path, ())) or '(none)'}; expected 0"
                )
        self._now_still = ""

    def _indices(self, names):
        layers = [layer for layer in self.network.layers if layer.name in names]
        own = {id(v) for layer in layers for v in layer.trainable_variables}
        return [i for i, v in enumerate(self.network.trainable_variables) if id(v) in own]

    def drawn(self, step):
        """Name of the path that stands still in a step of the run, counted from 0; "" = none."""
        point = np.random.default_rng([step, self.seed % 2**32, *b"paths"]).random()
        for path, share in self.drops.items():
            if point < share:
                return path
            point -= share
        return ""

    def make_train_function(self, force=False):
        """Keras' function of one step, once for each kind of step; before them one that draws the kind."""
        if self.train_function is not None and not force:
            return
        functions = {}
        for path in ("", *self.still):
            super().make_train_function(force=True)
            functions[path] = self.train_function

        def function(iterator):
            self._now_still = self.drawn(self.step)  # for `train_step`, which the first such step traces
            logs = functions[self._now_still](iterator)
            self.step += 1
            return logs

        self.train_function = function

    def moving(self):
        """The variables of what does not stand still."""
        still = self.still.get(self._now_still, ())
        return [v for i, v in enumerate(self.trainable_variables) if i not in still]

    def get_config(self):
        paths = {path: list(names) for path, names in self.paths.items()}
        return {**super().get_config(), "paths": paths, "drops": dict(self.drops), "seed": self.seed}


@keras.saving.register_keras_serializable(package="tfvc")
class HeadLosses(Trainee):
    """A network whose heads are trained each by its own loss, as if each were alone.

        loss = sum over the heads m of loss(labels, heads[:, m])

    Networks that share no weight get the very gradients, and with Adam the very steps, that they would get
    apart. Measures are of the network's `probabilities`.

    **Source**: Pouyanfar et al. 2019 (MIPR), section III.B: a temporal network for each modality.
    **Differs**: they stop together, at the epoch that the measure of all chooses.

    Args:
        network: keras.Model, inputs -> dict with `probabilities` (B, C) and `heads` (B, M, C). It is what is
            saved.
        **kwargs: of `Trainee`.

    Input: as the network. Output: the network's dict.

    Example:
        >>> x = keras.Input((2,), name="x")
        >>> heads = keras.layers.Reshape((2, 3))(keras.layers.Dense(6, activation="sigmoid")(x))
        >>> outputs = {"probabilities": keras.ops.mean(heads, axis=1), "heads": heads}
        >>> model = HeadLosses(keras.Model({"x": x}, outputs))
        >>> model.compile(loss="binary_crossentropy", optimizer="adam")
        >>> model.predict({"x": np.ones((4, 2))}, verbose=0)["heads"].shape
        (4, 2, 3)
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of the heads' losses."""
        heads = keras.ops.unstack(y_pred["heads"], axis=1)
        return sum(super(HeadLosses, self).compute_loss(x, y, p, sample_weight, training) for p in heads)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Measures of the probabilities."""
        return super().compute_metrics(x, y, y_pred["probabilities"], sample_weight)
