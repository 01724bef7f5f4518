"""What turns a clip into its streams: pictures into `frames`, sound into `audio`, words into `text`."""

import dataclasses
from dataclasses import dataclass

from tfvc.recipe import Feature, digest, read_by, streams

WEIGHTS = {  # stream -> setting of its records
    "frames": "backbone.weights",
    "audio": "audio.weights",
    "text": "text.weights",
}
UNKNOWN, CONVERTED = "of unknown origin", "converted"  # how the sentence begins where no network is known


def seconds_per_row(recipe):
    """How long one row of a clip's streams lasts: a second where VGGish hears, or frames are pooled.

    With `data.sampling=even` pictures have times of their own, and SoundNet's rows and words none.

    Example:
        >>> from tfvc import recipe
        >>> seconds_per_row(recipe.get("attention_boosted", overrides=["data.fps=2"]))
        0.5
    """
    by_second = "audio" in streams(recipe) and recipe.audio.name == "vggish"
    return 1.0 if recipe.data.pool == "second" or by_second else 1.0 / recipe.data.fps


def rows_of_clip(recipe, stream, frames=0):
    """How many rows of a stream a model is given, T: the stream's own setting, else that of the pictures.

    Args:
        frames: of the pictures; 0 = `data.frames`.

    Example:
        >>> from tfvc import recipe
        >>> rows_of_clip(recipe.get("attention_boosted"), "frames", 7)
        7
    """
    own = {"audio": recipe.audio.rows, "text": recipe.text.rows}
    return own.get(stream) or frames or recipe.data.frames


def evenly(count, rows):
    """Indices of `rows` of `count` rows, evenly spaced; of fewer, all of them.

    Example:
        >>> evenly(10, 4), evenly(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    return list(range(count)) if count <= rows else [k * count // rows for k in range(rows)]


def frames_per_row(recipe):
    """How many decoded frames one row of the stream `frames` is made of."""
    return round(recipe.data.fps) if recipe.data.pool == "second" else 1


@dataclass(frozen=True)
class Encoders:
    """The networks of a recipe's streams. Made by `load`.

    Args:
        recipe: whose `data`, `backbone`, `audio` and `text` sections say how.
        pictures: `visual.Encoder`, None where the stream `frames` is not read.
        sound: `vggish.Vggish` or `soundnet.SoundNet`, None where the stream `audio` is not read.
        words: `text.Words`, None where the stream `text` is not read.
    """

    recipe: object
    pictures: object = None
    sound: object = None
    words: object = None

    @property
    def streams(self):
        """Names of the streams, pictures first."""
        return tuple(row.name for row in self.rows)

    @property
    def rows(self):
        """The rows of the records, of any length, pictures first."""
        found = []
        if self.pictures:
            bare = self.recipe.backbone.name == "frames"
            shape = tuple(self.pictures.feature_shape) if bare else (self.pictures.feature_size,)
            found.append(Feature("frames", (None, *shape), "uint8" if bare else self.recipe.backbone.dtype))
        if self.sound:
            audio = self.recipe.audio
            found.append(Feature("audio", (None, *_shape(self.sound, audio)), audio.dtype))
        if self.words:
            found.append(Feature("text", (None, *self.words.row_shape), self.words.row_dtype))
        return found

    @property
    def weights(self):
        """Stream -> sentence: where the weights of its network came from; "" where it is not read."""
        parts = {"frames": self.pictures, "audio": self.sound, "text": self.words}
        return {name: part.weights if part else "" for name, part in parts.items()}

    @property
    def vocabulary(self):
        """The words that the numbers of a learned embedding stand for, [] without."""
        return list(self.words.vocabulary) if self.words else []

    def track(self, rows=0):
        """What takes the sound of a file for `heard`; None where no sound is read.

        Args:
            rows: that are enough; 0 = all. SoundNet needs the whole clip.
        """
        from tfvc.data import audio

        if not self.sound:
            return None
        if self.recipe.audio.name == "soundnet":
            return audio.WholeTrack()
        return audio.Track(seconds=rows * seconds_per_row(self.recipe) or None)

    def heard(self, track):
        """Features (N, ...) of a track that has sound."""
        audio = self.recipe.audio
        if audio.name == "soundnet":
            return self.sound.encode(track.samples, audio.output, audio.after_relu)
        return self.sound.encode_pieces(track.pieces, audio.output)

    def features(self, one):
        """The streams of a clip: row name -> array (N, ...). A stream that the clip has not is left out.

        Args:
            one: `tfvc.data.ahead.Encoded`, whole.
        """
        import numpy as np

        found = {}
        if one.rows:
            found["frames"] = self.pooled(np.stack(one.rows))
        if len(one.sound):
            sound = one.sound
            if self.recipe.audio.name == "soundnet" and (rows := rows_of_clip(self.recipe, "audio")):
                sound = sound[evenly(len(sound), rows)]
            found["audio"] = _stored(sound, self.recipe.audio.dtype)
        if len(one.text):
            found["text"] = one.text[: rows_of_clip(self.recipe, "text") or None]
        return found

    def pooled(self, frames):
        """A row of each `frames_per_row` frames, their mean; the last second is filled up with its last.

        **Source**: MAFnet's extraction, where a missing 160th frame repeats the 159th (spec/mafnet.md).
        """
        import numpy as np

        size = frames_per_row(self.recipe)
        if size == 1:
            return frames
        short = -len(frames) % size
        whole = np.concatenate([frames, np.repeat(frames[-1:], short, axis=0)])
        means = whole.reshape(-1, size, *frames.shape[1:]).mean(axis=1, dtype="float32")
        return means.astype(frames.dtype)


def _stored(values, dtype):
    """Saturated: float16 ends at 65504, and an infinity would poison the statistics."""
    return (values.clip(-65504.0, 65504.0) if dtype == "float16" else values).astype(dtype)


def load(recipe, demo=False, texts=(), vocabulary=()):
    """The networks of a recipe's streams.

    Args:
        recipe: `tfvc.recipe.Recipe`.
        demo: the embedded demo set is being read: where published weights cannot be had, go on with random
            ones (always those of seed 0, so that runs of all seeds share one set of features), and say so.
        texts: of all clips; a learned embedding numbers their words.
        vocabulary: of a finished run, in place of `texts`.

    Raises:
        FileNotFoundError: weights that are not there.
        ValueError: an unknown name, or a setting that does not go with it.
    """
    wanted, pictures, sound, words = streams(recipe), None, None, None
    if "text" in wanted:
        from tfvc.backbones import text

        words = text.load(recipe.text, texts=texts, vocabulary=vocabulary)
    if "audio" in wanted:  # first: whether its file is there is known at once
        sound = _sound(recipe.audio, demo)
    if "frames" in wanted:
        from tfvc.backbones import visual

        pictures = visual.load(recipe.backbone, demo=demo, channel_order=recipe.data.channel_order)
    return Encoders(recipe, pictures, sound, words)


def ready_made(run):
    """Whether a run's features were given by its user (`tfvc.convert`): no network here makes such."""
    return any(text.startswith(CONVERTED) for text in run.facts.made_with.values())


