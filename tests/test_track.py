"""Sound and pictures of one pass over a file: `tfvc.data.audio.Track` with `iter_frames` and alone."""

import math
from fractions import Fraction

import av
import golden_audio
import numpy as np
import pytest
from golden import read
from scipy.signal import resample_poly
from test_audio import sine, write
from test_video import ramp

from tfvc.backbones import log_mel
from tfvc.data import audio, clock, demo, video
from tfvc.data.audio import Track, read_track
from tfvc.data.video import MediaError, iter_frames, read_frames


def expected(path):
    """The front end in few words: all samples at once, cut, fill up, resample, take the start."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        stream = container.streams.audio[0]
        rate, channels, planar = stream.rate, stream.channels, stream.format.is_planar
    samples = np.concatenate(parts, 1)
    samples = samples if planar else samples.reshape(-1, channels).T
    samples = samples / 32768 if samples.dtype == np.int16 else samples.astype("float64")
    mono = samples.clip(-1, 1).mean(0)
    seconds = [np.pad(s, (0, rate - s.size)) for s in np.split(mono, range(rate, mono.size, rate))]
    return np.stack([resample_poly(s, 16000, rate)[:15600] for s in seconds])


def clip(path, seconds=2, sound=2.0, rate=22050, fps=10):
    """Frames that tell their number, with a tone that rises from second to second; sound None: none."""
    t = np.arange(0 if sound is None else round(sound * rate)) / rate
    tone = None if sound is None else 0.4 * np.sin(2 * np.pi * 300 * (1 + np.floor(t)) * t)
    demo.write_clip(path, ramp(int(seconds * fps)), fps, tone, rate)
    return path


def apart(path, late, start=0.0, seconds=3, sound=3.0, rate=48000):
    """A clip whose pictures start at a given time, and its tone `late` seconds behind them."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg2video" if path.suffix == ".mpg" else "mpeg4", rate=25)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        tone = container.add_stream("mp2" if path.suffix == ".mpg" else "aac", rate=rate, layout="mono")
        form, frames = tone.format.name, []
        for i, grey in enumerate(ramp(round(seconds * 25))):
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round(start * 25) + i, Fraction(1, 25)
            frames.append((frame.time, picture, frame))
        t = np.arange(round(sound * rate)) / rate
        wave = 0.4 * np.sin(2 * np.pi * 300 * (1 + np.floor(t)) * t)
        wave = np.int16(wave * 32767) if form.startswith("s16") else np.float32(wave)
        for i in range(0, wave.size, 1152):
            frame = av.AudioFrame.from_ndarray(wave[None, i : i + 1152], format=form, layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round((start + late) * rate) + i
            frames.append((frame.time, tone, frame))
        for _, stream, frame in sorted(frames, key=lambda one: one[0]):
            container.mux(stream.encode(frame))
        container.mux([*picture.encode(None), *tone.encode(None)])
    return path


def begins(track):
    """The second at which the first sound is heard."""
    at = int(np.flatnonzero(np.abs(track.pieces.ravel()) > 0.05)[0])
    return at // 15600 + at % 15600 / 16000


def pitches(track):
    """The loudest frequency of each second in Hz."""
    spectrum = np.abs(np.fft.rfft(track.pieces))
    return [round(float(p), -2) for p in spectrum.argmax(1) * 16000 / 15600]


def test_its_numbers_are_those_of_vggish():
    track = Track()
    assert (track.rate, track.samples) == (log_mel.RATE, log_mel.SAMPLES)


def test_real_films_one_pass_gives_the_same_frames_and_the_sound(shared):
    films = sorted(shared("data/grid_av").glob("*.mpg"))
    assert films
    for path in films:
        probe, track = video.streams(path), Track()
        assert probe.audio_rate == 44100
        with_sound = read_frames(path, fps=16, size=(24, 32), track=track)
        without = read_frames(path, fps=16, size=(24, 32))
        np.testing.assert_array_equal(with_sound.frames, without.frames)
        np.testing.assert_array_equal(with_sound.times, without.times)
        assert track.pieces.dtype == "float32" and not track.reason and not track.warnings
        np.testing.assert_allclose(track.pieces, expected(path), atol=1e-6)
        assert 0.001 < np.abs(track.pieces).max() <= 1.1
        np.testing.assert_array_equal(read_track(path, Track()).pieces, track.pieces)


def test_real_sounds(shared):
    sounds = sorted(shared("data/esc10").rglob("*.ogg"))[::25]
    assert sounds
    for path in sounds:
        track = read_track(path, Track())
        seconds = math.ceil(video.streams(path).seconds - 0.15)  # a shorter rest is filling: see `Track`
        assert len(track.pieces) == seconds
        np.testing.assert_allclose(track.pieces, expected(path)[:seconds], atol=1e-6)
        np.testing.assert_array_equal(read_track(path, Track(seconds=2)).pieces, track.pieces[:2])


def test_the_golden_slices(shared, tmp_path):
    golden, meta = read(shared("golden/vggish_extractor_slices_s0.npz"))
    wav = golden_audio.write_wav(tmp_path / "sound.wav", golden["wav_int16"], log_mel.RATE)
    track = read_track(wav, Track(seconds=meta["len_video"]))
    patches = np.asarray(log_mel.log_mel(track.pieces))[..., None]
    np.testing.assert_allclose(patches, golden["patches"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_each_rate_against_the_equations(tmp_path, rate):
    left, right = sine(440, 2.3, rate), np.random.default_rng(0).uniform(-0.5, 0.5, int(2.3 * rate))
    path = write(tmp_path / "a.wav", [left, right], rate)
    track = read_track(path, Track())
    assert track.pieces.shape == (3, 15600)
    np.testing.assert_allclose(track.pieces, expected(path), atol=1e-6)
    assert not track.pieces[2, 5200:].any()  # 0.3 s and the ringing of the filter, then what was filled up


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_each_form_of_sample_is_heard_alike(tmp_path, codec):
    waves = [sine(300, 1, 16000), sine(1000, 1, 16000)]
    track = read_track(write(tmp_path / "a.wav", waves, 16000, codec=codec), Track())
    assert track.pieces[0] == pytest.approx(
        np.mean(waves, 0)[:15600], abs=1e-2 if codec == "pcm_u8" else 1e-4
    )


def test_six_channels_have_equal_weights(tmp_path):
    waves = [sine(200 * (i + 1), 1, 16000) for i in range(6)]
    track = read_track(write(tmp_path / "a.wav", waves, 16000, "5.1"), Track())
    assert track.pieces[0] == pytest.approx(np.mean(waves, 0)[:15600], abs=1e-4)


@pytest.mark.parametrize("sound, seconds", [(0.3, 1), (2.0, 2), (4.5, 5)])
def test_sound_shorter_and_longer_than_the_picture(tmp_path, sound, seconds):
    path, track = clip(tmp_path / "v.mp4", sound=sound), Track()
    assert len(read_frames(path, fps=5, track=track).frames) == 10
    assert abs(len(track.pieces) - seconds) <= 1 and not track.reason  # AAC fills its last packet up
    assert pitches(track)[:seconds] == pytest.approx([300 * (i + 1) for i in range(seconds)], abs=100)


def test_enough_frames_leave_the_rest_of_the_sound_to_be_heard(tmp_path, monkeypatch):
    path, decoded = clip(tmp_path / "v.mp4", 6, 6.0), []
    frames_of = video.frames_of

    def count(packet, errors):
        decoded.append(packet.stream.type)
        return frames_of(packet, errors)

    monkeypatch.setattr(video, "frames_of", count)
    monkeypatch.setattr(audio, "frames_of", count)
    whole = read_track(path, Track())
    assert "video" not in decoded and len(whole.pieces) >= 6
    decoded.clear()
    track = Track()
    assert len(read_frames(path, max_frames=2, track=track).frames) == 2
    assert decoded.count("video") < 20
    np.testing.assert_array_equal(track.pieces, whole.pieces)
    few = Track(seconds=2)
    decoded.clear()
    assert len(read_frames(path, track=few).frames) == 6
    assert 40 < decoded.count("audio") < 60  # packets of 1024 samples
    np.testing.assert_array_equal(few.pieces, whole.pieces[:2])


@pytest.mark.parametrize("form", ["mp4", "mkv", "ts", "mpg"])
def test_sound_stands_where_it_is_heard(tmp_path, form):
    def tracks(late, start):
        both, path = Track(), apart(tmp_path / f"v.{form}", late, start)
        got = read_frames(path, track=both)
        assert got.times == pytest.approx([0, 1, 2], abs=0.01) and not got.warning + both.reason
        np.testing.assert_array_equal(read_track(path, Track()).pieces, both.pieces)
        return both

    together = tracks(0, 1.4)  # both streams start late: no offset
    assert begins(together) < 0.03 and pitches(together) == [300, 600, 900]
    for start in (0, 1.4):
        late = tracks(2, start)
        assert begins(late) == pytest.approx(2, abs=0.03) and not late.pieces[:1].any()
        assert pitches(late) == [0, 0, 300, 600, 900]
    assert not tracks(0.5, 0).pieces[0, :7300].any()
    early = tracks(-1, 2)
    assert begins(early) < 0.03 and pitches(early) == [600, 900]


def test_sound_out_of_range_says_so(tmp_path, monkeypatch):
    late = apart(tmp_path / "late.mkv", 5, sound=0.1)
    whole = read_track(late, Track())
    assert len(whole.pieces) == 6 and begins(whole) == pytest.approx(5, abs=0.03)  # short, but no filling
    assert len(read_track(late, Track(seconds=5.5)).pieces) == 6
    monkeypatch.setattr(audio, "header_seconds", lambda *given: 0.0)  # a header that says nothing
    for track, most in ((Track(seconds=5), 60), (Track(), 5)):
        read_track(late, track, max_seconds=most)
        assert track.reason == "its sound starts 5.0 s behind the start of the pictures"
        assert not len(track.pieces)
    early = apart(tmp_path / "early.mkv", -4, start=4)
    assert read_track(early, Track()).reason == "its sound ends before the pictures start"
    assert "4.0 s before" in read_track(early, Track(), max_seconds=3.5).reason


def test_streams_without_times_and_sound_alone_start_together(tmp_path, monkeypatch):
    path = apart(tmp_path / "v.mkv", 2)
    assert begins(read_track(path, Track())) == pytest.approx(2, abs=0.03)
    monkeypatch.setattr(audio, "pictures_start", lambda container: None)  # a header that says nothing
    assert begins(read_track(path, Track())) < 0.03
    monkeypatch.undo()
    monkeypatch.setattr(clock, "video_stream", lambda container: None)  # the cover of a song
    assert begins(read_track(path, Track())) < 0.03


def test_longer_sound_does_not_make_pictures_look_truncated(tmp_path, monkeypatch):
    path = apart(tmp_path / "v.mkv", 2, sound=6.0)
    promised = []
    inner = clock.promised
    monkeypatch.setattr(clock, "promised", lambda *given: promised.append(inner(*given)) or promised[-1])
    for data, seconds in ((path.read_bytes(), 3), (path.read_bytes().replace(b"DURATION", b"DIRECTOR"), 0)):
        path.write_bytes(data)
        with av.open(str(path)) as container:
            assert container.streams.video[0].duration is None and container.duration / av.time_base > 7.9
        assert read_frames(path).warning == "" and promised.pop() == pytest.approx(seconds, abs=0.1)


def test_a_clip_without_sound_says_so_and_a_track_can_be_used_again(tmp_path):
    track = Track()
    assert (track.pieces.shape, track.reason) == ((0, 15600), "not read yet")
    silent, heard = clip(tmp_path / "a.mp4", sound=None), clip(tmp_path / "b.mp4")
    for path, reason in ((heard, ""), (silent, "no sound in it"), (heard, "")):
        assert len(read_frames(path, track=track).frames) == 2
        assert track.reason == reason and (len(track.pieces) >= 2) == (not reason)
    assert read_track(silent, track).reason == "no sound in it"


def test_a_file_that_is_given_up_half_way_leaves_no_half_track(tmp_path):
    track = Track()
    frames = iter_frames(clip(tmp_path / "v.mp4"), track=track)
    next(frames)
    frames.close()
    assert not len(track.pieces) and track.reason == "not read to its end"


def test_sound_without_pictures_is_an_error_that_leaves_the_sound(tmp_path):
    path, track = write(tmp_path / "a.wav", [sine(440, 2, 16000)] * 2, 16000), Track()
    with pytest.raises(MediaError, match="no video in it, only sound"):
        read_frames(path, track=track)
    np.testing.assert_allclose(track.pieces, expected(path), atol=1e-6)


def damage(path, kind, packets):
    """Overwrites packets of one stream."""
    with av.open(str(path)) as container:
        found = [(p.pos, p.size) for p in container.demux(**{kind: 0}) if p.size]
    data = bytearray(path.read_bytes())
    for pos, size in found[packets]:
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def test_broken_pictures_leave_the_sound(tmp_path):
    path = clip(tmp_path / "v.mp4")
    whole, track = read_track(path, Track()), Track()
    damage(path, "video", slice(None))
    with pytest.raises(MediaError, match="no frame of it decodes"):
        read_frames(path, track=track)
    np.testing.assert_array_equal(track.pieces, whole.pieces)
    assert not track.reason and not track.warnings


def test_broken_sound_leaves_the_pictures(tmp_path):
    path, track = clip(tmp_path / "v.mp4", 3, 3.0), Track()
    want = read_frames(path).frames
    damage(path, "audio", slice(20, 23))
    got = read_frames(path, track=track)
    np.testing.assert_array_equal(got.frames, want)
    assert not got.warning and not track.reason and len(track.pieces) >= 2
    assert len(track.warnings) == 1 and track.warnings[0].startswith("sound partly decodable (")
    damage(path, "audio", slice(None))
    np.testing.assert_array_equal(read_frames(path, track=track).frames, want)
    assert track.reason.startswith("no sound of it decodes") and not len(track.pieces)


def test_a_cut_file_gives_what_is_there_of_both(tmp_path):
    path, track = clip(tmp_path / "v.mkv", 6, 6.0), Track()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    got = read_frames(path, track=track)
    assert "partly decodable" in got.warning and 2 <= len(got.frames) <= 5
    assert 2 <= len(track.pieces) <= 5


def test_too_long_and_too_fast_sound_is_refused_with_its_reason(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", [sine(440, 4, 16000)] * 2, 16000)
    assert "4.0 s of sound, more than max_seconds=2" in read_track(path, Track(), max_seconds=2).reason
    monkeypatch.setattr(audio, "header_seconds", lambda *a: 0.0)  # a header that says nothing
    track = read_track(path, Track(), max_seconds=2)
    assert track.reason == "more than max_seconds=2 of sound" and not len(track.pieces)
    assert len(read_track(path, Track(seconds=2), max_seconds=2).pieces) == 2
    monkeypatch.setattr(audio, "_HIGHEST_RATE", 8000)
    assert "16000 samples a second, expected 8000" in read_track(path, Track()).reason


def test_samples_that_are_no_numbers_are_silence_and_told(tmp_path):
    samples = np.full((1, 16000), 0.25, np.float32)
    samples[0, 100:200], samples[0, 200] = np.nan, np.inf
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    track = read_track(tmp_path / "a.wav", Track())
    assert not track.pieces[0, 100:200].any() and track.pieces[0, 200] == 1 and track.pieces[0, 300] == 0.25
    assert "no numbers" in track.warnings[0]


@pytest.mark.parametrize(
    "argument", [{"seconds": 0}, {"seconds": math.nan}, {"rate": 0}, {"samples": 0}, {"samples": 16001}]
)
def test_a_wrong_argument_is_told(argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))}="):
        Track(**argument)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav: no such file"):
        read_track(tmp_path / "gone.wav", Track())


def test_every_odd_file_gives_the_same_frames_and_its_sound_or_a_reason(shared):
    heard = 0
    for path in sorted(p for p in shared("data/odd_video").rglob("*") if p.is_file()):
        track = Track(seconds=12)
        try:
            want = read_frames(path, size=(16, 16))
        except MediaError as error:
            with pytest.raises(MediaError) as again:
                read_frames(path, size=(16, 16), track=track)
            assert str(again.value) == str(error)
        else:
            got = read_frames(path, size=(16, 16), track=track)
            np.testing.assert_array_equal(got.frames, want.frames)
            assert got.warning == want.warning, path
        assert bool(track.reason) == (len(track.pieces) == 0), path
        assert np.isfinite(track.pieces).all()
        heard += not track.reason
    assert heard >= 8
