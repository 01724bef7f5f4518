"""A page in the browser on which a finished run is tried: a clip goes in, what it says of it comes out."""

import contextlib
import errno
import html
import importlib.util
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from absl import flags

from tfvc import cli, encoders, files, workdir
from tfvc.answers import LETTERS, Asked, Desk
from tfvc.recipe import key_of, read_by

_DOC = """Serves a page, to this machine alone, on which a finished run is tried: upload or pick a clip, and
see the best labels, where in time and in which stream the model looked, what is absent, and how long it took.

Clips longer than --set=data.max_seconds (600 unless given) or larger than --max_mb are refused. What is
uploaded lies in a temporary folder under a number, and goes with its tab. One clip is worked on at a time.
It needs Gradio: pip install 'tfvc[demo]'."""

_ABSENT = "the page needs Gradio, which is not installed; pip install 'tfvc[demo]'"
_HOST = "127.0.0.1"
_SECONDS = 600  # of a clip, where neither the run nor --set says less or other
_PICKS = 200  # clips to pick from
_WAITING = 8  # requests that may wait
_KEPT = 2**30  # bytes of uploads that are not taken yet, and of pictures; above it no more is taken in
_SWEEP = (60, 600)  # each so many seconds, Gradio's own copies that are so many seconds old are removed
_READS = {"frames": "pictures", "audio": "sound", "text": "words"}
_CSS = """
.tfvc-labels {display: grid; grid-template-columns: fit-content(40%) 1fr auto; gap: .45rem .8rem;
  padding-top: 1.6rem}
.tfvc-labels > * {align-self: center}
.tfvc-labels b, .tfvc-labels span {overflow-wrap: anywhere}
.tfvc-bar {background: var(--background-fill-secondary); border-radius: 4px; height: 1.1rem}
.tfvc-bar i {display: block; height: 100%; border-radius: 4px; background: var(--primary-400); min-width: 1px}
.tfvc-bar i.minus {background: var(--neutral-400)}
.tfvc-labels b + .tfvc-bar i {background: var(--primary-600)}
#tfvc-upload .download a {pointer-events: none; color: inherit}
.tfvc-score {font-variant-numeric: tabular-nums}
.tfvc-said {margin-top: .9rem; color: var(--body-text-color-subdued)}
"""


def labels_html(row):
    """The best labels as bars, and which of them are decided on, as HTML.

    Args:
        row: of the whole clip, as `tfvc.predict.predict` gives it.

    Example:
        >>> "&lt;b&gt;" in labels_html({"top": [{"label": "<b>", "score": 0.5}]})
        True
    """
    most = max([1.0, *(abs(one["score"]) for one in row["top"])])  # a second stage's scores have no bounds
    decided = row.get("labels", [one["label"] for one in row["top"][:1]])
    cells = []
    for one in row["top"]:
        tag = "b" if one["label"] in decided else "span"
        minus = " class='minus'" if one["score"] < 0 else ""
        cells.append(
            f"<{tag}>{html.escape(one['label'])}</{tag}><div class='tfvc-bar'>"
            f"<i{minus} style='width: {100 * abs(one['score']) / most:.1f}%'></i></div>"
            f"<span class='tfvc-score'>{one['score']:.3f}</span>"
        )
    said = ""
    if "labels" in row:
        words = ", ".join(map(html.escape, decided)) or "none"
        said = f"<div class='tfvc-said'>Decided on: <b>{words}</b></div>"
    return f"<div class='tfvc-labels'>{''.join(cells)}</div>{said}"


def notes_html(notes):
    """Sentences as HTML, a line each; "" of none."""
    return "".join(f"<div class='tfvc-note'>Note: {html.escape(files.printable(n))}</div>" for n in notes)


def latency_html(seconds, first=False):
    """How long an answer took, as HTML.

    Example:
        >>> latency_html({"decoding": 0.5, "model": 0.25})
        "<div class='tfvc-latency'>decoding 0.50 s + model 0.25 s = <b>0.75 s</b></div>"
    """
    parts = " + ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    late = " (the first clip: networks are compiled)" if first else ""
    return f"<div class='tfvc-latency'>{parts} = <b>{sum(seconds.values()):.2f} s</b>{late}</div>"


