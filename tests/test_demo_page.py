"""tfvc/demo.py and tfvc/answers.py without a browser: each model's answer, bounds, hostile names."""

# ruff: noqa: F811 - fixtures come by import

import os
from types import SimpleNamespace

import numpy as np
import pytest
import stand_ins
import test_yt8m_predict
from pages import RUNS, asked, film, run_of  # noqa: F401
from test_track import clip

from tfvc import answers, demo, encoders, predict, workdir

pytestmark = pytest.mark.usefixtures("networks_once", "narrow_vggish", "hearing_once")
SCORED = {"attention_boosted", "mafnet", "heard", "attention_cluster"}


@pytest.fixture(scope="module")
def hearing_once():
    """Random networks for sound are built once."""
    real, known = encoders._sound, {}

    def once(audio, demo):
        if audio not in known:
            known[audio] = real(audio, demo)
        return known[audio]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "_sound", once)
        yield


@pytest.fixture
def desk(asked, tmp_path):
    inbox = tmp_path.parent / f"{tmp_path.name}-film" / "gradio"
    return answers.Desk(asked, tmp_path, inbox=inbox)


@pytest.mark.parametrize("name", RUNS)
def test_every_model_answers(name, run_of, film, tmp_path):
    run = workdir.load(run_of(name))
    (tmp_path / "uploads").mkdir()
    desk = answers.Desk(answers.Asked(run), tmp_path / "uploads", {film: "high flood"})
    words = {"pick": "" if name == "words" else "0", "text": "the flood"}
    answer = desk.answer(**words)
    (row,) = answer.rows
    if name != "words":
        assert bool(row["attention"]) == (name in SCORED)
        assert answer.picture.dtype == np.uint8 and answer.picture.shape[1] > 1400
        assert [*answer.seconds] == ["decoding", "features", "model", "picture"]
    else:
        assert answer.picture is None and [*answer.seconds] == ["decoding", "features", "model"]
    assert min(answer.seconds.values()) >= 0
    assert bool(answer.notes) == (name not in SCORED and name != "words"), answer.notes
    assert ("labels" in row) == (name in ("raf", "resbilstm", "words"))
    shown = demo.labels_html(row)
    assert "&lt;b&gt;right" in shown and "<b>right" not in shown and shown.count("tfvc-bar") == 2
    assert ("Decided on" in shown) == ("labels" in row)


def test_the_answer_is_that_of_predict(desk, asked, film, tmp_path):
    (same,) = predict.predict(asked.run.path, [film], tmp_path / "o.json")
    assert asked(film).rows == [same]


def test_a_run_on_records_answers_a_clip(film, tmp_path):
    run = test_yt8m_predict.make_run(tmp_path, test_yt8m_predict.MEANS)
    networks = stand_ins.sound(stand_ins.pictures(tmp_path))
    settings = [f"backbone.weights={networks}", "predict.top_k=3"]
    desk = answers.Desk(answers.Asked(workdir.load(run), settings), tmp_path / "u", {film: ""})
    answer = desk.answer(pick="0")
    (row,) = predict.predict(run, [film], tmp_path / "o.csv", settings)
    assert answer.rows == [row] and len(row["top"]) == 3 and answer.picture is not None
    assert [*answer.seconds] == ["decoding and features", "model", "picture"]
    with pytest.raises(FileNotFoundError, match="backbone.weights=/nowhere: no such folder"):
        answers.Asked(workdir.load(run), ["backbone.weights=/nowhere"])


def test_a_silent_clip_is_noted_and_sound_alone_needs_sound(run_of, tmp_path):
    mute = clip(tmp_path / "mute.mp4", 2, None)
    for name in ("mafnet", "heard"):
        desk = answers.Desk(answers.Asked(workdir.load(run_of(name))), tmp_path, {mute: ""})
        if name == "mafnet":
            assert desk.answer(pick="0").notes == ["its sound is absent: no sound in it"]
        else:
            with pytest.raises(ValueError, match="^no sound in it$"):
                desk.answer(pick="0")


def upload(desk, path, name):
    """A file as Gradio leaves it: alone in a folder, under the name that it came with."""
    folder = path.parent / "gradio" / "hash"
    folder.mkdir(parents=True)
    os.link(path, folder / name)
    return desk.take(folder / name)


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>.mp4", "a\nb.mp4", "\udcff.mp4", "x" * 240 + ".mp4", "-rf", "$x$.mp4"],
)
def test_a_name_is_no_part_of_the_path(desk, film, tmp_path, name):
    path = tmp_path.parent / f"{tmp_path.name}-film" / "f.mp4"
    path.parent.mkdir()
    os.link(film, path)
    number = upload(desk, path, name)
    assert [p.name for p in tmp_path.iterdir()] == ["1"] and not list((path.parent / "gradio").iterdir())
    answer = desk.answer(number)
    assert answer.rows[0]["path"] == str(tmp_path / "1") and answer.picture is not None
    desk.drop(number)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="gone by now; upload it again"):
        desk.answer(number)


