"""Finished runs of untrained models of clips, for what is asked of them on a page."""

import functools

import keras
import pytest
from test_track import clip

from tfvc import answers, encoders, facts, recipe, workdir
from tfvc.recipe import Feature, read_by

CLASSES, WORDS = ["left", "<b>right</b>"], ["flood", "relief"]
SMALL = ["backbone.name=vgg16", "backbone.weights=random", "backbone.size=32,32", "backbone.pooling=avg"]
SMALL += ["data.frames=4"]
HEARS = [*SMALL, "audio.weights=random"]
SECONDS = [*HEARS, "data.fps=2", "audio.output=pooled"]
READS = [*HEARS, "text.embedding=learned", "second_stage.name=none"]
RUNS = {  # name -> model, settings
    "attention_boosted": ("attention_boosted", SMALL),
    "cnn3d": (
        "attention_boosted",
        ["model_args.mode=cnn3d", "backbone.name=frames", "backbone.size=60,40", SMALL[4]],
    ),
    "mafnet": ("mafnet", SECONDS),
    "heard": ("mafnet", ["model_args.modality=audio", *SECONDS[4:6], "audio.output=pooled"]),
    "attention_cluster": ("attention_cluster", SECONDS),
    "dmrn": ("dmrn", SECONDS),
    "raf": ("raf", [*READS, "model_args.units=4"]),
    "resbilstm": ("resbilstm", [*READS, "model_args.temporal=false"]),
    "words": ("raf", ["model_args.modality=text", "data.frames=4", *READS[6:]]),
}


def make_run(folder, model, settings):
    """A finished run of an untrained model of clips; its networks are small ones with random weights."""
    r = recipe.get(model, overrides=settings)
    loaded = encoders.load(r, vocabulary=WORDS)
    rows = [
        Feature(f.name, (encoders.rows_of_clip(r, f.name, 4), *f.shape[1:]), f.dtype) for f in loaded.rows
    ]
    rows = [row for row in rows if row.name in read_by(r)]
    made = dict(zip(("weights", "audio_weights", "text_weights"), loaded.weights.values(), strict=True))
    several = model in ("raf", "resbilstm")
    found = workdir.Facts("made-up", "", "", CLASSES, rows, several, vocabulary=loaded.vocabulary, **made)
    keras.utils.set_random_seed(0)
    folder.mkdir(exist_ok=True)
    workdir.save(folder, r, found, 0, {"train": [], "validation": [], "test": []})
    facts.build(r, found).save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A function: name in RUNS -> its run, made once."""
    return functools.cache(lambda name: make_run(tmp_path_factory.mktemp("runs") / "run", *RUNS[name]))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("film") / "film.mp4", 3, 3.0)


@pytest.fixture(scope="module")
def asked(run_of):
    """The run of attention_boosted, asked."""
    return answers.Asked(workdir.load(run_of("attention_boosted")))
