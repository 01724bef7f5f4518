"""Sight and sound from raw clips to a served model, in small: extract, train, evaluate, predict, export."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from tfvc import encoders, evaluate, export, extract, plan, predict, recipe, train, workdir
from tfvc.data import datasets, demo, schema, shards

SMALL = ["backbone.name=vgg16", "backbone.weights=random", "backbone.size=32,32", "data.fps=2"]
SMALL += ["audio.weights=random", "audio.output=pooled", "audio.dtype=float16", "data.frames=3"]
SMALL += ["model_args.units=16", "model_args.momentum=0.5", "train.batch_size=4", "train.epochs=12"]
SMALL += ["data.test_fraction=0.4", "train.learning_rate=0.01"]
pytestmark = pytest.mark.usefixtures("networks_once", "narrow_vggish")
PITCHES = {"high": 3000.0, "low": 200.0}


def draw(path, pitch, seconds, seed, sound=True):
    """The class is in the sound alone."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (8 * seconds, 32, 32, 3)).astype("uint8")
    tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(seconds * 16000) / 16000) + rng.normal(
        0, 0.01, seconds * 16000
    )
    demo.write_clip(path, frames, fps=8, sound=tone if sound else None, rate=16000)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips") / "set"
    for name, pitch in PITCHES.items():
        (root / name).mkdir(parents=True)
        for i in range(6):
            draw(root / name / f"{name}_{i}.mp4", pitch, 2 + i % 2, i)
    draw(root / "low" / "mute.mp4", 200.0, 2, 9, sound=False)
    (root / "high" / "broken.mp4").write_bytes(b"no film" * 100)
    return root


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory, networks_once, narrow_vggish):
    folder = tmp_path_factory.mktemp("runs") / "run"
    r = recipe.get("mafnet", "original", [*SMALL, "train.drop_visual=0.3"])
    train.train(r, data=str(clips), workdir=str(folder), seed=0)
    return folder


def test_records_hold_both_streams_and_what_is_missing_is_listed(run):
    found = workdir.load(run)
    manifest = shards.read_manifest(found.facts.records)
    assert [row.name for row in manifest.features] == ["frames", "audio"]
    assert [row.shape for row in found.facts.features] == [(3, 512), (3, 512)]
    assert len(manifest.records) == 13 and [path[-10:] for path, _ in manifest.skipped] == ["broken.mp4"]
    assert [(path[-8:], text) for path, text in manifest.warnings] == [
        ("mute.mp4", "its sound is absent: no sound in it")
    ]
    with open(manifest.folder / "warnings.csv", newline="") as f:
        assert len(list(csv.reader(f))) == 2
    assert {r["frames"] for r in manifest.records} == {2, 3}


def test_the_run_says_what_its_features_were_made_with_and_learns(run):
    found, metrics = workdir.load(run), workdir.load(run).metrics()
    assert (found.facts.weights, found.facts.audio_weights) == ("random (seed 0)", "random (seed 0)")
    assert found.facts.standardized and metrics["test"]["accuracy"] >= 0.8
    layers = {layer.name: layer for layer in found.model().layers}
    assert np.std(layers["standardize_audio"].variance) > 0 and np.std(layers["standardize_frames"].mean) > 0


def test_evaluate_reads_the_run_and_other_clips(run, clips, tmp_path):
    own = evaluate.evaluate(run)
    assert own["accuracy"] == pytest.approx(workdir.load(run).metrics()["test"]["accuracy"])
    other = evaluate.evaluate(run, str(clips))
    assert other["clips"] == 13 and other["accuracy"] > 0.8


def test_predict_weighs_each_stream_and_a_clip_without_sound_is_predicted_with_a_warning(
    run, clips, tmp_path, capsys
):
    paths = [clips / "low" / "low_0.mp4", clips / "low" / "mute.mp4"]
    rows = predict.predict(run, paths, tmp_path / "out.csv")
    assert [row["top"][0]["label"] for row in rows[:1]] == ["low"] and len(rows) == 2
    assert "mute.mp4: its sound is absent" in capsys.readouterr().err
    (first, second), by = rows[0]["attention"], rows[0]["attention"][0]["by"]
    assert (first["time"], second["time"]) == (0.0, 1.0) and set(by) == {"frames", "audio"}
    assert sum(by.values()) == pytest.approx(first["weight"], abs=2e-4)
    assert [row["missing"] for row in rows] == [[], ["audio"]]
    assert predict.predict(run, paths, tmp_path / "out.csv") == rows  # read back from the file