def picks_of(run, recipe, source=""):
    """Clips to pick from: Path -> text.

    Args:
        run: `tfvc.workdir.Run`.
        recipe: its own, with other settings.
        source: a folder or a manifest; "" = the clips of the run's test part that are still there.

    Raises:
        FileNotFoundError, ValueError: as `tfvc.predict.listed`.
    """
    from tfvc.data import datasets
    from tfvc.predict import listed

    if source:
        found = listed([source], recipe)
    elif run.facts.kind == "yt8m":
        return {}
    else:
        try:
            held = set(run.split()["test"])
            clips = datasets.load(run.recipe.data, run.facts.source).clips
            found = {Path(clip.path): clip.text for clip in clips if clip.path and clip.id in held}
        except (OSError, ValueError) as error:
            print(f"no clips of the run to pick from: {cli.one_line(error)}")
            return {}
    there = [path for path in found if path.is_file()]
    return {there[k]: found[there[k]] for k in encoders.evenly(len(there), _PICKS)}


def page(desk, max_mb):
    """The page as `gradio.Blocks`, not yet served.

    Args:
        desk: a `Desk`.
        max_mb: for the words on the page; what serves it refuses larger files.
    """
    import gradio as gr

    run, recipe, read = desk.asked.run, desk.asked.recipe, desk.asked.read
    media, spoken, choices = read != ("text",), "text" in read, desk.choices()
    title = f"tfvc: {recipe.model}"

    uploads = {}  # session -> number of its uploaded file, which goes with its tab

    def ask(pick, text, request: gr.Request):
        number = uploads.get(request.session_hash, "")
        with _told(desk.name_of(number, pick)):
            answer = desk.answer(number, pick, text)
        below = latency_html(answer.seconds, desk.answered == 1) + notes_html(answer.notes)
        return labels_html(answer.rows[0]), answer.picture, below

    def left(request: gr.Request):
        desk.drop(uploads.pop(request.session_hash, ""))

    def take(uploaded, request: gr.Request):
        left(request)
        with _told():
            uploads[request.session_hash] = desk.take(uploaded)
        return None, gr.Button(interactive=True)

    def drop(request: gr.Request):
        left(request)
        return gr.Button(interactive=False)

    def picked(pick, request: gr.Request):
        left(request)
        with _told():
            return None, desk.text_of(pick), gr.Button(interactive=bool(pick))

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=_SWEEP) as blocks:
        gr.HTML(f"<h1>{html.escape(title)}</h1><p>{html.escape(_about(run, recipe))}</p>")
        with gr.Row():
            with gr.Column(scale=2):
                limits = f"up to {max_mb} MB and {recipe.data.max_seconds:g} s"
                upload = gr.File(
                    label=f"Upload a clip ({limits})", visible=media, height=140, elem_id="tfvc-upload"
                )
                pick = gr.Dropdown(
                    choices, value=None, label="or pick one", visible=media and bool(choices), filterable=True
                )
                text = gr.Textbox(
                    label="Words that go with the clip" if media else "Words",
                    visible=spoken,
                    lines=2,
                    max_length=LETTERS,
                )
                button = gr.Button("Classify", variant="primary", interactive=not media)
            with gr.Column(scale=3):
                labels = gr.HTML(label="Labels", show_label=True, container=True, min_height=190)
                below = gr.HTML()
        picture = gr.Image(
            label="Attention over time" if len(read) < 2 else "Attention over time, stream by stream",
            format="png",
            interactive=False,
            visible=media,
            buttons=["fullscreen"],
        )
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        upload.upload(take, upload, [pick, button], **quiet)
        upload.clear(drop, None, button, **quiet)
        pick.input(picked, pick, [upload, text, button], **quiet)
        button.click(
            ask,
            [pick, text],
            [labels, picture, below],
            api_visibility="private",
            concurrency_limit=1,
        )
        blocks.unload(left)
    return blocks.queue(max_size=_WAITING)


@contextlib.contextmanager
def _told(name=""):
    """An error of `cli.failures` is told on the page, and in one line to who started it, as in a command;
    `name` is that of the clip, "" where there is none."""
    import gradio as gr

    try:
        yield
    except cli.failures() as error:
        why = ": ".join(filter(None, [name, getattr(error, "reason", "") or cli.one_line(error)]))
        debug = bool(os.environ.get("TFVC_DEBUG"))  # Gradio prints the whole traceback
        if not debug:
            print(f"error: {files.printable(why)}", file=sys.stderr, flush=True)
        told = gr.Error(html.escape(why), duration=None, print_exception=debug)
        raise told from (error if debug else None)


def _about(run, recipe):
    """What the run is, in a sentence."""
    facts = run.facts
    read = [_READS[name] for name in _streams(run, recipe)]
    made = "; ".join(dict.fromkeys(filter(None, facts.made_with.values())))
    by = f" Networks before it: {made}." if made else ""
    return f"{len(facts.classes)} classes of {facts.dataset}, told by {' and '.join(read)}.{by}"


