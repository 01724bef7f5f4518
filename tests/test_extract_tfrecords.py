"""starter/extract_tfrecords_main.py and starter/feature_extractor.py: videos to YouTube-8M records."""

import dataclasses
import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import stand_ins
import tensorflow as tf
from conftest import ROOT

from starter import extract_tfrecords_main as program
from starter import feature_extractor as fe
from starter.readers import YT8MFrameFeatureReader
from tfvc.backbones import log_mel, vggish, visual, weights
from tfvc.data import demo
from tfvc.data.audio import read_audio
from tfvc.data.schema import parse_batch
from tfvc.data.video import read_frames
from tfvc.recipe import Feature

FPS, SIDE = 4, 16
ZERO = bytes(128)


# --- what the tests make ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return stand_ins.pictures(tmp_path_factory.mktemp("yt8m"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips of one colour a frame: silent.mp4 of 3 s without sound, loud.mp4 of 3 s with 2 s of sound."""
    folder = tmp_path_factory.mktemp("clips")
    frames = [np.full((SIDE, SIDE, 3), 40 + 15 * i, "uint8") for i in range(3 * FPS)]
    sound = 0.3 * np.sin(2 * np.pi * 440 / 22050 * np.arange(2 * 22050))
    demo.write_clip(folder / "silent.mp4", frames, FPS)
    demo.write_clip(folder / "loud.mp4", frames, FPS, sound, 22050)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def small_vggish(tmp_path_factory):
    """Weights of a narrow VGGish as a SavedModel-free file, and a PCA."""
    folder = tmp_path_factory.mktemp("vggish")
    return stand_ins.sound(folder, "small.weights.h5", "pca.npz")


def run(tmp_path, lines, *arguments, status=0):
    (tmp_path / "videos.csv").write_text("\n".join(lines) + "\n")
    given = [f"--input_videos_csv={tmp_path / 'videos.csv'}"]
    given += [f"--output_tfrecords_file={tmp_path / 'out.tfrecord'}", *map(str, arguments)]
    with pytest.raises(SystemExit) as stopped:
        program.main(given)
    assert stopped.value.code == status
    return tmp_path / "out.tfrecord"


def records(path):
    return [tf.train.SequenceExample.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]


def floats(record, name):
    return np.array(record.context.feature[name].float_list.value)


def frames(record, name):
    return [f.bytes_list.value[0] for f in record.feature_lists.feature_list[name].feature]


# --- features of pictures ---------------------------------------------------------------------------


def test_features_are_the_published_equations(model_dir):
    pictures = np.random.default_rng(3).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    extractor = fe.YouTube8MFeatureExtractor(str(model_dir))
    pool = stand_ins.inception(pictures, np.load(model_dir / "kernel.npy"))
    raw = extractor.extract_rgb_frame_features(pictures[0], apply_pca=False)
    assert raw.shape == (2048,)
    np.testing.assert_allclose(raw, pool[0], atol=1e-5)
    mean, values, vectors = (np.load(model_dir / name).astype("float64") for name in fe.PCA_FILES)
    expected = (pool - mean[:, 0]) @ vectors.T[:, :1024] / np.sqrt(values[:1024, 0] + 1e-4)
    np.testing.assert_allclose(extractor.extract_frames(pictures), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        extractor.extract_rgb_frame_features(pictures[1]), expected[1], rtol=1e-3, atol=1e-3
    )
    with pytest.raises(ValueError, match=r"frame_rgb float64 .*expected uint8"):
        extractor.extract_rgb_frame_features(pictures[0] / 2)


