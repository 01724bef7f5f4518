"""tfvc/explain.py: pictures of scores over time, from rows of predictions."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread
from test_track import clip

from tfvc import explain, plots
from tfvc import recipe as recipes
from tfvc.data import demo

BOTH = np.array([[0.1, 0.3], [0.05, 0.15], [0.3, 0.1]])  # T = 3, two streams


def recipe(streams="frames,audio"):
    """Of a run that reads these streams."""
    if streams in ("", "frames"):
        return recipes.get("attention_boosted")
    return recipes.get("mafnet", overrides=["model_args.modality=audio"] if streams == "audio" else [])


def row(path, scores=BOTH, start=0.0, part="video", step=1.0):
    """A row as `predict` gives it; scores (T,) or (T, 2)."""
    cells = []
    for k, weight in enumerate(np.asarray(scores)):
        cell = {"time": start + k * step, "weight": float(np.sum(weight))}
        if np.ndim(weight):
            cell["by"] = dict(zip(("frames", "audio"), map(float, weight), strict=True))
        cells.append(cell)
    top = [{"label": "Frying $x$ (food)", "score": 0.93}, {"label": "Dog", "score": 0.02}]
    end = start + len(cells) * step
    return {"path": str(path), "part": part, "start": start, "end": end, "top": top, "attention": cells}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("film") / "film.mp4", 3, 3.0)


@pytest.fixture
def drawn(monkeypatch):
    """What `plots.scores_over_time` was given, and the figures it gave."""
    calls, draw = [], plots.scores_over_time

    def record(windows, title, pictures, sound, note):
        figure = draw(windows, title, pictures, sound, note)
        calls.append(SimpleNamespace(title=title, pictures=pictures, sound=sound, note=note, figure=figure))
        return figure

    monkeypatch.setattr(plots, "scores_over_time", record)
    return calls


def test_a_picture_shows_thumbnails_sound_and_a_panel_a_stream(film, tmp_path, drawn):
    (path,) = explain.write(tmp_path / "new" / "out.png", {str(film): [row(film)]}, recipe())
    assert path == tmp_path / "new" / "out.png" and list(path.parent.iterdir()) == [path]
    picture, (call,) = imread(path), drawn
    strip, sound, frames, audio = call.figure.get_axes()
    width, height = (round(side * 120) for side in call.figure.get_size_inches())
    assert abs(picture.shape[0] - height) <= 1 and abs(picture.shape[1] - width) <= 1 and 1400 < width < 1500
    assert call.title == "film.mp4   Frying $x$ (food) 0.93"
    assert [a.get_ylabel() for a in (sound, frames, audio)] == ["sound", "frames", "audio"]
    assert len(strip.images) == 3
    for k, (start, end, thumbnail) in enumerate(call.pictures):
        assert (start, end) == (k, k + 1) and thumbnail.shape == (48, 64, 3)
        assert thumbnail.mean() == pytest.approx(20 + 200 * 10 * k / 30, abs=3)  # the frame of that second
    samples, rate = call.sound
    assert rate == 16000 and np.abs(np.fft.rfft(samples[:rate]))[:4000].argmax() == pytest.approx(300, abs=2)
    for axes, k in ((frames, 0), (audio, 1)):
        values, edges, _ = axes.patches[0].get_data()
        assert values == pytest.approx(BOTH[:, k]) and list(edges) == [0, 1, 2, 3]
        assert [t.get_text() for t in axes.texts] == [f"{v:.2f}" for v in BOTH[:, k]]


def test_other_scores_are_another_picture(film, tmp_path):
    pictures = []
    for k, scores in enumerate((BOTH, BOTH, BOTH[::-1])):
        (path,) = explain.write(tmp_path / f"{k}.png", {str(film): [row(film, scores)]}, recipe())
        pictures.append(imread(path))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any(-1).mean() > 0.02


def test_one_stream_is_one_panel_without_sound(film, tmp_path, drawn):
    explain.write(tmp_path / "a.png", {str(film): [row(film, [0.2, 0.8])]}, recipe(""))
    assert [a.get_ylabel() for a in drawn[0].figure.get_axes()] == ["", "frames"]
    assert drawn[0].sound is None and len(drawn[0].pictures) == 2


def test_a_long_video_is_laid_out_in_windows_with_borders(tmp_path, drawn):
    path = clip(tmp_path / "v.mp4", 40, None, fps=2)
    rows = [row(path, np.full((40, 2), 0.01)) | {"attention": []}]
    rows += [row(path, np.full((10, 2), 0.05), start, "window") for start in (0, 10, 20, 30)]
    explain.write(tmp_path / "a.png", {str(path): rows}, recipe())
    (call,), (strip, frames, audio) = drawn, drawn[0].figure.get_axes()
    assert len(call.pictures) == 12 and call.pictures[-1][1] == pytest.approx(40) and call.sound is None
    borders = [line.get_xdata()[0] for line in frames.lines]
    assert borders == [10, 20, 30] and [line.get_xdata()[0] for line in audio.lines] == borders
    assert [text.get_text() for text in strip.texts] == [r"Frying \$x\$ (food) 0.93"] * 4
    assert not frames.texts  # forty numbers cannot be read


def test_hundreds_of_windows_that_overlap_are_drawn(film, tmp_path):
    rows = [row(film, np.random.default_rng(k).dirichlet(np.ones(10)), 3.0 * k, "window") for k in range(300)]
    (path,) = explain.write(tmp_path / "a.png", {str(film): rows}, recipe("frames"))
    assert imread(path).shape[1] < 1500


def test_frames_that_share_a_time_are_drawn(film, tmp_path):  # more frames were asked for than there are
    cells = row(film, [0.2, 0.3, 0.5])
    cells["attention"][1]["time"] = 0.0
    (path,) = explain.write(tmp_path / "a.png", {str(film): [cells]}, recipe("frames"))
    assert path.is_file()


def test_sound_alone_has_a_waveform_and_no_thumbnails(shared, tmp_path, drawn):
    path = next(shared("data/esc10").rglob("*.ogg"))
    explain.write(tmp_path / "a.png", {str(path): [row(path, np.full(5, 0.2))]}, recipe("audio"))
    assert [a.get_ylabel() for a in drawn[0].figure.get_axes()] == ["sound", "audio"]
    assert len(drawn[0].sound[0]) == 5 * 16000 and drawn[0].note == ""


def test_broken_pictures_are_told_in_the_picture_and_on_the_screen(tmp_path, drawn, capsys):
    from test_track import damage

    path = damage(clip(tmp_path / "v.mp4", 2), "video", slice(None))
    explain.write(tmp_path / "a.png", {str(path): [row(path)]}, recipe("audio"))
    assert "no pictures: no frame of it decodes" in drawn[0].figure.get_axes()[0].texts[0].get_text()
    assert "v.mp4: drawn without thumbnails: no frame of it decodes" in capsys.readouterr().out
    assert drawn[0].sound is not None


def test_upright_thumbnails_keep_their_shape(shared, tmp_path, drawn):
    path = shared("data/odd_video/decord/video_90.mov")
    explain.write(tmp_path / "a.png", {str(path): [row(path, [1.0])]}, recipe())
    assert drawn[0].pictures[0][2].shape == (240, 135, 3)


def test_several_videos_have_a_picture_each_under_names_of_their_own(film, tmp_path):
    paths = []
    for name in ("a/x.mp4", "b/x.mp4", "b/x-2.mp4", f"b/{'long' * 40}.mp4"):
        paths.append(tmp_path / name)
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_bytes(film.read_bytes())
    got = explain.write(tmp_path / "out.png", {str(p): [row(p)] for p in paths}, recipe("frames"))
    names = ["out-x.png", "out-x-2.png", "out-x-2-2.png", f"out-{'long' * 20}.png"]
    assert [p.name for p in got] == names and all(p.is_file() for p in got)


def test_what_cannot_be_drawn_is_told_in_one_line(film, tmp_path):
    rows = {str(film): [row(film)]}
    with pytest.raises(ValueError, match=r"out\.jpg: expected the name of a picture, which ends in \.png"):
        explain.write(tmp_path / "out.jpg", rows, recipe())
    with pytest.raises(ValueError, match="no predicted video to draw"):
        explain.write(tmp_path / "out.png", {}, recipe())
    with pytest.raises(ValueError, match=r"film\.mp4: the model gives no scores over time"):
        explain.write(tmp_path / "out.png", rows | {str(film): [row(film, [])]}, recipe())
    with pytest.raises(FileNotFoundError, match="gone.mp4: no such file"):
        explain.write(tmp_path / "out.png", {"gone.mp4": [row("gone.mp4")]}, recipe())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        explain.write(tmp_path / "file" / "out.png", rows, recipe())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_demo_clip_is_drawn_at_two_frames_a_second(tmp_path, drawn):
    frames = np.random.default_rng(0).integers(0, 255, (16, 32, 48, 3), np.uint8)
    demo.write_clip(tmp_path / "v.mp4", frames, 8, np.zeros(16000), 8000)
    rows = [row("v.mp4", [0.1, 0.2, 0.3, 0.4], step=0.5)]
    explain.write(tmp_path / "a.png", {str(tmp_path / "v.mp4"): rows}, recipe("frames"))
    assert [start for start, _, _ in drawn[0].pictures] == [0, 0.5, 1, 1.5]
