"""starter.eval: what it measures, writes and keeps, on small models with drawn weights."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import served
import tensorflow as tf
from conftest import ROOT
from test_imports import quick

from starter import eval as evaluation
from starter import eval_util, serving
from starter.losses import CrossEntropyLoss


def evaluate(folder, pattern, **given):
    return evaluation.evaluate(
        served.settings(evaluation, train_dir=str(folder), eval_data_pattern=pattern, run_once=True, **given)
    )


def summaries(folder):
    """tag -> [(step, value)] of the event files of a folder."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def test_the_measures_are_those_of_the_model_on_the_records(tmp_path, capsys):
    folder, pattern = served.train_dir(tmp_path / "run"), served.videos(tmp_path / "v.tfrecord")
    found = evaluate(folder, pattern, batch_size=10)
    lines = capsys.readouterr().out.splitlines()

    inputs, labels = raw_videos(pattern)
    predictions = serving.kept(serving.kept_folder(folder, False)).model.predict_on_batch(inputs)
    assert found["avg_hit_at_one"] == pytest.approx(eval_util.calculate_hit_at_one(predictions, labels))
    assert found["gap"] == pytest.approx(eval_util.calculate_gap(predictions, labels, 20))
    perr = eval_util.calculate_precision_at_equal_recall_rate(predictions, labels)
    assert found["avg_perr"] == pytest.approx(perr)
    loss = float(CrossEntropyLoss().calculate_loss(predictions, labels))
    assert found["avg_loss"] == pytest.approx(loss, rel=1e-5)

    batches = [line for line in lines if line.startswith("examples_processed")]
    assert len(batches) == 3
    number = r"\d+\.\d{3}"
    assert re.fullmatch(
        rf"examples_processed: 20 \| global_step 300 \| Batch Hit@1: {number} \| Batch PERR: {number} "
        rf"\| Batch Loss: {number} \| Examples_per_sec: {number}",
        batches[1],
    )
    measures = (found["avg_hit_at_one"], found["avg_perr"], np.mean(found["aps"]), found["gap"])
    line = "epoch/eval number 300 | Avg_Hit@1: {:.3f} | Avg_PERR: {:.3f} | MAP: {:.3f} | GAP: {:.3f} "
    assert (
        line.format(*measures) + f"| Avg_Loss: {found['avg_loss']:.6f} | num_classes: {len(found['aps'])}"
        in lines
    )

    tags = summaries(folder / "eval")
    measures = ("Hit@1", "Perr", "Loss")
    assert set(tags) == {f"GlobalStep/Eval_{m}" for m in (*measures, "Example_Second")} | {
        f"Epoch/Eval_{m}" for m in ("Avg_Hit@1", "Avg_Perr", "Avg_Loss", "MAP", "GAP")
    }
    assert len(tags["GlobalStep/Eval_Loss"]) == 3
    assert tags["Epoch/Eval_GAP"] == [(300, pytest.approx(found["gap"]))]


def raw_videos(path):
    """Inputs and multi-hot labels of a shard, parsed one by one with protos."""
    inputs, labels = {"mean_rgb": [], "mean_audio": []}, []
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        for name, values in inputs.items():
            values.append(list(feature[name].float_list.value))
        labels.append(np.isin(np.arange(served.CLASSES), list(feature["labels"].int64_list.value)))
    return {k: np.array(v, "float32") for k, v in inputs.items()}, np.array(labels, "float32")


@pytest.mark.parametrize("model", ["DbofModel", "LstmModel"])
def test_frames_do_not_depend_on_the_batch_size(model, tmp_path):
    folder, pattern = served.train_dir(tmp_path / "run", model), served.clips(tmp_path / "c.tfrecord")
    one, two = (evaluate(folder, pattern, batch_size=size) for size in (1, 1024))
    for name, value in one.items():
        assert value == pytest.approx(two[name], abs=1e-5), name


def test_segments_weigh_predictions_and_not_the_loss(tmp_path):
    folder, pattern = served.train_dir(tmp_path / "run", "DbofModel"), served.clips(tmp_path / "c.tfrecord")
    found = evaluate(folder, pattern, segment_labels=True)
    kept = serving.kept(serving.kept_folder(folder, True))
    assert kept.model.input["rgb"].shape == (None, 5, 8)
    assert not serving.kept_folder(folder, False).exists()

    predictions, labels, weights = [], [], []
    for record in tf.data.TFRecordDataset(pattern).as_numpy_iterator():
        example = tf.train.SequenceExample.FromString(record)
        rated = {}
        context = example.context.feature
        for start, label, score in zip(
            context["segment_start_times"].int64_list.value,
            context["segment_labels"].int64_list.value,
            context["segment_scores"].float_list.value,
            strict=True,
        ):
            rated.setdefault(start, {})[label] = score
        for start, scores in rated.items():
            inputs = {}
            for name, size in (("rgb", 8), ("audio", 4)):
                frames = example.feature_lists.feature_list[name].feature[start : start + 5]
                values = [np.frombuffer(f.bytes_list.value[0], "uint8") for f in frames]
                inputs[name] = np.zeros((1, 5, size), "uint8")
                inputs[name][0, : len(values)] = values
                inputs[f"{name}_length"] = np.array([5 if len(values) == 5 else len(values)], "int32")
            predictions.append(kept.model.predict_on_batch(inputs)[0])
            labels.append([scores.get(c, 0) for c in range(served.CLASSES)])
            weights.append([float(c in scores) for c in range(served.CLASSES)])
    predictions, labels, weights = map(np.array, (predictions, labels, weights))
    gap = eval_util.calculate_gap(predictions * weights, labels, 20)
    assert found["gap"] == pytest.approx(gap) and gap > eval_util.calculate_gap(predictions, labels, 20)
    loss = float(CrossEntropyLoss().calculate_loss(predictions, labels))
    assert found["avg_loss"] == pytest.approx(loss, rel=1e-4)
    assert {"Epoch/SegEval_GAP", "GlobalStep/SegEval_Loss"} <= set(summaries(folder / "eval"))


