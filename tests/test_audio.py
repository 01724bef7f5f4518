"""tfvc/data/audio.py: rate, channels, length, and what a file without sound gives."""

import av
import numpy as np
import pytest

from tfvc.data import audio, demo, video
from tfvc.data.audio import read_audio
from tfvc.data.video import MediaError


def write(path, channels, rate=44100, layout="stereo", codec="pcm_s16le"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        data = np.ascontiguousarray((np.array(channels).T * 32767).astype(np.int16)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sine(pitch, seconds, rate):
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_rate_pitch_and_length(tmp_path, rate):
    path = write(tmp_path / "a.wav", [sine(440, 2, 44100)] * 2)
    got = read_audio(path, rate=rate)
    assert got.dtype == np.float32 and got.ndim == 1 and abs(len(got) - 2 * rate) <= 32
    middle = got[rate // 2 : rate // 2 + rate]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.01)


def test_mean_is_the_plain_mean_and_first_the_first_channel(tmp_path):
    left, right = sine(300, 1, 16000), sine(1000, 1, 16000)
    path = write(tmp_path / "a.wav", [left, right], 16000)
    assert read_audio(path, channels="first") == pytest.approx(left, abs=1e-3)
    assert read_audio(path) == pytest.approx((left + right) / 2, abs=1e-3)


def test_six_channels_are_averaged_with_equal_weights(tmp_path):
    waves = [sine(200 * (i + 1), 0.5, 16000) for i in range(6)]  # FFmpeg's downmix drops the last but two
    path = write(tmp_path / "a.wav", waves, 16000, "5.1")
    assert read_audio(path) == pytest.approx(np.mean(waves, 0), abs=1e-3)


def test_samples_stay_within_one(tmp_path):
    path = write(tmp_path / "a.wav", [np.sign(sine(150, 1, 44100)) * 0.999] * 2)  # rings when resampled
    got = read_audio(path, rate=16000)
    assert np.abs(got).max() == 1.0


def test_files_without_sound_and_bad_arguments(tmp_path):
    path = tmp_path / "v.mp4"
    demo.write_clip(path, [np.zeros((32, 32, 3), np.uint8)] * 4, 4)
    with pytest.raises(MediaError, match="v.mp4: no sound in it"):
        read_audio(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_audio(tmp_path / "gone.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(MediaError, match="empty"):
        read_audio(tmp_path / "empty.wav")
    with pytest.raises(ValueError, match="rate=0"):
        read_audio(path, rate=0)
    with pytest.raises(ValueError, match="mean or first"):
        read_audio(path, channels="left")


def test_a_long_file_is_refused_by_header_and_by_samples(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", [sine(440, 4, 16000)] * 2, 16000)
    with pytest.raises(MediaError, match="4.0 s long, more than max_seconds=2"):
        read_audio(path, max_seconds=2)
    monkeypatch.setattr(audio, "header_seconds", lambda *a: 0.0)
    with pytest.raises(MediaError, match="more than max_seconds=2 of sound"):
        read_audio(path, max_seconds=2)


def test_damage_gives_the_good_sound_and_a_warning(tmp_path):
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 3 * 22050)
    demo.write_clip(path, [np.zeros((32, 32, 3), np.uint8)] * 4, 4, noise, 22050)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.audio[0]) if p.size]
    data = bytearray(path.read_bytes())
    for pos, size in packets[30:33]:
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)
    warnings = []
    assert 2.7 < len(read_audio(path, warnings=warnings)) / 16000 < 3.2
    assert len(warnings) == 1 and "partly decodable" in warnings[0]


def test_real_films_and_sounds_have_their_length(shared):
    films = sorted(shared("data/grid_av").glob("*.mpg"))
    sounds = sorted(shared("data/esc10").rglob("*.ogg"))[::25]
    assert films and sounds
    for path in films + sounds:
        seconds = video.streams(path).seconds
        for rate in (16000, 44100):
            got = read_audio(path, rate=rate)
            assert abs(len(got) - seconds * rate) < 0.01 * rate, path
            assert 0.001 < np.abs(got).max() <= 1
