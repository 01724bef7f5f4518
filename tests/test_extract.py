"""Extraction: batches across clips, skipped clips, one writer, and what was broken off goes on."""

import collections
import os
import shutil
import threading
import time

import numpy as np
import pytest

from tfvc import encoders, extract, files, recipe, workdir
from tfvc.data import ahead, datasets, demo, schema, shards, video
from tfvc.encoders import Encoders

GRAPPLER = True  # see conftest
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = [
    "backbone.name=mobilenet_v2",
    "backbone.weights=random",
    "backbone.size=32,32",
    "backbone.pooling=avg",
]
SMALL += ["backbone.batch_size=4", "data.shard_clips=2", "data.channel_order=rgb"]


def make_clips(root, classes=("hop", "run"), count=5, seconds=2):
    """A folder of <class>/<clip> of 32 x 48 pictures, 8 a second, of 2 to 4 kept frames."""
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            frames = rng.integers(0, 256, (8 * (seconds + i % 3), 32, 48, 3), "uint8")
            demo.write_clip(root / name / f"{name}_g{i:02d}_c01.mp4", frames, fps=8)
    return root


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips") / "set")


def small(*more):
    return recipe.get("attention_boosted", overrides=[*SMALL, *more])


def load(clips, r):
    return datasets.load(r.data, str(clips))


class Spy:
    """An encoder that gives each frame's mean colour, and counts its calls."""

    weights, weights_path, digest = "random (seed 0)", "", "spy"
    feature_size, feature_shape = 3, (3,)

    def __init__(self, size=(32, 32)):
        self.calls = []
        self.size = size

    def encode(self, frames):
        assert frames.dtype == np.uint8 and frames.shape[1:] == (*self.size, 3)
        self.calls.append(len(frames))
        return frames.mean(axis=(1, 2), dtype="float64").astype("float32")


