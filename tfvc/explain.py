"""Where in time, and in which stream, a model looked: pictures of its scores beside those of the video."""

import itertools
import os
from pathlib import Path

from tfvc import files, plots
from tfvc.recipe import read_by

_THUMBNAILS = 12  # of a video
_LARGEST = (240, 320)  # height and width of a thumbnail
_STEM = 80  # characters of a video's name in that of its picture
_RATE = 16000  # of the drawn sound


def write(output, rows_by_path, recipe):
    """Draws, for each video, its scores over time below thumbnails of it.

    A panel a stream: the height is the model's score of that stream at that time; a dotted line lies at the
    mean of all scores of the window. A video longer than the model's T rows is drawn as its windows. Where
    the model hears the sound, or there is nothing but sound, its waveform is drawn too.

    **Source**: Brousmiche et al. 2021 (MAFnet), figure 3.

    **Differs**: there the numbers lie over the pictures of the video's ten seconds.

    Args:
        output: a name that ends in `.png`. Of several videos each has a picture `<name>-<stem of its
            file>.png`, a number behind it where two have the same.
        rows_by_path: path -> its rows, as `tfvc.predict.predict` gives them.
        recipe: of the run: its streams, `data.max_seconds` and `data.max_pixels` are read.

    Returns:
        list of the pictures' paths, in the order of `rows_by_path`.

    Raises:
        ValueError: no `.png`, nothing to draw, or a model without scores over time.
        FileNotFoundError: a video is no longer there.
        OSError: a picture cannot be written.

    Example:
        >>> write("out.png", {"a.mp4": []}, None)
        Traceback (most recent call last):
        ValueError: a.mp4: the model gives no scores over time to draw; expected one with attention, ...
    """
    output = checked(output)
    if not rows_by_path:
        raise ValueError(f"{files.shown(output)}: no predicted video to draw")
    for path, rows in rows_by_path.items():
        if not any(row["attention"] for row in rows):
            raise ValueError(
                f"{files.shown(path)}: the model gives no scores over time to draw; expected one with "
                "attention, as mafnet"
            )
    pictures = _names(output, list(rows_by_path))
    for picture, (path, rows) in zip(pictures, rows_by_path.items(), strict=True):
        figure = draw(path, rows, recipe)
        with files.aside(picture) as temporary:
            figure.savefig(temporary, format="png")
    return pictures


def checked(output):
    """The name of a picture as a path. `write` asks for it too; a command may ask before a long work.

    Raises:
        ValueError: it does not end in `.png`.

    Example:
        >>> checked("out.png").name
        'out.png'
    """
    if Path(output).suffix.lower() != ".png":
        raise ValueError(f"{files.shown(output)}: expected the name of a picture, which ends in .png")
    return Path(output)


def _names(output, paths):
    """Of each video the name of its picture, no two alike."""
    if len(paths) == 1:
        return [output]
    names = {}
    for path in paths:
        stem = f"{output.stem}-{Path(path).stem[:_STEM]}"
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        names[next(name for name in itertools.chain([stem], numbered) if name not in names)] = path
    return [output.with_name(name + output.suffix) for name in names]


def draw(path, rows, recipe, name=""):
    """One video's picture, as `write` has it; of a model without scores over time the video alone.

    Args:
        path: of the video.
        rows: of it, as `tfvc.predict.predict` gives them.
        recipe: of the run.
        name: in the title; "" = the file's own.

    Returns:
        Matplotlib figure.
    """
    scored = [row for row in rows if row["attention"]]
    windows = [_window(row, recipe) for row in scored] or [([0.0, rows[0]["end"]], {}, "")]
    end = max(edges[-1] for edges, _, _ in windows)
    places = min(_THUMBNAILS, sum(len(edges) - 1 for edges, _, _ in windows) if scored else _THUMBNAILS)
    step = end / places
    pictures, note = _thumbnails(path, step, places, recipe)
    placed = [(k * step, (k + 1) * step, picture) for k, picture in enumerate(pictures)]
    title = "   ".join(filter(None, [name or files.shown(os.path.basename(path)), _label(rows[0])]))
    return plots.scores_over_time(windows, title, placed, _sound(path, end, bool(pictures), recipe), note)


def _window(row, recipe):
    """A row's cells as (edges in seconds, stream -> scores, label)."""
    cells = row["attention"]
    edges = [*(cell["time"] for cell in cells), row["end"]]
    if "by" in cells[0]:
        absent = dict.fromkeys(row.get("missing", ()), "\n(not in this file)")
        scores = {
            f"{name}{absent.get(name, '')}": [cell["by"][name] for cell in cells] for name in cells[0]["by"]
        }
    else:
        streams = read_by(recipe)
        name = streams[0] if len(streams) == 1 else "weight"
        scores = {name: [cell["weight"] for cell in cells]}
    return edges, scores, _label(row)


def _label(row):
    return f"{row['top'][0]['label']} {row['top'][0]['score']:.2f}" if row["top"] else ""


def _thumbnails(path, step, places, recipe):
    """Small pictures, one each `step` seconds, and why there are none where there should be some."""
    from tfvc.data import video

    if not video.streams(path).has_video:
        return [], ""
    bounds = {"max_seconds": recipe.data.max_seconds, "max_pixels": recipe.data.max_pixels}
    try:
        # Upright and as decoded, which no header tells: the first frame settles the size of all.
        (_, first), *_ = video.iter_frames(path, max_frames=1, **bounds)
        scale = min(1.0, *(most / side for most, side in zip(_LARGEST, first.shape, strict=False)))
        size = tuple(max(1, round(side * scale)) for side in first.shape[:2])
        frames = video.iter_frames(path, fps=1 / step, size=size, max_frames=places, **bounds)
        return [frame for _, frame in frames], ""
    except video.MediaError as error:
        print(f"{files.shown(path)}: drawn without thumbnails: {error.reason}", flush=True)
        return [], f"no pictures: {error.reason}"


def _sound(path, end, pictures, recipe):
    """(samples, rate) where the model hears them or nothing can be seen; None: no sound is drawn."""
    from tfvc.data import audio

    if pictures and "audio" not in read_by(recipe):
        return None
    track = audio.Track(seconds=end, rate=_RATE, samples=_RATE)
    audio.read_track(path, track, max_seconds=recipe.data.max_seconds)
    return None if track.reason else (track.pieces.reshape(-1), _RATE)
