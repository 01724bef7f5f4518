"""tfvc/demo.py and tfvc/answers.py without a browser: each model's answer, bounds, hostile names."""

import errno
import functools
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import stand_ins
import test_yt8m_predict
from conftest import ROOT
from test_track import clip

from tfvc import answers, demo, encoders, facts, predict, recipe, workdir
from tfvc.recipe import Feature, read_by

pytestmark = pytest.mark.usefixtures("networks_once", "narrow_vggish", "hearing_once")
CLASSES, WORDS = ["left", "<b>right</b>"], ["flood", "relief"]
SMALL = ["backbone.name=vgg16", "backbone.weights=random", "backbone.size=32,32", "backbone.pooling=avg"]
SMALL += ["data.frames=4"]
HEARS = [*SMALL, "audio.weights=random"]
SECONDS = [*HEARS, "data.fps=2", "audio.output=pooled"]
READS = [*HEARS, "text.embedding=learned", "second_stage.name=none"]
RUNS = {  # name -> model, settings
    "attention_boosted": ("attention_boosted", SMALL),
    "cnn3d": (
        "attention_boosted",
        ["model_args.mode=cnn3d", "backbone.name=frames", "backbone.size=60,40", SMALL[4]],
    ),
    "mafnet": ("mafnet", SECONDS),
    "heard": ("mafnet", ["model_args.modality=audio", *SECONDS[4:6], "audio.output=pooled"]),
    "attention_cluster": ("attention_cluster", SECONDS),
    "dmrn": ("dmrn", SECONDS),
    "raf": ("raf", [*READS, "model_args.units=4"]),
    "resbilstm": ("resbilstm", [*READS, "model_args.temporal=false"]),
    "words": ("raf", ["model_args.modality=text", "data.frames=4", *READS[6:]]),
}
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


def make_run(folder, model, settings):
    """A finished run of an untrained model of clips; its networks are small ones with random weights."""
    r = recipe.get(model, overrides=settings)
    loaded = encoders.load(r, vocabulary=WORDS)
    rows = [
        Feature(f.name, (encoders.rows_of_clip(r, f.name, 4), *f.shape[1:]), f.dtype) for f in loaded.rows
    ]
    rows = [row for row in rows if row.name in read_by(r)]
    made = dict(zip(("weights", "audio_weights", "text_weights"), loaded.weights.values(), strict=True))
    several = model in ("raf", "resbilstm")
    found = workdir.Facts("made-up", "", "", CLASSES, rows, several, vocabulary=loaded.vocabulary, **made)
    keras.utils.set_random_seed(0)
    folder.mkdir(exist_ok=True)
    workdir.save(folder, r, found, 0, {"train": [], "validation": [], "test": []})
    facts.build(r, found).save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A function: name in RUNS -> its run, made once."""
    return functools.cache(lambda name: make_run(tmp_path_factory.mktemp("runs") / "run", *RUNS[name]))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("film") / "film.mp4", 3, 3.0)


@pytest.fixture(scope="module")
def asked(run_of):
    """The run of attention_boosted, asked."""
    return answers.Asked(workdir.load(run_of("attention_boosted")))


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


# --- the server -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(asked, tmp_path_factory):
    """A page that takes files of a megabyte: its address as (host, port), and its folder."""
    pytest.importorskip("gradio", reason="needs gradio (extra demo)")
    folder = tmp_path_factory.mktemp("served")
    (folder / "uploads").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        demo._isolate(folder)
        desk = answers.Desk(asked, folder / "uploads", inbox=folder / "gradio")
        blocks = demo.served(desk, max_mb=1)
        yield (blocks.server_name, blocks.server_port), folder
        blocks.close(verbose=False)


def posted(address, name, data):
    """Status and body of an upload under a name of any bytes."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n\r\n'
    connection = http.client.HTTPConnection(*address, timeout=60)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    connection.request("POST", "/gradio_api/upload", body + data + b"\r\n--x--\r\n", kind)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_uploads_stay_in_their_folder_and_below_their_size(server, tmp_path):
    address, folder = server
    assert address[0] == "127.0.0.1"
    names = [
        b"../../../x.mp4",
        b"/etc/x.mp4",
        b"..",
        b"\xff\xfe.mp4",
        b"a\tb.mp4",
        b"n" * 5000 + b".mp4",
        b"CON",
    ]
    for name in names:
        assert posted(address, name, b"some")[0] in (200, 400, 413), name
    assert posted(address, b"large.mp4", b"0" * (1 << 20) + b"1")[0] == 413
    assert {p.name for p in folder.iterdir()} == {"uploads", "gradio"} and not list(
        (folder / "uploads").iterdir()
    )
    left = [p for p in (folder / "gradio").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in left) < 100
    assert not (folder.parent / "x.mp4").exists()


