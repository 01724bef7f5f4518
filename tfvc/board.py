"""What a measured run shows in TensorBoard: precision-recall curves, pictures, and embeddings of clips."""

import dataclasses
import math

from tfvc import encoders, explain, files, names
from tfvc.recipe import read_by

_CURVES = 100  # classes with a curve, the most frequent ones: TensorBoard draws every curve it has
_THRESHOLDS = 201  # of a curve, TensorBoard's own number
_POINTS = 500  # clips in the projector
_SIDE = 48  # pixels of a clip's thumbnail there
_EXPLAINED = 6  # clips whose attention is drawn


class Curves:
    """Counts for the precision-recall curve of each class, batch by batch: no score is kept.

    A score s falls into bucket floor(200 s) of 201, as TensorBoard's plugin `pr_curves` counts.

    Args:
        classes: C names.

    Example:
        >>> curves = Curves(["flood", "storm"])
        >>> curves.update([[1, 0], [1, 1]], [[0.9, 0.2], [0.8, 0.4]])
        >>> [name for name, _ in curves.summaries()]
        ['flood', 'storm']
    """

    def __init__(self, classes):
        import numpy as np

        self.classes = list(classes)
        self._counts = np.zeros((2, len(classes), _THRESHOLDS), "int64")  # without the label, with it

    def update(self, truth, scores):
        """Adds clips.

        Args:
            truth: (N, C), over 0 where the clip has the label.
            scores: (N, C), 0 to 1.
        """
        import numpy as np

        has, scaled = np.asarray(truth) > 0, np.asarray(scores) * (_THRESHOLDS - 1)
        # Of thousands of classes nearly all cells lie in the first bucket, without the label: not looked at.
        rows, classes = np.nonzero(has | (scaled >= 1))
        places = np.clip(np.floor(scaled[rows, classes]), 0, _THRESHOLDS - 1).astype("int64")
        np.add.at(self._counts, (has[rows, classes].astype("int64"), classes, places), 1)
        self._counts[0, :, 0] += len(has) - np.bincount(classes, minlength=len(self.classes))

    @property
    def shown(self):
        """Numbers of the classes that have a curve: those that occur, the 100 most frequent of them."""
        import numpy as np

        clips = self._counts[1].sum(axis=1)
        frequent = np.argsort(-clips, kind="stable")[:_CURVES]
        return [int(c) for c in frequent if clips[c]]

    def summaries(self):
        """Yields name and `Summary` of each class of `shown`."""
        import numpy as np
        from tensorboard.plugins.pr_curve import summary

        for c in self.shown:
            false, true = np.cumsum(self._counts[:, c, ::-1], axis=1)[:, ::-1]  # at or over each threshold
            name = files.printable(self.classes[c])
            yield (
                name,
                summary.raw_data_pb(
                    f"pr/{name}",
                    true_positive_counts=true,
                    false_positive_counts=false,
                    true_negative_counts=false[0] - false,
                    false_negative_counts=true[0] - true,
                    precision=true / np.maximum(1, true + false),
                    recall=true / np.maximum(1, true[0]),
                    num_thresholds=_THRESHOLDS,
                    display_name=name,
                ),
            )


@dataclasses.dataclass(frozen=True)
class Clips:
    """What is shown of single clips.

    Args:
        ids, truth, predicted: of N clips: their ids, and their labels in words.
        vectors: float32 (N, D), of the layer `embedding`; None = the model has no such layer.
        thumbnails: uint8 (N, h, w, 3); None = no clip has one.
        attention: id -> uint8 (height, width, 4), a picture of the model's attention over the clip.
    """

    ids: list
    truth: list
    predicted: list
    vectors: object
    thumbnails: object = None
    attention: dict = dataclasses.field(default_factory=dict)


