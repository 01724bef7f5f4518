"""The demo page as a person sees it: the real command, a headless Chromium, a real clip, hostile ones."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

import browser
import pytest
from conftest import ROOT, SHARED
from pages import RUNS, make_run
from test_track import clip

pytestmark = pytest.mark.slow
HOSTILE = ("<img src=x onerror=alert(1)>.mp4", "../../<script>alert(2)</script>.mp4", "a\nb\u202e.mp4")
_PATIENCE = 120_000  # milliseconds: other tests run beside
_CLEAR = "#tfvc-upload button[aria-label='Clear']"  # there where the page has a clip


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A real clip where there is one."""
    real = SHARED / "data/ucf101/Punch/v_Punch_g01_c03.avi"
    return real if real.is_file() else clip(tmp_path_factory.mktemp("film") / "film.mp4", 3, None)


@pytest.fixture(scope="module")
def command(tmp_path_factory, film):
    """The command: its address, the folder of its temporary files, and the process."""
    pytest.importorskip("gradio", reason="needs gradio (extra demo)")
    root = tmp_path_factory.mktemp("page")
    run, scratch = make_run(root / "run", *RUNS["attention_boosted"]), root / "scratch"
    clips = root / "clips"
    for folder in (scratch, clips):
        folder.mkdir()
    (clips / f"picked{film.suffix}").symlink_to(film)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "GRADIO_SHARE": "True"}
    line = [sys.executable, "-m", "tfvc.demo", f"--workdir={run}", f"--clips={clips}", "--max_mb=1"]
    with subprocess.Popen(line, cwd=scratch, env=environment, stdout=subprocess.PIPE, text=True) as process:
        lines = queue.Queue()
        threading.Thread(target=lambda: [lines.put(text) for text in process.stdout], daemon=True).start()
        try:
            while "shows the page" not in (said := lines.get(timeout=_PATIENCE / 1000)):
                pass
            yield said.split()[0], scratch, process
        finally:
            process.kill()


@pytest.fixture
def page(command):
    """The page, what it asked for and the dialogs that it opened."""
    with browser.page() as opened:
        asked, dialogs = [], []
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        opened.set_default_timeout(_PATIENCE)
        opened.goto(command[0])
        yield opened
        own = (command[0], "data:", "blob:")
        assert asked and not dialogs and not [url for url in asked if not url.startswith(own)]


def choose(page, file):
    page.locator("#tfvc-upload input[type=file]").set_input_files(file)


def upload(page, file):
    """Chooses it, and waits until the page has it: `Classify` before that finds no clip."""
    choose(page, file)
    page.locator(_CLEAR).wait_for()


def classify(page):
    page.locator("button.primary:not([disabled])", has_text="Classify").click()


def assert_answered(page, late=""):
    """Bars, labels, picture and latency of an answer."""
    page.locator(".tfvc-latency", has_text="decoding").filter(has_text=late).wait_for()
    assert page.locator(".tfvc-bar").count() == 2
    words = page.locator(".tfvc-labels").inner_text()
    assert "left" in words and "<b>right</b>" in words  # a class's name is words, whatever it is
    widths = [box["width"] for box in map(lambda bar: bar.bounding_box(), page.locator(".tfvc-bar i").all())]
    scores = [float(s) for s in page.locator(".tfvc-score").all_inner_texts()]
    assert sum(scores) == pytest.approx(1, abs=2e-3) and widths[0] / widths[1] == pytest.approx(
        scores[0] / scores[1], rel=0.1
    )
    picture = page.locator("img[src*='/file=']")
    picture.wait_for()
    page.wait_for_function("Array.from(document.images).some(image => image.naturalWidth > 1400)")


def test_a_clip_is_uploaded_and_one_is_picked(page, film):
    upload(page, str(film))
    classify(page)
    assert_answered(page, "the first clip: networks are compiled")
    page.get_by_label("or pick one").click()
    page.get_by_role("option", name=f"picked{film.suffix}").click()
    page.locator("#tfvc-upload input[type=file]").wait_for(state="attached")  # the uploaded file has gone
    classify(page)
    page.locator(".tfvc-latency", has_text="compiled").wait_for(state="detached")
    assert_answered(page)


def test_hostile_names_and_files_leave_a_page_that_works(page, film, command):
    for name in HOSTILE:
        upload(page, {"name": name, "mimeType": "video/mp4", "buffer": b"<script>alert(3)</script>" * 9})
        classify(page)
        toast = page.locator(".toast-body", has_text="no media file")
        toast.wait_for()
        page.locator(".toast-close").first.click()
        toast.wait_for(state="detached")
        page.locator(_CLEAR).click()
        page.locator(_CLEAR).wait_for(state="detached")
    choose(page, {"name": HOSTILE[0], "mimeType": "video/mp4", "buffer": bytes(1_100_000)})
    page.locator(".toast-body", has_text="exceed the maximum allowed size of 1").wait_for()
    page.reload()
    upload(page, {"name": HOSTILE[0], "mimeType": "video/mp4", "buffer": film.read_bytes()})
    classify(page)
    assert_answered(page)
    folder = command[1]
    assert not [p for p in folder.parent.rglob("*") if "script" in p.name or "onerror" in p.name]


def test_an_upload_goes_with_its_tab(page, film, command):
    def kept():
        return [path for path in command[1].rglob("uploads/*") if path.is_file()]

    choose(page, str(film))
    page.locator("button.primary:not([disabled])", has_text="Classify").wait_for()
    assert kept()
    page.context.close()
    limit = time.time() + _PATIENCE / 1000
    while kept() and time.time() < limit:
        time.sleep(0.2)
    assert not kept()


def test_sigterm_ends_it_and_leaves_nothing(command):
    _, folder, process = command
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert not list(folder.iterdir())
