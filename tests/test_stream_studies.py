"""Studies of a run of both streams: what it loses where one is missing; the sound's embedding around FiLM."""

import json

import numpy as np
import pytest
import sounded
from sklearn.metrics import silhouette_score
from studied import raised, stopped

from experiments import missing_stream, pictures, study, tsne
from tfvc import facts, recipe, workdir
from tfvc.data import pipeline


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of both streams and one of the picture alone, on the same records."""
    root = tmp_path_factory.mktemp("runs")
    records = sounded.make_records(root / "records")
    both = sounded.trained(root / "both", records)
    visual = sounded.trained(root / "visual", records, "model_args.modality=visual", "train.epochs=4")
    return both, visual


@pytest.mark.slow
def test_each_stream_tells_a_bit_and_is_missed(runs):
    run = workdir.load(runs[0])
    streams = ("frames", "audio")
    whole, *lost = missing_stream.accuracies(run, ["", *streams])
    assert whole == pytest.approx(run.metrics()["test"]["accuracy"])
    assert whole >= 0.75  # some clips have no sound: there half the answers are right
    assert max(lost) <= whole - 0.15
    without = {f"without_{name}": value for name, value in zip(streams, lost, strict=True)}
    assert missing_stream.further(runs[0]) == without


def test_a_model_does_not_miss_what_it_does_not_read(runs):
    values, run = missing_stream.further(runs[1]), workdir.load(runs[1])
    assert [values["without_audio"]] == missing_stream.accuracies(run, [""]) > [values["without_frames"]]
    text = raised(missing_stream.accuracies, run, ["audio"])
    assert "its model reads frames" in text and str(runs[1]) in text


def test_the_command_prints_each_run_and_the_mean(runs, capsys):
    assert stopped(missing_stream.main, f"--workdir={runs[0]},{runs[0]}", "--stream=audio") == 0
    head, first, second, mean = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "whole", "without", "audio", "loss"] and first == second
    whole, without, loss = map(float, mean.split()[-3:])
    assert "mean of 2" in mean and loss == pytest.approx(whole - without, abs=2e-4)
    for argument, message in (
        (f"--workdir={runs[0]}", "unknown stream 'sound'"),
        ("--workdir=", "expected folders of runs"),
        (f"--workdir={runs[1]}", "expected a run that reads audio"),
    ):
        stream = "sound" if "unknown" in message else "audio"
        assert stopped(missing_stream.main, argument, f"--stream={stream}") == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_the_study_compares_dropout_and_single_modalities():
    table = study.load("mafnet_missing")
    args = [table.recipe(row).model_args for row in table.rows]
    assert [a.get("modality_dropout", 0) for a in args] == [0, 0.3, 0, 0]
    assert [a.get("modality", "both") for a in args] == ["both", "both", "visual", "audio"]
    assert table.further is missing_stream.further and table.seeds == 3
    assert [metric.name for metric in table.metrics] == ["accuracy", "without_audio", "without_frames"]


# ---- the sound's embedding before and after FiLM: experiments/tsne.py ----


def test_embeddings_are_those_around_the_film(runs):
    run = workdir.load(runs[0])
    before, after, truth, classes = tsne.embeddings(run)
    ids = run.split()["test"]
    assert before.shape == after.shape == (len(ids), 8) and classes == list(sounded.CLASSES)
    source = pipeline.Source(run.facts.records, run.facts.features, classes, False, ids)
    (inputs, labels, _), *_ = pipeline.batches(source, len(ids))
    assert truth.tolist() == np.argmax(labels, 1).tolist()
    # The same by hand, of the clips with sound: the others' rows are all padding.
    model = run.model()
    block = model.get_layer("audio_block")
    upstream = type(model)(model.input, block.input)
    maps, condition, *masks = upstream(inputs)
    y = block.bn(block._over_places(block.conv2, block._over_places(block.conv1, maps)))
    modulated = block.film([y, condition]).numpy().mean((2, 3))
    y = y.numpy().mean((2, 3))
    real = np.any(inputs["audio"], axis=(2, 3, 4))
    heard = real.any(1)
    for found, rows in ((before, y), (after, modulated)):
        mean = (rows * real[..., None]).sum(1)[heard] / real.sum(1)[heard, None]
        np.testing.assert_allclose(found[heard], mean, atol=1e-4)
    assert np.abs(before - after).max() > 0.1


def test_the_silhouette_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 10)
    embedding = rng.normal(size=(20, 3)) + 4 * truth[:, None]
    assert tsne.silhouette(embedding, truth) == pytest.approx(silhouette_score(embedding, truth))
    for labels in ([0, 0, 0], [0, 1, 2]):
        assert "expected two classes" in raised(tsne.silhouette, embedding[:3], np.array(labels))


def test_the_command_writes_a_picture_and_its_numbers(runs, tmp_path, capsys):
    assert stopped(tsne.main, f"--workdir={runs[0]}", f"--out={tmp_path}/a.png") == 0
    assert "silhouette of the classes: before FiLM" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    tree = json.loads((tmp_path / "a.json").read_text())
    assert tree["clips"] > 10 and set(tree["silhouette"]) == {"before", "after"}
    before = (runs[0] / "metrics.json").read_bytes()
    for out, told in (
        (runs[0] / "metrics.png", "metrics.json: would be replaced, and is not of this command"),
        (tmp_path / "a.txt", "expected a name that ends in .png"),
        ("/proc/x/a.png", "cannot be written"),
    ):
        assert stopped(tsne.main, f"--workdir={runs[0]}", f"--out={out}") == 1
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1
    assert (runs[0] / "metrics.json").read_bytes() == before and not (runs[0] / "metrics.png").exists()


def test_a_run_without_film_is_refused_in_a_line(runs, tmp_path, capsys):
    run, plain = workdir.load(runs[0]), tmp_path / "plain"
    without = recipe.override(run.recipe, ["model_args.film=none"])
    plain.mkdir()
    workdir.save(plain, without, run.facts, 0, run.split())
    facts.build(without, run.facts).save(plain / "model.keras")
    assert stopped(tsne.main, f"--workdir={plain}") == 1
    err = capsys.readouterr().err
    assert "no FiLM in the audio path (model_args.film=none" in err and err.count("\n") == 1


def test_maps_have_a_colour_a_class_and_more_classes_than_colours():
    truth = np.arange(12)
    figure = pictures.maps({"x": np.zeros((12, 2))}, truth, [f"c${k}" for k in truth])
    points = figure.get_axes()[0].collections
    looks = {(tuple(p.get_facecolor()[0]), p.get_paths()[0].vertices.tobytes()) for p in points}
    assert len(points) == len(looks) == 12 and points[3].get_label() == r"c\$3"
