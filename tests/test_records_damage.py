"""Shards by pattern with every kind of damage: named, and no dearer than what is damaged."""

import gzip
import itertools
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from made_records import CLASSES, MORE, ROWS, VIDEO, T, clip, flip, names, offsets, shards, write

from tfvc.data import records, salvage, schema
from tfvc.recipe import Feature

# --- damage -------------------------------------------------------------------------------------------------


def _cut(path, places):
    path.write_bytes(path.read_bytes()[: places[4] + 30])
    return [4], [places[4]], "cut short: a record of"


def _header_cut(path, places):
    path.write_bytes(path.read_bytes()[: places[4] + 5])
    return [4], [places[4]], "cut short: 5 bytes where a record begins"


def _data(path, places):
    flip(path, places[2] + salvage.HEADER + 3)
    return [2], [places[2]], "the data of a record is damaged"


def _data_crc(path, places):
    flip(path, places[3] - 1)
    return [2], [places[2]], "the data of a record is damaged"


def _length(path, places):
    flip(path, places[1])
    return [1], [places[1]], "the length of a record is damaged"


def _first_length(path, places):
    flip(path, 6)
    return [0], [0], "no TFRecord file, or its start is damaged"


def _two(path, places):
    flip(path, places[1] + 9)
    flip(path, places[3] + 25)
    return [1, 3], [places[1], places[3]], "of a record is damaged"


def _empty(path, places):
    path.write_bytes(b"")
    return range(5), [0], "an empty file"


def _text(path, places):
    path.write_text("a text, and no record\n" * 40)
    return range(5), [0], "no TFRecord file, or its start is damaged"


