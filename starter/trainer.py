"""One training step as the original takes it, and its optimisers; Keras' `fit` runs it."""

import types

import keras
import tensorflow as tf
from keras import ops

from tfvc import names
from tfvc.trainee import InStep, summed


@keras.saving.register_keras_serializable(package="starter")
class RMSPropFromOne(keras.optimizers.RMSprop):
    """RMSprop whose mean squares start at 1, as TensorFlow 1's do: the first steps are small, not large.

    **Source**: `tf.train.RMSPropOptimizer`. **Differs**: Keras starts them at 0.

    Args: as `keras.optimizers.RMSprop`.

    Example:
        >>> RMSPropFromOne(learning_rate=0.01).rho
        0.9
    """

    def build(self, variables):
        """Makes the mean squares, all ones."""
        known = len(self.variables)
        super().build(variables)
        for slot in self.variables[known:]:
            if "velocity" in slot.path:
                slot.assign(ops.ones_like(slot))


# Name in TensorFlow 1 -> the same rule with its constants, from a rate. The original could not start
# MomentumOptimizer (it gave no momentum): 0.9 is ours.
OPTIMIZERS = {
    "AdadeltaOptimizer": lambda rate: keras.optimizers.Adadelta(rate, rho=0.95, epsilon=1e-8),
    "AdagradOptimizer": lambda rate: keras.optimizers.Adagrad(rate, 0.1, epsilon=0.0),
    "AdamOptimizer": lambda rate: keras.optimizers.Adam(rate, epsilon=1e-8),
    "FtrlOptimizer": keras.optimizers.Ftrl,
    "GradientDescentOptimizer": keras.optimizers.SGD,
    "MomentumOptimizer": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "RMSPropOptimizer": lambda rate: RMSPropFromOne(rate, rho=0.9, epsilon=1e-10),
}


def optimizer(name, rate):
    """The optimiser of a TensorFlow 1 name.

    Args:
        name: a row of `OPTIMIZERS`.
        rate: number, or a schedule of the step.

    Raises:
        ValueError: no such name; the message names the nearest.

    Example:
        >>> optimizer("AdamOptimizer", 0.01).epsilon
        1e-08
    """
    if name not in OPTIMIZERS:
        raise ValueError(names.suggest("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name](rate)


class Trainer(InStep):
    """A network with the original's step; `fit` it on batches of (inputs, labels[, label_weights]).

        loss = label loss + regularization_penalty * sum of the network's own losses
        gradient = sum over the replicas of the gradients of their losses
        gradient <- gradient * min(1, clip_gradient_norm / its L2 norm), each variable's on its own

    **Source**: `build_graph` of YouTube-8M's train.py.
    **Differs**: Keras clips before it adds up the replicas' gradients; here the sum comes first, as there.

    Args:
        network: keras.Model, inputs -> probabilities `(B, C)`. It is what is saved; the trainer never is.
        label_loss: Keras loss, a number an example; its mean over the batch is taken here.
        regularization_penalty: weight of the network's own losses.
        clip_gradient_norm: L2 norm that no gradient exceeds; 0 = no clipping.

    Input: as the network. Output: as the network.

    Attributes:
        seen: `predictions` and `labels` of the last step, of all replicas, and its `loss` and
            `regularization`; tensors.

    Example:
        >>> network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "sigmoid")])
        >>> model = Trainer(network, keras.losses.MeanSquaredError())
        >>> model.compile(optimizer("AdamOptimizer", 0.1), jit_compile=False)
        >>> data = tf.data.Dataset.from_tensors((tf.ones((4, 3)), tf.ones((4, 2))))
        >>> _ = model.fit(data, verbose=0, shuffle=False)
        >>> tuple(model.seen.predictions.shape)
        (4, 2)
    """

    def __init__(self, network, label_loss, regularization_penalty=1.0, clip_gradient_norm=1.0, **kwargs):
        super().__init__(network, **kwargs)
        # Its sum: Keras divides a mean by the number of replicas, the original does not.
        self.label_sum = type(label_loss).from_config(label_loss.get_config() | {"reduction": "sum"})
        self.regularization_penalty = regularization_penalty
        self.clip_gradient_norm = clip_gradient_norm
        self.seen = types.SimpleNamespace()

    def train_step(self, data):
        """One update; returns what `seen` holds."""
        inputs, labels, weights = data if len(data) == 3 else (*data, None)
        with tf.GradientTape() as tape:
            predictions = self(inputs, training=True)
            size = tf.cast(tf.shape(labels)[0], "float32")
            loss = self.label_sum(labels, predictions, weights) / size
            penalty = tf.add_n(self.losses) if self.losses else tf.zeros([])
            total = loss + self.regularization_penalty * penalty
        variables = self.trainable_variables
        gradients = summed(tape.gradient(total, variables))
        replica = tf.distribute.get_replica_context()
        count = replica.num_replicas_in_sync
        if count > 1:
            # A copy: what comes from the data lies on no device yet, and by several workers TensorFlow asks.
            predictions, labels = (replica.all_gather(tf.identity(t), 0) for t in (predictions, labels))
        if self.clip_gradient_norm > 0:
            gradients = [
                None if g is None else tf.clip_by_norm(g, self.clip_gradient_norm) for g in gradients
            ]
        # Keras adds the replicas' gradients up (once more): a share each, then.
        gradients = [None if g is None else g / count for g in gradients]
        # Keras counts a step beside all else in it: the one that finds no more data must fail before that.
        with tf.control_dependencies([total]):
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        seen = {"loss": loss, "regularization": penalty, "predictions": predictions, "labels": labels}
        return self.told(seen)

    def make_train_function(self, force=False):
        """Keras' function of one step, whose tensors go to `seen`: Keras makes numbers of what it returns."""
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        step = self.train_function

        def function(iterator):
            self.seen.__dict__.update(step(iterator))
            return {"loss": self.seen.loss}

        self.train_function = function
