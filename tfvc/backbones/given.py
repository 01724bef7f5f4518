"""A backbone given as a file: `.keras`, `.h5`, a SavedModel, a TensorFlow Hub handle."""

import hashlib
from pathlib import Path

import keras
import tensorflow as tf

from tfvc import files
from tfvc.backbones import weights

# mixed_bfloat16 is as fast as bfloat16 on a processor with AVX512-BF16, and keeps the weights exact.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def load(backbone):
    """(network, sentence, path, identity) of a model file, a SavedModel folder or a hub handle."""
    name = backbone.name
    if backbone.weights != "imagenet":
        raise ValueError(
            f"backbone.weights={backbone.weights!r}: {name} brings its own weights; leave this field out"
        )
    if name.startswith(weights.HUB):
        path, network = hub_model(name.removeprefix(weights.HUB))
    elif (path := Path(name)).is_dir():
        network = SavedModel(_guard(path, tf.saved_model.load))
    else:
        network = _guard(path, lambda p: keras.saving.load_model(p, compile=False, safe_mode=True))
    if backbone.precision != "float32":
        if isinstance(network, SavedModel):
            raise ValueError(
                f"backbone.precision={backbone.precision}: a SavedModel's arithmetic is fixed; use float32"
            )
        _set_policy(network, POLICIES[backbone.precision])
    digest = tree_digest(path)
    return network, f"given ({path.name}, sha256 {digest[:12]})", path, digest


def _guard(path, read):
    try:
        if path.suffix == ".keras":
            files.check_archive(path)
        return read(path)
    except (*files.UNREADABLE, tf.errors.OpError) as error:
        raise ValueError(
            f"{path}: not a model that can be loaded; expected a whole .keras, .h5 or SavedModel without "
            f"lambda layers; a file of weights only goes with a row, as backbone.weights "
            f"({files.first_line(error)})"
        ) from None


def hub_model(handle):
    """(local path, `SavedModel`) of a TensorFlow Hub handle or of a SavedModel folder.

    Raises:
        FileNotFoundError: it cannot be had.
        ValueError: not a SavedModel.
    """
    import tensorflow_hub as hub

    try:
        path = Path(hub.resolve(handle))
    except (ValueError, RuntimeError, OSError) as error:
        raise FileNotFoundError(
            f"{weights.HUB}{handle}: cannot be had ({error}); expected a local path or a handle"
        ) from None
    return path, SavedModel(_guard(path, lambda p: hub.load(str(p))), call_first=True)


class SavedModel(keras.layers.Layer):
    """A loaded SavedModel as a layer: its default signature, or the object itself if that can be called.

    **Differs** from `keras.layers.TFSMLayer`: the variables are not held twice, and the one output
    is unpacked.
    """

    def __init__(self, loaded, call_first=False):
        super().__init__(name="saved_model", trainable=False, dtype="float32")
        self.loaded = loaded
        signatures = getattr(loaded, "signatures", {})
        keys = [k for k in ("serving_default", "default") if k in signatures]
        if keys and not (call_first and callable(loaded)):
            self._function = signatures[keys[0]]
        elif callable(loaded):
            self._function = loaded
        else:
            raise ValueError(
                f"SavedModel: expected the signature serving_default, it has {sorted(signatures)}"
            )

    def call(self, inputs):
        result = self._function(inputs)
        if isinstance(result, dict):
            outputs = [result["default"]] if "default" in result else list(result.values())
            result = outputs[0] if len(outputs) == 1 else outputs
        return result


def _set_policy(network, policy):
    for layer in getattr(network, "layers", ()):
        _set_policy(layer, policy)
    network.dtype_policy = policy


def tree_digest(path):
    """SHA-256 of a file, or of every file of a folder with its name."""
    if path.is_file():
        return files.sha256(path)
    sums = ((p.relative_to(path).as_posix(), files.sha256(p)) for p in sorted(path.rglob("*")) if p.is_file())
    return hashlib.sha256(repr(list(sums)).encode()).hexdigest()
