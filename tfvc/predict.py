"""A finished run applied to videos: class names, scores, and where in time the model looked."""

import dataclasses
import itertools
import sys
import time
from pathlib import Path

from tfvc import cli, encoders, evaluate, extract, files, inference, names, predictions, second_stage, workdir
from tfvc import explain as explanation
from tfvc.recipe import key_of, read_by

_DOC = """Names the classes of videos: files, folders (searched through), CSV or JSONL manifests.

Writes one row a video, and for a video longer than the model's T frames one row a window besides.
Start the same command again after an interruption: files already listed and unchanged are kept.
Of clips with several labels each row lists those decided on. The text that a run reads stands in a
manifest's column text, or, of one video, in --text.

Of a run on YouTube-8M's records PATH may also be records, as 'test*.tfrecord', and a video has one row.
Raw video then needs the networks that made the records: --set=backbone.weights=FOLDER (default ~/yt8m).
Such a run starts anew after an interruption."""

SETTABLE = ("predict.", "backbone.batch_size", "data.max_seconds", "data.max_pixels")
_SECONDS = 5.0  # at least, between two writings of the output
_WINDOWS = 32  # windows a call of the model


def predict(run_folder, paths, output="", overrides=(), explain="", text=""):
    """Predicts videos and writes the result.

    Args:
        run_folder: the folder of a run.
        paths: files, folders, manifests (labels not needed), any mixture.
            A run on YouTube-8M's records takes records too; see `tfvc.yt8m.predict`, which then answers.
        output: a `.csv` or `.json` file; "" = `<run>/predictions.csv`. It lists what `paths` names and
            nothing else; a file with unchanged size and time that is listed already is not decoded again.
        overrides: `predict.top_k`, `backbone.batch_size`, `data.max_*`; `predict.window_step` where windows
            are cut.
        explain: a `.png` file: the scores over time are drawn, as `tfvc.explain.write` does; "" = nothing.
        text: the words that go with the one video given; of a manifest's clips, its column `text` holds them.

    Returns:
        list of dicts, in the order of `paths`: `path`, `part` ("video": the whole, "window"), `start`
        and `end` (seconds; a frame lasts until the next would be taken, so `end` may lie past a clip's own),
        `top` (list of {label, score}, best first), `attention` (list of {time,
        weight}, which sum to at most 1: padding may hold the rest; empty where the model has none, and
        for the whole of a video in windows; of a model that scores each of several streams also `by`, a dict
        stream -> its share of the weight), and of such a model `missing`, the streams that the video has not
        (zeros stand in their place). The scores of the whole are the mean of its windows'. Of a run whose
        clips have several labels, or that has a second stage, `labels` too: the names decided on, in the
        order of the classes; of the whole, those of at least half of its windows. The scores are the
        decision's own. A clip whose pictures are spread evenly over it (data.sampling=even) is never cut.

    Raises:
        FileNotFoundError: a path that is not there.
        ValueError: nothing could be predicted, an output that is neither .csv nor .json, or one that
            another process is writing; one file with two texts; a text that the run does not read;
            scores that are not finite.
    """
    run = workdir.load(run_folder)
    output = Path(output or run.path / "predictions.csv")
    if output.suffix.lower() not in predictions.SUFFIXES:
        raise ValueError(
            f"--output={output}: expected a name that ends in {' or '.join(predictions.SUFFIXES)}"
        )
    if explain:
        explanation.checked(explain)  # before a long work
    spoken = "text" in read_by(run.recipe)
    if text and not spoken:
        raise ValueError(f"--text: {run.recipe.model} reads {', '.join(read_by(run.recipe))}; leave it out")
    if run.facts.kind == "yt8m":
        if explain:
            raise ValueError(f"--explain={explain}: {run.recipe.model} has no scores over time; leave it out")
        from tfvc.yt8m import predict as of_records

        return of_records.predict(run, paths, output, overrides)
    recipe = evaluate.settable(run.recipe, overrides, SETTABLE)
    step = next((s for s in overrides if key_of(s) == "predict.window_step"), "")
    if step and recipe.data.sampling == "even":
        raise ValueError(f"--set={step}: this run reads a clip whole (data.sampling=even); leave it out")
    wanted = listed(paths, recipe)
    if text:
        wanted = _with_text(wanted, paths, text)
    listing = output.with_name(f"{output.name}.skipped.csv")
    with files.locked(output, "writing"):
        for path in (output, listing):
            files.sweep(path.parent, path.name)
        texts = wanted if spoken else dict.fromkeys(wanted)
        of_words = read_by(run.recipe) == ("text",)
        table = predictions.Table(output, _made_by(run, recipe), texts, media=not of_words)
        todo = [path for path in wanted if not table.holds(path)]
        if len(todo) < len(wanted):
            print(f"{len(wanted) - len(todo)} of {len(wanted)} files are in {files.shown(output)} already")
        skipped = _fill(table, todo, run, recipe) if todo else []
        rows = table.rows()
        if rows:  # else an earlier output stays as it is
            table.write()
        if skipped:
            files.write_csv(listing, [["path", "reason"], *skipped])
        else:
            listing.unlink(missing_ok=True)
    note = f", {len(skipped)} skipped (see {files.shown(listing)})" if skipped else ""
    if not rows:
        path, reason = skipped[0]
        raise ValueError(
            f"not one of {len(wanted)} files could be predicted ({files.shown(path)}: {reason}); see "
            f"{files.shown(listing)}"
        )
    print(f"predicted {len(wanted) - len(skipped)} of {len(wanted)} files{note}: {files.shown(output)}")
    if explain:
        of = {row["path"]: [] for row in rows}
        for row in rows:
            of[row["path"]].append(row)
        pictures = explanation.write(explain, of, recipe)
        print(f"explained: {', '.join(map(files.shown, pictures))}")
    return rows


