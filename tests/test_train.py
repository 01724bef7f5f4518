"""From records of the real writer to a run, and again in its folder."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from made import ROW, SMALL, make_records, recipe

from tfvc import facts, files, plan, workdir
from tfvc import recipe as recipes
from tfvc.data import shards
from tfvc.recipe import Feature
from tfvc.train import train


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records") / "made-up")


@pytest.fixture(scope="module")
def finished(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a run"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        metrics = train(recipe("train.epochs=12"), data=records, workdir=str(folder))
    return folder, metrics, said.getvalue()


@pytest.fixture(scope="module")
def once(records, tmp_path_factory):
    """A run of one step: of frames of its own, with a batch beyond its clips, its data given by a relative
    path; in a folder where others could not be built."""
    folder = tmp_path_factory.mktemp("once") / "run"
    own = ("data.frames=5", "train.batch_size=500", "train.epochs=1", "train.report=best")
    with pytest.raises(ValueError, match="units"):
        train(recipe("model_args.units=0"), data=records, workdir=str(folder))
    with pytest.raises(ValueError, match="train.jit=true: XLA compiles no step that replicas share"):
        train(recipe("train.jit=true"), data=records, workdir=str(folder), strategy="mirrored")
    with contextlib.chdir(Path(records).parent), contextlib.redirect_stdout(io.StringIO()) as said:
        metrics = train(recipe(*own), data=Path(records).name, workdir=str(folder))
    return folder, metrics, said.getvalue(), own


@pytest.fixture
def away(records, tmp_path):
    """The records of the finished run are elsewhere for as long as a test lasts."""
    shutil.move(records, tmp_path / "away")
    yield
    shutil.rmtree(records, ignore_errors=True)
    shutil.move(tmp_path / "away", records)


def copied(finished, folder):
    """A finished run to spoil."""
    shutil.copytree(finished[0], folder)
    return str(folder)


# ---- a run ----


def test_a_run_leaves_what_the_other_commands_need(finished, records):
    folder, metrics, _ = finished
    assert {p.name for p in folder.iterdir()} == {
        "recipe.json",
        "split.json",
        "log.csv",
        "learning_curve.png",
        "logs",
        "checkpoints",
        "best.keras",
        "model.keras",
        "metrics.json",
        ".metrics.json.lock",
    }
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    run = workdir.load(folder)
    assert run.facts.classes == ["left", "right"] and run.facts.records == records
    mean = np.mean([r["frames"] for r in shards.read_manifest(records).records])
    assert mean != int(mean)
    assert run.facts.features == [Feature("frames", (int(mean), 6), "float32")]
    split = run.split()
    assert sorted(i for ids in split.values() for i in ids) == sorted(shards.read_manifest(records).ids)
    assert metrics["clips"] == {k: len(v) for k, v in split.items()}
    assert (metrics["epochs"], metrics["steps"], metrics["batch_size"]) == (12, 12 * 3, 8)
    assert run.model().output_shape == (None, 2)


def test_the_class_is_learnt_and_the_accuracy_is_that_of_the_saved_weights(finished):
    from tfvc.data import pipeline

    folder, metrics, _ = finished
    run = workdir.load(folder)
    facts = run.facts
    source = pipeline.Source(facts.records, facts.features, facts.classes, False, run.split()["test"])
    right = []
    for inputs, labels, _ in pipeline.batches(source, 5):
        right += list(np.argmax(run.model()(inputs), -1) == np.argmax(labels, -1))
    assert metrics["test"]["accuracy"] == pytest.approx(np.mean(right)) and np.mean(right) >= 0.9
    assert metrics["test"]["clips"] == len(right) == 12


def test_random_features_are_standardised_on_the_training_clips_alone(finished):
    from tfvc.data import pipeline

    run = workdir.load(finished[0])
    facts = run.facts
    mean, variance = pipeline.feature_statistics(
        pipeline.Source(facts.records, facts.features, facts.classes, False, run.split()["train"])
    )
    layer = run.model().get_layer("standardize")
    assert facts.standardized
    np.testing.assert_allclose(layer.get_weights(), [mean, variance], rtol=1e-5)


def test_it_says_what_is_in_force_and_how_to_go_on(finished):
    folder, _, out = finished
    assert "attention_boosted, fidelity original" in out
    for quirk in recipes.quirks_in_force(recipe()):
        assert quirk in out
    assert "weights random (seed 0)" in out and "standardised" in out
    assert "group leakage: " in out
    for module in ("evaluate", "predict", "export"):
        assert f"python -m tfvc.{module} --workdir='{folder}'" in out
    assert f"tensorboard --logdir='{folder / 'logs'}'" in out
    notes = workdir.load(folder).facts.notes
    assert "validation: the test part serves in each epoch" in notes and all(n in out for n in notes)
    assert any(n.startswith("data set made-up: 2 classes; frames (4, 6) float32") for n in notes)


def test_corrected_validates_on_training_clips_and_reports_the_best_epoch(records, tmp_path):
    resolved = recipe("train.epochs=4", "data.channel_order=bgr", "train.monitor=loss", fidelity="corrected")
    metrics = train(resolved, data=records, workdir=str(tmp_path))
    split = workdir.load(tmp_path).split()
    assert split["validation"] and not set(split["validation"]) & {*split["test"], *split["train"]}
    rows = [line.split(";") for line in (tmp_path / "log.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("val_loss")]) for row in rows[1:]]
    assert metrics["validation"]["loss"] == min(losses)
    assert metrics["validation"]["epoch"] == losses.index(min(losses)) + 1
    assert (tmp_path / "model.keras").read_bytes() == (tmp_path / "best.keras").read_bytes()


def test_a_batch_larger_than_the_training_part_shrinks_and_says_so(once):
    _, metrics, out, _ = once
    assert metrics["batch_size"] == metrics["clips"]["train"] == 28 and metrics["steps"] == 1
    assert "batch of 500 shrunk to the 28 training clips" in out
    assert "validation: 12 clips are less than a batch, so none is dropped" in out
    assert "the test part serves in each epoch and chooses the epoch that is reported" in out


# ---- again, and other runs ----


def test_a_finished_run_prints_its_results_again_without_tensorflow(finished, records):
    folder, metrics, _ = finished
    code = (
        "import sys; from tfvc import train, recipe; "
        f"m = train.train(recipe.get('attention_boosted', 'original', {SMALL} + ['train.epochs=12', "
        f"'predict.top_k=1']), data={records!r}, workdir={str(folder)!r}); "
        f"assert m == {metrics!r}; assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "this run is complete (12 epochs" in done.stdout and "test accuracy" in done.stdout


def test_predict_settings_of_a_finished_run_are_stored_and_nothing_else(finished, records, tmp_path, capsys):
    folder = copied(finished, tmp_path / "run")
    for epochs in (12, 4):
        again = recipe(f"train.epochs={epochs}", f"predict.top_k={epochs}")
        assert train(again, data=records, workdir=folder) == finished[1]
        assert f"stored for predictions: Predict(top_k={epochs}" in capsys.readouterr().out
        kept = workdir.load(folder)
        assert kept.recipe == recipe("train.epochs=12", f"predict.top_k={epochs}")
    assert kept.facts == workdir.load(finished[0]).facts and kept.split() == workdir.load(finished[0]).split()


def test_a_run_can_be_used_from_another_folder(once, records, monkeypatch, capsys, bare_board):
    from tfvc.evaluate import evaluate

    folder, metrics, _, own = once
    monkeypatch.chdir(folder.parent)
    facts = workdir.load("run").facts
    assert facts.source == facts.records == records
    assert evaluate("run")["accuracy"] == pytest.approx(metrics["test"]["accuracy"])
    again = train(recipe(*own), data=records, workdir="run")  # the same run: it is complete
    assert {k: v for k, v in again.items() if k != "evaluation"} == metrics
    assert "are gone" not in capsys.readouterr().out


def test_two_at_a_time_in_one_folder_are_one_too_many(finished, records, tmp_path):
    folder = copied(finished, tmp_path / "run")
    left = Path(folder) / ".model.keras.99.part.keras"
    left.touch()
    again = {"data": records, "workdir": folder}
    with (
        files.locked(folder, "training in"),
        pytest.raises(ValueError, match="another process is training in"),
    ):
        train(recipe("train.epochs=12"), **again)
    assert left.exists()  # it may be the other's
    train(recipe("train.epochs=12"), **again)
    assert not left.exists()


def test_a_shard_damaged_since_is_named(tmp_path):
    source = Path(make_records(tmp_path / "records"))
    shard = source / "shard-00001.tfrecord"
    content = shard.read_bytes()
    shard.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    own = ("data.cache_mb=0", "backbone.standardize=no")  # so that it is the fit that meets it
    with pytest.raises(ValueError, match="shard-00001.tfrecord: damaged"):
        train(recipe(*own), data=str(source), workdir=str(tmp_path / "run"))


def test_another_recipe_seed_or_data_in_the_same_folder_is_refused_by_name(finished, records, tmp_path):
    folder = finished[0]
    with pytest.raises(ValueError, match=r"another run \(train.learning_rate: 0.01 -> 0.5\)"):
        train(recipe("train.learning_rate=0.5"), data=records, workdir=str(folder))
    with pytest.raises(ValueError, match=r"--seed: 0 -> 1"):
        train(recipe(), data=records, workdir=str(folder), seed=1)
    with pytest.raises(ValueError, match=r"--data: "):
        train(recipe(), data=str(tmp_path), workdir=str(folder))


def test_more_epochs_go_on_where_the_run_ended(finished, records, tmp_path, capsys):
    copied(finished, tmp_path / "run")
    (tmp_path / "run" / "export").mkdir()
    metrics = train(recipe("train.epochs=14"), data=records, workdir=str(tmp_path / "run"))
    assert metrics["epochs"] == 14 and workdir.load(tmp_path / "run").recipe.train.epochs == 14
    out = capsys.readouterr().out
    assert "run/export is of the weights so far; make it again after this training" in out
    assert "train.epochs=14 is in force (was 12)" in out and "going on from step 36 (12 of 14" in out


def test_data_that_changed_since_is_refused(finished, records, tmp_path, away):
    folder = copied(finished, tmp_path / "run")
    make_records(records, groups=11)
    for epochs in (12, 13):  # complete, or going on
        with pytest.raises(ValueError, match="made-up have changed since the run began; give another --work"):
            train(recipe(f"train.epochs={epochs}"), data=records, workdir=folder)


def test_checkpoints_of_nobody_are_not_taken_over(finished, records, tmp_path):
    copied(finished, tmp_path / "run")
    (tmp_path / "run" / "recipe.json").unlink()
    with pytest.raises(ValueError, match="has checkpoints and no recipe.json"):
        train(recipe("train.epochs=12"), data=records, workdir=str(tmp_path / "run"))


@pytest.mark.parametrize(
    "tree",
    [5, [], {"epochs": 2}, {"epochs": "x", "stopped_early": False}, {"epochs": 2, "stopped_early": False}],
)
def test_metrics_that_were_edited_are_named(finished, records, tmp_path, tree):
    copied(finished, tmp_path / "run")
    files.write_json(tmp_path / "run" / "metrics.json", tree)
    with pytest.raises(ValueError, match=r"metrics\.json: not the metrics of a run; remove it, and start"):
        train(recipe("train.epochs=12"), data=records, workdir=str(tmp_path / "run"))


def test_metrics_of_an_evaluation_alone_do_not_end_a_run(finished, records, tmp_path):
    copied(finished, tmp_path / "run")
    files.write_json(tmp_path / "run" / "metrics.json", {"evaluation": {}})
    metrics = train(recipe("train.epochs=12"), data=records, workdir=str(tmp_path / "run"))
    assert metrics["epochs"] == 12 and metrics["test"] == finished[1]["test"]


def test_what_cannot_be_built_holds_no_folder(once):
    folder, metrics, *_ = once
    assert metrics["epochs"] == 1
    # The frames of the recipe replace the mean.
    assert workdir.load(folder).facts.features == [replace(ROW, shape=(5, 6))]


def test_a_complete_run_is_shown_where_its_data_are_gone(finished, records, tmp_path, away, capsys):
    train(recipe("train.epochs=12"), data=records, workdir=copied(finished, tmp_path / "run"))
    assert "this run is complete" in capsys.readouterr().out


def test_a_run_that_lost_clips_to_the_extraction_is_refused(finished, records, tmp_path):
    copied(finished, tmp_path / "run")
    split = files.read_json(tmp_path / "run" / "split.json")
    files.write_json(tmp_path / "run" / "split.json", {**split, "train": split["train"][1:]})
    with pytest.raises(ValueError, match="the data has changed since the run began .*train: 27 clips"):
        train(recipe("train.epochs=14"), data=records, workdir=str(tmp_path / "run"))


def test_records_of_other_settings_are_refused(records, tmp_path):
    with pytest.raises(ValueError, match=r"backbone.size: 32,32 -> 64,64"):
        train(recipe("backbone.size=64,64"), data=records, workdir=str(tmp_path))
    weights = tmp_path / "w.h5"
    weights.touch()
    with pytest.raises(
        ValueError, match=r"made with weights random \(seed 0\), backbone.weights=.*w.h5; leave"
    ):
        train(recipe(f"backbone.weights={weights}"), data=records, workdir=str(tmp_path / "run"))


def test_one_switch_standardises(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="model_args.standardize=True: settled by backbone.standardize; "):
        train(recipe("model_args.standardize=true"), workdir=str(tmp_path / "run"))
    assert not any("model_args.standardize" in line for line in plan.describe(recipe(), "", "x"))
    for clip in ("a/1.mp4", "b/1.mp4"):
        (tmp_path / "clips" / clip).parent.mkdir(parents=True)
        (tmp_path / "clips" / clip).touch()
    monkeypatch.setattr(facts.extract, "extract", lambda *_, **__: pytest.fail("too late"))
    stacked = recipes.get(
        "attention_boosted", "original", ["model_args.mode=cnn3d", "backbone.standardize=yes"]
    )
    with pytest.raises(ValueError, match="standardize=True: mode cnn3d has no such part"):
        train(stacked, data=str(tmp_path / "clips"), workdir=str(tmp_path / "run"))
    wanted = recipe("backbone.standardize=yes")
    monkeypatch.setattr(plan.names, "keyword_defaults", lambda _: {})
    with pytest.raises(ValueError, match="backbone.standardize=yes: attention_boosted has no such layer"):
        plan.settled(wanted)


def test_multi_label_data_is_refused_for_a_softmax(tmp_path):
    source = make_records(tmp_path / "records", labels=lambda c: ("left", "right"))
    with pytest.raises(ValueError, match="one label a clip"):
        train(recipe(), data=source, workdir=str(tmp_path / "run"))


def test_init_from_takes_over_all_but_another_number_of_classes(finished, tmp_path, capsys):
    source = make_records(tmp_path / "records", classes=("left", "rest", "right"))
    frozen = recipe("train.epochs=1", "train.learning_rate=0", "train.batch_size=5")
    train(frozen, data=source, workdir=str(tmp_path / "run"), init_from=str(finished[0]))
    assert (
        "layer 'probabilities' starts fresh: [(8, 2), (2,)] there, [(8, 3), (3,)] here"
        in capsys.readouterr().out
    )
    old, new = workdir.load(finished[0]).model(), workdir.load(tmp_path / "run").model()
    for a, b in zip(old.get_layer("bilstm").weights, new.get_layer("bilstm").weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-7)
    # The weights were fitted to features standardised so; those of the new clips would be others.
    for a, b in zip(old.get_layer("standardize").weights, new.get_layer("standardize").weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    note = f"features are standardised as in {finished[0]}: the statistics come with its weights"
    notes = workdir.load(tmp_path / "run").facts.notes
    assert note in notes and not any("on the training clips" in n for n in notes)
    with pytest.raises(ValueError, match="--init_from: "):
        train(frozen, data=source, workdir=str(tmp_path / "run"))


def test_a_wrong_start_is_refused_before_any_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(recipe(), workdir=str(tmp_path), init_from=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="unknown value of train.optimizer 'adm'"):
        recipe("train.optimizer=adm")
    assert not any(tmp_path.iterdir())
