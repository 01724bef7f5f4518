"""A train_dir of a small trained model, made without training, for the tests of the starter's programs."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from starter import checkpoints as starter_checkpoints
from starter import flags, models, serving
from tfvc import checkpoints

SMALL = {
    "iterations": 4,
    "dbof_cluster_size": 6,
    "dbof_hidden_size": 5,
    "lstm_cells": 4,
    "netvlad_cluster_size": 4,
    "netvlad_hidden_size": 5,
}
CLASSES = 10


def train_dir(folder, model="MoeModel", step=300, seed=0, **changed):
    """model_flags.json and one checkpoint; weights far enough from zero that the classes differ."""
    frames = models.find(model).frame_level
    names = "rgb,audio" if frames else "mean_rgb,mean_audio"
    values = {name: default for name, (_, default, _) in starter_checkpoints.STORED.items()}
    values |= {"model": model, "feature_names": names, "feature_sizes": "8,4", "num_classes": CLASSES}
    values |= SMALL | {"frame_features": bool(frames)} | changed
    starter_checkpoints.write_flags(folder, values)
    save(folder, values, step, seed)
    return Path(folder)


def build(values, max_frames=300):
    rows = models.rows(values["feature_names"], values["feature_sizes"], values["frame_features"], max_frames)
    own = {name: values[name] for name in flags.MODEL}
    return models.build_model(values["model"], rows, values["num_classes"], own)


def save(folder, values, step, seed):
    """A checkpoint as training saves it, of drawn weights."""
    model = build(values)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    checkpoints.save(Path(folder) / "checkpoints", model, optimizer, checkpoints.Progress(step=step))
    return model


def settings(program, **given):
    """What a command line gives a program: the defaults of its flags, and what is set."""
    values = {name: default for name, (_, default, _) in program.FLAGS.items()} | given
    assert set(values) == set(program.FLAGS), set(values) ^ set(program.FLAGS)
    return type("Settings", (), values | {"given": set(given)})()


def video_record(rng, number, labels, missing=()):
    """A tf.train.Example as YouTube-8M writes it, of 8 + 4 numbers."""
    example = tf.train.Example()
    feature = example.features.feature
    feature["id"].bytes_list.value.append(f"v{number:03d}".encode())
    feature["labels"].int64_list.value.extend(labels)
    for name, size in (("mean_rgb", 8), ("mean_audio", 4)):
        if name not in missing:
            feature[name].float_list.value.extend(rng.normal(size=size))
    return example.SerializeToString()


def frame_record(rng, number, labels, frames, segments=(), sizes=(("rgb", 8), ("audio", 4))):
    """A tf.train.SequenceExample; segments: (start, class, score)."""
    example = tf.train.SequenceExample()
    feature = example.context.feature
    feature["id"].bytes_list.value.append(f"v{number:03d}".encode())
    feature["labels"].int64_list.value.extend(labels)
    for start, label, score in segments:
        feature["segment_start_times"].int64_list.value.append(start)
        feature["segment_end_times"].int64_list.value.append(start + 5)
        feature["segment_labels"].int64_list.value.append(label)
        feature["segment_scores"].float_list.value.append(score)
    for name, size in sizes:
        for frame in rng.integers(0, 256, (frames, size), "uint8"):
            example.feature_lists.feature_list[name].feature.add().bytes_list.value.append(frame.tobytes())
    return example.SerializeToString()


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def videos(path, count=23, labelled=True, seed=1):
    """A shard of `count` videos, each with 0 to 3 labels."""
    rng = np.random.default_rng(seed)
    labels = [rng.permutation(CLASSES)[: i % 4].tolist() if labelled else [] for i in range(count)]
    return write(path, [video_record(rng, i, labels[i]) for i in range(count)])


def clips(path, count=11, seed=1):
    """A shard of `count` clips of 3 to 12 frames, with rated segments."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(count):
        rated = [(0, i % CLASSES, 1.0), (0, (i + 1) % CLASSES, 0.0), (5, i % CLASSES, float(i % 2))]
        frames = 3 + i % 10
        records.append(frame_record(rng, i, [i % CLASSES], frames, rated[: 3 if frames >= 10 else 2]))
    return write(path, records)


def kept_copy(source, folder):
    """A train_dir with its model kept for inference, and without a checkpoint."""
    values = starter_checkpoints.flags_of(source)
    loaded = serving.restored(starter_checkpoints.newest(source), values, False)
    serving.keep(loaded, serving.kept_folder(folder, False))
    return folder


def split(line):
    """Id, classes and scores of a line of predictions."""
    video, pairs = line.decode().rstrip("\n").split(",")
    words = pairs.split()
    return video, [int(c) for c in words[::2]], [float(s) for s in words[1::2]]
