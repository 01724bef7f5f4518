"""What every test shares: where ../shared lies, a cache of its own, and the count of what was skipped."""

import http.server
import os
import re
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TFVC_SHARED") or ROOT.parent / "shared").resolve()
_ABSENT = "needs ../shared (TFVC_SHARED), which is absent: "


def shared_path(relative):
    """A path under ../shared; skips, saying so, where the folder is absent, and never where it is present."""
    if not SHARED.is_dir():
        pytest.skip(_ABSENT + relative)
    path = SHARED / relative
    assert path.exists(), f"{path} is missing from a ../shared that is present"
    return path


@pytest.fixture
def shared():
    return shared_path


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The user's cache is neither read nor written by tests; the demo set is drawn once a session."""
    os.environ["TFVC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("TFVC_WEIGHTS", None)


@pytest.fixture
def serve(tmp_path):
    """A function: whether parts of files can be asked for -> address of a server of tmp_path."""
    servers = []

    def start(parts):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(tmp_path))

            def log_message(self, *args):
                pass

            def send_head(self):
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if parts else None
                path = tmp_path / self.path[1:]
                if not asked or not path.is_file():
                    return super().send_head()
                data = path.read_bytes()
                first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
                if first > last:
                    self.send_error(416)
                    return None
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
                self.send_header("Content-Length", str(last - first + 1))
                self.end_headers()
                self.wfile.write(data[first : last + 1])
                return None

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def pytest_terminal_summary(terminalreporter):
    count = {k: len(terminalreporter.stats.get(k, [])) for k in ("passed", "failed", "skipped")}
    absent = sum(_ABSENT in str(r.longrepr) for r in terminalreporter.stats.get("skipped", []))
    ran = count["passed"] + count["failed"]
    terminalreporter.write_line(f"{ran} tests ran, {absent} were skipped for want of ../shared ({SHARED})")