def of_run(run, recipe=None, whole=False):
    """The networks that a finished run's features were made with.

    Args:
        run: `tfvc.workdir.Run`.
        recipe: the run's recipe with other settings that do not change what is computed; None = its own.
        whole: for all streams that were extracted; else for those that the model reads.

    Raises:
        ValueError: the weights found now are not those of the run, or their rows have another shape or dtype;
            or its features were ready-made.
    """
    made_with = run.facts.made_with
    if ready_made(run):
        raise ValueError(
            f"{run.path}: trained on ready features ({next(filter(None, made_with.values()))}), and no "
            "network here makes such from clips; expected records of tfvc.convert: --data of evaluate, or "
            "signature serialized of the export"
        )
    recipe = recipe or run.recipe
    if not whole:
        data = dataclasses.replace(recipe.data, streams=",".join(read_by(recipe)))
        recipe = dataclasses.replace(recipe, data=data)
    # The demo set's run may have asked for published weights, and gone on with random ones.
    if made_with["frames"].startswith("random"):
        recipe = dataclasses.replace(recipe, backbone=dataclasses.replace(recipe.backbone, weights="random"))
    if made_with["audio"].startswith("random"):
        recipe = dataclasses.replace(recipe, audio=dataclasses.replace(recipe.audio, weights="random"))
    encoders = load(recipe, vocabulary=run.facts.vocabulary)
    for name in streams(recipe):
        if encoders.weights[name] != made_with[name]:
            raise ValueError(
                f"{run.path}: its {name} features were made with weights {made_with[name]}; "
                f"found {encoders.weights[name]}"
            )
    held = {row.name: (row.shape[1:], row.dtype) for row in run.facts.features}
    for row in encoders.rows:
        gives = row.shape[1:], row.dtype
        if (has := held.get(row.name, gives)) != gives:
            raise ValueError(
                f"{run.path}: trained on {row.name} rows of shape {has[0]}, {has[1]}; its network "
                f"({encoders.weights[row.name]}) makes {gives[0]}, {gives[1]}; expected a run on records "
                "that tfvc.extract made by its recipe: train on such"
            )
    return encoders


def _sound(audio, demo):
    from tfvc.backbones import soundnet, vggish, weights

    network = {"vggish": vggish, "soundnet": soundnet}[audio.name]
    published, random = weights.SOUND_WORDS[audio.name]
    try:
        sound = network.load(audio.weights)
    except FileNotFoundError as error:
        text = str(error).replace(f"{audio.name}_weights={random}", f"--set=audio.weights={random}")
        if not demo or audio.weights != published:
            raise FileNotFoundError(text) from None
        print(f"{audio.name}: no published weights; going on with a random network ({text})")
        sound = network.load(random)
    _shape(sound, audio)
    return sound


def _shape(sound, audio):
    """Shape of one row of sound; ValueError where the network has no such output."""
    output = audio.output
    if audio.name == "vggish" and output not in sound.outputs:
        raise ValueError(
            f"audio.output={output}: {sound.weights} gives {', '.join(sound.outputs)}; expected one of those"
        )
    from tfvc.backbones import vggish

    if sound.model is None:  # a SavedModel gives embeddings
        return (vggish.EMBEDDING,)
    outputs = sound.model.output
    return tuple(outputs[output].shape[2 if audio.name == "soundnet" else 1 :])


def identity(encoders):
    """What names the networks behind records, for their digest."""
    all_parts = (encoders.pictures, encoders.sound, encoders.words)
    found = [part.digest for part in all_parts if part]
    return found[0] if len(found) == 1 else digest(found)
