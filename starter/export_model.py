"""Exports a trained model for batch prediction and serving: `python -m starter.export_model`."""

import os
import sys
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from starter import checkpoints, flags

_DOC = """Exports a trained model as a SavedModel, for batch prediction and serving.

Its signature serving_default takes example_bytes, serialised records (tf.train.Example, or SequenceExample
for a model of frames), and gives video_id, class_indexes and predictions: the 20 best classes of each video,
best first. Records need no labels.

The model is what starter.eval kept in --train_dir, or its newest checkpoint, whichever is later."""

FLAGS = {
    "train_dir": ("string", "", "folder of the training"),
    "init_from": (
        "string",
        "",
        "export this checkpoint, as run/model.ckpt-1000 of TensorFlow 1, not the newest model",
    ),
    "output_dir": ("string", "", "folder of the SavedModel; empty: <train_dir>/export"),
} | checkpoints.STORED
TOP = 20  # classes a video, as in the original
_COMPARED = 4  # records
# An array of bytes proper would lose the zeros at a record's end.
_SAVING = (
    "records = list(tf.data.TFRecordDataset('SHARD').as_numpy_iterator()); "
    "np.save('example_bytes.npy', np.array(records, dtype=object))"
)


def export(settings):
    """Writes the SavedModel; an earlier one in the same place is replaced.

    **Source** ModelExporter of YouTube-8M's export_model.py.

    **Differs** A program of its own; frames are parsed in batches, not record by record; it may be written
    twice into the same place. A model of fewer than 20 classes gives as many as it has.

    Args:
        settings: object with one attribute for each name of `FLAGS`, and `given`, the names that were set.

    Returns:
        Path of the SavedModel.

    Raises:
        ValueError, FileNotFoundError: no model there, or the SavedModel predicts something else.
    """
    if not (settings.train_dir or settings.output_dir):
        raise ValueError("--output_dir: expected the folder of the SavedModel to write")

    import tensorflow as tf

    from starter import serving
    from tfvc.data import schema

    served = serving.for_inference(settings)
    rows = served.rows()

    def predict(example_bytes):
        inputs, _, ids, lengths = schema.parse_batch(example_bytes, rows, None, True)
        inputs |= {f"{name}_length": length for name, length in lengths.items()}
        scores, classes = tf.math.top_k(served.model(inputs, training=False), min(TOP, served.num_classes))
        return {"video_id": ids, "class_indexes": classes, "predictions": scores}

    signature = [tf.TensorSpec((None,), tf.string, "example_bytes")]
    function = tf.function(predict, input_signature=signature, autograph=False)
    target = settings.output_dir or Path(settings.train_dir) / "export"
    return serving.export(target, function, served.model, *_compared(served), {"example_bytes": _SAVING})


def _compared(served):
    """Drawn records, and what the Keras model says of what is in them, best first."""
    import numpy as np

    from tfvc.data import schema

    rng, rows, inputs, records = np.random.default_rng(0), served.rows(), {}, []
    drawn = {row.name: [] for row in rows}
    for number in range(_COMPARED):
        for row in rows:
            shape = (number + 1, *row.shape[1:]) if served.flags["frame_features"] else row.shape
            value = rng.integers(0, 256, shape) if row.quantized else rng.normal(size=shape)
            drawn[row.name].append(value.astype(row.dtype))
        features = {name: values[-1] for name, values in drawn.items()}
        records.append(schema.serialize(f"drawn {number}", [], features, rows))
    for name, values in drawn.items():
        inputs[name] = np.zeros((_COMPARED, *served.model.input[name].shape[1:]), values[0].dtype)
        for whole, value in zip(inputs[name], values, strict=True):
            whole[: len(value)] = value
        if served.flags["frame_features"]:
            inputs[f"{name}_length"] = np.arange(1, _COMPARED + 1, dtype="int32")
    predictions = -np.sort(-served.model.predict_on_batch(inputs), axis=1)
    return {"example_bytes": np.array(records, object)}, predictions[:, :TOP]


def main(argv=None):
    """The command."""

    def run(settings):
        # On the processor: what is traced where a GPU is may not run where none is.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        export(settings)

    flags.command("starter.export_model", _DOC, FLAGS, run, argv)


if __name__ == "__main__":
    main()
