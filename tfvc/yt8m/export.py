"""A run on YouTube-8M's records as a SavedModel that serves without this package."""

import contextlib

import numpy as np
import tensorflow as tf

from tfvc import export as of_clips
from tfvc import files, signatures
from tfvc.data import schema, sources

_FRAMES = 5  # of a drawn record


def export(run):
    """Exports a run, loads it again elsewhere and compares.

    The SavedModel's signatures:

    - `serving_default`: the model's inputs by name, features as they are stored: `<row>` (N, T, D) uint8 with
      `<row>_length` (N,) int32, or `<row>` (N, D) float32.
    - `serialized`: `examples` (N,) strings, records; gives `ids` besides. Labels are not looked at.

    There is no signature `frames`: pictures and sound are no part of these runs. Each signature gives
    `probabilities` (N, C) float32 and `classes` (C,) strings.

    Args:
        run: `tfvc.workdir.Run` with `facts.kind == "yt8m"`.

    Returns:
        Path of the SavedModel.

    Raises:
        ValueError: the reloaded model differs by more than 1e-5, and an earlier export stays; another
            process is exporting this run.
        FileNotFoundError: the run has not finished.
    """
    model = of_clips.portable(run.model())
    return of_clips.write(
        run,
        lambda path: of_clips.save_model(path, run, served(run, model)),
        lambda path: _compare(path, run, model),
    )


def served(run, model):
    """The signatures as `tf.function`s, and under "module" the `tf.Module` that holds their variables."""
    specs = {name: tf.TensorSpec(t.shape, t.dtype, name) for name, t in dict(model.input).items()}

    def features(**inputs):
        probabilities = model({name: inputs[name] for name in specs}, training=False)
        return {"probabilities": probabilities, "classes": tf.constant(run.facts.classes)}

    def serialized(examples):
        inputs, ids = _parsed(examples, run)
        return features(**inputs) | {"ids": ids}

    examples = tf.TensorSpec((None,), tf.string, "examples")
    return {
        "module": signatures.holder(model),
        "serving_default": tf.function(features, autograph=False).get_concrete_function(**specs),
        "serialized": tf.function(serialized, input_signature=[examples], autograph=False),
    }


def _parsed(examples, run):
    """The model's inputs, and the ids."""
    inputs, _, ids, lengths = schema.parse_batch(examples, run.facts.features, None, True)
    return inputs | {f"{name}_length": length for name, length in lengths.items()}, ids


def _compare(path, run, model):
    """Largest difference of each signature, reloaded elsewhere, from the model in this process."""
    records = _records(run)
    parsed, _ = _parsed(tf.constant(records), run)
    inputs = {name: parsed[name].numpy() for name in dict(model.input)}
    expected = {"probabilities": model.predict_on_batch(inputs)}
    given = {"serving_default": inputs, "serialized": {"examples": records}}
    return of_clips.differences(path, run, given, dict.fromkeys(given, expected))


def _records(run):
    """A few whole records of the test part, serialised; drawn ones where its files are gone."""
    split, found, copies = run.split(), [], sources.Copies()
    for name in split.get("test") or split.get("validation") or split["train"]:
        for record in sources.head(sources.locate(name, copies), of_clips.CLIPS):
            with contextlib.suppress(tf.errors.OpError):  # damaged, or of another kind
                _parsed(tf.constant([record]), run)
                found.append(record)
        if len(found) >= of_clips.CLIPS:
            return found[: of_clips.CLIPS]
    if not found:
        print(f"the records of this run are gone ({files.shown(run.facts.records)}); compared on drawn ones")
    return found or _drawn(run.facts.features)


def _drawn(rows):
    """Made-up records of these rows."""
    rng = np.random.default_rng(0)

    def values(row):
        shape = row.shape if len(row.shape) == 1 else (_FRAMES, *row.shape[1:])
        return rng.integers(0, 256, shape, "uint8") if row.dtype == "uint8" else rng.normal(size=shape)

    drawn = [{row.name: values(row).astype(row.dtype) for row in rows} for _ in range(of_clips.CLIPS)]
    return [schema.serialize(f"drawn{i}", [], features, rows) for i, features in enumerate(drawn)]
