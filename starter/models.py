"""The models by name: what a program asks for, and what a model is. Light: Keras is imported on use.

A model is a class of video_level_models.py or frame_level_models.py with `create_model`, as in the original;
write your own there and name it with `--model`.
"""

import re

from starter.model_flags import BOUNDS, FLAGS, fault
from tfvc.names import suggest
from tfvc.recipe import Feature


class BaseModel:
    """What every model inherits.

    **Source**: YouTube-8M starter, models.py.
    **Differs**: no `is_training` (Keras' `training` does it); flags are handed over, not read from a global.
    """

    frame_level = None  # True: reads frames; False: reads one vector a video; None: either

    def frame_index(self, num_frames, **flags):
        """The frames that the model looks at, (B, S) integers, or None for all.

        `build_model` then hands `create_model` those frames only, with `sampled=True`: nothing is computed
        on the others.
        """
        return None

    def create_model(self, model_input, vocab_size, num_frames=None, **flags):
        """Builds the model on Keras tensors.

        Args:
            model_input: (B, D), or (B, T, D) with zeros behind the last frame.
            vocab_size: number of classes.
            num_frames: (B,) real frames; None at video level.
            **flags: values of `FLAGS`, and of `build_model`: `sampled`, `stream_sizes`.

        Returns:
            dict with "predictions": (B, vocab_size) probabilities.

        Raises:
            TypeError: the class does not define it.
        """
        raise TypeError(f"{type(self).__name__} has no create_model(model_input, vocab_size, num_frames)")


def setting(value, flags, name):
    """A setting of a model: the keyword if it was given, else the flag, else the flag's default.

    Example:
        >>> setting(None, {"iterations": 5}, "iterations"), setting(False, {}, "gating")
        (5, False)
    """
    return flags.get(name, FLAGS[name][1]) if value is None else value


def available():
    """Names of the models.

    Example:
        >>> "DbofModel" in available()
        True
    """
    return sorted(_classes())


def find(name):
    """The class of a model.

    Raises:
        ValueError: no model has this name; the message names the nearest.
    """
    if name not in _classes():
        raise ValueError(suggest("model", name, available()))
    return _classes()[name]


def rows(feature_names, feature_sizes, frame_features, max_frames=300):
    """The streams that `--feature_names --feature_sizes --frame_features` name, in their order.

    Args:
        feature_names: text, separated by commas, or a list.
        feature_sizes: their widths, likewise.
        frame_features: frames of bytes (uint8), not one float vector a video.
        max_frames: frames a clip at most; None: any number.

    Raises:
        ValueError: not as many sizes as names, a size that is no number above 0 or far too large,
            a name twice.

    Example:
        >>> rows("rgb, audio", "1024,128", True)[1]
        Feature(name='audio', shape=(300, 128), dtype='uint8', quantized=True)
    """
    names, sizes = _list(feature_names), _list(feature_sizes)
    if not all(names):
        raise ValueError(f"feature_names={','.join(names)!r}: expected the names of streams, as rgb,audio")
    if len(names) != len(sizes) or not names or len(set(names)) < len(names):
        raise ValueError(
            f"feature_names={','.join(names)!r}, feature_sizes={','.join(sizes)!r}: "
            "expected different names, and a size for each"
        )
    most = BOUNDS["size"][1]
    for size in sizes:
        if not (re.fullmatch("0*[0-9]{1,7}", size) and 0 < int(size) <= most):
            raise ValueError(
                f"feature_sizes={','.join(sizes)!r}: expected whole numbers above 0, as 1024,128, "
                f"at most {most}"
            )
    if frame_features:
        return [
            Feature(name, (max_frames, int(size)), "uint8", True)
            for name, size in zip(names, sizes, strict=True)
        ]
    return [Feature(name, (int(size),), "float32") for name, size in zip(names, sizes, strict=True)]