def test_the_server_gives_no_file_of_the_machine(server):
    address, folder = server
    (folder / "secret").write_text("secret")
    for path in (folder / "secret", ROOT / "setup.py", "/etc/passwd"):
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.request("GET", f"/gradio_api/file={path}")
        assert connection.getresponse().status in (403, 404)
    page = urllib.request.urlopen(f"http://{address[0]}:{address[1]}/").read().decode()
    assert "googleapis" not in page and "cdnjs" not in page


def asks(address, method="GET", path="/", body=None, **headers):
    """Status and body of a request."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {"Host": f"{address[0]}:{address[1]}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    if body:
        connection.send(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"
_KIND = "multipart/form-data; boundary=x"


def test_no_other_web_site_reaches_it(server):
    address, folder = server
    port = address[1]
    before = list((folder / "gradio").rglob("*"))
    for path in ("/", "/config", "/gradio_api/queue/data?session_hash=q", "/gradio_api/heartbeat/q"):
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "localhost:1", ""):
            assert asks(address, path=path, Host=host) == (
                403,
                f"the page is at http://127.0.0.1:{port} alone, under no other name\n",
            ), (path, host)
    own = f"http://127.0.0.1:{port}"
    for path in (UPLOAD, JOIN):
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https://127.0.0.1:{port}"):
            told = asks(address, "POST", path, Origin=origin, Content_Length="0")
            assert told == (403, "the page takes no requests of other pages\n"), origin
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{port}"
        assert asks(address, path="/config", Host=host, Origin=f"http://{host}")[0] == 200
        assert asks(address, path="/config", Host=host.upper())[0] == 200
    line = f"GET /ws HTTP/1.1\r\nHost: evil.example\r\nOrigin: {own}\r\n"
    line += "Connection: Upgrade\r\nUpgrade: websocket"
    with socket.create_connection(address, timeout=60) as raw:
        raw.sendall(f"{line}\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        assert b" 403 " in raw.recv(100)
    assert list((folder / "gradio").rglob("*")) == before


def test_a_request_is_no_larger_than_a_file(server):
    address, folder = server
    before = sum(p.stat().st_size for p in (folder / "gradio").rglob("*") if p.is_file())
    told = (413, "more than the maximum allowed size of 1048576 bytes\n")
    for path in (UPLOAD, JOIN):
        for length in (str(6 * 900_000), "9" * 12):
            assert asks(address, "POST", path, Content_Length=length, Content_Type=_KIND) == told
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + b"0" * 600_000
    body = part + b"\r\n" + part + b"\r\n--x--\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for path in (UPLOAD, JOIN):
        kind = _KIND if path == UPLOAD else "application/json"
        status, said = asks(address, "POST", path, chunks, Transfer_Encoding="chunked", Content_Type=kind)
        assert status == 413 and "maximum allowed size of 1048576 bytes" in said, path
    left = sum(p.stat().st_size for p in (folder / "gradio").rglob("*") if p.is_file())
    assert left < before + 1_200_000  # what broke off is removed by the next request, when it is old


def test_uploads_that_nobody_takes_go_and_are_bounded(tmp_path):
    gate = pytest.importorskip("tfvc.gate", reason="needs starlette (extra demo)")
    testclient = pytest.importorskip("starlette.testclient")
    (tmp_path / "hash").mkdir()
    for name, age in (("old", 700), ("new", 500)):
        (tmp_path / "hash" / name).write_bytes(b"0" * 60)
        then = time.time() - age
        os.utime(tmp_path / "hash" / name, (then, then))
    reached = gate.PlainTextResponse("reached")
    client = testclient.TestClient(gate.Gate(reached, 10, tmp_path, max_kept=100), "http://localhost")
    assert client.post("/").text == "reached"
    assert [p.name for p in (tmp_path / "hash").iterdir()] == ["new"]
    (tmp_path / "hash" / "more").write_bytes(b"0" * 60)
    answer = client.post("/")
    assert answer.status_code == 503 and "those of 600 s ago go" in answer.text
    assert client.get("/").text == "reached"


def sent(server, number, *data):
    """What an event of the page comes to, as the page is told."""
    address, _ = server
    event = json.dumps({"fn_index": number, "data": data, "session_hash": "q"}).encode()
    length = {"Content_Type": "application/json", "Content_Length": str(len(event))}
    assert asks(address, "POST", JOIN, event, **length)[0] == 200
    said = asks(address, path="/gradio_api/queue/data?session_hash=q")[1]
    return json.loads(next(row for row in said.split("data: ") if "process_completed" in row))["output"]


def as_file(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def test_a_refusal_is_one_line_on_page_and_console(server, capfd, monkeypatch):
    address, folder = server
    path = json.loads(posted(address, b"x.mp4", b"no video")[1])[0]
    capfd.readouterr()
    assert sent(server, 0, None, as_file(folder / "gradio"))["error"] == (
        "not a file that was uploaded; upload one"
    )
    assert (folder / "gradio").is_dir() and not list((folder / "uploads").iterdir())
    assert capfd.readouterr().err == "error: not a file that was uploaded; upload one\n"
    assert not sent(server, 0, None, as_file(path)).get("error")
    again = "the uploaded clip is gone by now; upload it again"  # another tab's upload of the same bytes
    assert sent(server, 0, None, as_file(path))["error"] == again
    assert capfd.readouterr().err == f"error: {again}\n"
    path = json.loads(posted(address, b"y.mp4", b"no video")[1])[0]
    assert not sent(server, 0, None, as_file(path)).get("error")
    assert sent(server, 3, None, None, "")["error"].startswith("y.mp4: cannot be opened")
    err = capfd.readouterr().err
    assert err.startswith("error: y.mp4: ") and err.count("\n") == 1
    monkeypatch.setenv("TFVC_DEBUG", "1")
    assert sent(server, 0, None, as_file(path))["error"] == again
    err = capfd.readouterr().err
    assert "Traceback" in err and f"ValueError: {again}" in err


def test_a_port_that_is_taken_is_one_line(server, asked, tmp_path, monkeypatch):
    port = server[0][1]
    with pytest.raises(ValueError, match=f"^--port={port} is in use; give another, or none$"):
        demo.served(answers.Desk(asked, tmp_path), port=port)
    with monkeypatch.context() as patch:  # taken between the question and Gradio's own
        patch.setattr(demo, "_check_port", lambda port: None)
        with pytest.raises(ValueError, match=f"^--port={port} is in use; give another, or none$"):
            demo.served(answers.Desk(asked, tmp_path), port=port)

    def forbidden(*_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(demo.socket.socket, "bind", forbidden)
    with pytest.raises(ValueError, match="^--port=80 cannot be listened on: Permission denied; give another"):
        demo.served(answers.Desk(asked, tmp_path), port=80)


# --- the command ----------------------------------------------------------------------------------------


def stopped(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        demo.main(list(arguments))
    return stop.value.code, capsys.readouterr().err


def test_wrong_command_lines_are_one_line(asked, tmp_path, monkeypatch, capsys):
    for argument, status, message in (
        ("--port=65536", 2, "--port=65536"),
        ("--max_mb=0", 2, "--max_mb=0"),
        (f"--workdir={tmp_path}", 1, "expected the --workdir of a training run"),
        (f"--workdir={asked.run.path}", 1, "needs Gradio, which is not installed; pip install 'tfvc[demo]'"),
    ):
        monkeypatch.setattr(demo.signal, "signal", lambda *_: None)
        if "Gradio" in message:
            monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
        code, err = stopped(capsys, argument)
        assert code == status and message in err and err.count("\n") == 1


def test_help_needs_neither_gradio_nor_tensorflow():
    block = (
        "import sys; sys.modules |= dict.fromkeys(('gradio', 'tensorflow', 'keras', 'matplotlib', 'av'))\n"
    )
    line = [sys.executable, "-c", f"{block}from tfvc import demo; demo.main(['--help'])"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--max_mb" in done.stdout and "loopback" not in done.stderr