def test_a_real_pair_of_inception_and_pca_has_these_sizes_and_fits_the_bytes(shared, model_dir):
    with open(shared("data/yt8m/sports1m_frame.pkl"), "rb") as f:
        pair = pickle.load(f, encoding="latin1")
    averages = np.array(json.loads(shared("data/yt8m/AO7u7fwGzJQ_at_second_0_feats.json").read_text()))
    extractor = fe.YouTube8MFeatureExtractor(str(model_dir))
    for row in (pair["original"], averages):
        assert row.shape == (fe.INCEPTION,) and row.min() >= 0
        assert extractor.apply_pca(row).shape == pair["pca"].shape == (fe.COMPONENTS,)
    # A PCA that maps this one picture onto its released features goes through the files' layout.
    values = np.full((2048, 1), 0.25)
    vectors = np.zeros((2048, 2048))
    scale = np.sqrt(0.25 + 1e-4) / (pair["original"] ** 2).sum()
    vectors[:1024] = np.outer(pair["pca"], pair["original"]) * scale
    folder = model_dir / "pair"
    folder.mkdir()
    for name, array in zip(fe.PCA_FILES, (np.zeros((2048, 1)), values, vectors), strict=True):
        np.save(folder / name, array)
    os.link(model_dir / "classify_image_graph_def.pb", folder / "classify_image_graph_def.pb")
    ours = fe.YouTube8MFeatureExtractor(str(folder)).apply_pca(pair["original"])
    np.testing.assert_allclose(ours, pair["pca"], atol=1e-4)
    again = fe.quantize(ours) * (4 / 255) + (4 / 512 - 2)  # the readers' rule: up to half a step off
    inside = np.abs(pair["pca"]) < 2
    assert inside.mean() > 0.9 and np.abs(again - pair["pca"])[inside].max() < 4 / 255


def test_bytes_are_rounded_and_cut_off():
    values = np.array([[-2.5, -2.0, -1.99], [0.0, 1.999, 7.0]])
    assert fe.quantize(values).tolist() == [[0, 0, 1], [128, 255, 255]]
    with pytest.raises(ValueError, match="not finite"):
        fe.quantize(np.array([np.nan]))


def test_missing_and_wrong_model_files_are_named(model_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="mean.npy: no such file.*yt8m_pca.tgz.*--pca=random"):
        fe.YouTube8MFeatureExtractor(str(tmp_path))
    message = "classify_image_graph_def.pb: no such file.*--backbone=inception_v3"
    with pytest.raises(FileNotFoundError, match=message):
        fe.YouTube8MFeatureExtractor(str(tmp_path), pca="random")
    for name in ("mean.npy", "eigenvals.npy"):
        os.link(model_dir / name, tmp_path / name)
    np.save(tmp_path / "eigenvecs.npy", np.zeros((2048, 512)))
    with pytest.raises(ValueError, match=r"eigenvecs \(2048, 512\); expected"):
        fe.YouTube8MFeatureExtractor(str(tmp_path))
    graph = tmp_path / "classify_image_graph_def.pb"
    for content in (b"text", tf.Graph().as_graph_def().SerializeToString()):
        graph.write_bytes(content)
        with pytest.raises(ValueError, match="expected the frozen Inception of 2015"):
            fe.YouTube8MFeatureExtractor(str(tmp_path), pca="random")


def test_missing_weights_of_keras_inception_name_this_programs_switch(tmp_path, monkeypatch):
    row = dataclasses.replace(weights.FILES["inception_v3"], url=f"file://{tmp_path}/nowhere")
    monkeypatch.setitem(weights.FILES, "inception_v3", row)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="notop.h5: not in .*without: --backbone_weights=random"):
        fe.YouTube8MFeatureExtractor(backbone="inception_v3", pca="random")
    with pytest.raises(FileNotFoundError, match="^backbone_weights=x.h5: no such file"):
        fe.YouTube8MFeatureExtractor(backbone="inception_v3", weights="x.h5", pca="random")


def test_keras_inception_stands_in(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(visual, "load", functools.cache(visual.load))  # it takes seconds to build
    flags = ("--backbone=inception_v3", "--backbone_weights=random", "--pca=random")
    out = run(tmp_path, [f"{clips / 'silent.mp4'},3"], *flags)
    (record,) = records(out)
    pictures = read_frames(clips / "silent.mp4", size=(299, 299)).frames
    extractor = fe.YouTube8MFeatureExtractor(backbone="inception_v3", weights="random", pca="random")
    expected = extractor.extract_frames(pictures)
    assert extractor.extract_rgb_frame_features(pictures[0, :50, :60]).shape == (1024,)
    assert frames(record, "rgb") == [row.tobytes() for row in fe.quantize(expected)]
    vectors = extractor.pca_eigenvecs.astype("float64")
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(1024), atol=1e-5)


