"""Real UCF-101 clips through the whole chain: extract, train, evaluate, predict, export."""

import csv
import json

import pytest
import squeezenet
from conftest import shared_path

from experiments import leave_one_group_out
from tfvc import evaluate, export, predict, recipe, train

SMALL = [
    "data.validation_fraction=0",
    "train.report=last",
    "backbone.standardize=yes",
    "backbone.pooling=avg",
]


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """Punch and YoYo: the classes with more than one group."""
    folder = tmp_path_factory.mktemp("ucf")
    for name in ("Punch", "YoYo"):
        (folder / name).symlink_to(shared_path("data/ucf101") / name)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "squeezenet.keras"
    return squeezenet.save(shared_path(squeezenet.FILE), path, (112, 112))


@pytest.mark.slow
def test_a_given_network_tells_punch_from_yoyo_in_groups_it_has_not_seen(
    two_classes, network, tmp_path, capfd, bare_board
):
    settings = [*SMALL, f"backbone.preprocessing={squeezenet.PREPROCESSING}", "backbone.size=112,112"]
    settings += ["model_args.units=32"]
    # Steps make it, not epochs, and each epoch is measured.
    settings += ["train.epochs=4", "train.batch_size=4", "train.learning_rate=0.003"]
    result = leave_one_group_out.study(
        settings, data=str(two_classes), workdir=tmp_path, fidelity="original", backbone=str(network)
    )
    assert result["clips"] == 22 and len(result["folds"]) == 6
    assert result["balanced_accuracy"] >= 0.8, result
    assert "group leakage: 0 of" in capfd.readouterr().out


def test_a_class_with_one_group_is_refused_by_name(tmp_path):
    r = recipe.get(
        "attention_boosted", overrides=["data.split=group", "backbone.name=frames", "model_args.mode=cnn3d"]
    )
    with pytest.raises(ValueError, match="SoccerJuggling"):
        train.train(r, data=str(shared_path("data/ucf101")), workdir=tmp_path / "run")


@pytest.mark.slow
def test_the_whole_chain_with_random_vgg19(
    two_classes, tmp_path, capfd, reloaded_here, networks_once, bare_board
):
    settings = [
        *SMALL,
        "backbone.size=32,32",
        "backbone.weights=random",
        "train.epochs=1",
        "model_args.units=4",
    ]
    r = recipe.get("attention_boosted", overrides=[*settings, "data.split=group"], backbone="vgg19")
    run = tmp_path / "run"
    metrics = train.train(r, data=str(two_classes), workdir=run)
    out = capfd.readouterr().out
    assert "weights random (seed 0)" in out and "quirk kept" in out
    assert metrics["test"]["clips"] == evaluate.evaluate(run)["clips"] > 0
    clip = two_classes / "Punch" / "v_Punch_g01_c01.avi"
    rows = predict.predict(run, [str(clip)], output=str(tmp_path / "p.csv"))
    assert {one["label"] for one in rows[0]["top"]} == {"Punch", "YoYo"}
    with open(tmp_path / "p.csv", newline="") as f:
        assert next(csv.DictReader(f))["path"] == str(clip)
    assert export.export(run).is_dir()
    assert json.loads((run / "recipe.json").read_text())["facts"]["classes"] == ["Punch", "YoYo"]


def test_a_study_by_groups_refuses_clips_without_a_group(tmp_path):
    for name in ("jump", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").touch()
    with pytest.raises(ValueError, match="every clip in a group"):
        leave_one_group_out.study(SMALL, data=str(tmp_path), workdir=tmp_path / "runs")
