"""Ready features into records: every form they come in, what is skipped, and what each fault says."""

import pickle
import shutil
from types import SimpleNamespace

import h5py
import made
import numpy as np
import pytest

from tfvc import convert as conversion
from tfvc import extract, train
from tfvc import recipe as recipes
from tfvc.convert import convert
from tfvc.data import arrays, datasets, pipeline, schema, shards
from tfvc.recipe import Data, Feature

RNG = np.random.default_rng(0)
FRAMES = RNG.normal(size=(4, 3, 5)).astype("float32")
AUDIO = RNG.normal(size=(4, 2, 3, 2, 4))  # float64, as others may have it


def _manifest(root, ids=("a", "sub/b", "c#2", "d"), path=""):
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{id},{path.format(id)},{'xy'[i % 2]},g{i},train" for i, id in enumerate(ids)]
    (root / "m.csv").write_text("\n".join(["id,path,labels,group,split", *rows]))
    return datasets.load(Data(), str(root / "m.csv"), media=False)


def _npz(folder, **clips):
    for name, held in clips.items():
        file = folder / f"{name.replace('__', '/')}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **held)
    return str(folder)


def _both(i):
    return {"frames": FRAMES[i], "audio": AUDIO[i]}


def _read(folder, multi_label=False):
    """id -> (frames, audio, label) of a folder of records."""
    manifest = shards.read_manifest(folder)
    rows = [Feature(r.name, (4, *r.shape[1:]), r.dtype) for r in manifest.features]
    source = pipeline.Source(folder, rows, manifest.classes, multi_label)
    found = {}
    for inputs, labels, ids in pipeline.batches(source, 2):
        for i, id in enumerate(ids.numpy()):
            found[id.decode()] = ({k: v.numpy()[i] for k, v in inputs.items()}, labels.numpy()[i])
    return found


def _check(found, ids, dtype="float32"):
    for i, id in enumerate(ids):
        inputs, label = found[id]
        assert label.tolist() == [1 - i % 2, i % 2]
        for name, values in _both(i).items():
            assert inputs[name].dtype == dtype
            np.testing.assert_array_equal(inputs[name][: len(values)], values.astype(dtype))
            assert not inputs[name][len(values) :].any()


def test_a_file_a_clip_becomes_records_with_the_settings_that_train_compares(tmp_path, capsys):
    dataset = _manifest(tmp_path)
    clips = {"a": _both(0), "sub__b": _both(1) | {"fps": np.float32(1)}, "c#2": _both(2), "d": _both(3)}
    features = _npz(tmp_path / "made", **clips)
    folder = convert(dataset, features, out=tmp_path / "records", shard_clips=3)
    _check(_read(folder), ["a", "sub/b", "c#2", "d"])
    manifest = shards.read_manifest(folder)
    assert manifest.features == [Feature("frames", (None, 5)), Feature("audio", (None, 3, 2, 4))]
    weights = {k: manifest.settings[k] for k in ("backbone.weights", "audio.weights")}
    assert weights == {"backbone.weights": "converted (made)", "audio.weights": "converted (made)"}
    assert [(r["group"], r["part"]) for r in sorted(manifest.records, key=lambda r: r["id"])][0] == (
        "g0",
        "train",
    )
    extract.check_records(manifest, made.recipe())
    out = capsys.readouterr().out
    assert "converted 4 clips, 0 skipped: frames (None, 5) float32; audio (None, 3, 2, 4) float32" in out
    assert "arrays of other names are not read: fps (1 files)" in out


def test_a_folder_a_stream_and_the_name_of_the_video(tmp_path):
    ids = ("1", "2", "3", "4")
    dataset = _manifest(tmp_path, ids, path="videos/clip{}.mp4")
    for i, id in enumerate(ids):
        for stream, values in _both(i).items():
            (tmp_path / "made" / stream).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "made" / stream / (f"clip{id}.npy" if i else f"{id}.npy"), values)
    folder = convert(dataset, str(tmp_path / "made"), out=tmp_path / "r", dtype="float16")
    _check(_read(folder), ids, "float16")


