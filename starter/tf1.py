"""Checkpoints of TensorFlow 1: the original starter's models and WILLOW's, into ours.

Ours have the original's names: `tower/gates/weights` there is `moe/gates/kernel` here. What differs by rule
is the scope around a name, `weights`/`biases` for `kernel`/`bias`, and the LSTM, whose two variables are our
three.
"""

import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from starter.frame_level_models import lstm_weights

_LEAVES = {"kernel": "weights", "bias": "biases"}
_LSTM = re.compile(r"(?:.*/)?(cell_\d+)/(?:.*/)?(?:kernel|recurrent_kernel|bias)")
_LSTM_NAME = "rnn/multi_rnn_cell/{}/basic_lstm_cell/{}"
_SLOTS = {"momentum": "Adam", "velocity": "Adam_1"}  # Keras' name of Adam's moments -> TensorFlow 1's
_RULES = "Adam|Adagrad|Momentum|RMSProp|Ftrl|Adadelta"
_NO_WEIGHTS = re.compile(rf"(.*/)?(({_RULES})(_1)?|beta[12]_power)")


def load(prefix, model, optimizer=None):
    """Puts a checkpoint of TensorFlow 1 into a built model, and into its optimiser.

    **Source**: the variables of YouTube-8M's train.py (`tower/...`) and of LOUPE.

    Args:
        prefix: `run/model.ckpt-1000`, without `.index`.
        model: keras.Model of the same sizes.
        optimizer: None, or built keras optimiser: gets the global step, and Adam its moments if the
            checkpoint holds them.

    Returns:
        `(step, lines)`: the global step, and what is worth saying.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it lacks a variable of the model, or has it in another shape; it cannot be read.
    """
    reader = _open(prefix)
    shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    step = _step(prefix, reader.get_tensor("global_step")) if "global_step" in shapes else 0
    names = {name for name in shapes if not _NO_WEIGHTS.fullmatch(name)}
    variables = [v for v in model.variables if not v.path.endswith("seed_generator_state")]
    found = _match(prefix, variables, names)
    values = [_value(reader, v, found[v.path]) for v in variables]
    for variable, value in zip(variables, values, strict=True):
        _check(prefix, variable, found[variable.path], value)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.reshape(variable.shape))
    lines = [f"{len(values)} variables from {prefix}"]
    left = sorted(names - {n for pair in found.values() for n in pair} - {"global_step"})
    if left:
        lines.append(f"not of this model, left out: {_some(left)}")
    if optimizer is not None:
        optimizer.iterations.assign(step)
        lines.append(_moments(reader, optimizer, model.trainable_variables, found, set(shapes)))
    return step, lines


def _open(prefix):
    if not Path(f"{prefix}.index").is_file() and not Path(prefix).is_file():  # the latter: format of 2016
        raise FileNotFoundError(
            f"{prefix}: no checkpoint of TensorFlow 1; expected a name without suffix, as "
            "run/model.ckpt-1000, where model.ckpt-1000.index lies"
        )
    try:
        return tf.train.load_checkpoint(str(prefix))
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"{prefix}: not a checkpoint of TensorFlow 1, or damaged ({error})") from None


def _step(prefix, value):
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "iu" or value.item() < 0:
        raise ValueError(
            f"{prefix}: its global_step is of shape {value.shape} and type {value.dtype}; expected one whole "
            "number that is not below 0; take another checkpoint"
        )
    return value.item()


def _match(prefix, variables, names):
    """Path of ours -> names in the checkpoint (an LSTM's kernel and bias, else one).

    The whole model lies in one scope, the one in which most of it is found.
    """
    lstm = {v.path.rsplit("/", 1)[0] for v in variables if v.path.endswith("/recurrent_kernel")}
    wanted = {v.path: _wanted(v.path, lstm) for v in variables}

    def within(scope):
        found, used = {}, set()
        for path, choices in wanted.items():
            for choice in choices:
                there = tuple(f"{scope}{name}" for name in choice)
                if names.issuperset(there) and there not in used:
                    found[path] = there
                    used |= {there} if len(there) == 1 else set()  # three of ours share an LSTM's two
                    break
        return found

    scopes = {"", *(f"{name[: m.start()]}/" for name in names for m in re.finditer("/", name))}
    best = max((within(scope) for scope in sorted(scopes)), key=len)
    missing = ["/".join(wanted[path][0][0].split("/")[-2:]) for path in wanted if path not in best]
    if missing:
        raise ValueError(
            f"{prefix}: holds no {_some(missing)}; it holds {_some(sorted(names))}. Give the flags of the "
            "model as they were (--model, --lstm_layers, ...)"
        )
    return best


def _wanted(path, lstm):
    """What a variable may be called inside the scope, the longest name first."""
    owner, leaf = path.rsplit("/", 1) if "/" in path else ("", path)
    if owner in lstm:
        cell = _LSTM.fullmatch(path)[1]
        return [tuple(_LSTM_NAME.format(cell, part) for part in ("kernel", "bias"))]
    parts = [*owner.split("/"), _LEAVES.get(leaf, leaf)] if owner else [leaf]
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    if leaf in _LEAVES:  # WILLOW's hidden1_weights is no layer of slim's
        names.append("_".join(parts[-2:]))
    if leaf == "gating_weights":  # of WILLOW's models; LOUPE's has no number
        names.append("gating_weights_2")
    return [(name,) for name in names]


def _value(reader, variable, names, slot=""):
    """What the checkpoint has for a variable, in our order of gates."""
    arrays = [reader.get_tensor(name + slot) for name in names]
    if len(arrays) == 1:
        return arrays[0]
    kernel, bias = arrays
    which = ("kernel", "recurrent_kernel", "bias").index(variable.path.rsplit("/", 1)[1])
    if which == 2 and slot:  # a moment gets the order of the gates, but no forget bias
        return lstm_weights(bias[None], np.zeros_like(bias))[1][0]
    return lstm_weights(kernel, bias)[which]


def _check(prefix, variable, names, value):
    bare = [tuple(n for n in shape if n != 1) for shape in (value.shape, variable.shape)]
    if bare[0] != bare[1]:  # LOUPE's centres have a leading 1
        raise ValueError(
            f"{prefix}: {' and '.join(names)} {tuple(value.shape)}, the model has {variable.path} "
            f"{tuple(variable.shape)}; give --num_classes, --feature_sizes and the model's flags as they were"
        )


def _moments(reader, optimizer, variables, found, names):
    """Adam's moments, if both have them. Returns the line that says what became of the optimiser."""
    slots = {slot.path.split("/", 1)[1]: slot for slot in optimizer.variables}
    moments = []
    for kind, suffix in _SLOTS.items():
        for variable in variables:
            slot = slots.get(f"{variable.path.replace('/', '_')}_{kind}")
            if slot is None or not all(f"{name}/{suffix}" in names for name in found[variable.path]):
                return "the optimiser starts fresh: the checkpoint holds no moments that it could use"
            moments.append((slot, _value(reader, variable, found[variable.path], f"/{suffix}")))
    for slot, value in moments:
        slot.assign(value.reshape(slot.shape))
    return "Adam goes on with the checkpoint's moments"


def _some(names):
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