def clips_of(run, model, source, paths, ids, truth, decided):
    """What is shown of single clips: the embeddings of the first 500, and the attention over six.

    The six are the first clip of each of the first classes. Where a picture cannot be had, a line says why.

    Args:
        run: `tfvc.workdir.Run`, of clips.
        model: of it, all outputs.
        source: `pipeline.Source` of the clips that were measured.
        paths: id -> path of its media file; "" or absent: no picture of it.
        ids, truth, decided: of the clips, in the order of the records: (N,), and (N, C), over 0 where a clip
            has the label, resp. is given it.

    Returns:
        Clips.
    """
    import keras
    import numpy as np

    from tfvc.data import pipeline

    ids = ids[:_POINTS]
    said = [[_words(row, source.classes) for row in rows[: len(ids)]] for rows in (truth, decided)]
    embed = _embedding(model)
    there = {name: label for name, label in zip(ids, said[0], strict=True) if paths.get(name)}
    attend, chosen = _attended(run, model, there)
    vectors, scores = [], {}
    with pipeline.readable(source.folder):
        some = dataclasses.replace(source, ids=ids)
        for inputs, _, batch in pipeline.batches(some, run.recipe.train.batch_size):
            if embed:
                vectors.append(keras.ops.convert_to_numpy(embed(inputs, training=False)).astype("float32"))
            here = [(k, name.decode()) for k, name in enumerate(batch.numpy()) if name.decode() in chosen]
            found = keras.ops.convert_to_numpy(attend(inputs, training=False)) if here else []
            scores |= {name: found[k] for k, name in here}
    attention, rows = {}, _rows_of(source)
    for name, *words in zip(ids, *said, strict=True):
        if name in scores:
            title = f"{name}   true: {words[0]}, predicted: {words[1]}"
            if (picture := _explained(run, paths[name], scores[name][: rows[name]], title)) is not None:
                attention[name] = picture
    if not embed:
        return Clips(ids, *said, None, None, attention)
    vectors = np.concatenate(vectors).reshape(len(ids), -1)
    return Clips(ids, *said, vectors, _thumbnails(run, [paths.get(name, "") for name in ids]), attention)


def write(folder, scalars, curves, pictures=None, clips=None):
    """Writes a folder for TensorBoard, whole or not at all; one that is there is replaced.

    Args:
        folder: `<run>/logs/evaluation`.
        scalars: name -> float.
        curves: `Curves`.
        pictures: name -> uint8 (height, width, 3 or 4).
        clips: `Clips`; None = nothing is shown of single clips.

    Scalars and pictures are tagged `evaluation/<name>`, curves `pr/<class>`, a clip's picture
    `attention/<id>`. A line tells what is there.
    """
    import tensorflow as tf

    images = {f"evaluation/{name}": image for name, image in (pictures or {}).items()}
    if clips:
        images |= {f"attention/{files.printable(name)}": image for name, image in clips.attention.items()}
    with files.aside(folder) as temporary:
        writer = tf.summary.create_file_writer(str(temporary))
        with writer.as_default(step=0):
            for name, value in scalars.items():
                tf.summary.scalar(f"evaluation/{name}", value)
            for tag, image in images.items():
                tf.summary.image(tag, image[None])
            for _, summary in curves.summaries():
                tf.summary.experimental.write_raw_pb(summary.SerializeToString())
        writer.close()
        if clips and clips.vectors is not None:
            _project(temporary, clips)
    count, drawn = len(curves.classes), len(curves.shown)
    most = ", the most frequent" * (drawn == _CURVES)
    said = [f"precision-recall curves of {drawn} of {count} classes{most}"]
    if clips:
        said += [f"attention over {len(clips.attention)} clips"] * bool(clips.attention)
        shown = ", with thumbnails" * (clips.thumbnails is not None)
        said += [f"embeddings of {len(clips.ids)} clips{shown}"] * (clips.vectors is not None)
    print(f"for TensorBoard: {'; '.join(said)}")


def _words(row, classes):
    return "; ".join(name for name, value in zip(classes, row, strict=True) if value > 0) or "no label"


def _embedding(model):
    """The part of a model up to its layer `embedding`; None, and a line, where it has no such layer."""
    import keras

    layer = next((layer for layer in model.layers if layer.name == "embedding"), None)
    if layer is None:
        print(f"no projector: model {model.name} has no layer named embedding")
        return None
    return keras.Model(model.input, layer.output)  # no operation of ours: its name may stand in the model


