"""starter/repack.py: the same batches from one string a stream, and what it does with damage and restarts."""

import gzip
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from starter import repack as program
from starter.readers import YT8MFrameFeatureReader
from tfvc.data import records, salvage, schema
from tfvc.recipe import Feature

CLASSES = 5
ROWS = [Feature("rgb", (None, 4), "uint8"), Feature("audio", (None, 2), "uint8")]
SIZES = ("--feature_names=rgb,audio", "--feature_sizes=4,2")


def clip(name, frames=3, streams=("rgb", "audio"), rows=ROWS, **options):
    """A frame-level record, the numbers drawn from its name."""
    rng = np.random.default_rng(list(name.encode()))
    features = {
        r.name: rng.integers(0, 256, (frames, r.shape[1]), "uint8") for r in rows if r.name in streams
    }
    return schema.serialize(name, [len(name) % CLASSES], features, rows, **options)


def write(path, blobs, zipped=False):
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP" if zipped else "") as writer:
        for blob in blobs:
            writer.write(blob)
    return path


def blobs(path, zipped=False):
    return list(tf.data.TFRecordDataset(str(path), "GZIP" if zipped else "").as_numpy_iterator())


def run(*arguments, status=0):
    with pytest.raises(SystemExit) as stopped:
        program.main(list(map(str, arguments)))
    assert stopped.value.code == status


def repacked(folder, pattern="*", *more, status=0):
    """Repacks folder/old to folder/new through the program."""
    given = f"--input_data_pattern={folder}/old/{pattern}", f"--output_dir={folder}/new"
    run(*given, *SIZES, *more, status=status)


def batches(pattern, **options):
    """All batches as flat lists of arrays, by the reader that is not told of the form."""
    reader = YT8MFrameFeatureReader(CLASSES, [4, 2], ["rgb", "audio"], **options)
    with records.readable():
        return [
            [value.numpy() for value in tf.nest.flatten(batch)] for batch in reader.dataset(str(pattern), 4)
        ]