def test_the_name_of_two_videos_does_not_do_for_an_id(tmp_path):
    (tmp_path / "m.csv").write_text("id,path,labels\n1,a/x.mp4,p\n2,b/x.mp4,q\n3,a/y.mp4,p\n4,a/y.mp4,q\n")
    dataset = datasets.load(Data(), str(tmp_path / "m.csv"), media=False)
    features = _npz(tmp_path / "made", x=_both(0), y=_both(1))
    manifest = shards.read_manifest(convert(dataset, features, out=tmp_path / "r"))
    assert sorted(manifest.ids) == ["3", "4"] and len(manifest.skipped) == 2  # both of the one video y


@pytest.mark.parametrize("form", ["npy", "npz", "h5"])
def test_one_array_for_the_whole_set_is_read_in_the_order_of_the_manifest(tmp_path, form):
    dataset = _manifest(tmp_path)
    for stream, values in (("frames", FRAMES), ("audio", AUDIO)):
        path = tmp_path / f"{stream}.{form}"
        if form == "npy":
            np.save(path, values)
        elif form == "npz":
            np.savez(path, **{stream: values, "more": values[:0]})
        else:
            with h5py.File(path, "w") as f:
                f["avadataset"] = values
    text = ",".join(f"{s}={tmp_path / s}.{form}" for s in ("audio", "frames"))
    folder = convert(dataset, text, out=tmp_path / "r")
    _check(_read(folder), ["a", "sub/b", "c#2", "d"])
    manifest = shards.read_manifest(folder)
    assert manifest.settings["audio.weights"] == f"converted (audio.{form})"
    (tmp_path / "keep.txt").write_text("y\n")  # the rows stay those of the whole list
    kept = _read(convert(dataset, text, out=tmp_path / "kept", keep=str(tmp_path / "keep.txt")))
    assert sorted(kept) == ["d", "sub/b"]
    np.testing.assert_array_equal(kept["d"][0]["frames"][:3], FRAMES[3])


