"""A finished run asked about one clip after another; its model and its networks are loaded once."""

import collections
import contextlib
import os
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tfvc import encoders, evaluate, explain, extract, files, plots, predict
from tfvc.recipe import read_by

LETTERS = 10_000  # of the words that go with a clip
_UPLOADS = 16  # that are kept; older ones go
_NAME = 80  # letters of a file's name in the picture's title
_GONE = "the uploaded clip is gone by now; upload it again"


@dataclass(frozen=True)
class Answer:
    """What a run says of a clip.

    Args:
        rows: dicts, as `tfvc.predict.predict` gives them; the first is of the whole clip.
        notes: sentences about what is absent or damaged.
        seconds: part of the work -> how long it took. `decoding` is what the networks waited for the decoder,
            which runs beside them.
        picture: uint8 (height, width, 4), as `tfvc.explain.draw` draws it; None = none.
    """

    rows: list
    notes: list
    seconds: dict
    picture: object = None


class Asked:
    """A run with everything that a clip needs.

    Args:
        run: `tfvc.workdir.Run`, trained.
        overrides: as of `tfvc.predict.predict`.

    Raises:
        FileNotFoundError: the run has not finished, or weights of a network are not there.
        ValueError: the run takes no raw clips, a setting that is fixed, or weights that are not the run's.
    """

    def __init__(self, run, overrides=()):
        self.run, self._of_records = run, run.facts.kind == "yt8m"
        if self._of_records:
            from tfvc.yt8m import predict as of_records

            self.recipe = evaluate.settable(run.recipe, overrides, of_records.SETTABLE)
            self._ask = of_records.of_one(run, self.recipe)
        else:
            self.recipe = evaluate.settable(run.recipe, overrides, predict.SETTABLE)
            self._networks = encoders.of_run(
                run, self.recipe
            )  # before the model: what is missing is told first
            self._predictor = predict.Predictor(run)
        self.read = read_by(self.recipe)

    def __call__(self, path, text=""):
        """The `Answer` to a clip.

        Args:
            path: a media file; of a model that reads words alone it is not looked at.
            text: the words that go with it, where words are read.

        Raises:
            MediaError, ValueError: nothing of what the model reads is in it, or it is longer or larger than
                `data.max_seconds` and `data.max_pixels` allow.
            FileNotFoundError: no such file.
        """
        if self._of_records:
            row, notes, seconds = self._ask(path)
            return Answer([row], notes, seconds)
        from tfvc.data import ahead

        start = time.perf_counter()
        with extract.decode_ahead([Path(path)], self._networks, texts=[text]) as decoder:
            watched = _Watched(decoder)
            size = self.recipe.backbone.batch_size
            (one,) = ahead.encode_all(watched, range(1), self._networks, size)
        if one.reason:
            raise ValueError(one.reason)
        features = self._networks.features(one)
        read = time.perf_counter()
        classes = self.run.facts.classes
        rows = predict.rows_of(str(path), features, one.times, self._predictor, classes, self.recipe)
        seconds = {
            "decoding": watched.seconds,
            "features": read - start - watched.seconds,
            "model": time.perf_counter() - read,
        }
        return Answer(rows, one.warnings, seconds)


class _Watched:
    """A decoder, and for how many seconds its frames were waited for."""

    def __init__(self, decoder):
        self.texts, self.seconds, self._decoder = decoder.texts, 0.0, decoder

    @contextlib.contextmanager
    def _waiting(self):
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def take(self, one):
        frames, end = self._decoder.take(one), object()
        while True:
            with self._waiting():
                item = next(frames, end)
            if item is end:
                return
            yield item


