"""Runs whose clips have several labels, measured and applied: decisions, texts, clips read whole."""

import contextlib
import csv
import shutil
import threading
import time

import keras
import made
import numpy as np
import pytest

from experiments import missing_stream
from tfvc import encoders, evaluate, extract, files, predict, predictions, recipe, workdir
from tfvc.data import ahead
from tfvc.recipe import Feature

CLASSES = ["left", "right"]  # every clip has `left`; those that go up have `right` too
WORDS = ["flood", "relief", "a;b"]
ROWS = [Feature("frames", (4, 6)), Feature("audio", (3, 5)), Feature("text", (5, 2))]


def labels_of(name):
    return ("left",) if name == "left" else ("left", "right")


def save(folder, r, rows, classes, model, records="", split=None, **facts):
    """A finished run around a hand-made model."""
    made_of = {"frames": "weights", "audio": "audio_weights", "text": "text_weights"}
    facts |= {made_of[row.name]: "random (seed 0)" for row in rows}
    facts = workdir.Facts("made-up", records, records, classes, rows, **{"multi_label": True} | facts)
    folder.mkdir(exist_ok=True)
    workdir.save(folder, r, facts, 0, split or {"train": ["a"], "validation": [], "test": ["a"]})
    model.save(folder / "model.keras")
    return folder


def seeing(bias=3.0):
    """Gives `left` to every clip, and `right` where the sum of the features is positive."""
    frames = keras.Input((4, 6), name="frames")
    head = keras.layers.Dense(2, activation="sigmoid", name="probabilities")
    model = keras.Model({"frames": frames}, head(keras.layers.Flatten()(frames)))
    head.set_weights([np.repeat([[0.0, 1.0]], 24, axis=0), np.float32([bias, 0])])
    return model


def of_sight(*overrides):
    fixed = ["model_args.modality=visual", "data.channel_order=bgr", "backbone.size=32,32", "data.frames=4"]
    return recipe.get("raf", overrides=[*fixed, *overrides])


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def measured(tmp_path):
    """A run on records of clips with several labels; all clips are its test part."""
    records = made.make_records(tmp_path / "records", CLASSES, groups=4, labels=labels_of)
    ids = [f"{c}/{g}_{k}" for c in CLASSES for g in range(4) for k in range(2)]
    split = {"train": ids, "validation": [], "test": ids}
    return save(tmp_path / "run", of_sight(), [ROWS[0]], CLASSES, seeing(), records, split)


