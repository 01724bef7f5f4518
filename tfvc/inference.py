"""A trained model as a plain function of a batch: what evaluate, predict and the second stage ask."""

from tfvc import files, workdir


def check_finite(values, run, what="scores", ids=None):
    """Refuses answers that are no numbers, before anything is counted or written by them.

    Args:
        values: (N, ...), what a model gave of N clips.
        run: the folder of the run, for the message.
        what: they are.
        ids: of the clips, for the message; None = not known here.

    Raises:
        ValueError: one is NaN or infinite; how many clips, and the first, are named.

    Example:
        >>> try:
        ...     check_finite([[0.1, 0.9], [float("nan"), 1.0]], "runs/a", ids=["x", "y"])
        ... except ValueError as error:
        ...     print(str(error).split(";")[0])
        runs/a: scores of 1 of 2 clips are NaN or infinite, first of y
    """
    import numpy as np

    values = np.asarray(values)
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        first = "" if ids is None else f", first of {files.printable(ids[bad[0]])}"
        raise ValueError(
            f"{run}: {what} of {len(bad)} of {len(values)} clips are NaN or infinite{first}; expected finite "
            "ones: the weights or the features are damaged"
        )


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
