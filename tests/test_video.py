"""tfvc/data/video.py: which frames are kept, how they are converted, and what a bad file gives."""

import pickle
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from tfvc.data import demo, video
from tfvc.data.video import MediaError, iter_frames, read_frames


def ramp(n, height=48, width=64):
    """Frames whose grey level tells their number."""
    return [np.full((height, width, 3), 20 + 200 * i // n, np.uint8) for i in range(n)]


def number(frames, n):
    return [round((float(f.mean()) - 20) * n / 200) for f in frames]


def write(path, frames, times=None, fps=10, codec="libx264", rotation=0):
    """A clip whose frames carry given times (in seconds)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[i] if times else i / fps))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Three seconds at 10 frames a second, with sound."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    demo.write_clip(path, ramp(30), 10, 0.1 * np.ones(3 * demo.RATE), demo.RATE)
    return path


@pytest.mark.parametrize("fps, kept", [(1, [0, 10, 20]), (2, [0, 5, 10, 15, 20, 25]), (10, list(range(30)))])
def test_keeps_the_frame_of_each_second(clip, fps, kept):
    frames, times = (lambda f: (f.frames, f.times))(read_frames(clip, fps=fps))
    assert number(frames, 30) == pytest.approx(kept, abs=1)
    assert times == pytest.approx(np.array(kept) / 10)
    assert frames.dtype == np.uint8 and frames.shape == (len(kept), 48, 64, 3)


def test_variable_frame_rate_keeps_the_first_frame_not_before_each_second(tmp_path):
    times = [0, 0.1, 0.2, 0.9, 1.3, 1.35, 2.8, 4.1]
    path = write(tmp_path / "v.mp4", ramp(8), times)
    got, half = read_frames(path), 0.5 / video.streams(path).fps
    assert 0.1 < half < 0.11
    want = [next(i for i, t in enumerate(times) if t >= k - half) for k in range(5)]
    assert want == [0, 3, 6, 7, 7]
    assert got.times == pytest.approx([times[i] for i in want])
    assert number(got.frames, 8) == want


def test_start_time_is_subtracted(tmp_path):
    path = write(tmp_path / "v.mkv", ramp(20), [5 + i / 10 for i in range(20)])
    got = read_frames(path)
    assert got.times == pytest.approx([0, 1], abs=2e-3) and not got.warning


def test_a_rate_above_the_files_repeats_frames(clip):
    assert len(read_frames(clip, fps=20).frames) == 60


def test_max_frames_stops_decoding_and_frames_come_one_by_one(clip, monkeypatch):
    seen = []
    decoded = video.decoded
    monkeypatch.setattr(video, "decoded", lambda *a: (seen.append(f) or f for f in decoded(*a)))
    assert len(read_frames(clip, max_frames=2).frames) == 2
    assert len(seen) == 11
    next(iter_frames(clip))
    assert len(seen) == 12


def test_area_is_the_mean_of_the_pixels(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(-25, 26, (96, 128, 1))
    for channels, worst, typical in (
        (1, 1, 0.5),
        (3, 20, 4),
    ):  # 4:2:0 blurs the edges of colours, not of light
        coarse = rng.integers(30, 220, (12, 16, channels)).repeat(8, 0).repeat(8, 1)
        picture = (coarse + noise).clip(0, 255).astype(np.uint8) * np.ones(3, np.uint8)
        mean = picture.reshape(12, 8, 16, 8, 3).mean((1, 3))
        path = write(tmp_path / f"{channels}.mkv", [picture] * 3, codec="ffv1")
        error = np.abs(read_frames(path, size=(12, 16), max_frames=1).frames[0] - mean)
        assert error.max() <= worst and error.mean() <= typical
        nearest = read_frames(path, size=(12, 16), max_frames=1, interpolation="nearest").frames[0]
        assert np.abs(nearest - mean).mean() > 2 * error.mean() + 4


@pytest.mark.parametrize("size", [None, (24, 32)])
def test_bgr_is_rgb_reversed(tmp_path, size):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :, 0], picture[24:, :, 2] = 220, 180
    path = write(tmp_path / "v.mp4", [picture] * 3)
    rgb = read_frames(path, size=size).frames
    bgr = read_frames(path, size=size, channel_order="bgr").frames
    assert np.abs(rgb.astype(int) - bgr[..., ::-1]).max() <= 1
    assert rgb[0, 2, 2, 0] > 180 > 60 > rgb[0, 2, 2, 2]


def test_files_are_decoded_by_threads_with_the_same_result(clip):
    want, got = read_frames(clip, fps=10).frames, [None] * 4
    threads = [
        threading.Thread(target=lambda i=i: got.__setitem__(i, read_frames(clip, fps=10).frames))
        for i in range(4)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(np.array_equal(want, g) for g in got)


def make_bad(kind, folder, clip):
    path = folder / f"{kind}.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(clip.read_bytes()[:2000])
    elif kind == "text":
        path = folder / "notes.txt"
        path.write_text("no video\n" * 50)
    elif kind == "list of files":
        path.write_text(f"ffconcat version 1.0\nfile '{clip.name}'\n")
    elif kind == "list of itself":
        path.write_text(f"ffconcat version 1.0\nfile '{path.name}'\n")
    elif kind == "play list":
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{clip.name}\n#EXT-X-ENDLIST\n")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "only sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    elif kind == "zero duration":
        path = folder / "zero.avi"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            container.start_encoding()
    elif kind == "no frame decodes":
        data = bytearray(clip.read_bytes())
        start, end = data.index(b"mdat") + 4, len(data)
        moov = data.index(b"moov") - 4
        data[start : moov if moov > start else end] = bytes((moov if moov > start else end) - start)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("folder", "a folder"),
        ("empty", "empty"),
        ("truncated", "truncated"),
        ("text", "text file"),
        ("list of files", "list of files"),
        ("list of itself", "list of files"),
        ("play list", "play list"),
        ("noise", "no media file"),
        ("only sound", "no video in it, only sound"),
        ("zero duration", "no video|no frame|cannot be opened"),
        ("no frame decodes", "no frame of it decodes"),
    ],
)
def test_a_bad_file_is_a_media_error_that_names_file_and_reason(kind, reason, tmp_path, clip):
    path = make_bad(kind, tmp_path, clip)
    with pytest.raises(MediaError, match=reason) as error:
        read_frames(path, size=(8, 8))
    assert error.value.path == str(path) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_a_pipe_and_a_forbidden_file_are_told(tmp_path, clip, monkeypatch):
    import os

    with pytest.raises(FileNotFoundError, match="gone.mp4: no such file"):
        read_frames(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="not a regular file"):
        read_frames(tmp_path / "pipe.mp4")

    def refuse(*args, **options):  # the tests may run as root, whom no mode of a file stops
        raise av.error.PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(MediaError, match="no permission"):
        read_frames(clip)


def test_bounds_hold_by_the_header_and_by_what_is_decoded(clip, tmp_path, monkeypatch):
    with pytest.raises(MediaError, match="64 x 48 pixels a frame, more than max_pixels=3000"):
        read_frames(clip, max_pixels=3000)
    with pytest.raises(MediaError, match="3.0 s long, more than max_seconds=2"):
        read_frames(clip, max_seconds=2)
    monkeypatch.setattr(video, "header_seconds", lambda *a: 0.0)  # a header that says nothing
    got = []
    with pytest.raises(MediaError, match="more than max_seconds=2"):
        got.extend(iter_frames(clip, fps=2, max_seconds=2))
    assert len(got) == 5
    checked = []
    refuse = video._refuse_larger
    monkeypatch.setattr(video, "_refuse_larger", lambda *a: checked.append(a) or refuse(*a))
    read_frames(clip)
    assert len(checked) == 31  # the header and each frame


def test_damage_in_the_middle_gives_the_good_frames_and_a_warning(clip, tmp_path):
    with av.open(str(clip)) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
    data = bytearray(clip.read_bytes())
    for pos, size in packets[15:18]:
        data[pos : pos + size] = b"\xff" * size
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    got = read_frames(path)
    assert "partly decodable" in got.warning and number(got.frames[:2], 30) == pytest.approx([0, 10], abs=1)


@pytest.mark.parametrize("form", ["avi", "mkv"])
def test_a_cut_file_gives_what_is_there_and_a_warning(tmp_path, form):
    path = tmp_path / f"v.{form}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    demo.write_clip(path, noise, 10)
    assert len(read_frames(path).frames) == 4
    whole = path.read_bytes()
    # without the tag of its stream, Matroska's duration of the file must do
    for data in (whole, whole.replace(b"DURATION", b"DIRECTOR")):
        path.write_bytes(data[: len(data) * 6 // 10])
        got = read_frames(path)
        assert 2 <= len(got.frames) <= 3 and "partly decodable" in got.warning


@pytest.mark.parametrize(
    "argument, message",
    [
        ({"fps": 0}, "fps=0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"size": (0, 4)}, "size="),
        ({"channel_order": "gbr"}, "rgb, bgr"),
        ({"interpolation": "lanczos"}, "area, bilinear"),
        ({"max_frames": 0}, "max_frames=0"),
    ],
)
def test_a_wrong_argument_is_told_at_once(clip, argument, message):
    with pytest.raises(ValueError, match=message):
        iter_frames(clip, **argument)


def test_the_probe_reads_the_header(clip):
    got = video.streams(clip)
    assert (got.width, got.height, got.fps, got.has_video, got.has_audio, got.audio_rate) == (
        64, 48, 10.0, True, True, demo.RATE,
    )  # fmt: skip
    assert got.seconds == pytest.approx(3, abs=0.1)


def test_the_error_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(MediaError("a.mp4", "empty")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "empty", "a.mp4: empty")


ODD = {  # file -> kept frames at one a second, seconds of sound (None: no sound), warning
    "decord/corrupted.mp4": (5, None, "partly decodable"),
    "decord/flipping_a_pancake.mkv": (11, 10.4, ""),  # no duration of its own in the stream
    "decord/video_90.mov": (1, None, ""),
    "file-type/fixture2.3gp": (10, 9.7, ""),
    "mmaction2/test.avi": (7, 6.6, ""),  # times run back
    "moviepy/big_buck_bunny_432_433.webm": (1, 1.0, ""),
    "moviepy/chaplin.mp4": (10, 9.6, ""),
    "torchcodec/h265_video.mp4": (1, None, ""),
    "torchcodec/nasa_13013.mp4": (13, 13.1, ""),  # six streams
    "torchvision/SOX5yA1l24A.mp4": (12, 11.1, ""),
    "video_features/v_GGSY1Qvo990.mp4": (19, 18.2, ""),
}


def test_every_odd_file_gives_what_is_listed(shared):
    from tfvc.data.audio import read_audio

    folder = shared("data/odd_video")
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    assert set(ODD) <= set(found)
    for name, path in found.items():
        count, seconds, warning = ODD.get(name, (None, None, ""))
        try:
            got = read_frames(path, size=(32, 32))
        except MediaError as error:
            assert name not in ODD and str(path) in str(error)
            continue
        if name not in ODD:
            continue
        assert len(got.frames) == count, name
        assert got.warning.startswith(warning) and bool(got.warning) == bool(warning), name
        assert (np.diff(got.times) > 0).all() and np.abs(got.times - np.arange(count)).max() <= 0.11, name
        if seconds is None:
            with pytest.raises(MediaError, match="no sound in it"):
                read_audio(path)
        else:
            assert len(read_audio(path)) / 16000 == pytest.approx(seconds, abs=0.1), name


def test_rotation_is_honoured(shared):
    path = shared("data/odd_video/decord/video_90.mov")
    upright = read_frames(path).frames
    assert upright.shape[1:] == (568, 320, 3)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(np.rot90(stored, -1).astype(int) - upright[0]).mean() < 2  # a quarter turn clockwise
    assert read_frames(path, size=(20, 10)).frames.shape[1:] == (20, 10, 3)


def test_real_clips_give_a_frame_a_second(shared):
    got = read_frames(shared("data/ucf101/YoYo/v_YoYo_g01_c01.avi"), size=(224, 224))
    probe = video.streams(shared("data/ucf101/YoYo/v_YoYo_g01_c01.avi"))
    assert len(got.frames) == int(np.ceil(probe.seconds - 0.5 / probe.fps))
    assert got.frames.shape[1:] == (224, 224, 3) and not got.warning
