"""Extraction: batches across clips, skipped clips, one writer, and kill -9 at any moment."""

import collections
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tfvc import extract, recipe
from tfvc.data import ahead, datasets, demo, schema, shards, video

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
    folder = extract.extract(load(clips, r), r, out=tmp_path / "out", encoder=spy)
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
    first = extract.extract(load(clips, r), r, encoder=spy)
    calls = len(spy.calls)
    assert extract.extract(load(clips, r), r, encoder=spy) == first and len(spy.calls) == calls
    assert "all there already" in capsys.readouterr().out
    other = small("data.fps=2")
    assert extract.extract(load(clips, other), other, encoder=spy) != first
    with pytest.raises(ValueError, match=r"data.fps: 1.0 -> 2.0"):
        extract.extract(load(clips, other), other, encoder=spy, out=first)


def test_a_changed_video_is_another_data_set(clips, tmp_path):
    copy = shutil.copytree(clips, tmp_path / "set")
    r = small()
    before = extract.settings(r, Spy(), load(copy, r))
    assert before == extract.settings(r, Spy(), load(clips, r))
    with open(copy / "hop" / "hop_g00_c01.mp4", "ab") as f:
        f.write(b"more")
    assert extract.settings(r, Spy(), load(copy, r)) != before


def test_bad_clips_are_listed_and_partly_good_ones_keep_their_frames(clips, tmp_path, capsys):
    copy = shutil.copytree(clips, tmp_path / "set")
    (copy / "hop" / "empty.mp4").write_bytes(b"")
    (copy / "run" / "noise.avi").write_bytes(bytes(range(256)) * 40)
    r = small()
    folder = extract.extract(load(copy, r), r, out=tmp_path / "out", encoder=Spy())
    lines = (folder / "skipped.csv").read_text().splitlines()
    assert lines[0] == "path,reason" and len(lines) == 3
    assert "empty.mp4" in lines[1] and "noise.avi" in lines[2]
    assert "extracted 10 clips" in (out := capsys.readouterr().out) and "2 skipped" in out
    with pytest.raises(ValueError, match="--strict: 2 clips"):
        extract.extract(load(copy, r), r, out=tmp_path / "out", encoder=Spy(), strict=True)


def test_a_broken_end_gives_its_good_frames_and_a_warning(tmp_path, capsys):
    make_clips(tmp_path / "set", count=2, seconds=8)
    path = tmp_path / "set" / "hop" / "hop_g00_c01.ts"
    frames = np.random.default_rng(1).integers(0, 256, (64, 32, 48, 3), "uint8")
    demo.write_clip(path, frames, fps=8)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = os.urandom(8) * ((len(raw) - len(raw) // 2) // 8)
    path.write_bytes(raw)
    r = small()
    folder = extract.extract(load(tmp_path / "set", r), r, out=tmp_path / "out", encoder=Spy())
    found = {record["id"]: record["frames"] for record in shards.read_manifest(folder).records}
    assert 1 <= found["hop/hop_g00_c01.ts"] < 8
    assert "warning:" in (err := capsys.readouterr().err) and "partly decodable" in err


def test_nothing_left_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.mp4").write_bytes(b"")
    r = small()
    with pytest.raises(ValueError, match="not one of 2 clips could be decoded"):
        extract.extract(load(tmp_path / "set", r), r, out=tmp_path / "out", encoder=Spy())


def test_too_small_a_disk_is_told_before_it_starts(clips, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 100))
    spy = Spy()
    with pytest.raises(ValueError, match=r"GB are needed .*backbone.pooling=avg.*another --workdir"):
        extract.extract(load(clips, small()), small(), out=tmp_path / "out", encoder=spy)
    assert not spy.calls


def test_two_writers_of_one_folder_are_kept_apart(clips, tmp_path):
    with open(tmp_path / ".out.lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is extracting"):
            extract.extract(load(clips, small()), small(), out=tmp_path / "out", encoder=Spy())


def test_data_frames_caps_what_is_stored(clips, tmp_path):
    r = small("data.frames=2")
    folder = extract.extract(load(clips, r), r, out=tmp_path / "out", encoder=Spy())
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
            for _ in decoder.take(i, []):
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
        for _ in decoder.take(0, []):
            raise KeyboardInterrupt
    assert time.monotonic() - start < 5


def command(clips, out, *flags):
    arguments = [f"--data={clips}", f"--workdir={out}", *(f"--set={s}" for s in SMALL), *flags]
    return [sys.executable, "-m", "tfvc.extract", *arguments]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    make_clips(tmp_path / "set", count=12)
    (tmp_path / "set" / "hop" / "empty.mp4").write_bytes(b"")
    r = small()
    unbroken = extract.extract(load(tmp_path / "set", r), r, out=tmp_path / "unbroken")
    out, killed = tmp_path / "out", 0
    for shards_there in (0, 2, 6):
        process = subprocess.Popen(command(tmp_path / "set", out), cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (
            (out / "manifest.json").is_file() and len(list(out.glob("shard-*.json"))) >= shards_there
        ):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += not shards._manifest(out, shards._tree(out)).complete
    assert killed == 3
    done = subprocess.run(command(tmp_path / "set", out), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on in" in done.stdout and "1 skipped" in done.stdout
    assert content(out) == content(unbroken)
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_every_odd_video_is_decoded_or_listed(shared, tmp_path):
    odd = shared("data/odd_video")
    paths = sorted(p for p in odd.rglob("*") if p.is_file())
    lines = [f"{i},{p},{'ab'[i % 2]}" for i, p in enumerate(paths)]
    (tmp_path / "odd.csv").write_text("\n".join(["id,path,labels", *lines]) + "\n")
    r = small()
    folder = extract.extract(load(tmp_path / "odd.csv", r), r, out=tmp_path / "out", encoder=Spy())
    manifest = shards.read_manifest(folder)
    assert len(manifest.records) + len(manifest.skipped) == len(paths) > 10
    assert len(manifest.records) > 5 and all(record["frames"] > 0 for record in manifest.records)
    assert all(reason for _, reason in manifest.skipped)
