"""What one record holds, and what is wrong with it, in plain words.

Slow: for the first records of a set, and for those that TensorFlow could not parse.
"""

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfvc.data.schema import IDS, SEGMENTS, frame_bytes
from tfvc.recipe import Feature

_CONTEXT = {*IDS, "labels", *SEGMENTS, "segment_end_times"}


def fault(record, rows, num_classes, segment_size=0):
    """What is wrong with a record, in plain words; None where nothing is.

    A record that lacks some stream is whole. One of the other level is not: vectors alone where frames are
    asked for, or frames alone where vectors are.

    Args:
        record: bytes.
        rows, num_classes: as `parse_batch` takes them; None = labels (and segments) are not looked at.
        segment_size: frames of a segment, where segments are read; else 0.

    Example:
        >>> import numpy as np
        >>> from tfvc.data import schema
        >>> rows = [Feature("frames", (4, 2), "uint8")]
        >>> fault(schema.serialize("a", [3], {"frames": np.zeros((1, 2), "uint8")}, rows), rows, 3)
        "record 'a': label 3; expected 0 to 2 (num_classes=3; raise it where the set has more)"
    """
    try:
        example = _example(record)
    except ValueError as error:
        return str(error)
    context, lists = example.context.feature, example.feature_lists.feature_list
    values = {name: context[name].bytes_list.value for name in IDS if name in context}
    clip_id = next((value[0] for value in values.values() if len(value) == 1 and value[0]), None)
    if clip_id is None:
        return f"a record without id or video_id; it holds: {_held(context, lists)}"
    name = f"record {clip_id.decode('utf-8', 'replace')!r}"
    frames = [row for row in rows if len(row.shape) > 1]
    there = [row for row in rows if row.name in context or row.name in lists]
    other = not there and (not lists and set(context) - _CONTEXT if frames else lists)
    if other:
        return f"{name} holds {_held(context, lists)}; expected {', '.join(row.name for row in rows)}"
    for row in there:
        wrong = _vector_fault(context, row) if len(row.shape) == 1 else _frames_fault(context, lists, row)
        if wrong:
            return f"{name}: {row.name} {wrong}"
    if num_classes is None:
        return None
    key = "segment_labels" if segment_size else "labels"
    if key in context and context[key].WhichOneof("kind") not in (None, "int64_list"):
        return f"{name}: {key} are no integers"
    labels = context[key].int64_list.value if key in context else []
    bad = next((label for label in labels if not 0 <= label < num_classes), None)
    if bad is not None:
        most = f"num_classes={num_classes}; raise it where the set has more"
        return f"{name}: label {bad}; expected 0 to {num_classes - 1} ({most})"
    return _segment_fault(context, rows, segment_size, name) if segment_size else None


def width(row):
    """What one vector, or one frame, of a row counts: floats, or bytes."""
    return row.shape[0] if len(row.shape) == 1 else frame_bytes(row)


def streams(record):
    """What a record holds besides id, labels and segments: name -> `width`, or None where none is to be seen.

    Raises:
        ValueError: not a record.
    """
    example = _example(record)
    found = {name: len(value.float_list.value) or None for name, value in example.context.feature.items()}
    for name, value in example.feature_lists.feature_list.items():
        first = value.feature[0].bytes_list.value if value.feature else ()
        found[name] = len(first[0]) if first else None
    return {name: size for name, size in found.items() if name not in _CONTEXT}


def rows_in(record, sizes):
    """The streams of a record as rows: a list of floats is a vector, anything in bytes a stream of frames.

    Args:
        record: bytes.
        sizes: name -> width of a frame, used where the frames lie joined in one string, or are none.

    Returns:
        list of `Feature`; streams of unknown width are left out.

    Raises:
        ValueError: not a record.

    Example:
        >>> import numpy as np
        >>> from tfvc.data import schema
        >>> rows = [Feature("rgb", (None, 2), "uint8", True)]
        >>> record = schema.serialize("a", [], {"rgb": np.zeros((3, 2), "uint8")}, rows)
        >>> rows_in(record, {}) == rows
        True
    """
    context = _example(record).context.feature
    rows = []
    for name, found in streams(record).items():
        if name in context and context[name].WhichOneof("kind") == "float_list":
            rows += [Feature(name, (found,))] if found else []
        elif found or name in sizes:
            rows.append(Feature(name, (None, found or sizes[name]), "uint8", True))
    return rows


def _example(record):
    try:
        return tf.train.SequenceExample.FromString(record)
    except DecodeError:
        raise ValueError("no tf.train.Example or SequenceExample") from None


def _held(context, lists):
    return ", ".join(sorted({*context, *lists} - _CONTEXT)) or "nothing else"


def _vector_fault(context, row):
    values = context[row.name].float_list.value
    if context[row.name].WhichOneof("kind") not in (None, "float_list"):
        return f"is no list of floats; expected {row.shape[0]} of them"
    if row.name in context and len(values) not in (0, row.shape[0]):
        return f"has {len(values)} values; expected {row.shape[0]}"
    return None


def _frames_fault(context, lists, row):
    size = frame_bytes(row)
    if row.name in context:
        value = context[row.name].bytes_list.value
        if len(value) != 1:
            return "is no single string of frames"
        return f"is {len(value[0])} bytes; expected a multiple of {size}" if len(value[0]) % size else None
    for index, frame in enumerate(lists[row.name].feature):
        value = frame.bytes_list.value
        if len(value) != 1:
            return f"frame {index} is no bytes value"
        if len(value[0]) != size and index < (row.shape[0] or index + 1):
            return f"frame {index} is {len(value[0])} bytes; expected {size}"
    return None


def _segment_fault(context, rows, segment_size, name):
    starts = context["segment_start_times"].int64_list.value
    counts = [len(context["segment_labels"].int64_list.value), len(starts)]
    counts.append(len(context["segment_scores"].float_list.value))
    if len(set(counts)) > 1:
        return f"{name}: {counts[0]} segment labels, {counts[1]} starts, {counts[2]} scores; expected as many"
    last = min(row.shape[0] for row in rows) - segment_size
    bad = next((start for start in starts if not 0 <= start <= last), None)
    return None if bad is None else f"{name}: segment start {bad}; expected 0 to {last}"