class Desk:
    """What a page for a run does, without the page: clips to pick from, uploaded files, answers.

    Args:
        asked: `tfvc.answers.Asked`.
        folder: Path of an empty folder for uploaded files.
        picks: dict Path -> text: clips to pick from.
        inbox: Path of the folder in which uploads arrive, each in a folder of its own; None = none arrive.
    """

    def __init__(self, asked, folder, picks=(), inbox=None):
        self.asked, self._folder, self._picks = asked, folder, list(dict(picks).items())
        self.inbox = inbox
        self._uploads = collections.OrderedDict()  # number -> (path, the name it had)
        self._lock, self._count, self.answered = threading.Lock(), 0, 0

    def choices(self):
        """Pairs (what is shown, number) of the clips to pick from."""
        paths = [path for path, _ in self._picks]
        root = os.path.commonpath([path.parent for path in paths]) if paths else ""
        return [(files.printable(files.shown(os.path.relpath(p, root))), str(k)) for k, p in enumerate(paths)]

    def text_of(self, pick):
        """The words that a clip to pick from comes with."""
        return self._picked(pick)[1] if pick else ""

    def name_of(self, number="", pick=""):
        """The name, fit to be shown, of the clip that `answer` would take; "" where there is none."""
        try:
            return self._clip(number, pick)[1]
        except ValueError:
            return ""

    def take(self, uploaded):
        """Moves an uploaded file to where no part of its name matters; gives its number.

        Args:
            uploaded: path, as Gradio wrote it: `inbox`/(a folder)/(a file).

        Raises:
            ValueError: anything else than a regular file there, or it is gone: of two tabs that upload the
                same bytes at once, Gradio writes one file.
        """
        with self._lock:
            self._check_arrived(uploaded)
            self._count += 1
            number, path = str(self._count), self._folder / str(self._count)
            os.replace(uploaded, path)
            with contextlib.suppress(OSError):
                os.rmdir(Path(uploaded).parent)  # Gradio's folder of this one file
            self._uploads[number] = (path, files.printable(files.shown(Path(uploaded).name))[:_NAME])
            while len(self._uploads) > _UPLOADS:
                self._drop(next(iter(self._uploads)))
        return number

    def _check_arrived(self, uploaded):
        """Gradio lets any path through that is in its folder, and its folder too."""
        if not isinstance(uploaded, (str, Path)) or not self.inbox:
            raise ValueError("no uploaded file; upload one")
        path = Path(os.path.abspath(uploaded))
        try:
            kinds = stat.S_ISREG(os.lstat(path).st_mode), stat.S_ISDIR(os.lstat(path.parent).st_mode)
        except OSError:
            raise ValueError(_GONE) from None
        if not all(kinds) or os.path.realpath(path.parent.parent) != os.path.realpath(self.inbox):
            raise ValueError("not a file that was uploaded; upload one")

    def drop(self, number):
        """Removes an uploaded file; "", one that is gone already or what is no number is fine."""
        with self._lock:
            self._drop(number)

    def _drop(self, number):
        path, _ = self._uploads.pop(number, (None, "")) if isinstance(number, str) else (None, "")
        if path:
            with contextlib.suppress(OSError):
                path.unlink()

    def answer(self, number="", pick="", text=""):
        """What the run says of one clip, with a picture.

        Args:
            number: of an uploaded file; "" = none.
            pick: number of a clip to pick from; "" = none.
            text: the words that go with the clip, where words are read.

        Returns:
            `Answer`.

        Raises:
            ValueError: neither clip nor words, or what `Asked` raises.
        """
        text, media = (text or "").strip(), self.asked.read != ("text",)
        if len(text) > LETTERS:
            raise ValueError(f"{len(text)} letters of text; expected at most {LETTERS}")
        if media and not number and not pick:
            raise ValueError("no clip yet; upload one" + " or pick one" * bool(self._picks))
        if not media and not text:
            raise ValueError("no words yet; write some")
        path, name = self._clip(number, pick) if media else (Path("words"), "")
        answer = self.asked(path, text)
        if media:
            answer = self._drawn(answer, path, name)
        self.answered += 1
        return answer

    def _drawn(self, answer, path, name):
        notes, start, picture = list(answer.notes), time.perf_counter(), None
        if not any(row["attention"] for row in answer.rows):
            notes.append(f"{self.asked.recipe.model} gives no scores over time in this run")
        if answer.rows[0]["end"]:
            picture = plots.pixels(explain.draw(path, answer.rows, self.asked.recipe, name))
        seconds = answer.seconds | {"picture": time.perf_counter() - start}
        return Answer(answer.rows, notes, seconds, picture)

    def _picked(self, pick):
        """(path, text) of a clip to pick from."""
        if pick not in map(str, range(len(self._picks))):
            raise ValueError("not a clip of this page; load the page again, and pick another")
        return self._picks[int(pick)]

    def _clip(self, number, pick):
        if not number:
            path, _ = self._picked(pick)
            return path, files.printable(files.shown(path.name))[:_NAME]
        with self._lock:
            if number not in self._uploads:
                raise ValueError(_GONE)
            return self._uploads[number]
