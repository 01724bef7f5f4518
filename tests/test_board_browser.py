"""TensorBoard in a real browser: what a person sees of a measured run and of a study."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import boarded
import pytest
import sounded
from browser import page
from conftest import ROOT

from experiments import hparams

_WAIT = 60_000  # milliseconds, at most, for what is awaited


@contextlib.contextmanager
def tensorboard(logdir):
    """The address of a TensorBoard started as its users start it; ended at the end."""
    command = [Path(sys.executable).with_name("tensorboard"), f"--logdir={logdir}", "--port=0"]
    with open(f"{logdir}.log", "w+") as log:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1"], stderr=subprocess.PIPE, stdout=log, text=True
        )
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            else:
                raise AssertionError(f"TensorBoard ended with {process.wait()}: {''.join(lines)}")
            yield found[0]
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A page that shows a run and a study, and the address."""
    root = tmp_path_factory.mktemp("boarded")
    run = boarded.measured(root)
    hparams.write(ROOT / "experiments/tables/disaster.jsonl", run / "logs", ["raf_table1"])
    with tensorboard(run / "logs") as address, page(1200, 800) as tab:
        tab.set_default_timeout(_WAIT)
        yield tab, address


def opened(shown, name):
    """The page at a tab, once TensorBoard has read that there is something for it."""
    tab, address = shown
    tab.goto(address)
    listed = "async name => (await (await fetch('data/plugins_listing')).json())[name].enabled"
    tab.wait_for_function(listed, arg=name, polling=200)
    tab.goto("about:blank")  # else the next line would only change the tab, and not ask again
    tab.goto(f"{address}/#{name}")
    return tab


@pytest.mark.slow
def test_each_class_has_its_precision_recall_curve(shown):
    tab = opened(shown, "pr_curves")
    for name in sounded.CLASSES:
        tab.get_by_text(f"pr/{name}/pr_curves").wait_for(state="attached")
    # A line that was drawn has many points.
    line = tab.locator("vz-line-chart2 path.line, vz-line-chart2 .plot path").first
    line.wait_for(state="attached")
    assert line.get_attribute("d").count(",") > 5


@pytest.mark.slow
def test_attention_and_confusion_are_pictures(shown):
    tab = opened(shown, "images")
    for tag in [f"attention/{name}" for name in boarded.SEEN] + ["evaluation/confusion"]:
        tab.get_by_text(f"tag: {tag}", exact=True).wait_for(state="attached")
    for picture in tab.locator("tf-image-loader img").all():
        assert (
            picture.evaluate(
                "image => new Promise(done => image.complete ? done(image.naturalWidth) : "
                "image.onload = () => done(image.naturalWidth))"
            )
            > 400
        )


@pytest.mark.slow
def test_the_projector_shows_the_clips(shown):
    tab = opened(shown, "projector")
    inside = tab.frame_locator("iframe").frame_locator("iframe")  # the plugin's page, in a frame of its own
    inside.get_by_text(re.compile(r"Points:\s*24")).first.wait_for()
    for column in ("clip", "true", "predicted"):
        inside.locator("paper-item").get_by_text(column, exact=True).first.wait_for(state="attached")
    canvas = inside.locator("canvas").first
    canvas.wait_for()
    assert canvas.bounding_box()["width"] > 200


@pytest.mark.slow
def test_a_study_has_its_runs_settings_and_measures(shown):
    tab = opened(shown, "hparams")
    tab.get_by_text("late_residual-0", exact=True).first.wait_for()
    for words in ("model_args.attention", "Micro F1", "Hamming loss"):
        tab.get_by_text(words, exact=True).first.wait_for()
    tab.get_by_text("Parallel Coordinates View").click()
    tab.locator("tf-hparams-parallel-coords-plot svg").first.wait_for()


@pytest.mark.slow
def test_the_measures_are_scalars(shown):
    tab = opened(shown, "scalars")
    tab.get_by_text("evaluation/accuracy").first.wait_for(state="attached")
