"""How long pictures last, by header and by packets, and a given number of them, evenly spaced."""

import av
import numpy as np
import pytest
from test_video import number, ramp, write

from tfvc.data import clock, demo, video
from tfvc.data.audio import Track
from tfvc.data.video import MediaError, iter_frames, read_frames

SIZE = (48, 64)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds at 10 frames a second, with sound."""
    path = tmp_path_factory.mktemp("clock") / "clip.mp4"
    demo.write_clip(path, ramp(40), 10, 0.1 * np.ones(4 * demo.RATE), demo.RATE)
    return path


def seconds(path):
    """By the trusted header, and by the packets."""
    with av.open(str(path)) as container:
        stream = clock.video_stream(container)
        packets, start = container.demux(stream), clock.pictures_start(container)
        return clock.counted(container, stream), clock.packet_seconds(packets, stream, start)


def plain(path, form=None, codec="mpeg4", frames=40, **options):
    """Forty frames, four seconds, in another format."""
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = 5
        for picture in ramp(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("count", [1, 3, 7, 10, 40])
def test_exactly_so_many_evenly_spaced(clip, count):
    got = read_frames(clip, count=count)
    want = np.arange(count) * 4 / count
    assert len(got.frames) == count and not got.warning
    assert (got.times >= want - 0.05 - 1e-6).all() and (got.times <= want + 0.05 + 1e-6).all()
    assert number(got.frames, 40) == pytest.approx(got.times * 10, abs=1)


def test_of_fewer_frames_each_stands_for_several(tmp_path):
    path = write(tmp_path / "v.mp4", ramp(3))
    got = read_frames(path, count=40)
    half = 0.5 / 10 + 1e-6
    want = [min(2, next((i for i in range(3) if i / 10 >= 0.3 * k / 40 - half), 2)) for k in range(40)]
    assert number(got.frames, 3) == want and set(want) == {0, 1, 2} and not got.warning
    assert len(read_frames(write(tmp_path / "one.mp4", ramp(1)), count=5).frames) == 5


@pytest.mark.parametrize(
    "name, form, codec, trusted",
    [
        ("v.mp4", None, "mpeg4", 4),
        ("v.avi", None, "mpeg4", 4),
        ("v.mkv", None, "mpeg4", 4),
        ("v.ts", None, "libx264", 0),
        ("v.flv", None, "libx264", 0),
        ("v.mpg", "mpeg", "mpeg2video", 0),
        ("v.m2v", "mpeg2video", "mpeg2video", 0),
    ],
)
def test_header_or_packets_of_each_format(tmp_path, name, form, codec, trusted):
    path = plain(tmp_path / name, form, codec)
    assert seconds(path) == (pytest.approx(trusted, abs=0.01), pytest.approx(4, abs=0.01))
    got = read_frames(path, count=8)
    assert len(got.frames) == 8 and np.abs(got.times - np.arange(8) / 2).max() <= 0.11
    assert number(got.frames, 40) == pytest.approx(np.arange(8) * 5, abs=2)


def test_times_that_no_packet_has_are_counted(tmp_path):
    path = plain(tmp_path / "v.h264", "h264", "libx264")  # a bare stream; FFmpeg takes 25 frames a second
    assert seconds(path) == (0, pytest.approx(1.6))
    assert number(read_frames(path, count=8).frames, 40) == pytest.approx(np.arange(8) * 5, abs=1)


def test_a_stream_that_starts_late_is_as_long_as_its_pictures(tmp_path):
    path = write(tmp_path / "v.mkv", ramp(40), [5 + i / 10 for i in range(40)])
    for data in (path.read_bytes(), path.read_bytes().replace(b"DURATION", b"DIRECTOR")):  # tag, or packets
        path.write_bytes(data)
        assert max(seconds(path)) == pytest.approx(4, abs=0.01)
        assert number(read_frames(path, count=4).frames, 40) == pytest.approx([0, 10, 20, 30], abs=1)


def test_the_header_is_trusted_and_no_second_pass_is_made(clip, tmp_path, monkeypatch):
    opened = []
    real = video.opened
    monkeypatch.setattr(video, "opened", lambda path: opened.append(path) or real(path))
    read_frames(clip, count=4)
    assert len(opened) == 1
    read_frames(plain(tmp_path / "v.ts", None, "libx264"), count=4)
    assert len(opened) == 3


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_a_file_that_breaks_off_before_what_was_promised_gives_fewer_and_a_warning(tmp_path):
    path = cut(plain(tmp_path / "v.mp4", movflags="faststart"), 0.6)
    got = read_frames(path, count=20)
    assert 5 <= len(got.frames) <= 15 and np.abs(got.times - np.arange(len(got.frames)) / 5).max() <= 0.051
    assert got.warning.startswith("partly decodable (") and "the header promises 4.00 s" in got.warning


def test_a_cut_file_that_promises_nothing_gives_all_of_what_is_there(tmp_path):
    got = read_frames(cut(plain(tmp_path / "v.ts", None, "libx264"), 0.6), count=20)
    assert len(got.frames) == 20 and 1 < got.times[-1] < 3


def test_bounds_hold(clip, tmp_path):
    with pytest.raises(MediaError, match="more than max_seconds=2"):
        read_frames(clip, count=4, max_seconds=2)
    with pytest.raises(MediaError, match="1.6 s long, more than max_seconds=1"):  # a header that says nothing
        read_frames(plain(tmp_path / "v.h264", "h264", "libx264"), count=4, max_seconds=1)
    with pytest.raises(MediaError, match="64 x 48 pixels a frame, more than max_pixels=3000"):
        read_frames(clip, count=4, max_pixels=3000)
    assert len(read_frames(clip, count=8, max_frames=3).frames) == 3
    assert len(read_frames(write(tmp_path / "v.mp4", ramp(2)), count=8, max_frames=6).frames) == 6
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"count={wrong}: expected at least 1, or None"):
            iter_frames(clip, count=wrong)


def test_the_sound_comes_in_the_same_pass(clip):
    track, alone = Track(), Track()
    got = read_frames(clip, count=3, track=track)
    read_frames(clip, track=alone)
    assert len(got.frames) == 3 and not track.reason and len(track.pieces) == 4
    np.testing.assert_array_equal(track.pieces, alone.pieces)


@pytest.mark.parametrize("folder", ["odd_video", "ucf101"])
def test_real_clips_give_so_many_pictures(shared, folder):
    found = 0
    files = sorted(path for path in shared(f"data/{folder}").rglob("*") if path.is_file())
    for path in files[:: 1 if folder == "odd_video" else 6]:
        try:
            every = read_frames(path, fps=200, size=(8, 8))
        except MediaError:
            continue
        found += 1
        got, probe = read_frames(path, count=40, size=(8, 8)), video.streams(path)
        length = every.times[-1] + 1 / probe.fps
        wanted = np.arange(40) * length / 40
        assert len(got.frames) == 40, path
        assert np.abs(got.times - wanted).max() <= max(1.0 / probe.fps, 0.11), path
        counted, packets = seconds(path)
        assert packets == pytest.approx(length, abs=0.011), path
        assert not counted or counted == pytest.approx(length, abs=0.06), path
    assert found >= 4
