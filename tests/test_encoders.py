"""The networks of a clip's streams: rows a second, weights told, fallbacks said."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tfvc import encoders, recipe, workdir
from tfvc.backbones import vggish
from tfvc.data.ahead import Encoded

SMALL = ["backbone.name=mobilenet_v2", "backbone.weights=random", "backbone.size=32,32"]


def small(*overrides, model="mafnet"):
    return recipe.get(model, "original", [*SMALL, "data.fps=4", "audio.weights=random", *overrides])


def of(r, width=3):
    """Encoders whose networks are only looked at for their shapes."""
    sound = SimpleNamespace(model=None, outputs=("embedding",), weights="w", digest="s")
    return encoders.Encoders(r, SimpleNamespace(feature_size=width, weights="v", digest="p"), sound)


def test_a_row_a_second_is_the_mean_of_its_frames_and_the_last_one_is_filled_up():
    frames = np.arange(6, dtype="float32")[:, None] * np.float32([1, 10])
    rows = of(small()).pooled(frames)
    np.testing.assert_allclose(rows[:, 0], [(0 + 1 + 2 + 3) / 4, (4 + 5 + 5 + 5) / 4])
    assert rows.dtype == np.float32
    whole = of(small("data.pool=none", "data.fps=1")).pooled(frames)
    np.testing.assert_array_equal(whole, frames)


def test_a_159th_frame_stands_for_the_160th():
    r = small("data.fps=16")
    frames = np.random.default_rng(0).normal(size=(159, 2)).astype("float32")
    published = np.concatenate([frames, frames[-1:]]).reshape(10, 16, 2).mean(1)
    np.testing.assert_allclose(of(r).pooled(frames), published, atol=1e-6)


def test_half_precision_means_do_not_overflow():
    frames = np.full((4, 2), 60000, "float16")
    rows = of(small("backbone.dtype=float16")).pooled(frames)
    assert rows.dtype == np.float16 and np.isfinite(rows).all()
    one = Encoded(0, sound=np.full((2, 128), 1e9, "float32"))
    assert np.isfinite(
        of(small("audio.output=embedding", "audio.dtype=float16")).features(one)["audio"]
    ).all()


def test_a_stream_that_a_clip_has_not_is_left_out():
    both = of(small("audio.output=embedding"))
    assert set(both.features(Encoded(0, rows=[np.zeros(3, "float32")] * 4))) == {"frames"}
    assert set(both.features(Encoded(0, sound=np.zeros((1, 128), "float32")))) == {"audio"}


def test_rows_and_lengths_follow_the_recipe():
    r = small("audio.output=embedding", "audio.dtype=float16")
    assert [(row.name, row.shape, row.dtype) for row in of(r).rows] == [
        ("frames", (None, 3), "float32"),
        ("audio", (None, 128), "float16"),
    ]
    assert (encoders.seconds_per_row(r), encoders.frames_per_row(r)) == (1.0, 4)
    bare = recipe.get("attention_boosted", overrides=["data.fps=4"])
    assert (encoders.seconds_per_row(bare), encoders.frames_per_row(bare)) == (0.25, 1)


def test_an_output_that_the_network_has_not_is_named():
    with pytest.raises(ValueError, match=r"audio.output=conv4_2: w gives embedding; expected one of those"):
        _ = of(small()).rows


@pytest.fixture
def absent(monkeypatch):
    """No published weights of VGGish, and a small network in place of the random one."""
    real, made = vggish.load, []

    def load(weights, **given):
        if weights != "random":
            return real(weights, **given)
        made.append(weights)
        return SimpleNamespace(model=None, outputs=("conv4_2",), weights="random (seed 0)", digest="r")

    def fetch(name, switch):
        raise FileNotFoundError(f"{name}: not here, {switch}")

    monkeypatch.setattr(vggish, "load", load)
    monkeypatch.setattr(vggish, "_fetch", fetch)
    return made


def test_absent_weights_name_the_flag_and_only_the_demo_set_goes_on_without(absent, capsys):
    r = small("audio.weights=audioset", "model_args.modality=audio")
    with pytest.raises(FileNotFoundError, match=r"go on without: --set=audio.weights=random"):
        encoders.load(r)
    assert not absent
    made_with = {"frames": "", "audio": "random (seed 0)", "text": ""}
    assert encoders.load(r, demo=True).weights == made_with
    assert "going on with a random network" in capsys.readouterr().out


def test_a_run_of_random_weights_asks_for_them_again_and_for_what_it_reads_alone(absent, tmp_path):
    r = small("audio.weights=audioset", "model_args.modality=audio", "data.streams=frames,audio")
    facts = workdir.Facts("demo", "", "", ["a", "b"], [], weights="imagenet", audio_weights="random (seed 0)")
    found = encoders.of_run(workdir.Run(tmp_path, r, facts, 0))
    assert found.pictures is None and recipe.streams(found.recipe) == ("audio",)
    other = workdir.Facts("demo", "", "", ["a", "b"], [], audio_weights="random (seed 1)")
    with pytest.raises(ValueError, match=r"its audio features were made with weights random \(seed 1\)"):
        encoders.of_run(workdir.Run(tmp_path, r, other, 0))


@pytest.mark.parametrize(("shape", "dtype"), [((4, 100), "float32"), ((4, 128), "float16")])
def test_rows_that_the_run_s_network_does_not_make_are_told(absent, tmp_path, shape, dtype):
    r = small("audio.weights=random", "model_args.modality=audio", "data.streams=audio")
    facts = workdir.Facts("demo", "", "", ["a", "b"], [], audio_weights="random (seed 0)")
    usual = [recipe.Feature("audio", (4, 128), "float32", True)]
    run = workdir.Run(tmp_path, r, facts, 0)
    assert encoders.of_run(dataclasses.replace(run, facts=dataclasses.replace(facts, features=usual))).sound
    others = [dataclasses.replace(usual[0], shape=shape, dtype=dtype)]
    found = f"audio rows of shape ({shape[1]},), {dtype}; its network (random (seed 0)) makes (128,), float32"
    with pytest.raises(ValueError, match=re.escape(found)):
        encoders.of_run(dataclasses.replace(run, facts=dataclasses.replace(facts, features=others)))
