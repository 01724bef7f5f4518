"""The sound of a file as a whole, in the same pass as its pictures: `tfvc.data.audio.WholeTrack`."""

import math

import numpy as np
import pytest
from test_audio import sine, write
from test_track import apart, clip, damage

from tfvc.data import audio, video
from tfvc.data.audio import WholeTrack, read_audio, read_track
from tfvc.data.video import MediaError, read_frames


def test_real_films_and_sounds_give_what_reading_them_alone_gives(shared):
    films = sorted(shared("data/grid_av").glob("*.mpg"))[:3]
    sounds = sorted(shared("data/esc10").rglob("*.ogg"))[::40]
    assert films and sounds
    for path in films + sounds:
        track = read_track(path, WholeTrack())
        wanted = read_audio(path, rate=22050, channels="first")
        assert track.samples.dtype == "float32" and not track.reason and not track.warnings
        np.testing.assert_array_equal(track.samples, wanted)
        some = read_track(path, WholeTrack(seconds=1.5)).samples
        np.testing.assert_array_equal(some, wanted[: math.ceil(1.5 * 22050)])
    for path in films:
        track = WholeTrack()
        got = read_frames(path, fps=4, size=(24, 32), track=track)
        np.testing.assert_array_equal(got.frames, read_frames(path, fps=4, size=(24, 32)).frames)
        np.testing.assert_array_equal(track.samples, read_audio(path, rate=22050, channels="first"))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_the_first_channel_runs_on_at_the_new_rate(tmp_path, rate):
    path = write(tmp_path / "a.wav", [sine(440, 2.3, rate), sine(900, 2.3, rate)], rate)
    track = read_track(path, WholeTrack())
    assert abs(track.samples.size - 2.3 * 22050) <= 32
    np.testing.assert_allclose(
        track.samples[500:-500], sine(440, 3, 22050)[500 : track.samples.size - 500], atol=2e-3
    )
    both = read_track(path, WholeTrack(channels="mean")).samples
    wanted = (sine(440, 3, 22050) + sine(900, 3, 22050))[500 : both.size - 500] / 2
    np.testing.assert_allclose(both[500:-500], wanted, atol=2e-3)


def test_samples_stay_within_one(tmp_path):
    loud = write(tmp_path / "a.wav", [np.sign(sine(150, 1, 44100)) * 0.999] * 2)  # rings when resampled
    assert np.abs(read_track(loud, WholeTrack()).samples).max() == 1.0


def test_sound_that_starts_late_or_early_lies_where_the_pictures_do(tmp_path):
    for late in (2.0, -1.0, 0.0):
        track = read_track(apart(tmp_path / "v.mkv", late, start=max(0, -late)), WholeTrack())
        first = int(np.flatnonzero(np.abs(track.samples) > 0.05)[0])
        assert first / 22050 == pytest.approx(max(0, late), abs=0.03)
        assert track.samples.size / 22050 == pytest.approx(3 + late, abs=0.1)
    early = read_track(apart(tmp_path / "early.mkv", -4, start=4), WholeTrack())
    assert early.reason == "its sound ends before the pictures start" and not early.samples.size
    late = read_track(apart(tmp_path / "late.mkv", 2), WholeTrack(seconds=1))
    assert late.reason == "its sound starts 2.0 s behind the start of the pictures"


def test_absent_long_and_broken_sound_has_its_reason(tmp_path, monkeypatch):
    track = WholeTrack()
    for path, reason in (
        (clip(tmp_path / "a.mp4"), ""),
        (clip(tmp_path / "b.mp4", sound=None), "no sound in it"),
        (clip(tmp_path / "c.mp4"), ""),
    ):
        assert len(read_frames(path, track=track).frames) == 2
        assert track.reason == reason and bool(track.samples.size) == (not reason)
    broken = damage(clip(tmp_path / "d.mp4", 3, 3.0), "audio", slice(20, 23))
    read_frames(broken, track=track)
    assert track.samples.size > 2 * 22050 and track.warnings[0].startswith("sound partly decodable (")
    sound = write(tmp_path / "a.wav", [sine(440, 4, 16000)] * 2, 16000)
    with pytest.raises(MediaError, match="only sound"):
        read_frames(sound, track=track)
    assert track.samples.size == pytest.approx(4 * 22050, abs=32)
    assert "more than max_seconds=2" in read_track(sound, WholeTrack(), max_seconds=2).reason
    monkeypatch.setattr(audio, "header_seconds", lambda *a: 0.0)  # a header that says nothing
    long = read_track(sound, WholeTrack(), max_seconds=2)
    assert long.reason == "more than max_seconds=2 of sound" and not long.samples.size


@pytest.mark.parametrize("argument", [{"seconds": 0}, {"rate": 0}, {"rate": 1.5}, {"channels": "left"}])
def test_a_wrong_argument_is_told(argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))}="):
        WholeTrack(**argument)


def test_every_odd_file_gives_its_sound_or_a_reason(shared):
    heard = 0
    for path in sorted(p for p in shared("data/odd_video").rglob("*") if p.is_file()):
        track = WholeTrack(seconds=12)
        try:
            video.read_frames(path, size=(16, 16), track=track)
        except MediaError:
            assert track.reason or track.samples.size
        assert bool(track.reason) == (track.samples.size == 0), path
        assert np.isfinite(track.samples).all() and np.abs(track.samples).max(initial=0) <= 1
        heard += not track.reason
    assert heard >= 8
