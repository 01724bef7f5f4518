"""The chain behind the network: fitted, kept, decided by, measured, exported."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments import powerset
from tfvc import evaluate, export, files, recipe, reopen, second_stage, train, workdir
from tfvc.data import datasets, pipeline, schema, shards
from tfvc.recipe import Feature

ROWS = [Feature("frames", (None, 6)), Feature("audio", (None, 5)), Feature("text", (None, 1), "int32")]
CLASSES = ("calm", "rain", "storm")
WORDS = ("flood", "relief", "quiet", "sunny")
SMALL = ("model_args.temporal=False", "model_args.dense=6", "model_args.embedding=4", "data.frames=3")
SMALL += ("train.epochs=12", "train.batch_size=16", "train.learning_rate=0.04")
SMALL += ("text.embedding=learned", "backbone.standardize=no")
STAGE = ("second_stage.patience=4", "second_stage.trees=20")
AFTER_THE_NETWORK = ("metrics.json", "second_stage.npz", "features.csv", "elimination.csv", "elimination.png")
AFTER_THE_NETWORK += ("importances.png", "learning_curve.png")


def make_records(folder, several=True, clips=60):
    """Sight tells rain, sound tells storm, words tell calm; every sixth clip has no sound."""
    rng = np.random.default_rng(0)
    held = rng.integers(0, 2, (clips, 3)) if several else np.eye(3, dtype=int)[rng.integers(0, 3, clips)]
    held[~held.any(1), 0] = 1
    names = [tuple(np.array(CLASSES)[row > 0]) for row in held]
    listed = [datasets.Clip(f"{k:02}", "", name) for k, name in enumerate(names)]
    dataset = datasets.Dataset("made-up", "manifest", "", listed, list(CLASSES), several)
    made_by = {f"{name}.weights": "converted (x)" for name in ("backbone", "audio", "text")}
    shards.open_folder(folder, made_by, dataset, ROWS, 64, WORDS)
    records = []
    for clip in shards.plan(listed, 64)[0]:
        calm, rain, storm = held[int(clip.id)]
        noise = {row.name: 0.3 * rng.normal(size=(3, row.shape[1])).astype("float32") for row in ROWS[:2]}
        values = {"frames": noise["frames"] + np.float32(rain), "audio": noise["audio"] + np.float32(storm)}
        values["text"] = np.array([[3 if calm else 1], [4 if calm else 2]], "int32")
        if int(clip.id) % 6 == 0:
            del values["audio"]
        known = [CLASSES.index(name) for name in clip.labels]
        records.append((clip.id, schema.serialize(clip.id, known, values, ROWS), 3))
    shards.write_shard(folder, 0, records, [])
    shards.finish(folder)
    return str(folder)


def trained(folder, records, *overrides):
    train.train(recipe.get("resbilstm", overrides=[*SMALL, *overrides]), data=records, workdir=folder)
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("set") / "records")


@pytest.fixture(scope="module")
def run(tmp_path_factory, records):
    return trained(tmp_path_factory.mktemp("runs") / "svm", records, *STAGE)


def batch(found, part="test"):
    source = pipeline.Source(found.facts.records, found.facts.features, CLASSES, True, found.split()[part])
    return next(iter(pipeline.batches(source, 64)))[:2]


def test_one_command_ends_with_measures_of_both(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["micro_f1"] > 0.8 and metrics["test"]["hamming_loss"] < 0.2
    assert {"map", "loss", "clips", "classes"} <= set(metrics["test"])
    assert {"micro_f1", "hamming_loss", "map"} <= set(metrics["network"])
    assert [row["class"] for row in metrics["test"]["classes"]] == list(CLASSES)
    with open(run / "features.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["modality"] for row in rows] == ["visual"] * 6 + ["audio"] * 6 + ["text"] * 6
    stage = second_stage.load(workdir.load(run))
    assert [int(row["kept"]) for row in rows] == stage.support_.astype(int).tolist()
    with open(run / "elimination.csv", newline="") as f:
        left = [int(row["features"]) for row in csv.DictReader(f)]
    assert left == [count for count, _ in stage.scores_] and left[0] == 18 and len(left) > 4
    for name in ("elimination.png", "importances.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert any("label sets" in line for line in workdir.load(run).facts.notes)


def test_evaluate_finds_what_training_reported(run):
    result, metrics = evaluate.evaluate(run), json.loads((run / "metrics.json").read_text())
    for name in ("micro_f1", "hamming_loss", "map"):
        assert result[name] == pytest.approx(metrics["test"][name], abs=1e-9)


def test_the_layers_of_the_export_decide_as_scikit_learn_does(run):
    found = workdir.load(run)
    inputs, _ = batch(found, "train")
    labels, scores = second_stage.decide(found, found.model())(inputs)
    answer = second_stage.layered(found, found.model())
    given = {name: np.asarray(value) for name, value in answer(inputs).items()}
    np.testing.assert_array_equal(given["labels"], labels)
    np.testing.assert_allclose(given["label_scores"], scores, atol=1e-5)
    assert given["heads"].shape == (len(labels), 3, 3) and answer.variables


def test_the_export_gives_final_labels_and_takes_the_second_stage_along(run):
    import tensorflow as tf

    from tfvc.estimators import store

    path = export.export(run)
    found = workdir.load(run)
    inputs, _ = batch(found)
    loaded = tf.saved_model.load(str(path)).signatures["serving_default"](**inputs)
    labels, scores = second_stage.decide(found, found.model())(inputs)
    np.testing.assert_array_equal(loaded["labels"], labels)
    np.testing.assert_allclose(loaded["label_scores"], scores, atol=1e-5)
    beside = store.load(path / "assets.extra" / "second_stage")
    assert beside.support_.tolist() == second_stage.load(found).support_.tolist()


@pytest.mark.slow
def test_a_run_killed_in_its_second_stage_goes_on_to_the_same(run, records, tmp_path, monkeypatch, capsys):
    def killed(*_):
        raise KeyboardInterrupt

    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export", "evaluation", "logs"))
    for name in AFTER_THE_NETWORK:
        (tmp_path / "run" / name).unlink()
    again = (tmp_path / "run", records, *STAGE)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(second_stage, "_show", killed)
        trained(*again)
    assert not (tmp_path / "run" / "metrics.json").exists()
    trained(*again)
    assert "going on from step" in capsys.readouterr().out
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", run))
    assert ours["test"] == theirs["test"] and ours["network"] == theirs["network"]


@pytest.mark.slow
def test_killed_after_more_epochs_it_is_not_over_with_the_old_numbers(
    run, records, tmp_path, monkeypatch, capsys
):
    """Old numbers and an old second stage beside a new network would be taken for a complete run."""

    def killed(*_):
        raise KeyboardInterrupt

    folder = shutil.copytree(run, tmp_path / "run")
    old = (folder / "model.keras").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(second_stage, "fit", killed)
        trained(folder, records, *STAGE, "train.epochs=13")
    assert (folder / "model.keras").read_bytes() != old
    assert not any((folder / name).exists() for name in ("metrics.json", "second_stage.npz"))
    with pytest.raises(FileNotFoundError, match="second_stage.json: no such file; put back"):
        evaluate.evaluate(folder)
    with pytest.raises(ValueError, match="has 13 epochs already"):
        trained(folder, records, *STAGE)
    capsys.readouterr()
    trained(folder, records, *STAGE, "train.epochs=13")
    assert "going on from step" in capsys.readouterr().out
    assert workdir.load(folder).metrics()["epochs"] == 13 and not reopen.broken(workdir.load(folder))


def test_a_second_stage_that_is_gone_or_damaged_is_told_and_made_anew(run, records, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    other = recipe.get("resbilstm", overrides=[*SMALL, *STAGE])
    found = workdir.load(folder)
    few = dataclasses.replace(found.facts, classes=list(CLASSES[:2]))
    with pytest.raises(ValueError, match=r"second_stage.npz: of 3 labels, and the run has 2; put back"):
        second_stage.load(workdir.Run(folder, other, few, 0))
    (folder / "second_stage.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"second_stage.npz"):
        evaluate.evaluate(folder)
    (folder / "second_stage.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"second_stage"):
        second_stage.decide(found, found.model())
    trained(folder, records, *STAGE)
    printed = capsys.readouterr().out
    assert "finished anew from its last checkpoint" in printed and "PATH... [--text=WORDS]" in printed
    assert second_stage.load(workdir.load(folder)) is not None


def test_a_second_stage_of_another_network_is_refused(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    model = workdir.load(folder).model()
    model.set_weights([np.flip(w) for w in model.get_weights()])  # the same widths
    model.save(folder / "model.keras")
    found = workdir.load(folder)
    told = "second_stage.npz: fitted to the vectors of another network; put back this run's own"
    for use in (lambda: second_stage.decide(found, model), lambda: evaluate.evaluate(folder)):
        with pytest.raises(ValueError, match=told):
            use()
    assert "another network" in reopen.broken(found) and not reopen.broken(workdir.load(run))


def test_vectors_that_are_no_numbers_are_told_before_scikit_learn_sees_them(run):
    found = workdir.load(run)
    model = found.model()
    inputs, _ = batch(found)
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    told = rf"^{run}: vectors of (\d+) of \1 clips are NaN or infinite; expected"
    with pytest.raises(ValueError, match=told):
        second_stage.decide(found, model)(inputs)


@pytest.mark.slow
def test_other_settings_of_the_second_stage_need_no_other_training(run, records, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    before = (folder / "model.keras").read_bytes()
    trained(folder, records, "second_stage.name=none")
    printed = capsys.readouterr().out
    assert "it is fitted anew, to the same network" in printed and "Epoch" not in printed
    assert not any((folder / name).exists() for name in ("second_stage.npz", "features.csv"))
    metrics = [json.loads((path / "metrics.json").read_text()) for path in (folder, run)]
    assert "network" not in metrics[0] and metrics[0]["test"]["micro_f1"] == metrics[1]["network"]["micro_f1"]
    trained(folder, records, *STAGE)
    assert json.loads((folder / "metrics.json").read_text())["test"] == metrics[1]["test"]
    assert len((folder / "model.keras").read_bytes()) == len(before)


def test_thresholds_are_tuned_on_the_validation_part(run, records, tmp_path):
    fixed = ("second_stage.name=none", "second_stage.thresholds=tuned")  # to the same network
    found = workdir.load(trained(shutil.copytree(run, tmp_path / "run"), records, *fixed))
    limits = second_stage.thresholds(found)
    assert limits.shape == (3,) and not np.allclose(limits, 0.5)
    inputs, _ = batch(found)
    labels, scores = second_stage.decide(found, found.model())(inputs)
    np.testing.assert_array_equal(labels, scores > limits)
    files.write_json(found.path / "thresholds.json", {"calm": 0.5})
    with pytest.raises(ValueError, match=r"thresholds.json: not the thresholds of this run"):
        second_stage.decide(found, found.model())


def test_without_a_validation_part_folds_score_and_thresholds_are_refused(records, tmp_path, capsys):
    whole = ("data.validation_fraction=0", "train.epochs=2", "second_stage.step=6", STAGE[1])
    trained(tmp_path / "run", records, *whole)
    assert "3 folds of the training clips" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no validation part to tune them on"):
        trained(tmp_path / "other", records, *whole, "second_stage.thresholds=tuned")


@pytest.mark.slow
def test_one_label_a_clip_is_softmax_and_accuracy_of_the_svm(tmp_path):
    records = make_records(tmp_path / "records", several=False)
    folder = trained(tmp_path / "run", records, "second_stage.eliminate=False", STAGE[1])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["network"]) == {"accuracy"} and metrics["test"]["accuracy"] > 0.6
    assert evaluate.evaluate(folder)["accuracy"] == pytest.approx(metrics["test"]["accuracy"])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["model_args.vocabulary=5"], "settled by the data"),
        (["model_args.multi_label=False"], "settled by the data"),
        (["second_stage.name=none", "second_stage.C=2"], "there is no second stage"),
        (["second_stage.eliminate=False", "second_stage.step=2"], "no feature is eliminated"),
        (["second_stage.cv=1"], "one fold leaves nothing to score"),
        (["text.rows=9999999999"], "expected at most 1e"),
        (["second_stage.stop=printed", "second_stage.patience=3"], "expected 1"),
        (["data.fps=3"], "data.sampling=even takes data.frames"),
        (["data.frames=0"], "expected data.frames above 0"),
        (["audio.name=vggish", "audio.weights=audioset", "audio.output=pooled"], "vggish has a row a second"),
        (["text.embedding=learned", "text.dtype=float16"], "reads no vectors"),
        (["model_args.modality=visual", "text.rows=5"], "only for the stream text"),
        (["data.split=stratified", "data.test_groups=a"], "the split is stratified"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(overrides, message):
    from tfvc import plan

    with pytest.raises(ValueError, match=message):
        plan.settled(recipe.get("resbilstm", overrides=overrides))


# --- its parts, one changed at a time: experiments/powerset.py ------------------------------------------


def test_the_svm_on_label_sets_is_the_run_s_own(run, records, tmp_path, capsys):
    fixed = ("second_stage.eliminate=False", STAGE[1])  # to the same network
    run = trained(shutil.copytree(run, tmp_path / "run"), records, *fixed)
    with pytest.raises(SystemExit) as stop:
        powerset.main([f"--workdir={run}", f"--out={tmp_path / 'parts.json'}"])
    assert not stop.value.code and "SVM on label sets" in capsys.readouterr().out
    found = json.loads((tmp_path / "parts.json").read_text())[str(run)]
    metrics = json.loads((run / "metrics.json").read_text())
    assert found["label_sets"] == pytest.approx(metrics["test"]["micro_f1"])
    assert found["network"] == pytest.approx(metrics["network"]["micro_f1"])
    assert found["bound"] >= found["label_sets"] and 0 <= found["unseen"] <= 1
    known = second_stage.vectors_of(workdir.load(run))["train"][1]
    assert found["sets"] == len(np.unique(known, axis=0)) and known.shape[1] == len(CLASSES)


def test_runs_it_cannot_take_apart_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        powerset.main([])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        powerset.main([f"--workdir={tmp_path}"])
    assert stop.value.code == 1 and "expected the --workdir of a training run" in capsys.readouterr().err
