"""Which files a pattern means, whatever their names. Addresses and other systems: test_records.py."""

import gzip
import os
import re

import numpy as np
import pytest
import tensorflow as tf

from tfvc.data import records, schema, sources
from tfvc.recipe import Feature

ROWS = [Feature("mean_rgb", (4,))]


@pytest.fixture
def make(tmp_path):
    """A function: name (bytes) -> path of a shard with one video, whose id is `a`."""

    def write(name, zipped=False):
        with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
            writer.write(schema.serialize("a", [1], {"mean_rgb": np.ones(4, "float32")}, ROWS))
        data = (tmp_path / "one").read_bytes()
        path = os.path.join(os.fsencode(tmp_path), name)
        os.unlink(tmp_path / "one")
        with open(path, "wb") as f:
            f.write(gzip.compress(data) if zipped else data)
        return os.fsdecode(path)

    return write


def ids(pattern, **options):
    with records.readable():
        source = records.Records(pattern, ROWS, 3)
        return [i.decode() for _, _, ids in records.batches(source, 4, **options) for i in ids.numpy()]


@pytest.mark.parametrize("zipped", [False, True])
def test_names_that_are_no_utf8_are_read(make, tmp_path, zipped):
    odd, plain = make(b"bad\xff\xfe.tfrecord", zipped), make(b"good.tfrecord")
    assert sources.files(f"{tmp_path}/*.tfrecord") == [odd, plain]
    assert ids(f"{tmp_path}/*.tfrecord") == ["a", "a"]
    assert ids([odd]) == ids([odd], shuffle=True) == ["a"]


def test_what_is_wrong_with_such_a_file_is_told_by_its_name(make, tmp_path, capsys):
    odd, _ = make(b"bad\xff.tfrecord"), make(b"good.tfrecord")
    with open(odd, "ab") as f:
        f.write(b"rest")
    assert sorted(ids(f"{tmp_path}/*.tfrecord", on_corrupt="skip")) == ["a", "a"]
    assert rf"skipped: {tmp_path}/bad\xff.tfrecord, byte " in capsys.readouterr().out
    with pytest.raises(ValueError, match=re.escape(rf"{tmp_path}/bad\xff.tfrecord, byte ")):
        ids([odd])


def test_a_name_with_brackets_or_a_comma_is_that_file(make, tmp_path):
    literal, other = make(b"br[1].tfrecord"), make(b"br1.tfrecord")
    assert sources.files(literal) == [literal]
    assert sources.files(f"{tmp_path}/br[0-9].tfrecord") == [other]
    comma = make(b"a,b.tfrecord")
    assert sources.files([comma]) == sources.files(f"{tmp_path}/a?b.tfrecord") == [comma]


def test_hidden_files_are_passed_over(make, tmp_path):
    make(b".seen.tfrecord.12.part")
    seen = make(b"seen.tfrecord")
    assert sources.files(f"{tmp_path}/*") == [seen]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_is_said_to_be_one(make, tmp_path, end):
    make(b"s.tfrecord")
    expected = f"{tmp_path}{end}: is a folder; expected files, as '{tmp_path}/*'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        sources.files(f"{tmp_path}{end}")


def test_a_link_to_no_file_is_named(make, tmp_path):
    make(b"a.tfrecord")
    (tmp_path / "b.tfrecord").symlink_to("nowhere")
    for pattern in ("*.tfrecord", "b.tfrecord"):
        with pytest.raises(FileNotFoundError, match="b.tfrecord: a link to no file; mend or remove it"):
            sources.files(f"{tmp_path}/{pattern}")


def test_a_folder_that_may_not_be_read_is_said_to_be_one(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "listdir", refuse)  # a superuser is refused nothing
    with pytest.raises(ValueError, match=r"\*: cannot be listed \(Permission denied\)"):
        sources.files(f"{tmp_path}/*")


def test_a_file_that_is_gone_is_named_and_does_not_hang(tmp_path):

    for name in "ab":
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            example = tf.train.Example()
            example.features.feature["id"].bytes_list.value.append(name.encode())
            example.features.feature["mean"].float_list.value.extend([1.0, 2.0])
            writer.write(example.SerializeToString())
    source = records.Records(str(tmp_path / "?"), [Feature("mean", (2,))], 3)
    report = records.Report()
    batches = records.batches(source, 4, on_corrupt="skip", report=report)
    (tmp_path / "b").unlink()
    with records.readable():
        assert [i for *_, ids in batches for i in ids.numpy()] == [b"a"]
    ((file, _, reason),) = report.faults
    assert file.endswith("b") and "cannot be read" in reason
