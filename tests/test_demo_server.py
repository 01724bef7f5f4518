"""The server of tfvc/demo.py, and tfvc/gate.py before it, asked without a browser; the command line."""

# ruff: noqa: F811 - fixtures come by import

import errno
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import ROOT
from pages import asked, run_of  # noqa: F401

from tfvc import answers, demo

pytestmark = pytest.mark.usefixtures("networks_once")


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
    assert sent(server, 0, as_file(folder / "gradio"))["error"] == (
        "not a file that was uploaded; upload one"
    )
    assert (folder / "gradio").is_dir() and not list((folder / "uploads").iterdir())
    assert capfd.readouterr().err == "error: not a file that was uploaded; upload one\n"
    assert not sent(server, 0, as_file(path)).get("error")
    again = "the uploaded clip is gone by now; upload it again"  # another tab's upload of the same bytes
    assert sent(server, 0, as_file(path))["error"] == again
    assert capfd.readouterr().err == f"error: {again}\n"
    path = json.loads(posted(address, b"y.mp4", b"no video")[1])[0]
    assert not sent(server, 0, as_file(path)).get("error")
    assert sent(server, 3, None, "")["error"].startswith("y.mp4: cannot be opened")
    err = capfd.readouterr().err
    assert err.startswith("error: y.mp4: ") and err.count("\n") == 1
    monkeypatch.setenv("TFVC_DEBUG", "1")
    assert sent(server, 0, as_file(path))["error"] == again
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