# --- records ----------------------------------------------------------------------------------------


def test_records_are_those_of_the_published_program(clips, model_dir, tmp_path):
    lines = [f"{clips / 'silent.mp4'},52;3;10", "", f"{clips / 'loud.mp4'},7"]
    out = run(tmp_path, lines, f"--model_dir={model_dir}")
    first, second = records(out)
    assert first.context.feature["id"].bytes_list.value[0] == str(clips / "silent.mp4").encode()
    assert list(first.context.feature["labels"].int64_list.value) == [3, 10, 52]
    assert list(second.context.feature["labels"].int64_list.value) == [7]
    pictures = read_frames(clips / "silent.mp4").frames
    assert pictures.shape == (3, SIDE, SIDE, 3)
    features = fe.YouTube8MFeatureExtractor(str(model_dir)).extract_frames(pictures)
    assert np.abs(features).max() > 2  # some are cut off, the mean is not
    assert frames(first, "rgb") == [row.tobytes() for row in fe.quantize(features)]
    np.testing.assert_allclose(floats(first, "mean_rgb"), features.mean(0), rtol=1e-5, atol=1e-5)
    for record in (first, second):  # sound is not asked for
        assert frames(record, "audio") == [ZERO] * 3
        assert floats(record, "mean_audio").tolist() == [0.0] * 128


def test_records_are_read_by_the_readers_form(clips, model_dir, small_vggish, tmp_path):
    out = run(tmp_path, [f"{clips / 'loud.mp4'},1"], f"--model_dir={model_dir}", *sound(small_vggish))
    blobs = [r.numpy() for r in tf.data.TFRecordDataset(str(out))]
    rows = [Feature("rgb", (300, 1024), "uint8", True), Feature("audio", (300, 128), "uint8", True)]
    inputs, labels, ids, lengths = parse_batch(tf.constant(blobs), rows, 5, True)
    assert labels.numpy().tolist() == [[0, 1, 0, 0, 0]] and inputs["rgb"].shape == (1, 300, 1024)
    assert {k: v.numpy().tolist() for k, v in lengths.items()} == {"rgb": [3], "audio": [3]}
    assert ids.numpy()[0].decode().endswith("loud.mp4")
    # What the original's YT8MFrameFeatureReader asks of a record.
    text = tf.io.FixedLenFeature([], tf.string)
    context, lists = tf.io.parse_single_sequence_example(
        blobs[0],
        context_features={"id": text, "labels": tf.io.VarLenFeature(tf.int64)},
        sequence_features={k: tf.io.FixedLenSequenceFeature([], tf.string) for k in ("rgb", "audio")},
    )
    assert context["labels"].values.numpy().tolist() == [1]
    for name, width in (("rgb", 1024), ("audio", 128)):
        decoded = tf.io.decode_raw(lists[name], tf.uint8)
        assert decoded.shape == (3, width)
        np.testing.assert_array_equal(decoded, inputs[name][0, :3])
    made = YT8MFrameFeatureReader(5, [1024, 128], ["rgb", "audio"]).prepare_serialized_examples(blobs[0])
    assert made["num_frames"].numpy().tolist() == [3] and not made["video_matrix"][0, 3:].numpy().any()
    np.testing.assert_array_equal(fe.quantize(made["video_matrix"][0, :3, :1024]), inputs["rgb"][0, :3])


def sound(folder):
    return f"--vggish_weights={folder / 'small.weights.h5'}", f"--vggish_pca={folder / 'pca.npz'}"


