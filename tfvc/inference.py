"""A trained model as a plain function of a batch: what evaluate, predict and the second stage ask."""

from tfvc import workdir


def as_function(model):
    """A function: inputs by name, arrays or tensors -> what the model gives, by name, as arrays.

    It is traced once, whatever the batch: Keras' own would be again for a smaller last one.

    Args:
        model: functional, of a dict of inputs; a single output is called `probabilities`.

    Example:
        >>> import keras, numpy as np
        >>> given = {"x": keras.Input((2,), name="x")}
        >>> ask = as_function(keras.Model(given, keras.ops.sum(given["x"], axis=1)))
        >>> ask({"x": np.ones((3, 2), "float32")})["probabilities"].tolist()
        [2.0, 2.0, 2.0]
    """
    import tensorflow as tf

    signature = {name: tf.TensorSpec(t.shape, t.dtype) for name, t in dict(model.input).items()}
    call = tf.function(
        lambda inputs: workdir.outputs_of(model, inputs), input_signature=[signature], autograph=False
    )

    def answer(inputs):
        found = call({name: inputs[name] for name in signature})
        return {name: value.numpy() for name, value in found.items()}

    return answer