DAMAGE = {
    "cut": _cut,
    "header cut": _header_cut,
    "data": _data,
    "checksum of data": _data_crc,
    "length": _length,
    "first length": _first_length,
    "two places": _two,
    "empty": _empty,
    "text": _text,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_costs_what_is_damaged(tmp_path, kind, capfd):
    pattern = shards(tmp_path)
    path = tmp_path / "s1.tfrecord"
    lost, places, reason = DAMAGE[kind](path, offsets(path))
    wanted = sorted(f"s{s}-{k}" for s in range(3) for k in range(5) if s != 1 or k not in lost)
    report = records.Report()
    mixed = names(pattern, 3, on_corrupt="skip", report=report, shuffle=True, epochs=2)
    assert sorted(mixed) == sorted(wanted * 2)
    assert [(file, offset) for file, offset, _ in report.faults] == [(str(path), place) for place in places]
    assert all(reason in text for *_, text in report.faults)
    printed = capfd.readouterr().out.splitlines()
    assert len(printed) == len(places) and printed[0].startswith(f"skipped: {path}, byte {places[0]}: ")
    assert report.summary().endswith(f"in 1 file: {path} ({len(places)})")
    with pytest.raises(ValueError, match=re.escape(f"{path}, byte {places[0]}: ")) as error:
        names(pattern)
    assert reason in str(error.value) and str(error.value).endswith("--on_corrupt=skip")
    assert "\n" not in str(error.value) and records._MARK not in str(error.value)


def _number(name, value):
    example = tf.train.SequenceExample.FromString(clip("x"))
    example.context.feature[name].float_list.value.append(value)
    return example.SerializeToString()


_WIDE = [Feature("rgb", (T, 9), "uint8"), Feature("audio", (T, 2), "uint8")]
_FLOATS = schema.serialize("x", [], {"mean_rgb": np.ones(4, "float32")}, VIDEO)
_HALVES = schema.serialize("x", [], {"rgb": np.ones((3, 4), "float16")}, [Feature("rgb", (T, 4), "float16")])
OTHERS = {
    "no tf.train.Example or SequenceExample": b"\xff\xfe nothing",
    "a record without id or video_id; it holds: nothing else": b"",
    "record 'x' holds mean_rgb; expected rgb, audio": _FLOATS,
    "record 'x': rgb frame 0 is 9 bytes; expected 4": clip("x", rows=_WIDE),
    "record 'x': rgb is 27 bytes; expected a multiple of 4": clip("x", rows=_WIDE, packed=True),
    "record 'x': rgb frame 0 is 8 bytes; expected 4": _HALVES,
    "record 'x': rgb is no single string of frames": _number("rgb", 1.0),
    "record 'x': labels are no integers": _number("labels", 1.0),
    f"record 'x': label {CLASSES}; expected 0 to {CLASSES - 1} ({MORE})": clip("x", labels=(1, CLASSES)),
    f"record 'x': label -1; expected 0 to {CLASSES - 1} ({MORE})": clip("x", labels=(-1,)),
}


@pytest.mark.slow
def test_records_of_another_schema_are_named_one_by_one(tmp_path):
    good = [clip(f"g{k}") for k in range(len(OTHERS))]
    path = write(tmp_path / "a", itertools.chain.from_iterable(zip(good, OTHERS.values(), strict=True)))
    report = records.Report()
    read = names(str(path), on_corrupt="skip", report=report, shuffle=True, epochs=2)
    assert sorted(read) == sorted([f"g{k}" for k in range(len(good))] * 2)
    assert [reason for *_, reason in report.faults] == list(OTHERS)
    assert [offset for _, offset, _ in report.faults] == offsets(path)[1:-1:2]
    with pytest.raises(ValueError, match=f"{path}, byte .*no tf.train.Example"):
        names(str(path))
    frames = write(tmp_path / "b", [_FLOATS, clip("y")])
    report = records.Report()
    assert names(str(frames), rows=VIDEO, on_corrupt="skip", report=report) == ["x"]
    assert report.faults[0][2] == "record 'y' holds audio, rgb; expected mean_rgb, mean_audio"


def test_zipped_shards_are_read_as_far_as_they_go(tmp_path):
    pattern = shards(tmp_path, 2, 40, zipped=True)
    path = tmp_path / "s0.tfrecord"
    whole = path.read_bytes()
    for data, reason in (
        (whole[: len(whole) * 3 // 4], "gzip stream cut short"),
        (whole[:900] + bytes([whole[900] ^ 255]) + whole[901:], "gzip stream damaged"),
    ):
        path.write_bytes(data)
        report = records.Report()
        read = names(pattern, on_corrupt="skip", report=report)
        assert read[-40:] == [f"s1-{k}" for k in range(40)] and 0 < len(read) < 80
        assert read[:-40] == [f"s0-{k}" for k in range(len(read) - 40)]
        assert reason in report.faults[-1][2] and report.faults[-1][2].endswith("(in the unpacked file)")
    raw = bytearray(gzip.decompress(whole))
    place = len(raw) // 2
    raw[place] ^= 1
    path.write_bytes(gzip.compress(bytes(raw)))
    report = records.Report()
    assert len(names(pattern, on_corrupt="skip", report=report)) == 79 and len(report.faults) == 1


def test_nothing_whole_ends_with_an_error_and_not_never(tmp_path):
    write(tmp_path / "a", [clip("x", labels=(9,))])
    (tmp_path / "b").write_bytes(b"")
    for options in ({}, {"epochs": None, "shuffle": True}):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/*: no whole record in 2 files")):
            names(f"{tmp_path}/*", on_corrupt="skip", **options)


def test_streams_that_no_record_has_are_refused_with_those_that_are_there(tmp_path, capsys):
    pattern = shards(tmp_path)
    wrong = [Feature("rbg", (T, 4), "uint8"), Feature("sound", (T, 2), "uint8")]
    with pytest.raises(ValueError, match="stream 'rbg' .did you mean 'rgb'.*in the first 12 records"):
        names(pattern, rows=wrong)
    assert len(names(pattern, rows=[ROWS[0], wrong[1]])) == 15
    assert f"{pattern}: no sound (seen in the first 12 records); read as masked" in capsys.readouterr().out
    with pytest.raises(ValueError, match="on_corrupt 'ignore'.*skip, stop"):
        names(pattern, on_corrupt="ignore")


def test_many_faults_are_counted_and_not_all_printed(capsys):
    report = records.Report()
    for k in range(50):
        report.add("f" if k % 2 else "g", k, "bad")
        report.add("f" if k % 2 else "g", k, "bad")
    assert len(capsys.readouterr().out.splitlines()) == 21
    assert report.summary() == "skipped 50 places or records in 2 files: f (25), g (25)"
    assert records.Report().summary() == ""


def test_records_left_out_in_great_number_come_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_LEFT", 400)
    path = write(tmp_path / "s0.tfrecord", [clip(f"s0-{k}") for k in range(30)])
    flip(path, 3)
    parts = math.ceil(path.stat().st_size / 400)
    assert parts > 5
    expected = {f"s0-{k}" for k in range(1, 30)}
    read = names(str(path), on_corrupt="skip")
    assert set(read) == expected and len(read) == 29


# --- checksums ----------------------------------------------------------------------------------------------


def test_checksums_of_any_length_are_those_of_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [0, 1, 3, 4, 5, 100, 8191, 8192, 8193, 30000, 250001]
    blobs = [rng.bytes(size) for size in sizes]
    path = write(tmp_path / "a", blobs)
    data, at = path.read_bytes(), 0
    for blob in blobs:
        assert salvage.masked(salvage.crc32c(blob)) == int.from_bytes(
            data[at + 12 + len(blob) :][:4], "little"
        )
        assert salvage.record(str(path), at) == blob
        at += len(blob) + salvage.FRAMING
    faults, places = salvage.survey(str(path))
    assert not faults and places == offsets(path)[:-1]
