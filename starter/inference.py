"""Predicts labels of videos, or of their segments: `python -m starter.inference`."""

import os
import sys
import time
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from starter import checkpoints, flags, submissions
from tfvc import files

_DOC = """Predicts the labels of videos, or with --segment_labels ranks segments of 5 frames for each class.

The model is what starter.eval kept in --train_dir, or its newest checkpoint, whichever is later. The file is
Kaggle's: `VideoId,LabelConfidencePairs` and lines `id,class score class score ...`, or `Class,Segments` and
lines `class,id:start id:start ...`, best first. It appears when it is whole; a stopped run starts anew."""

_SEGMENT_IDS = "https://raw.githubusercontent.com/google/youtube-8m/master/segment_label_ids.csv"
FLAGS = {
    "input_data_pattern": ("string", "", "the records: file names, `*` and `?` allowed, separated by commas"),
    "train_dir": ("string", "", "folder of the training"),
    "output_file": ("string", "", "the file to write"),
    "init_from": (
        "string",
        "",
        "predict with this checkpoint, as run/model.ckpt-1000 of TensorFlow 1, not with the newest model",
    ),
    "input_model_tgz": ("string", "", "predict with a model that --output_model_tgz bundled"),
    "untar_model_dir": ("string", "/tmp/yt8m-model", "folder that --input_model_tgz is unpacked into"),
    "output_model_tgz": ("string", "", "also bundle the model into this .tgz file"),
    "top_k": ("positive", 20, "classes a video (or a segment)"),
    "vocabulary": (
        "string",
        "",
        "vocabulary.csv: writes names for numbers, as `id,name score;name score;...`",
    ),
    "segment_labels": (
        "boolean",
        False,
        "rank segments of 5 frames; the records hold frames of whole videos",
    ),
    "segment_max_pred": ("positive", 100000, "segments a class at most"),
    "segment_label_ids_file": (
        "string",
        _SEGMENT_IDS,
        "the classes that segments may have, a number a line: a file or an address; empty = all",
    ),
}
FLAGS |= flags.reading(512, 1, "stop") | checkpoints.STORED
FLAGS["num_readers"] = ("positive", 1, submissions.READERS)


def format_lines(video_ids, predictions, top_k, whitelisted_cls_mask=None):
    """The lines of a submission: `id,class score class score ...`, best first.

    **Source** `format_lines` of YouTube-8M's inference.py.

    **Differs** The original multiplies `predictions` by the mask in place; ours leaves them alone. It raises
    where `top_k` exceeds the classes; ours lists all there are. Where the mask leaves fewer than `top_k`
    classes, the original fills the line with masked classes, score 0; ours leaves masked classes out. The
    order of equal scores is chance there; here the lower class comes first.

    Args:
        video_ids: strings or bytes `(B,)`.
        predictions: float `(B, C)`.
        top_k: how many classes a line may have.
        whitelisted_cls_mask: `(C,)`, 1 for classes that may be listed and 0 for others; None = all may.

    Returns:
        generator of bytes (UTF-8), one line a video with its newline.

    Raises:
        ValueError: a score is not finite.

    Example:
        >>> list(format_lines(["v"], np.array([[0.5, 0.25, 0.75]]), 2))
        [b'v,2 0.75 0 0.5\\n']
    """
    predictions = np.asarray(predictions)
    listed = np.arange(predictions.shape[1])
    if whitelisted_cls_mask is not None:
        listed = np.flatnonzero(whitelisted_cls_mask)
    order = np.argsort(-predictions[:, listed], axis=1, kind="stable")[:, :top_k]
    indices = listed[order]
    return submissions.lines(video_ids, indices, np.take_along_axis(predictions, indices, 1))


def get_segments(batch_video_mtx, batch_num_frames, segment_size):
    """Cuts videos into consecutive windows; the last window of a video may have fewer real frames.

    **Source** `get_segments` of YouTube-8M's inference.py.

    **Differs** The original raises where the last window reaches beyond the padded length; ours fills it
    with zero frames. More frames than the padded length count as that length.

    Args:
        batch_video_mtx: `(B, T, D)`, any dtype; `D` may be any number of axes.
        batch_num_frames: int `(B,)`, real frames of each video.
        segment_size: frames of a window.

    Returns:
        dict: `video_batch` `(N, segment_size, D)` of the same dtype; `num_frames_batch` int64 `(N,)`;
        `video_segment_ids` int64 `(N, 2)`: number of the video in the batch, first frame.

    Example:
        >>> segments = get_segments(np.ones((1, 7, 2)), np.array([7]), 5)
        >>> segments["num_frames_batch"].tolist(), segments["video_segment_ids"].tolist()
        ([5, 2], [[0, 0], [0, 5]])
    """
    videos, frames = batch_video_mtx.shape[:2]
    short = -frames % segment_size
    if short:
        batch_video_mtx = np.pad(
            batch_video_mtx, [(0, 0), (0, short)] + [(0, 0)] * (batch_video_mtx.ndim - 2)
        )
    windows = batch_video_mtx.reshape(videos, -1, segment_size, *batch_video_mtx.shape[2:])
    starts = np.arange(0, frames, segment_size)
    left = np.minimum(batch_num_frames, frames).astype("int64")[:, None] - starts
    video, window = np.nonzero(left > 0)
    return {
        "video_batch": windows[video, window],
        "num_frames_batch": np.minimum(left[video, window], segment_size),
        "video_segment_ids": np.stack([video, starts[window]], -1),
    }