def window_starts(frames, length, step=0):
    """First frames of the windows over a video; the last window ends with the video.

    Example:
        >>> window_starts(10, 4, 3), window_starts(11, 4), window_starts(2, 4)
        ([0, 3, 6], [0, 4, 7], [0])
    """
    last = max(0, frames - length)
    return [*range(0, last, step or length), last]


class Predictor:
    """A run's model, with its second stage if it has one, over windows of features.

    Args:
        run: `tfvc.workdir.Run`.
    """

    def __init__(self, run):
        self.run, self.rows = run.path, run.facts.features
        self.length = self.rows[0].shape[0]
        self.timed = _timed_streams(run.recipe)
        self._decide, self._call = None, None
        model = run.model()  # once: what follows shares its weights
        if second_stage.decides(run):
            self._decide = second_stage.decide(run, model)
        module = names.load("models", run.recipe.model)
        scores_of = getattr(module, "attention_scores", None)
        if scores_of or not self._decide:
            self._call = _compiled(model, scores_of, not self._decide)

    def __call__(self, features, starts):
        """What the model says of windows of one video.

        Args:
            features: row name -> array (N, ...) of the whole video; a row that is left out is missing.
            starts: first rows of the windows; of a stream that does not go along with time, such as words,
                each window has the beginning.

        Returns:
            dict: `scores` (W, C); `attention` (W, T) or (W, T, K) of a model that has such; `labels` (W, C)
            of 0 and 1 where labels are decided on.
        """
        import numpy as np

        parts = []
        for i in range(0, len(starts), _WINDOWS):
            some = starts[i : i + _WINDOWS]
            inputs = {}
            for row in self.rows:
                inputs[row.name] = np.zeros((len(some), *row.shape), row.dtype)
                for window, start in zip(inputs[row.name], some, strict=True):
                    first = start if row.name in self.timed else 0
                    piece = features.get(row.name, window[:0])[first : first + len(window)]
                    window[: len(piece)] = piece
            part = self._call(inputs) if self._call else {}
            if self._decide:
                part["labels"], part["scores"] = self._decide(inputs)
            parts.append(part)
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}


def _timed_streams(recipe):
    """Streams whose rows follow one another in time at one pace: what a window can be cut from."""
    if recipe.data.sampling == "even":
        return ()
    return ("frames", "audio") if recipe.audio.name == "vggish" else ("frames",)


