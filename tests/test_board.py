"""tfvc/board.py and experiments/hparams.py: what a measured run, and a study, write for TensorBoard."""

import json

import boarded
import keras
import numpy as np
import pytest
import tensorflow as tf
from studied import raised, stopped
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.plugins.pr_curve import summary

from experiments import hparams, results, study
from tfvc import board, evaluate, files, plots
from tfvc.models import mafnet
from tfvc.recipe import Feature

RESULTS = "experiments/tables/disaster.jsonl"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return boarded.make(tmp_path_factory.mktemp("board"))


def events(folder):
    """Every value in a folder's files of events, by tag."""
    found = {}
    for path in folder.glob("events*"):
        for event in tf.data.TFRecordDataset(str(path)):
            for value in tf.compat.v1.Event.FromString(event.numpy()).summary.value:
                found[value.tag] = value
    return found


# --- curves -------------------------------------------------------------------------------------------------


def test_a_curve_is_the_plugins_own_though_counted_in_batches():
    rng = np.random.default_rng(0)
    truth, scores = rng.random((90, 3)) < (0.5, 0.2, 0.3), rng.random((90, 3)).astype("float32")
    scores[:6, 0] = 0, 1, 0.5, 0.005, 0.995, 1 / 3
    curves = board.Curves(["a", "b", "c"])
    for part in np.split(np.arange(90), 9):
        curves.update(truth[part].astype("float32"), scores[part])
    found = dict(curves.summaries())
    assert list(found) == [["a", "b", "c"][k] for k in np.argsort(-truth.sum(0), kind="stable")]
    for k, name in enumerate("abc"):
        own = summary.pb(f"pr/{name}", truth[:, k], scores[:, k], num_thresholds=201, display_name=name)
        (ours,), (theirs,) = found[name].value, own.value
        np.testing.assert_allclose(tf.make_ndarray(ours.tensor), tf.make_ndarray(theirs.tensor), atol=1e-6)
        assert ours.tag == f"pr/{name}/pr_curves"
        assert ours.metadata.plugin_data.plugin_name == "pr_curves" and ours.metadata.display_name == name
        assert ours.metadata.plugin_data.content == theirs.metadata.plugin_data.content


def test_of_many_classes_the_most_frequent_have_a_curve_and_it_is_said(tmp_path, capsys):
    truth = np.arange(130)[:, None] > np.arange(130)  # class 0 in 129 clips, class 129 in none
    curves = board.Curves([f"c{k}" for k in range(130)])
    curves.update(truth, np.full(truth.shape, 0.5))
    assert curves.shown == list(range(100))
    board.write(tmp_path / "logs", {}, curves)
    assert "precision-recall curves of 100 of 130 classes, the most frequent" in capsys.readouterr().out
    assert sum("pr_curves" in tag for tag in events(tmp_path / "logs")) == 100
    few = board.Curves(["a", "b"])
    few.update([[1, 0]], [[0.3, 0.2]])
    assert few.shown == [0]  # a class that never occurs has none


# --- a run --------------------------------------------------------------------------------------------------


def test_evaluate_writes_curves_pictures_and_embeddings(run, capsys):
    evaluate.evaluate(run)
    out = capsys.readouterr().out
    assert "precision-recall curves of 4 of 4 classes; attention over 3 clips" in out
    assert "embeddings of 24 clips, with thumbnails" in out
    assert "3.mp4: its attention is not drawn" in out and "no thumbnail of 1 clips" in out
    folder = run / "logs" / "evaluation"
    found = events(folder)
    assert {f"attention/{name}" for name in boarded.SEEN} <= set(found)
    assert {"evaluation/confusion", "evaluation/accuracy", "pr/DiscLow/pr_curves"} <= set(found)
    width, height, png = tf.make_ndarray(found["attention/DiscLow/0_0"].tensor)[:3]
    picture = tf.io.decode_png(png).numpy()
    assert picture.shape[:2] == (int(height), int(width)) and picture.std() > 10
    lines = (folder / "clips.tsv").read_text().splitlines()
    assert lines[0] == "clip\ttrue\tpredicted"
    names, labels, _ = zip(*(line.split("\t") for line in lines[1:]), strict=True)
    assert set(names) == set(boarded.TEST) and list(labels) == [name.split("/")[0] for name in names]
    vectors = np.loadtxt(folder / "embedding.tsv", delimiter="\t")
    assert len(vectors) == 24 and vectors.std() > 0
    config = (folder / "projector_config.pbtxt").read_text()
    assert f"tensor_shape: 24\n  tensor_shape: {vectors.shape[1]}" in config and '"clips.png"' in config
    sheet = tf.io.decode_png((folder / "clips.png").read_bytes()).numpy()
    assert sheet.shape == (5 * 48, 5 * 48, 3)
    row, column = divmod(names.index("DiscLow/0_0"), 5)
    assert abs(int(sheet[row * 48 + 20, column * 48 + 20, 0]) - 120) < 8  # that clip's grey


