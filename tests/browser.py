"""A headless Chromium, for what a person sees: TensorBoard and the demo page."""

import contextlib
import os
import shutil

import pytest

CHROMIUM = os.environ.get("TFVC_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# A closed network is not an error here, and nothing of what a test shows may go to it.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]


@contextlib.contextmanager
def page(width=1280, height=900):
    """A page of playwright, in a browser of its own; skips, saying so, where there is no Chromium."""
    if not CHROMIUM:
        pytest.skip("needs Chromium (apt-get install chromium), or its path in TFVC_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()
