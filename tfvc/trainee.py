"""A network as `fit` trains it: on any number of devices and workers, a batch at once or in parts."""

import keras
import tensorflow as tf

from tfvc.workers import Crew


def of_tensors(data):
    """Whether a dataset, or its iterator, gives tensors of a row a clip and nothing else: all that tfvc's own
    data are. What is sparse, ragged or left out Keras must take apart."""
    specs = tf.nest.flatten(data.element_spec)
    return all(isinstance(spec, tf.TensorSpec) and spec.shape.rank for spec in specs)


class InStep(keras.Model):
    """A built network, wrapped for a training step that Keras 3 can also run by several workers.

    **Differs** from Keras, which under `MultiWorkerMirroredStrategy` cannot build by the first batch, and
    averages what a step returns over an axis that numbers do not have (keras issue 20585).

    Args:
        network: keras.Model. It is what is saved.

    Input: as the network. Output: as the network.
    """

    def __init__(self, network, **kwargs):
        super().__init__(**({"dtype": network.dtype_policy} | kwargs))
        self.network = network
        self.build(network.input_shape)

    def build(self, input_shape):
        """Nothing to make: the network is built."""
        self.built = True

    def call(self, inputs, training=None):
        """The network's outputs."""
        return self.network(inputs, training=training)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if Crew(self.distribute_strategy).count == 1:
            super()._maybe_symbolic_build(iterator, data_batch)

    def make_train_function(self, force=False):
        """Keras' function of one step, in one graph where Keras calls one from another: a step of a small
        network takes two thirds of the time."""
        if self.train_function is not None and not force:
            return
        super().make_train_function(force=True)
        usual, strategy = self.train_function, self.distribute_strategy
        several = strategy.num_replicas_in_sync > 1 or self.steps_per_execution > 1
        if several or self.run_eagerly or self.jit_compile:  # data cannot come from within what XLA compiles
            return

        @tf.function(reduce_retracing=True, autograph=False)
        def step(iterator):
            return strategy.run(self.train_step, args=(iterator.get_next(),))

        def function(iterator):
            plain = isinstance(iterator, tf.data.Iterator) and of_tensors(iterator)
            return (step if plain else usual)(iterator)

        self.train_function = function

    def told(self, logs):
        """What a step returns, such that Keras can take its mean over the workers."""
        if Crew(self.distribute_strategy).count == 1:
            return logs
        return {name: tf.convert_to_tensor(value)[None] for name, value in logs.items()}


def dense(gradients):
    """Gradients as tensors. That of an embedding comes as rows, two of them for a word that stands twice in a
    batch, which an optimiser with moments takes for two words."""
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


def summed(gradients):
    """Each gradient summed over the replicas, None where there is none; called in each of them."""
    replica, gradients = tf.distribute.get_replica_context(), dense(gradients)
    if replica.num_replicas_in_sync == 1:
        return gradients
    found = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, [g for g in gradients if g is not None]))
    return [None if g is None else next(found) for g in gradients]


@keras.saving.register_keras_serializable(package="tfvc")
class Trainee(InStep):
    """A network with the one training step of this project.

        gradient = mean of the gradients of the loss over the parts of a batch, and over the replicas

    The parts follow each other, so that memory holds the activations of one; batch norms see a part (of all
    replicas, within `layers.batch_norm.shared_by`), and their statistics move once a part. For a network
    without batch norm or dropout the step is that of the whole batch.

    **Differs** from Keras, where each replica clips its own gradients, and looks in its own for the overflow
    of float16; here they are summed first.

    Args:
        network: keras.Model, inputs -> probabilities `(B, C)`. It is what is saved.
        parts: of a replica's batch; its size is a multiple of them.
        sum_first: False spares an exchange where the optimiser neither clips nor scales.

    Input: as the network. Output: as the network.

    Example:
        >>> network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
        >>> model = Trainee(network, parts=2)
        >>> model.compile("adam", "categorical_crossentropy", jit_compile=False)
        >>> data = tf.data.Dataset.from_tensors((tf.ones((4, 3)), tf.ones((4, 2))))
        >>> model.fit(data, verbose=0, shuffle=False).params["steps"]
        1
    """

    def __init__(self, network, parts=1, sum_first=True, **kwargs):
        super().__init__(network, **kwargs)
        self.parts, self.sum_first = parts, sum_first

    def moving(self):
        """The variables that this step moves."""
        return self.trainable_variables

    def train_step(self, data):
        """One update."""
        variables, gradients, logs = self.moving(), [], {}
        for piece in _pieces(data, self.parts):
            # One after the other, or the activations of all would lie in memory at once.
            with tf.control_dependencies([g for g in gradients if g is not None]):
                found, logs = self._part(piece, variables)
                pairs = zip(gradients, found, strict=True) if gradients else ()
                gradients = [a if a is None else a + b for a, b in pairs] or found
        count = self.distribute_strategy.num_replicas_in_sync
        if count > 1 and self.sum_first:  # Keras adds them up once more: a share each, then
            gradients = [None if g is None else g / count for g in summed(gradients)]
        self.optimizer.apply(gradients, variables)
        return self.told(logs)

    def _part(self, data, variables):
        """Gradients of a part of the batch, and the measures so far."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, weight, training=True)
            scaled = self.optimizer.scale_loss(loss / self.parts)
        whole = loss * self.distribute_strategy.num_replicas_in_sync  # it is a replica's share already
        next(m for m in self.metrics if m.name == "loss").update_state(whole, sample_weight=tf.shape(y)[0])
        return dense(tape.gradient(scaled, variables)), self.compute_metrics(x, y, outputs, weight)

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        own = {"network": network, "parts": self.parts, "sum_first": self.sum_first}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of a config, with fresh weights."""
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(**(config | {"network": network}))


def _pieces(data, count):
    """A batch in equal parts, each of its structure."""
    if count == 1:
        return [data]
    flat = [[None] * count if v is None else tf.split(v, count) for v in tf.nest.flatten(data)]
    return [tf.nest.pack_sequence_as(data, piece) for piece in zip(*flat, strict=True)]