def predict(settings):
    """Reads records, predicts, writes the file.

    **Source** `inference` of YouTube-8M's inference.py.

    **Differs** It also reads the newest checkpoint, so that evaluation need not come first. Segments are
    ranked by the whole score, not by six printed digits; the classes rise. See `format_lines`.

    Args:
        settings: object with one attribute for each name of `FLAGS`, and `given`, the names that were set.

    Returns:
        int, videos (or segments) predicted.

    Raises:
        ValueError, FileNotFoundError: no model, no records, nowhere to write, or records, class ids or names
            that do not fit the model.
    """
    for name in ("input_data_pattern", "output_file"):
        if not getattr(settings, name):
            raise ValueError(f"--{name}: expected a value; see python -m starter.inference --help")
    output = _writable(settings.output_file)
    if settings.output_model_tgz:
        _writable(settings.output_model_tgz)

    from starter import serving
    from tfvc.data import records, vocabulary

    served = serving.for_inference(settings)
    if settings.output_model_tgz:
        serving.pack(served, settings.output_model_tgz)
        print(f"bundled the model into {files.shown(settings.output_model_tgz)}")
    names = settings.vocabulary and vocabulary.class_names(settings.vocabulary, served.num_classes)
    report = records.Report()
    batches = serving.batches(settings.input_data_pattern, served, settings, False, report, labels=False)
    clock, done = time.perf_counter(), 0
    write = _segments if settings.segment_labels else _videos
    with files.locked(output, "writing"), records.readable():
        files.sweep(output.parent, output.name)
        with files.aside(output) as temporary, open(temporary, "wb") as f:
            for count in write(f, served, batches, settings, names or None):
                done += count
                seconds = time.perf_counter() - clock
                print(f"num examples processed: {done} elapsed seconds: {seconds:.2f}", flush=True)
            if not done:
                raise ValueError(
                    f"{settings.input_data_pattern}: no whole record; expected TFRecord files as YouTube-8M's"
                )
    if report.faults:
        print(report.summary())
    print(f"predictions: {files.shown(output)}")
    return done


def _writable(path):
    """Refuses an address, which would become a folder of that name, and a folder."""
    if "://" in path:
        raise ValueError(f"{path}: expected a local file; copy it there afterwards")
    if Path(path).is_dir():
        raise ValueError(f"{path}: is a folder; expected the name of a file")
    return Path(os.path.abspath(path))


def _videos(f, served, batches, settings, names):
    step = _best(served.model, settings.top_k)
    f.write(submissions.VIDEO_HEADER)
    for inputs, _, ids in batches:
        f.writelines(submissions.lines(ids.numpy(), *step(inputs), names))
        yield len(ids)


def _segments(f, served, batches, settings, names):
    from starter import serving

    mask, streams = None, [row.name for row in served.rows()]
    if settings.segment_label_ids_file:
        mask = submissions.class_mask(settings.segment_label_ids_file, served.num_classes)
    step = _best(served.model, settings.top_k, mask)
    ranking = submissions.Ranking(settings.segment_max_pred)
    for inputs, _, ids in batches:
        cut, places = windows(inputs, streams, serving.SEGMENT_FRAMES)
        found = []
        for i in range(0, len(places), settings.batch_size):
            part = step({name: value[i : i + settings.batch_size] for name, value in cut.items()})
            found.append([np.asarray(value) for value in part])
        if found:
            ranking.add(ids.numpy(), places, *map(np.concatenate, zip(*found, strict=True)))
        yield len(places)
    f.write(submissions.SEGMENT_HEADER)
    f.writelines(ranking.lines(names))


def windows(inputs, streams, size):
    """Cuts a batch of videos into windows of `size` frames.

    Args:
        inputs: a batch's inputs, `{name: (B, T, D), name_length: (B,)}`.
        streams: their names; the first that a video has tells how many frames it has.

    Returns:
        `(inputs, places)`: the windows as a batch of their own; int64 `(N, 2)`, number of the video in the
        batch and first frame of each.
    """
    lengths = {name: np.asarray(inputs[f"{name}_length"]) for name in streams}
    frames = 0
    for name in reversed(streams):
        frames = np.where(lengths[name] > 0, lengths[name], frames)
    cut = {}
    for name in streams:
        part = get_segments(np.asarray(inputs[name]), frames, size)
        places = part["video_segment_ids"]
        video, start = places.T
        cut[name] = part["video_batch"]
        cut[f"{name}_length"] = np.clip(lengths[name][video] - start, 0, size).astype("int32")
    return cut, places


def _best(model, top_k, mask=None):
    """A function of a batch's inputs: its best classes (B, K) and their scores, found on the device."""
    import tensorflow as tf

    from starter import serving

    listed = np.arange(model.output_shape[-1]) if mask is None else np.flatnonzero(mask)
    listed = tf.constant(listed, tf.int32)

    def step(inputs):
        predictions = tf.gather(model(inputs, training=False), listed, axis=1)
        # What is no number comes first, so that it is seen.
        predictions = tf.where(tf.math.is_nan(predictions), float("inf"), predictions)
        scores, places = tf.math.top_k(predictions, min(top_k, len(listed)))
        return tf.gather(listed, places), scores

    return tf.function(step, input_signature=[serving.signature(model)], autograph=False)


def main(argv=None):
    """The command."""

    def run(settings):
        predict(settings)

    flags.command("starter.inference", _DOC, FLAGS, run, argv)


if __name__ == "__main__":
    main()
