"""What is got out of a damaged gzip file. Damaged TFRecords themselves: test_records.py."""

import gzip
import zlib

import numpy as np
import pytest
import tensorflow as tf

from tfvc.data import records, salvage, schema
from tfvc.recipe import Feature

ROWS = [Feature("mean_rgb", (4,))]
COUNT = 40


def serialized(count=COUNT):
    rng = np.random.default_rng(0)
    return [
        schema.serialize(f"v{i}", [1], {"mean_rgb": rng.normal(size=4).astype("float32")}, ROWS)
        for i in range(count)
    ]


@pytest.fixture
def shard(tmp_path):
    """A zipped shard: its path, its bytes, and those inside."""
    path = tmp_path / "s.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized():
            writer.write(record)
    inside = path.read_bytes()
    path.write_bytes(gzip.compress(inside, mtime=0))
    return path, path.read_bytes(), inside


def read(path, capsys, batch_size=8):
    """Ids that are read, and what is printed."""
    source = records.Records(str(path), ROWS, 3)
    with records.readable():
        ids = [i for _, _, ids in records.batches(source, batch_size, on_corrupt="skip") for i in ids.numpy()]
    return [i.decode() for i in ids], capsys.readouterr().out


@pytest.mark.parametrize(("place", "reason"), [(-8, "incorrect data check"), (-4, "incorrect length check")])
def test_a_wrong_checksum_at_the_end_costs_no_record(shard, capsys, place, reason):
    path, zipped, _ = shard
    data = bytearray(zipped)
    data[place] ^= 1
    path.write_bytes(data)
    ids, out = read(path, capsys)
    assert ids == [f"v{i}" for i in range(COUNT)]
    assert f"zipped byte {len(data) + place + 3} or before: gzip stream damaged ({reason})" in out


def test_all_that_comes_before_a_damaged_place_is_unpacked(shard, tmp_path):
    path, zipped, _ = shard
    for place in np.linspace(20, len(zipped) - 9, 12).astype(int):
        data = bytearray(zipped)
        data[place] ^= 255
        path.write_bytes(data)
        assert "gzip stream" in salvage.unzip(str(path), tmp_path / "out")
        before = zlib.decompressobj(31).decompress(zipped[:place])
        assert (tmp_path / "out").read_bytes().startswith(before), place


def test_a_large_file_gives_all_but_what_is_damaged(tmp_path, capsys):
    """Incompressible records, longer than what is unpacked at once: a flip harms one of them."""
    rng = np.random.default_rng(1)
    rows = [Feature("mean_rgb", (4,)), Feature("x", (5000,))]
    path = tmp_path / "big.gz"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP", compression_level=0)) as writer:
        for i in range(20):
            features = {"mean_rgb": np.ones(4, "float32"), "x": rng.normal(size=5000).astype("float32")}
            writer.write(schema.serialize(f"v{i}", [1], features, rows))
    data = bytearray(path.read_bytes())
    assert len(data) > 4 * salvage._ZIPPED
    data[len(data) * 7 // 8] ^= 4
    path.write_bytes(data)
    ids, out = read(path, capsys)
    assert len(ids) == 19 and "v17" not in ids
    assert "the data of a record is damaged" in out and "gzip stream damaged (incorrect data check)" in out


def test_a_cut_is_told_by_its_zipped_byte(shard, tmp_path):
    path, zipped, inside = shard
    path.write_bytes(zipped[:-20])
    assert (
        salvage.unzip(str(path), tmp_path / "out") == f"zipped byte {len(zipped) - 20}: gzip stream cut short"
    )
    assert inside.startswith((tmp_path / "out").read_bytes())
