"""Exports a trained model as MediaPipe's graph asks for it: `python -m starter.export_model_mediapipe`."""

import os
import sys
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from starter import checkpoints, flags

_DOC = """Exports a trained model as a SavedModel for MediaPipe.

Its signature serving_default takes rgb_and_audio (batch, frames, 1152), the features as they are after
dequantising, and num_frames (batch, 1); it gives predictions (batch, classes). Features are normalised
inside. A model of whole videos sees the mean of the frames.

The model is --checkpoint_file, or what starter.eval kept in --train_dir, or its newest checkpoint."""

FLAGS = {
    "checkpoint_file": (
        "string",
        "",
        "the checkpoint: step-N.npz, or of TensorFlow 1, as run/inference_model/segment_inference_model",
    ),
    "output_dir": ("string", "", "folder of the SavedModel"),
    "train_dir": ("string", "", "folder of the training, where no --checkpoint_file is given"),
    "segment_labels": ("boolean", False, "of --train_dir: the model that was kept for segments"),
} | checkpoints.STORED
_FRAMES = 5  # of the clips compared: a segment's


def export(settings):
    """Writes the SavedModel; an earlier one in the same place is replaced.

    **Source** YouTube-8M's export_model_mediapipe.py.

    **Differs** It may be written twice into the same place. A model of whole videos is exported too: it sees
    the mean of a video's frames, which is what mean_rgb and mean_audio are. The features are as wide as the
    model's streams together, 1152 for rgb and audio.

    Args:
        settings: object with one attribute for each name of `FLAGS`, and `given`, the names that were set.

    Returns:
        Path of the SavedModel.

    Raises:
        ValueError, FileNotFoundError: no model there, or the SavedModel predicts something else.
    """
    if not settings.output_dir:
        raise ValueError("--output_dir: expected the folder of the SavedModel to write")

    import tensorflow as tf

    from starter import serving

    settings.init_from = settings.checkpoint_file
    served = serving.for_inference(settings)
    sizes = [row.shape[-1] for row in served.rows()]
    network = _of_frames(served, sizes) if served.flags["frame_features"] else served.model

    def predict(rgb_and_audio, num_frames):
        frames = tf.minimum(num_frames[:, 0], tf.shape(rgb_and_audio)[1])
        if network is served.model:
            inputs = _means(rgb_and_audio, frames, served.rows())
        else:
            inputs = {"rgb_and_audio": rgb_and_audio, "rgb_and_audio_length": frames}
        return {"predictions": network(inputs, training=False)}

    signature = [
        tf.TensorSpec((None, None, sum(sizes)), tf.float32, "rgb_and_audio"),
        tf.TensorSpec((None, 1), tf.int32, "num_frames"),
    ]
    function = tf.function(predict, input_signature=signature, autograph=False)
    arrays = {
        "rgb_and_audio": f"float32 (batch, frames, {sum(sizes)}), dequantised features",
        "num_frames": "int32 (batch, 1), how many of the frames are real",
    }
    return serving.export(settings.output_dir, function, network, *_compared(served), arrays)


def _of_frames(served, sizes):
    """The same network over one stream of floats, any number of frames."""
    from starter import serving
    from tfvc.recipe import Feature

    row = Feature("rgb_and_audio", (None, sum(sizes)), "float32")
    network = serving.built(served.flags, [row], stream_sizes=sizes)
    network.set_weights(served.model.get_weights())
    return network


def _means(frames, num_frames, rows):
    """Inputs of a model of whole videos: the mean of the real frames, a stream each."""
    import tensorflow as tf

    real = tf.sequence_mask(num_frames, tf.shape(frames)[1], tf.float32)[..., None]
    total = tf.reduce_sum(tf.where(real > 0, frames, 0.0), 1)
    mean = tf.math.divide_no_nan(total, tf.cast(num_frames, tf.float32)[:, None])
    parts = tf.split(mean, [row.shape[-1] for row in rows], axis=-1)
    return {row.name: part for row, part in zip(rows, parts, strict=True)}


def _compared(served):
    """Drawn features as MediaPipe gives them, and what the Keras model says of the same as bytes or means."""
    import numpy as np

    from tfvc.layers import Dequantize

    rng, lengths = np.random.default_rng(0), np.array([_FRAMES, 2, 1], "int32")
    streams = [rng.integers(0, 256, (len(lengths), _FRAMES, row.shape[-1]), "uint8") for row in served.rows()]
    frames = np.concatenate([np.asarray(Dequantize()(stream)) for stream in streams], -1)
    inputs = {}
    for row, stream in zip(served.rows(), streams, strict=True):
        if served.flags["frame_features"]:
            most = served.model.input[row.name].shape[1]
            inputs[row.name] = np.pad(stream, [(0, 0), (0, most - _FRAMES), (0, 0)])
            inputs[f"{row.name}_length"] = lengths
        else:
            values = np.asarray(Dequantize()(stream))
            inputs[row.name] = np.stack([v[:n].mean(0) for v, n in zip(values, lengths, strict=True)])
    given = {"rgb_and_audio": frames, "num_frames": lengths[:, None]}
    return given, served.model.predict_on_batch(inputs)


def main(argv=None):
    """The command."""

    def run(settings):
        # On the processor: what is traced where a GPU is may not run where none is.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        export(settings)

    flags.command("starter.export_model_mediapipe", _DOC, FLAGS, run, argv)


if __name__ == "__main__":
    main()