def content(folder):
    """Bytes of every file that is not hidden."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def stored(folder, row=None):
    """id -> features."""
    import tensorflow as tf

    manifest = shards.read_manifest(folder)
    found = {}
    for shard in manifest.shards:
        for record in tf.data.TFRecordDataset(str(folder / shard["file"])):
            inputs, _, ids, lengths = schema.parse_batch([record], [row or manifest.features[0]], 9, False)
            found[ids[0].numpy().decode()] = inputs["frames"][0, : lengths["frames"][0]].numpy()
    return found


def test_frames_of_several_clips_share_a_call_and_no_call_crosses_a_shard(clips, tmp_path):
    r, spy = small("data.shard_clips=3", "backbone.batch_size=5"), Spy()
    folder = extract.extract(load(clips, r), r, out=tmp_path / "out", encoders=Encoders(r, spy))
    manifest = shards.read_manifest(folder)
    expected = []
    for shard in manifest.shards:
        frames = sum(record["frames"] for record in shard["records"])
        expected += [5] * (frames // 5) + ([frames % 5] if frames % 5 else [])
    assert spy.calls == expected
    assert len(manifest.records) == 10 and not manifest.skipped
    found = stored(folder)
    for clip in load(clips, r).clips:
        options = extract.decode_options(r)
        np.testing.assert_array_equal(
            found[clip.id], Spy().encode(video.read_frames(clip.path, **options).frames)
        )


def test_what_is_there_is_reused_and_another_setting_goes_elsewhere(clips, capsys):
    r, spy = small(), Spy()
    first = extract.extract(load(clips, r), r, encoders=Encoders(r, spy))
    calls = len(spy.calls)
    assert extract.extract(load(clips, r), r, encoders=Encoders(r, spy)) == first and len(spy.calls) == calls
    assert "all there already" in capsys.readouterr().out
    other = small("data.fps=2")
    assert extract.extract(load(clips, other), other, encoders=Encoders(other, spy)) != first
    with pytest.raises(ValueError, match=r"data.fps: 1.0 -> 2.0"):
        extract.extract(load(clips, other), other, encoders=Encoders(other, spy), out=first)


def test_a_changed_video_is_another_data_set(clips, tmp_path):
    copy = shutil.copytree(clips, tmp_path / "set")
    r = small()
    before = extract.settings(r, Encoders(r, Spy()), load(copy, r))
    assert before == extract.settings(r, Encoders(r, Spy()), load(clips, r))
    with open(copy / "hop" / "hop_g00_c01.mp4", "ab") as f:
        f.write(b"more")
    assert extract.settings(r, Encoders(r, Spy()), load(copy, r)) != before


def test_bad_clips_are_listed_and_partly_good_ones_keep_their_frames(clips, tmp_path, capsys):
    copy = shutil.copytree(clips, tmp_path / "set")
    (copy / "hop" / "empty.mp4").write_bytes(b"")
    (copy / "run" / "noise.avi").write_bytes(bytes(range(256)) * 40)
    r = small()
    folder = extract.extract(load(copy, r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()))
    lines = (folder / "skipped.csv").read_text().splitlines()
    assert lines[0] == "path,reason" and len(lines) == 3
    assert "empty.mp4" in lines[1] and "noise.avi" in lines[2]
    assert "extracted 10 clips" in (out := capsys.readouterr().out) and "2 skipped" in out
    with pytest.raises(ValueError, match="--strict: 2 clips"):
        extract.extract(load(copy, r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()), strict=True)


def test_a_broken_end_gives_its_good_frames_and_a_warning(tmp_path, capsys):
    make_clips(tmp_path / "set", count=2, seconds=8)
    path = tmp_path / "set" / "hop" / "hop_g00_c01.ts"
    frames = np.random.default_rng(1).integers(0, 256, (64, 32, 48, 3), "uint8")
    demo.write_clip(path, frames, fps=8)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = os.urandom(8) * ((len(raw) - len(raw) // 2) // 8)
    path.write_bytes(raw)
    r = small()
    folder = extract.extract(load(tmp_path / "set", r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()))
    found = {record["id"]: record["frames"] for record in shards.read_manifest(folder).records}
    assert 1 <= found["hop/hop_g00_c01.ts"] < 8
    assert "warning:" in (err := capsys.readouterr().err) and "partly decodable" in err


def test_nothing_left_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.mp4").write_bytes(b"")
    r = small()
    with pytest.raises(ValueError, match="not one of 2 clips could be decoded"):
        extract.extract(load(tmp_path / "set", r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()))


def test_too_small_a_disk_is_told_before_it_starts(clips, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 100))
    spy = Spy()
    with pytest.raises(
        ValueError, match=r"GB are needed .*backbone.dtype=float16, a lower data.fps, or another --workdir"
    ):
        extract.extract(load(clips, small()), small(), out=tmp_path / "out", encoders=Encoders(small(), spy))
    assert not spy.calls and not (tmp_path / "out").exists()


def test_the_disk_remedy_names_the_folder_that_is_full(clips, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 100))
    r = small("data.fps=0.9")
    with pytest.raises(ValueError, match="or TFVC_CACHE=<a folder on another disk>$"):
        extract.extract(load(clips, r), r, encoders=Encoders(r, Spy()))


def test_a_second_writer_waits_and_then_uses_what_the_first_wrote(clips, tmp_path, capsys):
    spies, done = (Spy(), Spy()), []

    def write(spy):
        done.append(
            extract.extract(
                load(clips, small()), small(), out=tmp_path / "out", encoders=Encoders(small(), spy)
            )
        )

    threads = [threading.Thread(target=write, args=(spy,)) for spy in spies]
    with files.locked(tmp_path / "out", "extracting into"):  # by file, not by process: threads will do
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert not done and not any(spy.calls for spy in spies)
    for thread in threads:
        thread.join(60)
    assert len(done) == 2 and sorted(bool(spy.calls) for spy in spies) == [False, True]
    out = capsys.readouterr().out
    assert "another process is extracting into it; waiting" in out and "all there already" in out


def test_whole_records_are_used_while_another_holds_the_lock(clips, tmp_path):
    r, spy = small(), Spy()
    first = extract.extract(load(clips, r), r, out=tmp_path / "out", encoders=Encoders(r, spy))
    with files.locked(first, "extracting into"):
        worker = threading.Thread(
            target=extract.extract,
            args=(load(clips, r), r),
            kwargs={"out": first, "encoders": Encoders(r, Spy())},
            daemon=True,
        )
        worker.start()
        worker.join(20)
        assert not worker.is_alive()


def test_a_clip_too_large_for_a_record_is_skipped_and_the_rest_goes_on(clips, tmp_path, monkeypatch):
    decoded = []
    real = video.iter_frames
    monkeypatch.setattr(
        video, "iter_frames", lambda path, **k: decoded.append(k["max_frames"]) or real(path, **k)
    )
    # As if a record ended after three frames of three floats and their framing: 4 s is too long.
    monkeypatch.setattr(schema, "LARGEST", 3 * (3 * 4 + schema.FRAME_BYTES))
    r = small()
    folder = extract.extract(load(clips, r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()))
    manifest = shards.read_manifest(folder)
    assert {record["frames"] for record in manifest.records} == {2, 3} and len(manifest.records) == 8
    assert [reason.split(";")[0] for _, reason in manifest.skipped] == [
        "over 3 rows, more than a record of 2 GiB holds"
    ] * 2
    assert set(decoded) == {4}  # never more of a file in memory
    assert extract.extract(load(clips, r), r, out=tmp_path / "out", encoders=Encoders(r, Spy())) == folder


def test_another_version_of_the_extraction_uses_nothing_old(clips, monkeypatch):
    r, spy = small(), Spy()
    old = extract.extract(load(clips, r), r, encoders=Encoders(r, spy))
    monkeypatch.setattr(extract, "EXTRACTION", extract.EXTRACTION + 1)
    new = extract.extract(load(clips, r), r, encoders=Encoders(r, spy))
    assert new != old
    with pytest.raises(ValueError, match="extraction: 1 -> 2"):
        extract.check_records(shards.read_manifest(old), r)


def test_records_are_checked_against_a_recipe_and_the_weights_of_a_run(clips, tmp_path):
    r = small("data.fps=2")
    folder = extract.extract(load(clips, r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()))
    manifest = shards.read_manifest(folder)
    extract.check_records(manifest, r)
    extract.check_records(manifest, r, {"frames": "random (seed 0)"})
    with pytest.raises(ValueError, match=r"data.fps: 2.0 -> 1.0\); give the ones on the left"):
        extract.check_records(manifest, small())
    with pytest.raises(
        ValueError, match=r"backbone.weights: random \(seed 0\) -> imagenet \(x\)\); give the vi"
    ):
        extract.check_records(manifest, r, {"frames": "imagenet (x)"})


def test_a_model_file_is_known_by_its_name_wherever_it_lies(clips, tmp_path, monkeypatch):
    (tmp_path / "net.keras").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for given, name in (
        ("net.keras", "net.keras"),
        (tmp_path / "net.keras", "net.keras"),
        ("hub:net.keras", "hub:net.keras"),
        (f"hub:{tmp_path}/net.keras", "hub:net.keras"),
        ("hub:https://tfhub.dev/x/1", "hub:https://tfhub.dev/x/1"),
        ("vgg16", "vgg16"),
    ):
        r = small(f"backbone.name={given}")
        assert extract.settings(r, Encoders(r, Spy()), load(clips, r))["backbone.name"] == name


def test_runs_of_all_seeds_with_random_weights_share_one_network(tmp_path):
    made = encoders.load(small())
    assert made.weights == {"frames": "random (seed 0)", "audio": "", "text": ""}
    asked = small("backbone.weights=imagenet")  # the demo set's run goes on with random ones
    facts = workdir.Facts("demo", "", "", ["a", "b"], [], weights=made.weights["frames"])
    again = encoders.of_run(workdir.Run(tmp_path, asked, facts, seed=7))
    assert (again.weights, encoders.identity(again)) == (made.weights, encoders.identity(made))


def test_file_names_that_are_no_text_are_extracted_or_listed(tmp_path):
    make_clips(tmp_path / "set", count=1)
    odd = os.fsdecode(b"odd\xff.mp4")
    shutil.copy(tmp_path / "set" / "hop" / "hop_g00_c01.mp4", tmp_path / "set" / "hop" / odd)
    (tmp_path / "set" / "run" / odd).write_bytes(b"")
    folder = extract.extract(
        load(tmp_path / "set", small()), small(), out=tmp_path / "out", encoders=Encoders(small(), Spy())
    )
    manifest = shards.read_manifest(folder)
    assert "hop/odd\\xff" in manifest.ids and len(manifest.skipped) == 1
    assert files.shown(manifest.skipped[0][0]).endswith("run/odd\\xff.mp4")


def test_data_frames_caps_what_is_stored(clips, tmp_path):
    r = small("data.frames=2")
    folder = extract.extract(load(clips, r), r, out=tmp_path / "out", encoders=Encoders(r, Spy()))
    assert {record["frames"] for record in shards.read_manifest(folder).records} == {2}


def test_raw_frames_and_float16_are_stored_as_such(clips, tmp_path):
    r = small("backbone.name=frames", "backbone.weights=none", "backbone.pooling=none")
    folder = extract.extract(load(clips, r), r, out=tmp_path / "frames")
    one = stored(folder)["hop/hop_g00_c01"]
    assert one.dtype == np.uint8 and one.shape == (2, 32, 32, 3)
    half = small("backbone.dtype=float16")
    folder = extract.extract(load(clips, half), half, out=tmp_path / "half")
    assert stored(folder)["hop/hop_g00_c01"].dtype == np.float16


def test_decoding_ahead_is_bounded_and_a_long_file_in_front_does_not_block(tmp_path):
    make_clips(tmp_path / "set", classes=("a", "b"), count=2, seconds=12)
    paths = sorted((tmp_path / "set").rglob("*.mp4"))
    options = {"fps": 4, "size": (8, 8)}
    with ahead.DecodeAhead(paths, options, 4, threads=3) as decoder:
        counts, most = [], 0
        for i in range(len(paths)):
            seen = 0
            for _ in decoder.take(ahead.Encoded(i)):
                seen += 1
                time.sleep(0.001)
                most = max(most, decoder._waiting)
            counts.append(seen)
    assert counts == [len(video.read_frames(p, **options).times) for p in paths]
    assert most <= 6  # the budget, and half of it for the file in front


def test_an_interrupted_consumer_ends_the_decoders(tmp_path):
    make_clips(tmp_path / "set", classes=("a", "b"), count=2, seconds=8)
    paths = sorted((tmp_path / "set").rglob("*.mp4"))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ahead.DecodeAhead(paths, {"fps": 8, "size": (8, 8)}, 2) as decoder:
        for _ in decoder.take(ahead.Encoded(0)):
            raise KeyboardInterrupt
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_broken_extraction_goes_on_to_the_same_bytes(calls, tmp_path, capsys):
    """Broken off between frames; killed with 9, and before each file is whole: test_kills.py."""

    class Broken(Spy):
        def encode(self, frames):
            if len(self.calls) == calls:
                raise KeyboardInterrupt
            return super().encode(frames)

    make_clips(tmp_path / "set")
    (tmp_path / "set" / "hop" / "empty.mp4").write_bytes(b"")
    r, out = small(), tmp_path / "out"
    data = load(tmp_path / "set", r)
    unbroken = extract.extract(data, r, out=tmp_path / "unbroken", encoders=Encoders(r, Spy()))
    with pytest.raises(KeyboardInterrupt):
        extract.extract(data, r, out=out, encoders=Encoders(r, Broken()))
    assert not shards._manifest(out, shards._tree(out)).complete
    capsys.readouterr()
    extract.extract(data, r, out=out, encoders=Encoders(r, Spy()))
    said = capsys.readouterr().out
    assert "going on in" in said and "1 skipped" in said
    assert content(out) == content(unbroken)
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_every_odd_video_is_decoded_or_listed(shared, tmp_path):
    odd = shared("data/odd_video")
    paths = sorted(p for p in odd.rglob("*") if p.is_file())
    lines = [f"{i},{p},{'ab'[i % 2]}" for i, p in enumerate(paths)]
    (tmp_path / "odd.csv").write_text("\n".join(["id,path,labels", *lines]) + "\n")
    r = small()
    folder = extract.extract(
        load(tmp_path / "odd.csv", r), r, out=tmp_path / "out", encoders=Encoders(r, Spy())
    )
    manifest = shards.read_manifest(folder)
    assert len(manifest.records) + len(manifest.skipped) == len(paths) > 10
    assert len(manifest.records) > 5 and all(record["frames"] > 0 for record in manifest.records)
    assert all(reason for _, reason in manifest.skipped)