def test_it_evaluates_again_and_again_and_keeps_the_newest(tmp_path):
    folder, pattern = served.train_dir(tmp_path / "run"), served.videos(tmp_path / "v.tfrecord")
    first = evaluate(folder, pattern)
    for name, value in evaluate(folder, pattern).items():
        assert value == pytest.approx(first[name], rel=1e-5)
    served.save(folder, json.loads((folder / "model_flags.json").read_text()), 400, seed=5)
    second = evaluate(folder, pattern)
    assert second["epoch_id"] == 400 and second["gap"] != first["gap"]
    assert serving.kept(serving.kept_folder(folder, False)).step == 400
    assert [p.name for p in (folder / "inference_model").glob("[!.]*")] == ["inference_model"]
    assert not list((folder / "inference_model").glob(".*.part"))


def test_a_given_checkpoint_is_evaluated_in_place_of_the_newest(tmp_path):
    folder, pattern = served.train_dir(tmp_path / "run"), served.videos(tmp_path / "v.tfrecord")
    served.save(folder, json.loads((folder / "model_flags.json").read_text()), 400, seed=5)
    older = str(folder / "checkpoints/step-00000300.npz")
    settings = served.settings(evaluation, init_from=older, eval_data_pattern=pattern)
    assert evaluation.evaluate(settings)["epoch_id"] == 300
    assert (folder / "eval").is_dir()  # beside the run, not in the default train_dir


# --- what is wrong ------------------------------------------------------------------------------------------


def test_wrong_places_and_flags(tmp_path):
    pattern = served.videos(tmp_path / "v.tfrecord")
    with pytest.raises(FileNotFoundError, match="none: no such folder; train first: python -m starter.train"):
        evaluate(tmp_path / "none", pattern)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no whole checkpoint there; train first"):
        evaluate(tmp_path / "empty", pattern)
    folder = served.train_dir(tmp_path / "run")
    with pytest.raises(ValueError, match="--eval_data_pattern: expected"):
        evaluate(folder, "")
    with pytest.raises(ValueError, match="model_flags.json: .*moe_num_mixtures"):
        evaluate(folder, pattern, moe_num_mixtures=3)
    with pytest.raises((ValueError, OSError), match="no/such"):
        evaluate(folder, str(tmp_path / "no/such*.tfrecord"))
    with pytest.raises(ValueError, match="segment_labels"):
        evaluate(folder, pattern, segment_labels=True)


def test_a_damaged_checkpoint_that_was_asked_for_is_named(tmp_path):
    folder, pattern = served.train_dir(tmp_path / "run"), served.videos(tmp_path / "v.tfrecord")
    path = folder / "checkpoints/step-00000300.npz"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match="step-00000300.npz: damaged"):
        evaluate(folder, pattern, init_from=str(path))
    with pytest.raises(FileNotFoundError, match="no whole checkpoint there"):  # nor is it the newest
        evaluate(folder, pattern)


def test_records_of_other_sizes_and_labels_beyond_the_classes(tmp_path):
    pattern = served.videos(tmp_path / "v.tfrecord")
    wide = served.train_dir(tmp_path / "wide", feature_sizes="16,4")
    with pytest.raises((ValueError, tf.errors.OpError), match="mean_rgb"):
        evaluate(wide, pattern)
    few = served.train_dir(tmp_path / "few", num_classes=5)
    with pytest.raises((ValueError, tf.errors.OpError), match="v.tfrecord"):
        evaluate(few, pattern)


def command(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    line = [sys.executable, "starter/eval.py", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=environment, **streams, **options)


def _heeds_ctrl_c():
    """A shell starts what runs in its background deaf to Ctrl-C, and so would its children be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_program_waits_for_new_checkpoints_until_ctrl_c(tmp_path):
    folder, pattern = served.train_dir(tmp_path / "run"), served.videos(tmp_path / "v.tfrecord")
    process = command(f"--train_dir={folder}", f"--eval_data_pattern={pattern}", preexec_fn=_heeds_ctrl_c)
    seen = []
    deadline = time.time() + 120
    for line in process.stdout:
        seen.append(line)
        if line.startswith("waiting for a new checkpoint"):
            if any(s.startswith("epoch/eval number 400") for s in seen):
                process.send_signal(signal.SIGINT)
                break
            served.save(folder, json.loads((folder / "model_flags.json").read_text()), 400, seed=5)
        assert time.time() < deadline, seen
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped by Ctrl-C" in err and "Traceback" not in err, err
    assert [s.split("|")[0] for s in seen if s.startswith("epoch")] == [
        "epoch/eval number 300 ",
        "epoch/eval number 400 ",
    ]


@pytest.mark.parametrize("name", ["eval", "inference", "export_model", "export_model_mediapipe"])
def test_help_is_quick_and_needs_no_tensorflow(name, tmp_path):
    for line in (["-m", f"starter.{name}", "--help"], [str(ROOT / f"starter/{name}.py"), "--help"]):
        assert f"usage: python -m starter.{name}" in quick(line, True, tmp_path)[0]
    assert quick(line, False, tmp_path)[1] < 0.5


def test_an_error_is_one_line(tmp_path):
    process = command(f"--train_dir={tmp_path}", "--eval_data_pattern=x", "--run_once")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and not out
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (  # TensorFlow 2.21 has lines of its own
        f"error: {tmp_path}: no whole checkpoint there; train first: python -m starter.train "
        f"--train_dir={tmp_path}"
    )