def test_evaluate_measures_the_decisions(measured, capsys):
    import tensorflow as tf

    result = evaluate.evaluate(measured)
    assert result["clips"] == 16 and result["micro_f1"] == result["map"] == result["subset_accuracy"] == 1.0
    assert result["hamming_loss"] == 0.0 and [row["clips"] for row in result["classes"]] == [16, 8]
    assert files.read_json(measured / "metrics.json")["evaluation"] == result
    with open(measured / "evaluation" / "classes.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["ap"] for row in rows] == ["1.0", "1.0"] and list(rows[0])[-2:] == ["ap", "clips"]
    assert (measured / "evaluation" / "f1.png").read_bytes().startswith(b"\x89PNG")
    assert not (measured / "evaluation" / "confusion.csv").exists()
    assert "micro F1 1.0000, Hamming loss 0.0000, MAP 1.0000" in capsys.readouterr().out
    tags = set()
    for path in (measured / "logs" / "evaluation").glob("events*"):
        for event in tf.data.TFRecordDataset(str(path)):
            tags |= {value.tag for value in tf.compat.v1.Event.FromString(event.numpy()).summary.value}
    expected = {
        "micro_f1",
        "hamming_loss",
        "map",
        "map_labels",
        "subset_accuracy",
        "f1/left",
        "ap/right",
        "f1",
    }
    assert {f"evaluation/{name}" for name in expected} <= tags


def test_evaluate_writes_nothing_where_the_run_was_trained_further_meanwhile(
    measured, monkeypatch, bare_board
):
    decided, now = evaluate.decided, {"seconds": 2.5}

    def ended(*given):
        files.write_json(measured / "metrics.json", now)
        return decided(*given)

    files.write_json(measured / "metrics.json", {"seconds": 1.5, "evaluation": {}})
    monkeypatch.setattr(evaluate, "decided", ended)
    with pytest.raises(ValueError, match="trained further while it was measured; nothing was written"):
        evaluate.evaluate(measured)
    assert files.read_json(measured / "metrics.json") == now
    assert not any((measured / name).exists() for name in ("evaluation", "logs"))
    result = evaluate.evaluate(measured)
    assert files.read_json(measured / "metrics.json") == now | {"evaluation": result}


def test_evaluate_waits_where_another_is_writing(measured, bare_board, capsys):
    done = []
    with workdir.results(measured):
        other = threading.Thread(target=lambda: done.append(evaluate.evaluate(measured)))
        other.start()
        until(lambda: "another process is writing it; waiting" in capsys.readouterr().out)
        assert not done and not (measured / "evaluation").exists()
    other.join(60)
    assert done and (measured / "evaluation").exists()


def test_evaluate_clears_what_a_killed_one_left_and_nothing_else(measured, bare_board):
    left = [measured / name for name in ("logs/.evaluation.7.part", "evaluation/.classes.csv.7.part")]
    left.append(measured / ".metrics.json.7.part")
    mine = measured / "evaluation" / ".notes"
    for path in (*left, mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    evaluate.evaluate(measured)
    assert not any(path.exists() for path in left) and mine.exists()


def test_evaluate_uses_the_thresholds_of_the_run(measured):
    found = workdir.load(measured)
    tuned = recipe.override(found.recipe, ["second_stage.thresholds=tuned"])
    workdir.save(measured, tuned, found.facts, 0, found.split())
    files.write_json(measured / "thresholds.json", {"left": 0.99, "right": 0.5})
    left, right = evaluate.evaluate(measured)["classes"]
    assert left["recall"] == 0.0 and left["ap"] == 1.0 and right["f1"] == 1.0


def test_evaluate_reads_other_clips_of_several_labels(measured, tmp_path):
    other = made.make_records(tmp_path / "other", CLASSES, groups=2, labels=labels_of)
    result = evaluate.evaluate(measured, other)
    assert result["part"] == "all" and result["clips"] == 8 and result["micro_f1"] == 1.0
    single = made.make_records(tmp_path / "single", CLASSES, groups=2)  # one label each is several of one
    result = evaluate.evaluate(measured, single)
    assert result["classes"][0]["precision"] == 0.5 and result["hamming_loss"] == 0.25


def test_evaluate_refuses_strange_classes_and_other_weights(measured, tmp_path):
    strange = made.make_records(tmp_path / "strange", ("left", "up"), groups=2)
    with pytest.raises(ValueError, match=r"classes \['up'\]; this run knows 2"):
        evaluate.evaluate(measured, strange)
    other = made.make_records(tmp_path / "other", CLASSES, weights="imagenet", labels=labels_of)
    with pytest.raises(ValueError, match="made with other settings"):
        evaluate.evaluate(measured, other)
    own = workdir.load(measured).facts.records  # extracted anew by other weights, in the same place
    shutil.rmtree(own)
    shutil.copytree(other, own)
    with pytest.raises(ValueError, match=f"{own}: these records were made with other settings"):
        evaluate.evaluate(measured)


def test_one_label_a_clip_by_a_second_stage_is_still_accuracy(measured, monkeypatch):
    """Its decision counts, not the best score."""
    from tfvc import second_stage

    found = workdir.load(measured)
    records = made.make_records(measured.parent / "single", CLASSES, groups=4)
    # Without a source the board would look for its clips in the demo set, and draw that first.
    one = workdir.Facts("x", records, records, CLASSES, [ROWS[0]], weights="random (seed 0)")
    staged = recipe.override(found.recipe, ["second_stage.name=svm"])
    workdir.save(measured, staged, one, 0, found.split())

    def decide(run, model):
        def answer(inputs):
            up = inputs["frames"].sum((1, 2)) > 0
            return np.eye(2, dtype=int)[up.astype(int)], np.tile([0.9, 0.1], (len(up), 1))

        return answer

    monkeypatch.setattr(second_stage, "decide", decide)
    assert evaluate.evaluate(measured)["accuracy"] == 1.0


# --- predict ------------------------------------------------------------------------------------------------


class Networks:
    """Stand-in for encoders: rows of a clip are what its `Encoded` holds."""

    def features(self, one):
        there = {"frames": one.rows, "audio": one.sound, "text": one.text}
        return {name: np.float32(rows) for name, rows in there.items() if len(rows)}


def hearing():
    """Three streams; the scores of the words are the means of frames, audio and text."""
    inputs = {row.name: keras.Input(row.shape, name=row.name) for row in ROWS}
    means = [keras.ops.mean(x, axis=(1, 2), keepdims=True)[:, 0] for x in inputs.values()]
    logits = keras.layers.Concatenate()(means)
    return keras.Model(inputs, keras.layers.Activation("sigmoid", name="probabilities")(logits))


@pytest.fixture
def spoken(tmp_path, monkeypatch):
    """A run on three streams, with decoder and networks stood in for; `decoded` lists what was decoded."""
    r = recipe.get(
        "raf", overrides=["second_stage.name=none", "data.frames=4", "audio.rows=3", "text.rows=5"]
    )
    run = save(tmp_path / "run", r, ROWS, WORDS, hearing())
    decoded = []

    @contextlib.contextmanager
    def decode_ahead(paths, networks, rows=0, texts=()):
        yield list(zip(paths, texts, strict=True))

    def encode_all(decoder, indices, networks, batch_size):
        for index in indices:
            path, text = decoder[index]
            decoded.append((path.name, text))
            one = ahead.Encoded(index, times=[0.0, 2.5, 5.0, 7.5], rows=[np.full(6, -1.0)] * 4)
            if "mute" not in path.name:
                one.sound = np.full((3, 5), 2.0)
            one.text = np.full((len(text.split()), 2), 3.0)
            yield one

    monkeypatch.setattr(encoders, "of_run", lambda run, r: Networks())
    monkeypatch.setattr(extract, "decode_ahead", decode_ahead)
    monkeypatch.setattr(ahead, "encode_all", encode_all)
    for name in ("a.mp4", "mute.mp4"):
        (tmp_path / name).write_bytes(b"clip")
    return run, decoded


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_predict_lists_labels_and_scores_of_the_decision(spoken, tmp_path):
    run, decoded = spoken
    output = tmp_path / "out.csv"
    (row,) = predict.predict(run, [tmp_path / "a.mp4"], output, text=" high water \n")
    assert decoded == [("a.mp4", "high water")]
    assert row["labels"] == ["relief", "a;b"] and row["missing"] == [] and row["attention"] == []
    scores = {one["label"]: one["score"] for one in row["top"]}
    expected = {"flood": sigmoid(-1), "relief": sigmoid(2), "a;b": sigmoid(3 * 2 / 5)}
    assert scores == pytest.approx(expected, abs=1e-5)
    assert (row["part"], row["start"], row["end"]) == ("video", 0.0, 10.0)  # whole, however long
    assert predictions.read(output) == [row]


def test_predict_refuses_scores_that_are_no_numbers(spoken, tmp_path, monkeypatch):
    run, _ = spoken
    monkeypatch.setattr(Networks, "features", lambda self, one: {"text": np.full((2, 2), np.nan, "float32")})
    told = rf"{run}: scores of 1 of 1 clips are NaN or infinite, first of {tmp_path}/a.mp4; expected finite"
    with pytest.raises(ValueError, match=told):
        predict.predict(run, [tmp_path / "a.mp4"], tmp_path / "out.csv", text="high water")
    assert not (tmp_path / "out.csv").exists()


def test_predict_takes_texts_from_a_manifest_and_decodes_what_they_change(spoken, tmp_path):
    run, decoded = spoken
    table = tmp_path / "clips.csv"
    table.write_text("video,description\na.mp4,high water\nmute.mp4,\n")
    output = tmp_path / "out.json"
    first = predict.predict(run, [table], output)
    assert decoded == [("a.mp4", "high water"), ("mute.mp4", "")]
    assert [row["missing"] for row in first] == [[], ["audio", "text"]]
    assert first[1]["labels"] == []
    assert predict.predict(run, [table], output) == first and len(decoded) == 2
    table.write_text("video,description\na.mp4,low water all over\nmute.mp4,\n")
    again = predict.predict(run, [table], output)
    assert decoded[2:] == [("a.mp4", "low water all over")] and again[1] == first[1]
    found = workdir.load(run)  # another decision: nothing is kept
    tuned = recipe.override(found.recipe, ["second_stage.thresholds=tuned"])
    workdir.save(run, tuned, found.facts, 0, found.split())
    files.write_json(run / "thresholds.json", dict.fromkeys(found.facts.classes, 0.25))
    predict.predict(run, [table], output)
    assert len(decoded) == 5


@pytest.mark.parametrize(
    "lines, paths, text, message",
    [
        ("a.mp4,x\na.mp4,y\n", ["clips.csv"], "", "a.mp4: listed with two texts, 'x' and 'y'"),
        ("a.mp4,x\n", ["clips.csv", "a.mp4"], "", "a.mp4: listed with two texts"),
        ("a.mp4,x\n", ["clips.csv"], "y", "--text: one text, and 1 files listed by 1 PATHs"),
        ("a.mp4,x\n", ["a.mp4", "mute.mp4"], "y", "--text: one text, and 2 files"),
        ("a.mp4,x\n", ["a.mp4"], "y\udcff", "--text: not UTF-8 from letter 2 on"),
    ],
)
def test_a_file_has_one_text(spoken, tmp_path, lines, paths, text, message):
    ids = [f"{k},{line}" for k, line in enumerate(lines.splitlines())]
    (tmp_path / "clips.csv").write_text("\n".join(["id,path,text", *ids]))
    with pytest.raises(ValueError, match=message) as error:
        predict.predict(spoken[0], [tmp_path / name for name in paths], text=text)
    assert "\n" not in str(error.value) and not spoken[1]


def test_predict_refuses_what_an_evenly_read_clip_has_no_use_for(spoken, measured, tmp_path):
    clip = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match="window_step=2: this run reads a clip whole"):
        predict.predict(spoken[0], [clip], overrides=["predict.window_step=2"])
    with pytest.raises(ValueError, match="--text: raf reads frames; leave it out"):
        predict.predict(measured, [clip], text="water")
    with pytest.raises(ValueError, match="no scores over time to draw"):
        predict.predict(spoken[0], [clip], explain=str(tmp_path / "x.png"))


def test_the_whole_of_windows_has_the_labels_of_half_of_them():
    class Decided:
        """Frames 2 a window; `up` is decided where the first frame is 1."""

        rows, length, timed = [Feature("frames", (2, 1)), Feature("text", (2, 1))], 2, ("frames",)
        run = "runs/a"

        def __call__(self, features, starts):
            up = np.array([features["frames"][s, 0] for s in starts])
            return {"scores": np.stack([up, 1 - up], 1), "labels": np.stack([up, 0 * up], 1).astype(int)}

    r = recipe.get("attention_boosted")
    for firsts, labels in (([1, 1, 0, 0], ["up"]), ([0, 0, 0, 0], []), ([0, 0, 1, 0, 0, 0], [])):
        frames = np.float32(firsts)[:, None]
        features = {"frames": frames, "text": np.ones((9, 1))}  # more words than frames
        rows = predict.rows_of(
            "x", features, list(map(float, range(len(firsts)))), Decided(), ["up", "down"], r
        )
        assert rows[0]["labels"] == labels and rows[0]["end"] == len(firsts)
        assert [row["labels"] for row in rows[1:]] == [["up"] * f for f in firsts[::2]]


def test_words_do_not_slide_with_the_windows(spoken, monkeypatch):
    found = workdir.load(spoken[0])
    predictor = predict.Predictor(found)
    predictor.timed = ("frames", "audio")
    seen = []
    predictor._decide = lambda inputs: seen.append(inputs) or (np.ones((2, 3), int), np.ones((2, 3)))
    rows = {"frames": np.arange(8.0)[:, None] * np.ones(6), "text": np.arange(9.0)[:, None] * np.ones(2)}
    predictor(rows, [0, 4])
    assert seen[0]["frames"][:, :, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert seen[0]["text"][:, :, 0].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert seen[0]["audio"].shape == (2, 3, 5) and not seen[0]["audio"].any()


def test_predict_prints_the_labels(spoken, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        predict.main([f"--workdir={spoken[0]}", "--text=high water", str(tmp_path / "a.mp4")])
    out = capsys.readouterr().out
    assert not end.value.code and "a.mp4: relief; a;b (relief 0.881, a;b 0.769, flood 0.269)" in out


def test_accuracy_without_a_stream_is_of_clips_with_one_label(measured):
    with pytest.raises(ValueError, match="clips with several labels; expected a run whose clips have one"):
        missing_stream.accuracies(workdir.load(measured), [""])