def test_written_again_the_folder_is_replaced_and_what_cannot_be_written_leaves_it(tmp_path):
    folder, curves = tmp_path / "logs" / "evaluation", board.Curves(["a"])
    clips = board.Clips(["x"], ["a"], ["a"], np.zeros((1, 2), "float32"), np.zeros((1, 8, 8, 3), "uint8"))
    for value in (1.0, 2.0):
        board.write(folder, {"accuracy": value}, curves, None, clips)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 5 and tf.make_ndarray(events(folder)["evaluation/accuracy"].tensor) == 2
    broken = board.Clips(["x"], ["a"], [], clips.vectors)  # one clip, nothing predicted
    assert raised(board.write, folder, {}, curves, None, broken)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["evaluation"]


def test_clips_that_are_gone_cost_their_pictures_alone(run, tmp_path, capsys):
    records = run.parent / "records"
    model = keras.saving.load_model(run / "model.keras", compile=False)
    gone = boarded.save(tmp_path / "gone", model, str(records), str(tmp_path / "gone.csv"))
    evaluate.evaluate(gone)
    out = capsys.readouterr().out
    assert "no pictures of clips: " in out and "gone.csv" in out
    assert (
        "no picture of attention: the clips' files are not known" in out and "embeddings of 24 clips\n" in out
    )
    assert not (gone / "logs" / "evaluation" / "clips.png").exists()


def test_a_model_without_attention_or_embedding_is_said_to_have_none(run, tmp_path, capsys):
    frames, audio = (keras.Input(row.shape, name=row.name) for row in boarded.ROWS)
    x = keras.layers.Concatenate()([keras.layers.Flatten()(frames), keras.layers.Flatten()(audio)])
    x = keras.layers.Dense(4, activation="softmax", name="probabilities")(x)
    model = keras.Model({"frames": frames, "audio": audio}, {"probabilities": x}, name="bare")
    bare = boarded.save(tmp_path / "bare", model, str(run.parent / "records"), str(run.parent / "clips.csv"))
    evaluate.evaluate(bare)
    out = capsys.readouterr().out
    assert "no projector: model bare has no layer named embedding" in out
    assert "no picture of attention: mafnet, as trained here, has none over time" in out
    assert [path.name[:6] for path in (bare / "logs" / "evaluation").iterdir()] == ["events"]


def test_names_of_clips_cannot_break_the_table(tmp_path):
    curves = board.Curves(["a"])
    clips = board.Clips(["x\ty\n\udcff"], ["a"], ["b"], np.ones((1, 2), "float32"))
    board.write(tmp_path / "logs", {}, curves, None, clips)
    lines = (tmp_path / "logs" / "clips.tsv").read_text().split("\n")
    assert lines == ["clip\ttrue\tpredicted", "x\\ty\\n\\udcff\ta\tb", ""]


def test_decisions_stand_above_and_wrong_ones_below_the_line():
    figure = plots.decisions([[[5, 1], [2, 4]], [[9, 0], [0, 3]]], ["a", "b$"], "title")
    heights = [bar.get_height() for bar in figure.get_axes()[0].patches]
    assert heights == [4, 3, 2, 0, -1, 0]


# --- a study ------------------------------------------------------------------------------------------------


