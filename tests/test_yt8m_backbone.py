"""tfvc/backbones/yt8m.py and tfvc/yt8m/clips.py: raw clips to YouTube-8M's streams."""

import os

import numpy as np
import pytest
import stand_ins

from tfvc.backbones import log_mel, vggish, weights, yt8m
from tfvc.data import demo
from tfvc.data.audio import read_audio
from tfvc.data.video import MediaError, read_frames
from tfvc.yt8m import clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stand_ins.sound(stand_ins.pictures(tmp_path_factory.mktemp("yt8m")))


@pytest.fixture(scope="module")
def networks(folder):
    return yt8m.load(str(folder))


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    """3 s of pictures, 2 s of sound."""
    path = tmp_path_factory.mktemp("clips") / "loud.mkv"
    pictures = [np.full((16, 16, 3), 40 + 15 * i, "uint8") for i in range(12)]
    demo.write_clip(path, pictures, 4, 0.3 * np.sin(np.arange(2 * 22050) / 8), 22050)
    return path


def test_streams_are_quantised_features_and_their_means(networks, folder, loud):
    found = clips.streams(loud, networks)
    pictures = read_frames(loud).frames
    values = networks.pictures.extract_frames(pictures)
    np.testing.assert_array_equal(found["rgb"], yt8m.quantize(values))
    np.testing.assert_allclose(found["mean_rgb"], values.mean(0), rtol=1e-5, atol=1e-5)
    waveform = read_audio(loud, rate=log_mel.RATE)
    net, pca = vggish.load(str(folder / "vggish.weights.h5")), vggish.load_pca(str(folder / yt8m.VGGISH_PCA))
    rows, mask = net.encode_quantized(waveform, pca)
    assert found["rgb"].shape == (3, 1024) and mask.all() and 2 <= len(rows) <= 3
    np.testing.assert_array_equal(found["audio"], rows)
    np.testing.assert_allclose(found["mean_audio"], pca.whiten(net.encode(waveform)[0]).mean(0), atol=1e-5)


@pytest.mark.parametrize("fps, frames, seconds", [(2, 6, [0, 0, 1, 1]), (0.5, 2, [0])])
def test_a_frame_has_the_sound_of_its_second(networks, loud, fps, frames, seconds):
    each = clips.streams(loud, networks)["audio"]
    found = clips.streams(loud, networks, fps=fps)
    assert len(found["rgb"]) == frames
    np.testing.assert_array_equal(found["audio"][: len(seconds)], each[seconds])
    short = clips.streams(loud, networks, fps=fps, max_frames=1, batch_size=1)
    assert len(short["rgb"]) == len(short["audio"]) == 1


def test_absent_sound_is_said_and_bounds_are_kept(networks, loud, tmp_path):
    demo.write_clip(tmp_path / "silent.mp4", [np.zeros((16, 16, 3), "uint8")] * 8, 4)
    notes = []
    assert set(clips.streams(tmp_path / "silent.mp4", networks, notes=notes)) == {"rgb", "mean_rgb"}
    assert notes == ["its audio stream is absent: no sound in it"]
    with pytest.raises(MediaError, match="max_seconds=1"):
        clips.streams(loud, networks, max_seconds=1)
    with pytest.raises(MediaError, match="max_pixels=9"):
        clips.streams(loud, networks, max_pixels=9)
    only = yt8m.Networks(None, networks.sound)
    assert set(clips.streams(loud, only)) == {"audio", "mean_audio"}
    with pytest.raises(MediaError, match="no sound in it"):
        clips.streams(tmp_path / "silent.mp4", only)


def test_files_are_found_in_the_folder_the_default_and_the_own_one(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    (tmp_path / "yt8m").mkdir()
    (tmp_path / "own").mkdir()
    for name in (yt8m.GRAPH_FILE, *yt8m.PCA_FILES):
        os.link(folder / name, tmp_path / "yt8m" / name)
    assert yt8m.load(sound=False).sound is None
    with pytest.raises(FileNotFoundError, match="vggish_model.ckpt: no such file. Put https.*TFVC_WEIGHTS"):
        yt8m.load("imagenet")
    monkeypatch.setenv("TFVC_WEIGHTS", str(tmp_path / "own"))
    os.link(folder / "vggish.weights.h5", tmp_path / "own" / "vggish.weights.h5")
    with pytest.raises(
        FileNotFoundError, match=r"vggish_pca_params.npz: no such file.*weights=random"
    ) as error:
        yt8m.load()
    assert "\n" not in str(error.value)
    os.link(folder / yt8m.VGGISH_PCA, tmp_path / "own" / yt8m.VGGISH_PCA)
    assert "published graph" in yt8m.load().weights and "vggish.weights.h5" in yt8m.load().weights
    (tmp_path / "yt8m" / yt8m.GRAPH_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=f"yt8m/{yt8m.GRAPH_FILE}: no such file.*inception-2015"):
        yt8m.load(sound=False)
    (tmp_path / "yt8m" / "eigenvals.npy").unlink()
    with pytest.raises(FileNotFoundError, match="eigenvals.npy: no such file.*yt8m_pca.tgz"):
        yt8m.load(sound=False)


def test_a_checkpoint_in_parts_goes_by_its_common_name(tmp_path):
    for end in ("index", "data-00000-of-00001"):
        (tmp_path / f"vggish_model.ckpt.{end}").touch()
    assert yt8m._find([tmp_path / "none", tmp_path], *yt8m.VGGISH_FILES) == tmp_path / "vggish_model.ckpt"
    (tmp_path / weights.FILES["inception_v3"].name).touch()
    assert yt8m._find([tmp_path], yt8m.KERAS_FILE) == tmp_path / yt8m.KERAS_FILE


def test_random_networks_stand_in(loud):
    """Inception v3 as Keras builds it, and VGGish in full width: some seconds."""
    found = clips.streams(loud, yt8m.load("random"), max_frames=1)
    assert {name: v.shape for name, v in found.items()} == {
        "rgb": (1, 1024),
        "mean_rgb": (1024,),
        "audio": (1, 128),
        "mean_audio": (128,),
    }