def test_only_an_uploaded_file_is_taken(desk, tmp_path):
    inbox = desk.inbox
    (inbox / "hash" / "deep").mkdir(parents=True)
    for path in (inbox / "hash/deep/a.mp4", inbox / "a.mp4", inbox.parent / "a.mp4"):
        path.write_text("kept")
    (inbox / "hash" / "link.mp4").symlink_to(inbox / "a.mp4")
    (inbox / "linked").symlink_to(inbox.parent)
    os.mkfifo(inbox / "hash" / "pipe")
    before = sorted(inbox.parent.rglob("*"))
    for given in ("hash", "hash/deep", "hash/deep/a.mp4", "a.mp4", "../a.mp4", "hash/../../a.mp4", ".", ""):
        with pytest.raises(ValueError, match="^not a file that was uploaded; upload one$"):
            desk.take(f"{inbox}/{given}")
    for given in ("hash/link.mp4", "linked/a.mp4", "hash/pipe"):
        with pytest.raises(ValueError, match="^not a file that was uploaded; upload one$"):
            desk.take(f"{inbox}/{given}")
    gone = f"{inbox}/hash/x"
    for given, why in ((gone, "gone by now; upload it again"), (None, "no upload"), ("a\0b", "null")):
        with pytest.raises(ValueError, match=why):
            desk.take(given)
    with pytest.raises(ValueError, match="no uploaded file"):
        answers.Desk(desk.asked, tmp_path).take(str(inbox / "hash/a.mp4"))
    assert sorted(inbox.parent.rglob("*")) == before and not list(tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    desk._uploads["7"] = (tmp_path / "folder", "")
    for odd in (None, 7, ["7"], {"path": "x"}, "7", "7"):
        desk.drop(odd)


def test_uploads_are_few_and_faults_are_one_line(desk, asked, film, tmp_path):
    source = desk.inbox / "hash"
    source.mkdir(parents=True)
    for k in range(answers._UPLOADS + 2):
        (source / "a.mp4").write_text("no video")
        number = desk.take(source / "a.mp4")
        source.mkdir(exist_ok=True)
        assert number == str(k + 1)
    assert len(list(tmp_path.iterdir())) == answers._UPLOADS
    with pytest.raises(ValueError) as error:
        desk.answer(number)
    assert "cannot be opened" in str(error.value) and "\n" not in str(error.value)
    for given, message in (
        ({}, "no clip yet; upload one$"),
        ({"number": "../../etc/passwd"}, "gone by now"),
        ({"number": number, "text": "x" * 10_001}, "10001 letters of text; expected at most 10000"),
    ):
        with pytest.raises(ValueError, match=message):
            desk.answer(**given)
    short = answers.Asked(asked.run, ["data.max_seconds=2"])
    with pytest.raises(ValueError, match="more than max_seconds=2"):
        short(film)
    with pytest.raises(ValueError, match="more than max_pixels=100"):
        answers.Asked(asked.run, ["data.max_pixels=100"])(film)
    assert asked(film).rows  # the next clip works


def test_clips_to_pick_from(asked, tmp_path, capsys):
    (tmp_path / "<i>").mkdir()
    for name in ("b.mp4", "<i>/a.mp4", "c.txt"):
        (tmp_path / name).touch()
    picks = demo.picks_of(asked.run, asked.recipe, str(tmp_path))
    desk = answers.Desk(asked, tmp_path, picks)
    assert sorted(name for name, _ in desk.choices()) == ["<i>/a.mp4", "b.mp4"]
    assert desk.text_of("1") == desk.text_of("") == ""
    for pick in ("2", "-1", "x", ["0"], 1):  # as after a restart with other clips
        with pytest.raises(ValueError, match="not a clip of this page; load the page again"):
            desk.answer(pick=pick)
        assert desk.name_of(pick=pick) == ""
    many = {tmp_path / "b.mp4": "some words"}
    assert answers.Desk(asked, tmp_path, many).text_of("0") == "some words"
    gone = SimpleNamespace(path=tmp_path, facts=asked.run.facts, recipe=asked.recipe, split=asked.run.split)
    gone.facts = SimpleNamespace(kind="clips", source=str(tmp_path / "gone"))
    assert demo.picks_of(gone, asked.recipe) == {}
    assert "no clips of the run to pick from: " in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        demo.picks_of(asked.run, asked.recipe, str(tmp_path / "nowhere"))


def test_bars_are_of_any_score():
    top = [{"label": "a", "score": 2.0}, {"label": "b", "score": -1.0}]
    shown = demo.labels_html({"top": top, "labels": []})
    assert "width: 100.0%" in shown and "class='minus' style='width: 50.0%'" in shown
    assert "Decided on: <b>none</b>" in shown and "<b>a</b>" not in shown
    assert demo.notes_html(["<x>\n"]) == "<div class='tfvc-note'>Note: &lt;x&gt;\\n</div>"