def same(one, other):
    assert len(one) == len(other) > 0
    for ours, theirs in zip(one, other, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def shards(folder):
    """Two shards of every kind of clip: no frames, missing streams, more than 300 frames, packed already."""
    kinds = [clip("plain"), clip("nothing", 0), clip("long", 305), clip("packed", packed=True)]
    rated = [(5, 1, 1.0), (0, 2, 0.0), (5, 3, 0.0)]
    kinds += [clip("rated", 12, segments=rated), clip("silent", 7, ["rgb"], segments=[(4, 1, 1.0)])]
    write(folder / "old/a.tfrecord", kinds)
    write(folder / "old/b.tfrecord", [clip("deaf", 2, ["audio"]), clip("bare", streams=()), clip("end", 300)])
    return sorted((folder / "old").iterdir())


# --- what is written ----------------------------------------------------------------------------------------


def test_batches_and_segments_are_the_same_and_the_source_is_untouched(tmp_path, capsys):
    before = [(path, path.read_bytes()) for path in shards(tmp_path)]
    repacked(tmp_path)
    assert f"repacked: 2 shards, 9 records: {tmp_path}/new\n" in capsys.readouterr().out
    old, new = tmp_path / "old/*.tfrecord", tmp_path / "new/*.tfrecord"
    same(batches(new), batches(old))
    same(batches(new, segment_labels=True), batches(old, segment_labels=True))
    assert [(path, path.read_bytes()) for path in sorted((tmp_path / "old").iterdir())] == before
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == ["a.tfrecord", "b.tfrecord"]
    examples = [tf.train.SequenceExample.FromString(b) for b in blobs(tmp_path / "new/a.tfrecord")]
    assert not any(example.feature_lists.feature_list for example in examples)
    assert examples[2].context.feature["rgb"].bytes_list.value[0] == b"".join(  # all 305, not 300
        frame.bytes_list.value[0]
        for frame in tf.train.SequenceExample.FromString(clip("long", 305))
        .feature_lists.feature_list["rgb"]
        .feature
    )


def test_it_is_what_serialize_writes_packed(tmp_path):
    options = {"segments": [(0, 1, 1.0)]}
    write(tmp_path / "old/a", [clip("one", 3, **options), clip("two", 0), clip("six", 6, ["rgb"])])
    repacked(tmp_path)
    expected = [clip("one", 3, packed=True, **options), clip("two", 0, packed=True)]
    assert blobs(tmp_path / "new/a") == [*expected, clip("six", 6, ["rgb"], packed=True)]


def test_what_is_not_asked_for_stays(tmp_path):
    rows = [*ROWS, Feature("flow", (None, 1), "uint8")]
    record = tf.train.SequenceExample.FromString(clip("a", streams=("rgb", "flow"), rows=rows))
    context = record.context.feature
    context["video_id"].CopyFrom(context.pop("id"))
    context["title"].bytes_list.value.append(b"A cat")
    context["mean_rgb"].float_list.value.extend([0.5] * 4)
    write(tmp_path / "old/a", [record.SerializeToString()])
    repacked(tmp_path)
    (made,) = map(tf.train.SequenceExample.FromString, blobs(tmp_path / "new/a"))
    joined = made.context.feature.pop("rgb").bytes_list.value
    frames = record.feature_lists.feature_list.pop("rgb").feature
    assert list(joined) == [b"".join(frame.bytes_list.value[0] for frame in frames)]
    assert made == record and list(made.feature_lists.feature_list) == ["flow"]


def test_zipped_shards_stay_zipped(tmp_path):
    write(tmp_path / "old/a.gz", [clip("a"), clip("b", 9)], zipped=True)
    repacked(tmp_path)
    assert blobs(tmp_path / "new/a.gz", zipped=True) == [clip("a", packed=True), clip("b", 9, packed=True)]
    same(batches(tmp_path / "new/a.gz"), batches(tmp_path / "old/a.gz"))


def test_golden_records_repacked_are_read_as_before(shared, tmp_path):
    for kind in ("frames", "segments"):
        source = shared(f"golden/{kind}_s0.tfrecord")
        program.repack([source], tmp_path, ["rgb", "audio"], [16, 8])
        for rated in {False, kind == "segments"}:
            reader = YT8MFrameFeatureReader(10, [16, 8], ["rgb", "audio"], segment_labels=rated)
            old, new = (
                reader.prepare_serialized_examples(blobs(p)) for p in (source, tmp_path / source.name)
            )
            for name in old:
                np.testing.assert_array_equal(new[name], old[name])


# --- restarts -----------------------------------------------------------------------------------------------


def test_finished_shards_are_kept_and_what_a_killed_run_left_is_swept(tmp_path, capsys):
    shards(tmp_path)
    write(tmp_path / "new/a.tfrecord", [clip("kept", packed=True)])
    (tmp_path / "new/.b.tfrecord.123.part").write_bytes(b"half")
    repacked(tmp_path)
    out = capsys.readouterr().out
    assert f"kept: 1 shards that {tmp_path}/new had" in out and "repacked: 1 shards, 3 records" in out
    assert blobs(tmp_path / "new/a.tfrecord") == [clip("kept", packed=True)]
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == ["a.tfrecord", "b.tfrecord"]
    repacked(tmp_path)
    out = capsys.readouterr().out
    assert "kept: 2 shards" in out and "repacked: 0 shards, 0 records" in out


def test_a_killed_run_leaves_whole_shards_and_goes_on(tmp_path):
    """As a file, from anywhere; killed while it writes the second of two shards."""
    write(tmp_path / "old/a", [clip("a")])
    one = clip("b", 300)
    write(tmp_path / "old/b", [one] * 12_000)
    line = [sys.executable, str(ROOT / "starter/repack.py"), "--input_data_pattern=old/*", "--output_dir=new"]
    process = subprocess.Popen([*line, *SIZES], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (left := list((tmp_path / "new").glob(".b.*.part"))) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and left
    assert not (tmp_path / "new/b").exists() and blobs(tmp_path / "new/a") == [clip("a", packed=True)]
    write(tmp_path / "old/b", [one])
    repacked(tmp_path)
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == ["a", "b"]
    assert blobs(tmp_path / "new/b") == [clip("b", 300, packed=True)]


# --- what goes wrong ----------------------------------------------------------------------------------------


def damaged(folder):
    """Three shards; returns offset -> reason of each fault in the first, and its whole records' names."""
    names = [f"clip{k}" for k in range(6)]
    made = [clip(name) for name in names]
    made[3] = clip("other", rows=[Feature("rgb", (None, 3), "uint8"), ROWS[1]])  # of another schema
    path = write(folder / "old/a", made)
    places = np.cumsum([0] + [len(blob) + salvage.FRAMING for blob in made]).tolist()
    data = bytearray(path.read_bytes())
    data[places[1] + 30] ^= 1
    path.write_bytes(data[: places[5] + 20])
    (folder / "old/text").write_text("no records at all\n" * 9)
    (folder / "old/empty").write_bytes(b"")
    faults = {
        places[1]: "the data of a record is damaged",
        places[3]: "record 'other': rgb frame 0 is 3 bytes",
    }
    return faults | {places[5]: "cut short"}, ["clip0", "clip2", "clip4"]


def test_damage_is_named_by_file_and_byte_and_the_rest_is_written(tmp_path, capsys):
    faults, whole = damaged(tmp_path)
    repacked(tmp_path)
    out = capsys.readouterr().out
    for offset, reason in faults.items():
        assert f"skipped: {tmp_path}/old/a, byte {offset}: {reason}" in out
    assert f"skipped: {tmp_path}/old/text, byte 0: no TFRecord file" in out
    assert f"skipped: {tmp_path}/old/empty, byte 0: an empty file" in out
    assert "skipped 5 places or records in 3 files" in out and "repacked: 1 shards, 3 records" in out
    assert blobs(tmp_path / "new/a") == [clip(name, packed=True) for name in whole]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_told_to_stop_it_stops_and_leaves_nothing(tmp_path, capsys):
    faults, _ = damaged(tmp_path)
    repacked(tmp_path, "a", "--on_corrupt=stop", status=1)
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"error: {tmp_path}/old/a, byte ") and err.endswith("--on_corrupt=skip")
    assert any(f"byte {offset}: {reason}" in err for offset, reason in faults.items())
    assert not list((tmp_path / "new").iterdir())


def test_a_zipped_shard_is_repacked_as_far_as_it_goes(tmp_path, capsys):
    made = [clip(f"clip{k}", 40) for k in range(6)]
    path = write(tmp_path / "old/a", made, zipped=True)
    path.write_bytes(path.read_bytes()[:-200])
    repacked(tmp_path)
    out = capsys.readouterr().out
    assert "gzip stream cut short (in the unpacked file)" in out
    assert blobs(tmp_path / "new/a", zipped=True) == [clip(f"clip{k}", 40, packed=True) for k in range(5)]


def test_a_zipped_shard_of_several_parts_is_whole(tmp_path, capsys):
    plain = [write(tmp_path / f"plain/{k}", [clip(f"clip{k}")]).read_bytes() for k in range(2)]
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a").write_bytes(b"".join(map(gzip.compress, plain)))
    repacked(tmp_path)
    assert "skipped" not in capsys.readouterr().out
    assert blobs(tmp_path / "new/a", zipped=True) == [clip(f"clip{k}", packed=True) for k in range(2)]


def test_nothing_whole_and_streams_that_are_not_there_end_with_an_error(tmp_path, capsys):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/text").write_text("no records at all\n" * 9)
    repacked(tmp_path, status=1)
    assert "no whole record in 1 shards; nothing was written" in capsys.readouterr().err
    write(tmp_path / "old/text", [clip("a")])
    repacked(tmp_path, "*", "--feature_names=inc3", "--feature_sizes=4", status=1)
    out, err = capsys.readouterr()
    assert "text, byte 0: no record holds inc3, but audio, rgb" in out and "nothing was written" in err
    video = Feature("mean_rgb", (4,))
    write(tmp_path / "old/text", [schema.serialize("v", [], {"mean_rgb": np.ones(4, "float32")}, [video])])
    repacked(tmp_path, status=1)
    assert "record 'v' holds mean_rgb; expected rgb, audio" in capsys.readouterr().out
    assert not list((tmp_path / "new").iterdir())


def test_folders_that_would_mix_or_overwrite_are_refused(tmp_path, capsys):
    shards(tmp_path)
    write(tmp_path / "more/a.tfrecord", [clip("a")])
    os.symlink(tmp_path / "old", tmp_path / "link")
    (tmp_path / "file").write_text("")
    for pattern, folder, words in (
        ("old/*,{0}/more/*", "new", "both would be a.tfrecord"),
        ("old/*", "old", "holds a.tfrecord, which is to be read"),
        ("old/*", "link", "holds a.tfrecord, which is to be read"),
        ("old/*", "file", "is a file; expected a folder"),
        ("none/*", "new", "no such file"),
    ):
        given = f"{tmp_path}/{pattern.format(tmp_path)}"
        run(f"--input_data_pattern={given}", f"--output_dir={tmp_path / folder}", *SIZES, status=1)
        assert words in capsys.readouterr().err
    run(f"--input_data_pattern={tmp_path}/old/*", "--output_dir=gs://bucket/x", *SIZES, status=1)
    assert "expected a local folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_wrong_command_lines(capsys):
    with pytest.raises(ValueError, match="on_corrupt 'halt'"):
        program.repack("x", "y", on_corrupt="halt")
    for given in (["--input_data_pattern=x"], ["--output_dir=x"]):
        run(*given, status=2)
        assert "is needed. See python -m starter.repack --help" in capsys.readouterr().err
    run("--input_data_pattern=x", "--output_dir=y", "--feature_sizes=4", status=1)
    assert "a size for each" in capsys.readouterr().err