def test_sound_goes_through_vggish_and_its_absence_is_bytes_of_zero(
    clips, model_dir, small_vggish, tmp_path, capsys
):
    lines = [f"{clips / 'loud.mp4'},1", f"{clips / 'silent.mp4'},2"]
    shared_flags = (f"--model_dir={model_dir}", *sound(small_vggish))
    loud, silent = records(run(tmp_path, lines, *shared_flags))
    waveform = read_audio(clips / "loud.mp4", rate=log_mel.RATE)
    seconds = -(-len(waveform) // log_mel.RATE)
    assert seconds in (2, 3)  # AAC rounds up to its frame
    pca = vggish.load_pca(str(small_vggish / "pca.npz"))
    net = vggish.load(str(small_vggish / "small.weights.h5"))
    rows, _ = net.encode_quantized(waveform, pca)
    assert frames(loud, "audio") == [row.tobytes() for row in rows] + [ZERO] * (3 - seconds)
    mean = pca.whiten(net.encode(waveform)[0]).mean(0)
    np.testing.assert_allclose(floats(loud, "mean_audio"), mean, rtol=1e-4, atol=1e-5)
    assert frames(silent, "audio") == [ZERO] * 3 and not floats(silent, "mean_audio").any()
    assert "silent.mp4: its audio stream is absent: no sound in it" in capsys.readouterr().err
    loud2, silent = records(run(tmp_path, lines, "--noinsert_zero_audio_features", *shared_flags))
    assert loud2 == loud and "audio" not in silent.feature_lists.feature_list
    assert "mean_audio" not in silent.context.feature
    (plain,) = records(run(tmp_path, lines[:1], "--noinsert_zero_audio_features", shared_flags[0]))
    assert list(plain.feature_lists.feature_list) == ["rgb"]


def test_more_frames_a_second_repeat_the_sound_of_their_second(clips, model_dir, small_vggish, tmp_path):
    flags = (f"--model_dir={model_dir}", *sound(small_vggish), "--frames_per_second=2")
    (record,) = records(run(tmp_path, [f"{clips / 'loud.mp4'},1"], *flags))
    audio = frames(record, "audio")
    assert len(audio) == len(frames(record, "rgb")) == 6
    assert audio[0] == audio[1] and audio[2] == audio[3] and audio[0] != audio[4]


def test_at_most_300_frames(model_dir, tmp_path):
    pictures = [np.full((SIDE, SIDE, 3), i, "uint8") for i in range(160)]
    demo.write_clip(tmp_path / "long.mp4", pictures, 1)
    flags = (f"--model_dir={model_dir}", "--frames_per_second=2")
    (record,) = records(run(tmp_path, [f"{tmp_path / 'long.mp4'},1"], *flags))
    assert len(frames(record, "rgb")) == len(frames(record, "audio")) == 300


def test_names_of_the_keys_and_records_without_frames(clips, model_dir, tmp_path):
    keys = ("--labels_feature_key=y", "--image_feature_key=pix", "--video_file_feature_key=video_id")
    lines = [f'"{clips / "silent.mp4"}",', f"{clips / 'loud.mp4'}"]  # without labels
    out = run(tmp_path, lines, f"--model_dir={model_dir}", *keys, "--skip_frame_level_features")
    blobs = [r.numpy() for r in tf.data.TFRecordDataset(str(out))]
    assert len(blobs) == 2
    example = tf.train.Example.FromString(blobs[0])  # a context alone is an Example
    assert set(example.features.feature) == {"y", "video_id", "mean_pix", "mean_audio"}
    assert len(example.features.feature["mean_pix"].float_list.value) == 1024
    assert not example.features.feature["y"].int64_list.value
    assert not tf.train.SequenceExample.FromString(blobs[0]).HasField("feature_lists")


def test_real_talking_faces(shared, model_dir, small_vggish, tmp_path):
    clip = sorted(shared("data/grid_av").glob("*.mpg"))[0]
    flags = (f"--model_dir={model_dir}", *sound(small_vggish))
    (record,) = records(run(tmp_path, [f"{clip},1"], *flags))
    audio = frames(record, "audio")
    assert len(audio) == len(frames(record, "rgb")) == 3 and len(set(audio)) == 3 and ZERO not in audio


# --- what goes wrong --------------------------------------------------------------------------------


def test_a_bad_video_is_named_and_the_run_goes_on(clips, model_dir, tmp_path, capsys):
    lines = [f"{clips / 'text.mp4'},1", f"{clips / 'nowhere.mp4'},1", f"{clips / 'silent.mp4'},1"]
    out = run(tmp_path, lines, f"--model_dir={model_dir}")
    said = capsys.readouterr()
    assert len(records(out)) == 1 and "Successfully encoded 1 out of 3 videos" in said.out
    assert "skipped: " in said.err and "nowhere.mp4: no such file" in said.err
    assert f"{clips / 'text.mp4'}: " in said.err


def test_nothing_is_written_where_no_video_can_be_read(clips, model_dir, tmp_path, capsys):
    out = run(tmp_path, [f"{clips / 'text.mp4'},1"], f"--model_dir={model_dir}", status=1)
    assert "none of the 1 videos" in capsys.readouterr().err
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((out.name, f".{out.name}.1"))]


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.mp4,1;x", "videos.csv: line 2: label 'x'; expected integers"),
        ("a.mp4,1;;2", "label ''"),
        ("a.mp4,-1", "label '-1'"),
        ("a.mp4,1.0", "label '1.0'"),
        ("a.mp4,1,2", "line 2: 3 fields"),
        (",1", "line 2: 2 fields"),
    ],
)
def test_a_wrong_line_stops_before_the_first_video(line, message, tmp_path, capsys):
    out = run(tmp_path, ["b.mp4,1", line], status=1)
    assert message in capsys.readouterr().err and not out.exists()