def test_a_long_clip_is_cut_into_windows_of_both_streams_and_drawn(run, tmp_path, capsys):
    draw(tmp_path / "long.mp4", 200.0, 7, 1)
    rows = predict.predict(run, [tmp_path / "long.mp4"], tmp_path / "out.json", explain=tmp_path / "seen.png")
    assert [row["part"] for row in rows] == ["video", "window", "window", "window"]
    assert [row["start"] for row in rows] == [0.0, 0.0, 3.0, 4.0] and rows[0]["end"] == 7.0
    assert all(len(row["attention"]) == 3 for row in rows[1:])
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert "explained: " in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"seen.jpg: expected the name of a picture, which ends in .png"):
        predict.predict(run, [tmp_path / "long.mp4"], tmp_path / "o.json", explain=tmp_path / "seen.jpg")


@pytest.mark.slow
def test_the_export_takes_pictures_and_sound(run, clips, capsys):
    import tensorflow as tf

    folder = export.export(run)
    printed = capsys.readouterr().out
    assert all(
        f"{name}: reloaded without tfvc" in printed for name in ("serving_default", "serialized", "frames")
    )
    loaded = tf.saved_model.load(str(folder))
    given = loaded.signatures["frames"].structured_input_signature[1]
    assert given["frames"].shape == (None, 6, 32, 32, 3) and given["samples"].shape == (None, 3, 15600)
    out = loaded.signatures["serving_default"](
        frames=tf.zeros((2, 3, 512)), audio=tf.zeros((2, 3, 512), tf.float16)
    )
    assert out["probabilities"].shape == (2, 2) and out["scores"].shape == (2, 3, 2)


@pytest.mark.slow
def test_a_model_of_one_modality_reads_its_stream_of_shared_records(run, clips, tmp_path):
    records = workdir.load(run).facts.records
    for modality, row in (("visual", "frames"), ("audio", "audio")):
        given = [*SMALL, f"model_args.modality={modality}", "data.streams=frames,audio", "train.epochs=1"]
        r = recipe.get("mafnet", "original", given)
        train.train(r, data=records, workdir=str(tmp_path / modality))
        found = workdir.load(tmp_path / modality)
        assert [feature.name for feature in found.facts.features] == [row]
        rows = predict.predict(tmp_path / modality, [clips / "low" / "low_1.mp4"])
        assert "by" not in rows[0]["attention"][0]
    assert json.loads((tmp_path / "audio" / "metrics.json").read_text())["test"]["accuracy"] >= 0.5


