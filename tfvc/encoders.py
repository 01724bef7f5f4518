"""The networks that turn a clip into its streams: pictures into `frames`, sound into `audio`."""

import dataclasses
from dataclasses import dataclass

from tfvc.recipe import Feature, digest, read_by, streams

WEIGHTS = {"frames": "backbone.weights", "audio": "audio.weights"}  # stream -> setting of its records
UNKNOWN, CONVERTED = "of unknown origin", "converted"  # how the sentence begins where no network is known


def seconds_per_row(recipe):
    """How long one row of a clip's streams lasts: a second where there is sound, or frames are pooled.

    Example:
        >>> from tfvc import recipe
        >>> seconds_per_row(recipe.get("attention_boosted", overrides=["data.fps=2"]))
        0.5
    """
    return 1.0 if recipe.data.pool == "second" or "audio" in streams(recipe) else 1.0 / recipe.data.fps


def frames_per_row(recipe):
    """How many decoded frames one row of the stream `frames` is made of."""
    return round(recipe.data.fps) if recipe.data.pool == "second" else 1


@dataclass(frozen=True)
class Encoders:
    """The networks of a recipe's streams. Made by `load`.

    Args:
        recipe: whose `data`, `backbone` and `audio` sections say how.
        pictures: `visual.Encoder`, None where the stream `frames` is not read.
        sound: `vggish.Vggish`, None where the stream `audio` is not read.
    """

    recipe: object
    pictures: object = None
    sound: object = None

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
            found.append(Feature("audio", (None, *_shape(self.sound, audio.output)), audio.dtype))
        return found

    @property
    def weights(self):
        """Stream -> sentence: where the weights of its network came from; "" where it is not read."""
        parts = {"frames": self.pictures, "audio": self.sound}
        return {name: part.weights if part else "" for name, part in parts.items()}

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
            found["audio"] = _stored(one.sound, self.recipe.audio.dtype)
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


def load(recipe, demo=False):
    """The networks of a recipe's streams.

    Args:
        recipe: `tfvc.recipe.Recipe`.
        demo: the embedded demo set is being read: where published weights cannot be had, go on with random
            ones (always those of seed 0, so that runs of all seeds share one set of features), and say so.

    Raises:
        FileNotFoundError: weights that are not there.
        ValueError: an unknown name, or a setting that does not go with it.
    """
    wanted, pictures, sound = streams(recipe), None, None
    if "audio" in wanted:  # first: whether its file is there is known at once
        sound = _sound(recipe.audio, demo)
    if "frames" in wanted:
        from tfvc.backbones import visual

        pictures = visual.load(recipe.backbone, demo=demo, channel_order=recipe.data.channel_order)
    return Encoders(recipe, pictures, sound)


def ready_made(run):
    """Whether a run's features were given by its user (`tfvc.convert`): no network here makes such."""
    return any(text.startswith(CONVERTED) for text in (run.facts.weights, run.facts.audio_weights))


def of_run(run, recipe=None, whole=False):
    """The networks that a finished run's features were made with.

    Args:
        run: `tfvc.workdir.Run`.
        recipe: the run's recipe with other settings that do not change what is computed; None = its own.
        whole: for all streams that were extracted; else for those that the model reads.

    Raises:
        ValueError: the weights found now are not those of the run; or its features were ready-made.
    """
    if ready_made(run):
        raise ValueError(
            f"{run.path}: trained on ready features ({run.facts.weights or run.facts.audio_weights}), and no "
            "network here makes such from clips; expected records of tfvc.convert: --data of evaluate, or "
            "signature serialized of the export"
        )
    recipe, facts = recipe or run.recipe, run.facts
    if not whole:
        data = dataclasses.replace(recipe.data, streams=",".join(read_by(recipe)))
        recipe = dataclasses.replace(recipe, data=data)
    then = {"frames": facts.weights, "audio": facts.audio_weights}
    # The demo set's run may have asked for published weights, and gone on with random ones.
    if then["frames"].startswith("random"):
        recipe = dataclasses.replace(recipe, backbone=dataclasses.replace(recipe.backbone, weights="random"))
    if then["audio"].startswith("random"):
        recipe = dataclasses.replace(recipe, audio=dataclasses.replace(recipe.audio, weights="random"))
    encoders = load(recipe)
    for name in streams(recipe):
        if encoders.weights[name] != then[name]:
            raise ValueError(
                f"{run.path}: its {name} features were made with weights {then[name]}; "
                f"found {encoders.weights[name]}"
            )
    return encoders


def _sound(audio, demo):
    from tfvc.backbones import vggish, weights

    published, random = weights.SOUND_WORDS
    try:
        sound = vggish.load(audio.weights)
    except FileNotFoundError as error:
        text = str(error).replace(f"vggish_weights={random}", f"--set=audio.weights={random}")
        if not demo or audio.weights != published:
            raise FileNotFoundError(text) from None
        print(f"vggish: no AudioSet weights; going on with a random network ({text})")
        sound = vggish.load(random)
    _shape(sound, audio.output)
    return sound


def _shape(sound, output):
    """Shape of one second's features; ValueError where the network has no such output."""
    if output not in sound.outputs:
        raise ValueError(
            f"audio.output={output}: {sound.weights} gives {', '.join(sound.outputs)}; expected one of those"
        )
    from tfvc.backbones import vggish

    return tuple(sound.model.output[output].shape[1:]) if sound.model else (vggish.EMBEDDING,)


def identity(encoders):
    """What names the networks behind records, for their digest."""
    both = [part.digest for part in (encoders.pictures, encoders.sound) if part]
    return both[0] if len(both) == 1 else digest(both)