def test_wrong_command_lines(tmp_path, capsys):
    for arguments, message in (
        ([], "--input_videos_csv is needed"),
        (["--input_videos_csv=x"], "--output_tfrecords_file is needed"),
        (["--backbone_weights=random"], "--backbone_weights goes with --backbone=inception_v3"),
        (["--vggish_pca=x"], "--vggish_pca goes with --vggish_weights"),
        (["--frames_per_second=0"], "frames_per_second"),
    ):
        with pytest.raises(SystemExit) as stopped:
            rest = ["--input_videos_csv=x", "--output_tfrecords_file=y"] if "needed" not in message else []
            program.main([*rest, *arguments])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    run(tmp_path, [], status=1)
    assert "videos.csv: no video in it" in capsys.readouterr().err


def test_weights_without_dense_layers_are_refused(clips, model_dir, small_vggish, tmp_path, capsys):
    vggish.build_model(widths=(2, 3, 4, 5), top=False).save_weights(tmp_path / "notop.weights.h5")
    flags = (f"--vggish_weights={tmp_path / 'notop.weights.h5'}", f"--vggish_pca={small_vggish / 'pca.npz'}")
    run(tmp_path, [f"{clips / 'loud.mp4'},1"], f"--model_dir={model_dir}", *flags, status=1)
    assert "no dense layers in it" in capsys.readouterr().err


def test_only_the_beginning_of_the_sound_is_read(clips):
    whole = read_audio(clips / "loud.mp4")
    begin = read_audio(clips / "loud.mp4", stop_after=0.5)
    assert begin.size == 8000
    np.testing.assert_array_equal(begin, whole[:8000])
    assert read_audio(clips / "loud.mp4", stop_after=99).size == whole.size
    with pytest.raises(ValueError, match="stop_after=0"):
        read_audio(clips / "loud.mp4", stop_after=0)


def test_a_killed_run_leaves_nothing_half_written_and_the_next_one_sweeps(clips, model_dir, tmp_path):
    """As a file and as a subprocess: killed while it writes, then run to its end."""
    (tmp_path / "videos.csv").write_text(f"{clips / 'silent.mp4'},1\n" * 5000)
    out = tmp_path / "out.tfrecord"
    out.write_bytes(b"the old one")
    line = [sys.executable, str(ROOT / "starter/extract_tfrecords_main.py"), f"--model_dir={model_dir}"]
    line += ["--input_videos_csv=videos.csv", f"--output_tfrecords_file={out}"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (left := list(tmp_path.glob(".out.tfrecord.*.part"))) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left and out.read_bytes() == b"the old one"
    run(tmp_path, [f"{clips / 'silent.mp4'},1"], f"--model_dir={model_dir}")
    assert len(records(out)) == 1 and not list(tmp_path.glob(".out.tfrecord.*.part"))