def test_each_run_of_a_study_has_its_settings_and_measures(tmp_path, capsys):
    arguments = (f"--results={RESULTS}", f"--out={tmp_path}", "--study=raf_table1")
    assert stopped(hparams.main, *arguments) == 0
    folder = tmp_path / "raf_table1"
    assert f"written: {folder}, 24 runs; tensorboard --logdir={folder}" in capsys.readouterr().out
    lines = results.find(results.read(RESULTS), study="raf_table1", row="late", seed=1)
    found = events(folder / "late-1")
    assert tf.make_ndarray(found["test/micro_f1"].tensor) == pytest.approx(
        lines[-1]["metrics"]["test"]["micro_f1"] * study.load("raf_table1").metrics[0].scale
    )
    assert tf.make_ndarray(found["parameters"].tensor) == lines[-1]["parameters"]
    start = next(value for tag, value in found.items() if tag == metadata.SESSION_START_INFO_TAG)
    content = plugin_data_pb2.HParamsPluginData.FromString(start.metadata.plugin_data.content)
    settings = content.session_start_info.hparams
    assert settings["row"].string_value == "late" and settings["model_args.attention"].string_value == "none"
    assert settings["seed"].number_value == 1 and "data.streams" not in settings  # the same in every row
    assert any(tag.startswith("curve/") for tag in found)
    hparams.write(RESULTS, tmp_path, ["raf_table1"])  # again
    assert [len(list(place.glob("events*"))) for place in (folder, folder / "late-1")] == [1, 1]


def test_runs_of_a_grid_are_told_apart_and_other_data_is_left_out():
    lines = results.find(results.read("experiments/tables/mfb_table1.jsonl"), study="mfb_table1")
    a_study = study.load("mfb_table1")
    runs = hparams.runs_of(a_study, lines)
    assert len({place for place, _, _ in runs}) == len(runs)
    rates = {settings["train.learning_rate"] for _, settings, _ in runs}
    assert len(rates) == len(a_study.grid["train.learning_rate"])
    older = [line | {"data": {"digest": "other"}} for line in lines]
    assert hparams.runs_of(a_study, older + lines) == runs
    assert a_study.baseline_title not in {settings["row"] for _, settings, _ in runs}


def test_hparams_of_nothing_is_refused_in_a_line(tmp_path, capsys):
    assert stopped(hparams.main, f"--results={tmp_path}/none") == 1
    assert "/none: no such file" in capsys.readouterr().err
    assert stopped(hparams.main, f"--results={RESULTS}", "--study=raf") == 1
    err = capsys.readouterr().err
    assert "no line of raf; it has raf_table1, resbilstm_table2" in err and err.count("\n") == 1
    assert files.shown(RESULTS) in err
    line = results.find(results.some(RESULTS), study="raf_table1", row="late_residual", seed=0)[0]
    for wrong, told in (
        ({"overrides": ["train.epochs=x"]}, "row late_residual, seed 0: its overrides are refused"),
        ({"study": "gone"}, "no line of a study that is here; it has lines of gone"),
        ({"row": "gone"}, "no run of a row that its study has now; nothing was written"),
    ):
        (tmp_path / "lines.jsonl").write_text(json.dumps(line | wrong) + "\n")
        assert raised(hparams.write, tmp_path / "lines.jsonl", tmp_path / "out").startswith(str(tmp_path))
        assert told in raised(hparams.write, tmp_path / "lines.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["raf_table1", "raf_table1/late-0/model.keras"])
def test_hparams_replaces_nothing_but_its_own(tmp_path, name):
    kept = tmp_path / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("trained")
    told = raised(hparams.write, RESULTS, tmp_path, ["raf_table1"])
    assert told.startswith(str(tmp_path / "raf_table1")) and "give another --out" in told
    assert kept.read_text() == "trained"


def test_an_embedding_is_found_where_the_model_has_an_operation_of_any_name(tmp_path):
    """As in a process that has only loaded the model: Keras' own names start anew."""
    rows = [Feature("frames", (4, 6)), Feature("audio", (4, 2, 2, 4))]
    mafnet.build_model(rows, 4, units=8).save(tmp_path / "model.keras")
    keras.utils.clear_session()
    model = keras.saving.load_model(tmp_path / "model.keras")
    inputs = {k: np.zeros((1, *t.shape[1:]), t.dtype) for k, t in model.input.items()}
    assert board._embedding(model)(inputs).shape == (1, 16)