def build_model(model_name, rows, num_classes, flags=None, stream_sizes=None):
    """A model as Keras knows it, from what the readers give to probabilities.

    Inside: `Dequantize` (choose frames, dequantise, mask, join the streams, L2-normalise each frame),
    then the class's `create_model`.

    Args:
        model_name: a name of `available()`.
        rows: the streams, as `rows` gives them; float rows pass undequantised.
        num_classes: classes.
        flags: dict, name of `FLAGS` -> value; what is left out has its default.
        stream_sizes: widths of the streams where a row holds several, as the 1,152 numbers of MediaPipe do;
            None: of the rows.

    Returns:
        keras.Model. Inputs: a dict, `{name: (B, T, D) or (B, D)}` and for each stream of frames
        `{name}_length`, int32 (B,). Output: (B, num_classes) float32, of the layer "probabilities".

    Raises:
        ValueError: unknown model or flag, a value outside its choices, streams of another level than the
            model's, or of both.

    Example:
        >>> model = build_model("MoeModel", rows("mean_rgb,mean_audio", "8,4", False), 5)
        >>> model.output_shape
        (None, 5)
    """
    import keras

    from tfvc.layers import Dequantize

    flags = check_flags(flags or {})
    model = find(model_name)()
    frame_level = _level(model_name, model, rows)
    inputs = {row.name: keras.Input(row.shape, dtype=row.dtype, name=row.name) for row in rows}
    streams = [inputs[row.name] for row in rows]
    more, given = {}, {"stream_sizes": list(stream_sizes or [row.shape[-1] for row in rows]), **flags}
    if frame_level:
        for row in rows:
            name = f"{row.name}_length"
            inputs[name] = keras.Input((), dtype="int32", name=name)
        lengths = [inputs[f"{row.name}_length"] for row in rows]
        num_frames = _first_present(lengths)
        index = model.frame_index(num_frames, **given)
        more = {"lengths": lengths} if index is None else {"lengths": lengths, "index": index}
        given |= {"num_frames": num_frames, "sampled": index is not None}
    x = Dequantize(normalize=True, name="dequantize")(streams, **more)
    predictions = model.create_model(x, vocab_size=num_classes, **given)["predictions"]
    output = keras.layers.Activation("linear", dtype="float32", name="probabilities")(predictions)
    return keras.Model(inputs, output, name=model_name)


def check_flags(flags):
    """The flags, or ValueError for a name that is not in `FLAGS` or a value that its kind does not know.

    Example:
        >>> check_flags({"dbof_pooling_method": "median"})
        Traceback (most recent call last):
        ValueError: unknown value of dbof_pooling_method 'median'; expected one of: average, max
    """
    for name, value in flags.items():
        if name not in FLAGS:
            raise ValueError(suggest("model flag", name, FLAGS))
        kind, default, _ = FLAGS[name]
        if isinstance(kind, tuple) and value not in kind:
            raise ValueError(suggest(f"value of {name}", value, kind))
        wanted = fault(kind, default, value)
        if wanted:
            raise ValueError(f"{name}={value!r}: expected {wanted}")
    return flags


def _classes():
    from starter import frame_level_models, video_level_models

    return {
        name: value
        for module in (video_level_models, frame_level_models)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__
        if not name.startswith("_")
    }


def _list(given):
    parts = given.split(",") if isinstance(given, str) else given
    return [str(part).strip() for part in parts]


def _level(name, model, rows):
    """Whether the rows are frames."""
    ranks = {len(row.shape) for row in rows}
    listed = ",".join(row.name for row in rows)
    if len(ranks) != 1:
        raise ValueError(f"{listed}: expected streams of frames or vectors a video, not both")
    frames = ranks == {2}
    if model.frame_level not in (None, frames):
        given, wanted = ("frames", "one vector a video") if frames else ("one vector a video", "frames")
        hint = f"--frame_features={str(not frames).lower()} and the names of such features"
        raise ValueError(f"{name} reads {wanted}, {listed} is {given}: expected {hint}")
    return frames


def _first_present(lengths):
    """Frames of a clip: the length of the first listed stream that has any."""
    from keras import ops

    frames = lengths[-1]
    for length in reversed(lengths[:-1]):
        frames = ops.where(length > 0, length, frames)
    return frames