def _compiled(whole, scores_of, scored):
    """A function of inputs: the model's `scores` if `scored`, and its `attention` by `scores_of` if any."""
    import keras

    outputs = {"scores": workdir.probabilities_of(whole)} if scored else {}
    attention = scores_of(whole) if scores_of else None
    outputs |= {"attention": attention.output} if attention else {}
    if not outputs:
        return None
    # Of both at once: what they share runs once.
    return inference.as_function(keras.Model(whole.input, outputs))


def _made_by(run, recipe):
    """What rows depend on besides the files and their texts."""
    model = run.path / "model.keras"
    made = [files.sha256(model) if model.is_file() else ""]
    made += [dataclasses.asdict(recipe.predict), recipe.data.max_seconds, recipe.data.max_pixels]
    if second_stage.decides(run):
        made += [files.sha256(path) for path in second_stage.files_of(run) if path.is_file()]
    return made


def _fill(table, todo, run, recipe):
    """Predicts files into the table; returns the skipped ones as [path, reason]."""
    from tfvc.data import ahead

    predictor, networks, skipped = Predictor(run), encoders.of_run(run, recipe), []
    since, cost, new = time.monotonic(), 0.0, 0
    bar = cli.progress(len(table.texts), len(table.texts) - len(todo), "file")
    texts = [table.texts[path] or "" for path in todo]
    try:
        with bar, extract.decode_ahead(todo, networks, texts=texts) as decoder:
            for one in ahead.encode_all(decoder, range(len(todo)), networks, recipe.backbone.batch_size):
                path = todo[one.index]
                bar.update()
                for text in one.warnings:
                    bar.write(f"warning: {path}: {text}", file=sys.stderr)
                if one.reason:
                    skipped.append([str(path), one.reason])
                    continue
                rows = rows_of(
                    str(path), networks.features(one), one.times, predictor, run.facts.classes, recipe
                )
                table.add(path, rows)
                new += 1
                # What is written grows with the list: never spend more than a twentieth of the time on it.
                if time.monotonic() - since > max(_SECONDS, 20 * cost):
                    start = time.monotonic()
                    table.write()
                    since, new = time.monotonic(), 0
                    cost = since - start
    finally:  # Ctrl-C keeps what was predicted
        if new:
            table.write()
    return skipped


def rows_of(path, features, frames, predictor, classes, recipe):
    """The rows of one video, as `predict` gives them.

    Args:
        path: what the rows are to name.
        features: row name -> array (N, ...), as of `encoders.Encoders.features`.
        frames: seconds of the video's frames, one or several a row of features.
        predictor: a `Predictor`.
        classes: names, in the order of the scores.
        recipe: of the run.
    """
    times, lasts = _times(features, frames, predictor.timed, recipe)
    length = predictor.length
    starts = window_starts(len(times), length, recipe.predict.window_step) if predictor.timed else [0]
    found = predictor(features, starts)
    inference.check_finite(found["scores"][None], predictor.run, ids=[files.shown(path)])
    streams = [row.name for row in predictor.rows]
    about = {"path": path}
    if len(streams) > 1:
        about["missing"] = [name for name in streams if name not in features]

    def row(part, seen, values, attention):
        end = round(seen[-1] + lasts, 3) if seen else None
        labels = {}
        if "labels" in values:
            labels["labels"] = [
                name for name, share in zip(classes, values["labels"], strict=True) if share >= 0.5
            ]
        top = _top(values["scores"], classes, recipe.predict.top_k)
        span = {"part": part, "start": round(seen[0], 3) if seen else 0.0, "end": end}
        return about | span | labels | {"top": top, "attention": attention}

    attention = found.pop("attention", None)
    means = {name: values.mean(axis=0) for name, values in found.items()}
    if len(starts) == 1:
        return [row("video", times, means, _timed(attention, 0, times, streams)) | {"start": 0.0}]
    rows = [row("video", times, means, []) | {"start": 0.0}]
    for i, start in enumerate(starts):
        seen = times[start : start + length]
        values = {name: of[i] for name, of in found.items()}
        rows.append(row("window", seen, values, _timed(attention, i, seen, streams)))
    return rows


