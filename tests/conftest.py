"""What every test shares: where ../shared lies, a cache of its own, and the count of what was skipped."""

import os
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


def pytest_terminal_summary(terminalreporter):
    count = {k: len(terminalreporter.stats.get(k, [])) for k in ("passed", "failed", "skipped")}
    absent = sum(_ABSENT in str(r.longrepr) for r in terminalreporter.stats.get("skipped", []))
    ran = count["passed"] + count["failed"]
    terminalreporter.write_line(f"{ran} tests ran, {absent} were skipped for want of ../shared ({SHARED})")