def _streams(run, recipe):
    """The streams that a run reads, by the names of clips' streams."""
    if run.facts.kind != "yt8m":
        return read_by(recipe)
    heard = ["audio" in row.name for row in run.facts.features]
    return ("frames",) * (not all(heard)) + ("audio",) * any(heard)


def served(desk, port=0, max_mb=200):
    """Serves the page to this machine alone, in threads of its own; returns its `gradio.Blocks`.

    Args:
        desk: a `Desk`.
        port: 0 = a free one, from 7860 on.
        max_mb: a larger file, or a request of more, is refused.

    Raises:
        ValueError: the port is taken, or is not ours to listen on.
    """
    if port:
        _check_port(port)
    blocks = page(desk, max_mb)
    import gradio as gr
    from starlette.middleware import Middleware

    from tfvc.gate import Gate

    most = max_mb * 2**20
    gate = Middleware(Gate, most, desk.inbox or "", max_kept=_KEPT + most, seconds=_SWEEP[1])
    try:
        blocks.launch(
            server_name=_HOST,
            server_port=port or None,
            max_file_size=most,
            app_kwargs={"middleware": [gate]},
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            footer_links=[],
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=_CSS,
        )
    except OSError as error:
        if "empty port" not in str(error):
            raise
        # Gradio's advice is an environment variable, which is not looked at here.
        taken = f"--port={port} is in use; give another, or none"
        raise ValueError(taken if port else "no port from 7860 on is free; give one by --port") from None
    return blocks


def _check_port(port):
    """Asked before the page is built, as Gradio asks."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is in use" if taken else f"cannot be listened on: {os.strerror(error.errno)}"
            raise ValueError(f"--port={port} {why}; give another, or none") from None


def demo(run_folder, clips="", overrides=(), port=0, max_mb=200):
    """Serves a run's page until the process is told to end.

    Args:
        run_folder: of a finished run.
        clips: a folder or manifest of clips to pick from; "" = the run's own test clips.
        overrides: as of `tfvc.predict.predict`; `data.max_seconds` is 600 where it is not among them.
        port, max_mb: as of `served`.

    Raises:
        FileNotFoundError, ValueError: as `tfvc.answers.Asked`, `picks_of` and `served`; Gradio is not
            installed.
    """
    run = workdir.load(run_folder)
    if not importlib.util.find_spec("gradio"):
        raise ValueError(_ABSENT)
    if "data.max_seconds" not in map(key_of, overrides):
        overrides = [f"data.max_seconds={min(_SECONDS, run.recipe.data.max_seconds)}", *overrides]
    with files.scratch() as folder:
        _isolate(folder)
        asked, uploads = Asked(run, overrides), folder / "uploads"
        uploads.mkdir()
        desk = Desk(asked, uploads, picks_of(run, asked.recipe, clips), folder / "gradio")
        blocks = served(desk, port, max_mb)
        try:
            print(f"{blocks.local_url} shows the page, to this machine alone; Ctrl-C ends it", flush=True)
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)


def _isolate(folder):
    """What Gradio must know before it is imported: nothing goes out, and its files lie in our folder."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # one of them would share the page, another open folders to it
    os.environ |= {"GRADIO_TEMP_DIR": str(folder / "gradio"), "GRADIO_ANALYTICS_ENABLED": "False"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    for name in ("no_proxy", "NO_PROXY"):  # Gradio asks its own page whether it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), _HOST]))


def _end(number, _):
    raise SystemExit(128 + number)


def main(argv=None):
    def run(arguments):
        for number in (signal.SIGINT, signal.SIGTERM):  # both leave nothing behind
            signal.signal(number, _end)
        demo(arguments.workdir, arguments.clips, arguments.set, arguments.port, arguments.max_mb)

    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "folder of a finished run", values)
    flags.DEFINE_string(
        "clips", "", "folder or manifest of clips to pick from; empty: the run's own test clips", values
    )
    cli.number("port", 0, "where the page is served; 0: a free one from 7860 on", 0, 65535, values)
    cli.number("max_mb", 200, "a larger upload is refused", 1, 100_000, values)
    flags.DEFINE_multi_string("set", [], "recipe field, as --set=predict.top_k=3; repeatable", values)
    cli.launch("tfvc.demo", values, _DOC, run, argv)


if __name__ == "__main__":
    main()