def test_killed_extraction_of_two_streams_leaves_the_same_bytes(run, clips, tmp_path):
    found = workdir.load(run)
    dataset = datasets.load(found.recipe.data, str(clips))
    networks = encoders.of_run(found)
    r = dataclasses.replace(found.recipe, data=dataclasses.replace(found.recipe.data, shard_clips=5))
    networks = dataclasses.replace(networks, recipe=r)
    whole = extract.extract(dataset, r, out=tmp_path / "whole", encoders=networks)
    again = extract.extract(dataset, r, out=tmp_path / "again", encoders=networks)
    (again / "shard-00001.tfrecord").unlink()  # as if killed there
    extract.extract(dataset, r, out=again, encoders=networks)
    for path in whole.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_clip_whose_picture_is_broken_keeps_its_sound(tmp_path, run, clips):
    sound = tmp_path / "set" / "low" / "only_sound.mp4"
    sound.parent.mkdir(parents=True)
    import av

    with av.open(str(clips / "low" / "low_0.mp4")) as source, av.open(str(sound), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    row = predict.predict(run, [sound], tmp_path / "out.json")[0]
    assert row["top"][0]["label"] == "low"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["data.streams=frames"], "this mafnet reads frames,audio"),
        (["data.streams=frames,audoi"], "did you mean 'audio'"),
        (["data.fps=2.5"], "whole frames a second"),
        (["data.pool=none"], "sound has one row a second"),
        (
            ["model_args.modality=visual", "model_args.film=none", "audio.output=pooled"],
            "only for the stream audio",
        ),
        (["model_args.modality=audio", "model_args.film=none", "data.fps=3"], "only for the stream frames"),
        (["train.drop_visual=0.7", "train.drop_audio=0.7"], "expected at most 1 together"),
        (
            ["model_args.modality=visual", "train.drop_visual=0.1"],
            "reads frames alone and has no path to spare",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(overrides, message):
    with pytest.raises(ValueError, match=message):
        plan.settled(recipe.get("mafnet", "original", overrides))


def test_real_clips_of_sight_and_sound_go_through_extraction(shared, tmp_path):
    """GRID's talking faces, 44.1 kHz stereo, and a sound of ESC-10 without any picture."""
    clips = sorted(shared("data/grid_av").glob("*.mpg"))[:3]
    clips.append(sorted(shared("data/esc10").glob("*/*.ogg"))[0])
    lines = ["id,path,labels", *(f"{clip.stem},{clip},{'ab'[k % 2]}" for k, clip in enumerate(clips))]
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    r = recipe.get("mafnet", "original", [*SMALL, "audio.output=conv4_2", "data.frames=10"])
    dataset = datasets.load(r.data, str(tmp_path / "clips.csv"))
    manifest = shards.read_manifest(extract.extract(dataset, r, out=tmp_path / "records"))
    assert [row.shape for row in manifest.features] == [(None, 512), (None, 12, 8, 512)]
    lengths = {record["id"]: record["frames"] for record in manifest.records}
    assert sorted(lengths.values()) == [3, 3, 3, 5] and not manifest.skipped
    assert [text.split(":")[0] for _, text in manifest.warnings] == ["its pictures are absent"]


def test_a_run_on_ready_features_is_exported_without_raw_clips_and_predicts_none(
    run, clips, tmp_path, capsys, reloaded_here
):
    found = workdir.load(run)
    copy = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("export"))
    facts = dataclasses.replace(found.facts, weights="converted (x)", audio_weights="converted (x)")
    workdir.save(copy, found.recipe, facts, found.seed, found.split())
    export.export(copy)
    printed = capsys.readouterr().out
    assert "no signature of raw clips: its features were given" in printed and "serialized: " in printed
    with pytest.raises(ValueError, match=r"copy: trained on ready features \(converted \(x\)\)"):
        predict.predict(copy, [clips / "low" / "low_0.mp4"])


@pytest.mark.slow
def test_a_run_in_half_precision_is_exported(run, tmp_path, reloaded_here):
    records = workdir.load(run).facts.records
    r = recipe.get("mafnet", "original", [*SMALL, "train.epochs=1", "train.precision=bfloat16"])
    train.train(r, data=records, workdir=str(tmp_path / "run"))
    assert export.export(tmp_path / "run").is_dir()


def test_folders_of_sound_are_read_where_sound_is(run, shared, tmp_path):
    for k, sound in enumerate(sorted(shared("data/esc10").glob("*/*.ogg"))[:4]):
        place = tmp_path / "sounds" / "ab"[k % 2] / sound.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(sound)
    r = recipe.get("mafnet", "original", ["model_args.modality=audio"])
    assert r.data.streams == "audio"
    assert len(datasets.load(r.data, str(tmp_path / "sounds")).clips) == 4
    both = workdir.load(run).recipe  # to predict, a stream may be missing
    assert len(predict.listed([tmp_path / "sounds"], both)) == 4


def test_a_record_without_a_stream_is_zeros(run):
    found = workdir.load(run)
    record = schema.serialize("a", [0], {}, shards.read_manifest(found.facts.records).features)
    inputs, *_ = schema.parse_batch([record], found.facts.features, 2, False)
    assert not inputs["audio"].numpy().any() and inputs["audio"].shape == (1, 3, 512)
