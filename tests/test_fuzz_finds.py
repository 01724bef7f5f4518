"""Inputs that found a fault, by fuzzing or by reading beside it: now read, or refused in a line of ours."""

import json
import struct

import av
import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import fuzzing
from experiments.fuzzing.common import as_npy
from starter import convert_prediction_from_json_to_csv as converter
from starter import submissions
from tfvc import files
from tfvc.data import audio, classes, manifests, schema
from tfvc.recipe import Feature

_LINE = b'{"video_id": "v", "class_indexes": [1e999], "predictions": [0.5]}'
_DIGITS = b"9" * 5000  # more than Python makes a number of
FINDS = [
    # (parser, input, what it did)
    ("manifest_csv", b")d,path,la\x1c\x1cbens,texit,dg", "broke the line of the message"),
    ("manifest_csv", b"id,path,labels,\x1b[2J,\xe2\x80\xa8,label\n", "steered the terminal"),
    ("manifest_csv", b'id,path,labels,"a\nb",label\na,b,c,d,e\n', "broke the line of the message"),
    ("manifest_jsonl", b'{"id": "a", "\\u2028\\n": 1}', "broke the line of the message"),
    ("ucf101", b"Punch\x88\xd1_Punch_g01_c01.avi 1\n", "UnicodeDecodeError"),
    ("vocabulary", b"\x0bme0\n", "broke the line of the message"),
    ("predictions", b"\x88", "UnicodeDecodeError"),
    ("predictions", _LINE, "OverflowError"),
    ("predictions", b"[" * 5000, "RecursionError"),
    ("class_ids", _DIGITS, "did not name the file"),
    ("run_files", b'{"test": ' + _DIGITS + b"}", "did not name the file"),
    ("shards", b'{"format": "tfvc-records-1", "clips": ' + _DIGITS + b"}", "did not name the file"),
    ("checkpoint_record", b"[" * 5000, "RecursionError"),
]


def _seed(name, number=0):
    return fuzzing.PARSERS[name]()[1][number]


def _edited(name, **fields):
    tree = json.loads(_seed(name))
    return json.dumps(tree | fields).encode().replace(b'"HUGE"', b"1e999")


def _patched(name, old, new, number=0):
    data = _seed(name, number)
    assert old in data and len(old) == len(new)
    return data.replace(old, new)


def _method(name, method):
    """A zip archive whose members say that they are packed in another way."""
    data = bytearray(_seed(name))
    for magic, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.find(magic)
        while at >= 0:
            data[at + place : at + place + 2] = struct.pack("<H", method)
            at = data.find(magic, at + 4)
    return bytes(data)


MADE = [
    ("run", lambda: _edited("run", seed="HUGE"), "OverflowError"),
    (
        "keras_model",
        lambda: _patched(
            "keras_model",
            b'"input_layers": {"frames": ["frames", 0, 0]}',
            b'"input_layers": {"frames": ["frames", 9, 0]}',
        ),
        "IndexError",
    ),
    (
        "keras_model",
        lambda: json.dumps(keras.saving.serialize_keras_object(keras.Sequential())).encode(),
        "AttributeError",
    ),
    ("checkpoint", lambda: _method("checkpoint", 99), "NotImplementedError"),
    ("checkpoint", lambda: _method("checkpoint", 14), "lzma.LZMAError"),
    ("checkpoint", lambda: b"PK\x05\x06" + bytes(18), "an empty archive"),
    ("checkpoint", lambda: as_npy(np.zeros(3)), "AttributeError"),
    ("estimator_arrays", lambda: _method("estimator_arrays", 99), "NotImplementedError"),
    ("estimator_arrays", lambda: _method("estimator_arrays", 14), "lzma.LZMAError"),
    ("estimator_arrays", lambda: _patched("estimator_arrays", b"'shape': (", b"'shape':  "), "SyntaxError"),
    *(
        (name, lambda: _patched("media", b"avc1", b"zzzz"), "AttributeError")
        for name in ("media_header", "media")
    ),
    ("media", lambda: _patched("media", b"mp4a", b"zzzz"), "AttributeError"),
    ("ave_order", lambda: _patched("ave_order", b"TREE", b"TRE\0", 1), "OSError of HDF5"),
    ("ave_order", lambda: _patched("ave_order", b"x^", b"\0\0", 1), "OSError of HDF5"),
]


@pytest.mark.parametrize("name, data, did", FINDS)
def test_a_find_stays_mended(name, data, did, tmp_path):
    fuzzing.PARSERS[name]()[0](tmp_path, data)


@pytest.mark.parametrize("name, make, did", MADE, ids=[f"{name}-{did}" for name, _, did in MADE])
def test_a_made_find_stays_mended(name, make, did, tmp_path):
    fuzzing.PARSERS[name]()[0](tmp_path, make())


def test_frames_of_no_fixed_number_in_a_graph():
    """Records of both forms in one batch, T that of the longest: `to_tensor` refused it in a graph."""
    rows = [Feature("rgb", (None, 2), "uint8")]
    frames = [{"rgb": np.full((n, 2), n, "uint8")} for n in (1, 3, 2)]
    batch = tf.constant(
        [schema.serialize(f"{n}", [], value, rows, packed=n == 1) for n, value in enumerate(frames)]
    )
    parse = tf.function(lambda s: schema.parse_batch(s, rows, None, True)[::3])
    inputs, lengths = parse(batch)
    assert lengths["rgb"].numpy().tolist() == [1, 3, 2]
    want = np.stack([np.pad(value["rgb"], [(0, 3 - len(value["rgb"])), (0, 0)]) for value in frames])
    np.testing.assert_array_equal(inputs["rgb"], want)


def test_a_text_file_that_would_eat_the_machine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGEST", 99)
    path = tmp_path / "clips.jsonl"
    path.write_text("x" * 100, encoding="utf-8")
    for read in (manifests.read, files.read_json, classes.read, lambda p: submissions.class_mask(str(p), 9)):
        with pytest.raises(ValueError, match=r"clips.jsonl: over 9.2\S+ GiB; expected a smaller file"):
            read(path)


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "_LONGEST", 50)
    (tmp_path / "a.json").write_text("\n" + " " * 60, encoding="utf-8")
    with pytest.raises(ValueError, match="a.json, line 2: over 50 bytes; expected a video a line"):
        converter.convert(str(tmp_path / "a.json"), str(tmp_path / "out.csv"))


@pytest.mark.parametrize("layout, count", [("stereo", 2), ("7.1", 8), ("hexadecagonal", 16)])
def test_sound_of_many_channels_ends_no_process(layout, count, tmp_path):
    """PyAV counted the planes of eight channels and more beyond the last: a segmentation fault."""
    levels = np.arange(1, count + 1) / 32
    path = tmp_path / "a.mka"
    codec, form = ("aac", "fltp") if count == 8 else ("pcm_f32le", "flt")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout=layout)
        packed = np.tile(levels.astype("float32"), 48000)[None]
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        for piece in av.AudioResampler(form, layout, 48000, frame_size=1024).resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    track = audio.read_track(path, audio.Track(rate=48000, samples=24000))
    assert abs(track.pieces[0, 20000] - levels.mean()) < 2e-2
    for channels, want in (("mean", levels.mean()), ("first", levels[0])):
        assert abs(audio.read_audio(path, rate=48000, channels=channels)[20000] - want) < 2e-2