def _attended(run, model, labels):
    """The model that gives the attention, and the ids of the clips to draw it over; none, and a line, where
    none can be. `labels`: id -> words, of the clips that have a file."""
    scores_of = getattr(names.load("models", run.recipe.model), "attention_scores", None)
    attend = scores_of(model) if scores_of else None
    if not attend:
        reason = f"{run.recipe.model}, as trained here, has none over time"
    elif run.recipe.data.sampling == "even":
        reason = "the times of pictures spread over a clip (data.sampling=even) are not in the records"
    elif not labels:
        reason = "the clips' files are not known"
    else:
        first = {}
        for name, label in labels.items():
            first.setdefault(label, name)
        return attend, set(list(first.values())[:_EXPLAINED])
    print(f"no picture of attention: {reason}")
    return None, set()


def _rows_of(source):
    """id -> number of real rows of a clip; behind them is padding."""
    from tfvc.data import shards

    return {record["id"]: record["frames"] for record in shards.read_manifest(source.folder).records}


def _explained(run, path, scores, title):
    """The picture of one clip's attention, scores (T,) or (T, K); None, and a line, where the file cannot be
    read."""
    from tfvc import plots

    streams, second = read_by(run.recipe), encoders.seconds_per_row(run.recipe)
    scores = scores.reshape(len(scores), -1)
    cells = [{"time": k * second, "weight": float(row.sum())} for k, row in enumerate(scores)]
    if scores.shape[1] == len(streams) > 1:
        for cell, row in zip(cells, scores.tolist(), strict=True):
            cell["by"] = dict(zip(streams, row, strict=True))
    row = {"attention": cells, "end": len(cells) * second, "top": []}
    try:
        return plots.pixels(explain.draw(path, [row], run.recipe, title))
    except (OSError, ValueError) as error:  # it was moved, or is damaged
        print(f"{files.shown(path)}: its attention is not drawn: {files.first_line(error)}")
        return None


def _thumbnails(run, paths):
    """The first picture of each clip; grey where a clip has none, None where no clip has."""
    import numpy as np

    from tfvc.data import video

    found = np.full((len(paths), _SIDE, _SIDE, 3), 128, "uint8")
    bounds = {"max_seconds": run.recipe.data.max_seconds, "max_pixels": run.recipe.data.max_pixels}
    without = []
    for k, path in enumerate(paths):
        try:
            if path:
                (_, found[k]), *_ = video.iter_frames(path, max_frames=1, size=(_SIDE, _SIDE), **bounds)
        except (OSError, video.MediaError) as error:
            without.append((path, error))
    if without:
        path, error = without[0]
        print(f"no thumbnail of {len(without)} clips ({files.shown(path)}: {files.first_line(error)})")
    return found if sum(map(bool, paths)) > len(without) else None


def _project(folder, clips):
    """What the projector reads: vectors, a table of the clips, and all thumbnails as one picture."""
    import numpy as np
    import tensorflow as tf
    from google.protobuf import text_format
    from tensorboard.plugins.projector import EmbeddingInfo, ProjectorConfig

    info = EmbeddingInfo(
        tensor_name="embedding",
        tensor_shape=clips.vectors.shape,
        tensor_path="embedding.tsv",
        metadata_path="clips.tsv",
    )
    np.savetxt(folder / info.tensor_path, clips.vectors, fmt="%.5g", delimiter="\t")
    table = zip(clips.ids, clips.truth, clips.predicted, strict=True)
    lines = ["\t".join(map(files.printable, row)) for row in [("clip", "true", "predicted"), *table]]
    (folder / info.metadata_path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if clips.thumbnails is not None:
        count, height, width, _ = clips.thumbnails.shape
        side = math.ceil(math.sqrt(count))
        sheet = np.zeros((side * side, height, width, 3), "uint8")
        sheet[:count] = clips.thumbnails
        sheet = sheet.reshape(side, side, height, width, 3).swapaxes(1, 2).reshape(side * height, -1, 3)
        info.sprite.image_path = "clips.png"
        info.sprite.single_image_dim.extend((width, height))
        (folder / info.sprite.image_path).write_bytes(tf.io.encode_png(sheet).numpy())
    config = text_format.MessageToString(ProjectorConfig(embeddings=[info]))
    (folder / "projector_config.pbtxt").write_text(config, encoding="utf-8")