def test_maps_are_averaged_over_space_where_asked(tmp_path):
    dataset = _manifest(tmp_path)
    np.save(tmp_path / "audio.npy", AUDIO)
    folder = convert(dataset, f"audio={tmp_path}/audio.npy", out=tmp_path / "r", pool=("audio",))
    found = _read(folder)["d"][0]["audio"]
    np.testing.assert_allclose(found[:2], AUDIO[3].mean(axis=(1, 2)), rtol=1e-6)
    np.save(tmp_path / "frames.npy", FRAMES)
    for pool, message in (
        ("audio", "--pool=audio: no such stream"),
        ("frames", r"expected maps \(N, h, w, C\)"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(dataset, f"frames={tmp_path}/frames.npy", out=tmp_path / "no", pool=(pool,))


def test_what_is_missing_or_no_number_is_skipped_and_listed(tmp_path, capsys):
    dataset = _manifest(tmp_path)
    bad = FRAMES[1].copy()
    bad[0, 0] = np.nan
    clips = {"a": {"frames": FRAMES[0]}, "sub__b": {"frames": bad}, "d": {"frames": FRAMES[3][:0]}}
    features = _npz(tmp_path / "made", **clips)
    _npz(tmp_path / "made", **{"c#2": {"audio": AUDIO[2], "frames": FRAMES[2]}})
    folder = convert(dataset, features, out=tmp_path / "r")
    manifest = shards.read_manifest(folder)
    assert sorted(manifest.ids) == ["a", "c#2"]
    assert [(p, r.replace(str(tmp_path), "")) for p, r in manifest.skipped] == [
        ("d", "/made/d.npz: frames has no rows"),
        ("sub/b", "/made/sub/b.npz: frames has NaN or infinite values in float32"),
    ]
    assert manifest.warnings == [("a", "no audio")] and not _read(folder)["a"][0]["audio"].any()
    assert "2 skipped (see " in capsys.readouterr().out
    with pytest.raises(ValueError, match="--strict: 2 clips were skipped"):
        convert(dataset, features, out=tmp_path / "r", strict=True)
    (tmp_path / "made" / "a.npz").unlink()
    (tmp_path / "made" / "c#2.npz").unlink()
    with pytest.raises(ValueError, match="not one clip could be converted"):
        convert(dataset, features, out=tmp_path / "none")
    large = _npz(tmp_path / "large", a={"frames": FRAMES[0] * 1e6}, d={"frames": FRAMES[3]})
    manifest = shards.read_manifest(convert(dataset, large, out=tmp_path / "half", dtype="float16"))
    assert any(reason.endswith("NaN or infinite values in float16") for _, reason in manifest.skipped)
    assert sorted(reason for _, reason in manifest.skipped)[-2:] == ["no features of this clip"] * 2


def test_a_killed_run_goes_on_to_the_same_bytes_and_other_features_are_refused(tmp_path, monkeypatch):
    dataset = _manifest(tmp_path)
    features = _npz(tmp_path / "made", a=_both(0), sub__b=_both(1), d=_both(3), **{"c#2": _both(2)})
    whole = convert(dataset, features, out=tmp_path / "whole", shard_clips=2)
    written = shards.write_shard

    def killed(folder, index, *arguments):
        if index == 1:
            raise KeyboardInterrupt
        written(folder, index, *arguments)

    monkeypatch.setattr(shards, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(dataset, features, out=tmp_path / "r", shard_clips=2)
    monkeypatch.setattr(shards, "write_shard", written)
    before = (tmp_path / "r" / "shard-00000.tfrecord").stat().st_mtime_ns
    folder = convert(dataset, features, out=tmp_path / "r", shard_clips=2)
    assert (folder / "shard-00000.tfrecord").stat().st_mtime_ns == before
    names = sorted(p.name for p in whole.iterdir())
    assert names == sorted(p.name for p in folder.iterdir()) and "shard-00001.tfrecord" in names
    assert all((whole / name).read_bytes() == (folder / name).read_bytes() for name in names)
    _npz(tmp_path / "made", a=_both(3))
    with pytest.raises(ValueError, match="holds records of other settings.*features: "):
        convert(dataset, features, out=tmp_path / "r", shard_clips=2)


def test_wrong_shapes_and_dtypes_are_named_before_anything_is_written(tmp_path):
    dataset = _manifest(tmp_path)
    for name, values, message in [
        ("wide", np.zeros((3, 6), "float32"), r"frames is \(3, 6\); expected \(N, 5\) as in .*a.npz"),
        ("flat", np.zeros(5, "float32"), r"frames is \(5,\); expected \(N, D\)"),
        ("whole", np.zeros((3, 5), "int64"), "frames is int64; expected floats"),
    ]:
        features = _npz(tmp_path / name, a=_both(0), d={"frames": values})
        with pytest.raises(ValueError, match=rf"{name}/d.npz: {message}"):
            convert(dataset, features, out=tmp_path / "r")
    features = _npz(tmp_path / "other", a={"video": FRAMES[0]})
    with pytest.raises(ValueError, match="a.npz: holds video; expected arrays called frames or audio"):
        convert(dataset, features, out=tmp_path / "r")
    np.save(tmp_path / "short.npy", FRAMES[:3])
    with pytest.raises(
        ValueError, match=r"short.npy: frames is \(3, 3, 5\); expected one row for each of the 4"
    ):
        convert(dataset, f"frames={tmp_path}/short.npy", out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_pickles_are_refused_with_the_way_out(tmp_path):
    dataset = _manifest(tmp_path)
    objects = np.array([FRAMES[0], None], object)
    (tmp_path / "made").mkdir()
    np.savez(tmp_path / "made" / "a.npz", frames=objects)
    np.save(tmp_path / "all.npy", objects)
    (tmp_path / "renamed.npy").write_bytes(pickle.dumps({"frames": FRAMES}))
    (tmp_path / "all.pkl").write_bytes(pickle.dumps(FRAMES))
    way_out = r"pickled objects, which are not read.*np.savez\('"
    for features, message in [
        (str(tmp_path / "made"), f"a.npz: holds {way_out}a.npz"),
        (f"frames={tmp_path}/all.npy", f"all.npy: holds {way_out}all.npz"),
        (f"frames={tmp_path}/renamed.npy", f"renamed.npy: holds {way_out}"),
        (
            f"frames={tmp_path}/all.pkl",
            r"all.pkl: expected an array, .npy .*makes all.npz of it with np.savez",
        ),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            convert(dataset, features, out=tmp_path / "r")
        assert "\n" not in str(error.value)


def test_one_damaged_file_is_skipped_and_none_but_damaged_ones_stop(tmp_path, capsys):
    dataset = _manifest(tmp_path)
    features = _npz(tmp_path / "made", a=_both(0), sub__b=_both(1), d=_both(3))
    blob = (tmp_path / "made" / "a.npz").read_bytes()
    for name, damaged in (
        ("a", blob[: len(blob) // 2]),
        ("c#2", b""),
        ("d", blob.replace(b"{'descr", b"((((((((")),
    ):
        (tmp_path / "made" / f"{name}.npz").write_bytes(damaged)
    manifest = shards.read_manifest(convert(dataset, features, out=tmp_path / "r"))
    assert manifest.ids == ["sub/b"] and [path for path, _ in manifest.skipped] == ["a", "c#2", "d"]
    for path, reason in manifest.skipped:
        assert f"/made/{path}.npz: cannot be read: damaged" in reason
        assert reason.endswith("make it again with np.savez, or remove it") and "\n" not in reason
    assert "3 skipped (see " in capsys.readouterr().out
    (tmp_path / "made" / "sub" / "b.npz").unlink()
    with pytest.raises(ValueError, match=r"made: no file can be read, as .*a.npz: cannot be read: damaged"):
        convert(dataset, features, out=tmp_path / "stops")
    assert not (tmp_path / "stops").exists()


def test_an_array_that_no_record_holds_is_skipped_unread(tmp_path, monkeypatch):
    dataset = _manifest(tmp_path)
    features = _npz(tmp_path / "made", a={"frames": FRAMES[0]}, d={"frames": np.zeros((9, 5), "float32")})
    np.savez_compressed(tmp_path / "made" / "c#2.npz", frames=np.zeros((200_000, 5), "float16"))
    monkeypatch.setattr(schema, "LARGEST", 8 * (5 * 4 + schema.FRAME_BYTES))
    read = []
    real = arrays.member
    monkeypatch.setattr(arrays, "member", lambda path, name: read.append(path.stem) or real(path, name))
    monkeypatch.setattr(conversion.files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    manifest = shards.read_manifest(convert(dataset, features, out=tmp_path / "r"))
    assert manifest.ids == ["a"] and read == ["a"]  # and no such disk is asked for
    reasons = dict(manifest.skipped)
    more = ", more than a record of 2 GiB holds; cut the clip, or pool"
    assert reasons["d"] == f"{tmp_path}/made/d.npz: frames is (9, 5){more}"
    assert reasons["c#2"] == f"{tmp_path}/made/c#2.npz: frames is (200000, 5){more}"
    one = _npz(
        tmp_path / "maps", a={"frames": np.zeros((1, 30, 30, 5), "float32")}, d={"frames": np.zeros(0)}
    )
    with pytest.raises(ValueError, match="not one clip could be converted"):  # large before it is pooled
        convert(dataset, one, out=tmp_path / "pooled", pool=("frames",))
    reasons = dict(shards.read_manifest(tmp_path / "pooled").skipped)
    assert "(1, 30, 30, 5), more than" in reasons["a"] and reasons["d"].endswith("frames has no rows")


def test_damaged_absent_and_unclear_features_are_named(tmp_path):
    dataset = _manifest(tmp_path)
    with h5py.File(tmp_path / "two.h5", "w") as f:
        f["x"], f["y"] = FRAMES, FRAMES
    (tmp_path / "no.h5").write_bytes(b"no")
    (tmp_path / "empty").mkdir()
    for features, message in [
        (f"frames={tmp_path}/two.h5", "two.h5: holds x, y; expected one array, or 'frames'"),
        (f"frames={tmp_path}/no.h5", "no.h5: cannot be read"),
        (f"frames={tmp_path}/gone.npy", "gone.npy: no such file"),
        (f"video={tmp_path}/a.npy", "expected frames=FILE, audio=FILE"),
        (str(tmp_path / "gone"), "gone: no such folder"),
        (str(tmp_path / "no.h5"), "a file; expected frames="),
        (str(tmp_path / "empty"), "empty: no features of these clips"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
            convert(dataset, features, out=tmp_path / "r")
        assert "\n" not in str(error.value)
    folder = datasets.Dataset("x", "folder", "", dataset.clips, dataset.classes)
    with pytest.raises(ValueError, match="rows of one array need an order of clips"):
        convert(folder, f"frames={tmp_path}/two.h5", out=tmp_path / "r")


def test_the_command_and_a_training_on_what_it_wrote(tmp_path, capsys):
    """AVE's folder without videos, its two ways of publishing features, and train on the records."""
    root = tmp_path / "AVE"
    root.mkdir()
    lines = [f"{'AB'[i % 2]}&v{i // 2 if i < 4 else i}&good&0&10" for i in range(24)]
    (root / "Annotations.txt").write_text("\n".join(lines))
    values = np.float32([i % 2 for i in range(24)])[:, None, None, None, None] + RNG.normal(
        size=(24, 3, 2, 2, 6)
    )
    with h5py.File(tmp_path / "visual_feature.h5", "w") as f:
        f["avadataset"] = values.astype("float32")
    (root / "keep.txt").write_text("A\nB\n")
    flags = [f"--data={root}", f"--features=frames={tmp_path}/visual_feature.h5", "--pool=frames"]
    flags += [f"--workdir={tmp_path}/records", f"--classes={root}/keep.txt"]
    with pytest.raises(SystemExit) as stop:
        conversion.main(flags)
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "2 video ids stand more than once" in out
    assert f"train: python -m tfvc.train --data={tmp_path}/records" in out
    recipe = made.recipe("train.epochs=1")
    metrics = train.train(recipe, data=str(tmp_path / "records"), workdir=str(tmp_path / "run"))
    assert (
        sum(metrics["clips"].values()) == 24
        and "weights converted (visual_feature.h5)" in capsys.readouterr().out
    )
    random = recipes.override(recipe, ["backbone.weights=random"])
    with pytest.raises(ValueError, match="made with weights converted"):
        train.train(random, data=str(tmp_path / "records"), workdir=str(tmp_path / "no"))
    with pytest.raises(SystemExit) as stop:
        conversion.main([f"--data={tmp_path}/records", "--features=x"])
    assert stop.value.code == 1 and "records already" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        conversion.main([f"--data={root}"])
    assert stop.value.code == 2 and "and --features" in capsys.readouterr().err


def test_two_rows_of_one_video_of_ave_share_its_file(tmp_path):
    (tmp_path / "Annotations.txt").write_text("A&v&good&0&10\nB&v&good&0&10\nA&w&good&0&10\n")
    dataset = datasets.load(Data(), str(tmp_path), media=False)
    folder = convert(dataset, _npz(tmp_path / "made", v=_both(0), w=_both(1)), out=tmp_path / "r")
    found = _read(folder)
    assert sorted(found) == ["v", "v#2", "w"]
    np.testing.assert_array_equal(found["v"][0]["frames"], found["v#2"][0]["frames"])


def test_the_features_that_the_authors_of_ave_published_are_read(shared, tmp_path):
    dataset = _manifest(tmp_path, [f"v{i}" for i in range(178)])
    path = shared("data/ave/audio_feature_noisy.h5")
    folder = convert(dataset, f"audio={path}", out=tmp_path / "r")
    assert shards.read_manifest(folder).features == [Feature("audio", (None, 128))]
    with h5py.File(path) as f:
        values = f["avadataset"][177]
    np.testing.assert_array_equal(_read(folder)["v177"][0]["audio"], values[:4].astype("float32"))
    shutil.rmtree(folder)