def _times(features, frames, timed, recipe):
    """When each row of a video begins, and how long one lasts; no time is known of words alone."""
    if not timed:  # spread over the whole clip
        return list(frames), (frames[-1] - frames[0]) / (len(frames) - 1) if len(frames) > 1 else 0.0
    second = encoders.seconds_per_row(recipe)
    count = max((len(rows) for name, rows in features.items() if name in timed), default=0)
    a_frame = len(frames) == count and encoders.frames_per_row(recipe) == 1
    return frames if a_frame else [k * second for k in range(count)], second


def _top(scores, classes, k):
    order = sorted(range(len(classes)), key=lambda i: (-scores[i], i))[:k]
    return [{"label": classes[i], "score": round(float(scores[i]), 6)} for i in order]


def _timed(attention, i, times, streams):
    """`attention` of a row: the weight of each time, and of each stream at it where there are several."""
    if attention is None:
        return []
    found = []
    for t, weights in zip(times, attention[i], strict=False):
        one = {"time": round(t, 3), "weight": round(float(weights.sum()), 4)}
        if weights.ndim and len(streams) > 1:
            one["by"] = {name: round(float(w), 4) for name, w in zip(streams, weights, strict=True)}
        found.append(one)
    return found


def listed(paths, recipe):
    """The media files that the bare arguments name, in order, each once: Path -> its text, "" without one.

    Raises:
        FileNotFoundError: a path that is not there.
        ValueError: none given; faults of a manifest; where the model reads text, one file with two texts.
    """
    from tfvc.data import datasets

    if not paths:
        raise ValueError("expected PATHs: video files, folders, or .csv/.jsonl manifests")
    read, found = read_by(recipe), {}
    spoken, alone = "text" in read, read == ("text",)
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no such file or folder; expected a video, a folder or a manifest"
            )
        if path.is_dir() or path.suffix.lower() in (".csv", ".jsonl"):
            kind = "manifest" if path.is_file() else "folder"
            data = dataclasses.replace(recipe.data, kind=kind, streams=",".join(read))
            clips = datasets.load(data, str(path), labelled=False).clips
            # Of words alone no file is needed: the id stands for it, and two clips may share one.
            names = [Path(clip.id if alone else clip.path) for clip in clips]
            pairs = [(name, clip.text if spoken else "") for name, clip in zip(names, clips, strict=True)]
        else:
            pairs = [(path, "")]
        for file, text in pairs:
            if found.setdefault(file, text) != text:
                raise ValueError(
                    f"{files.shown(file)}: listed with two texts, {found[file][:40]!r} and {text[:40]!r}; "
                    "expected one text a file: predict them one by one, or leave one out"
                )
    return found


def _with_text(wanted, paths, text):
    """The one file that is wanted, with the text of the command line."""
    if len(wanted) != 1 or list(wanted) != list(map(Path, paths)):
        raise ValueError(
            f"--text: one text, and {len(wanted)} files listed by {len(paths)} PATHs; expected one video: "
            "of several, a manifest's column text holds the texts"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"--text: not UTF-8 from letter {error.start + 1} on; expected text") from None
    return dict.fromkeys(wanted, text.strip())


def main(argv=None):
    def run(arguments):
        given = (arguments.workdir, arguments.paths, arguments.output, arguments.set, arguments.explain)
        rows = predict(*given, text=arguments.text)
        for row in itertools.islice((row for row in rows if row["part"] == "video"), 20):
            best = ", ".join(f"{t['label']} {t['score']:.3f}" for t in row["top"][:3])
            said = f"{'; '.join(row['labels']) or 'no label'} ({best})" if "labels" in row else best
            print(f"{files.shown(row['path'])}: {said}")

    cli.command("tfvc.predict", _DOC, ("workdir", "set", "output", "explain", "text"), run, argv, paths=True)


if __name__ == "__main__":
    main()
