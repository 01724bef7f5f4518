"""The evaluation of ranked segments: what it reads, what it counts, what it refuses."""

import gzip
import json
import shutil

import golden_metrics
import pytest
import tensorflow as tf

from starter import segment_eval_inference as segment_eval

LABELS = {
    ("a:0", 3): 1.0,
    ("a:5", 3): 0.0,
    ("b:0", 3): 1.0,
    ("a:0", 7): 0.0,
    ("b:5", 7): 1.0,
    ("a:0", 9): 0.0,
}


def submission(tmp_path, text):
    path = tmp_path / "submission.csv"
    path.write_text(text)
    return str(path)


def run(capsys, *argv):
    with pytest.raises(SystemExit) as exit_:
        segment_eval.main(argv)
    streams = capsys.readouterr()
    return exit_.value.code, streams.out, streams.err


@pytest.mark.parametrize("header", ["", "Class,Segments\n"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_header_and_last_segment_of_a_line_are_taken(header, end, tmp_path):
    path = submission(tmp_path, f"{header}3,a:5 a:0 x:9 b:0\n7,a:0 b:5{end}")
    found = segment_eval.evaluate(LABELS, path)
    assert found == {3: pytest.approx((1 / 2 + 2 / 3) / 2), 7: pytest.approx(1 / 2)}


def test_top_n_cuts_before_unrated_segments_are_dropped_and_recall_is_over_all_positives(tmp_path):
    path = submission(tmp_path, "3,x:0 a:0 b:0\n")
    assert segment_eval.evaluate(LABELS, path, top_n=2) == {3: 1 / 2}
    assert segment_eval.evaluate(LABELS, path, top_n=1) == {3: 0.0}
    assert segment_eval.evaluate(LABELS, path, top_n=0) == {3: 1.0}


def test_a_class_without_positives_is_left_out_and_said(tmp_path, capsys):
    path = submission(tmp_path, "3,a:0 b:0\n9,a:0\n11,a:0\n")
    assert segment_eval.evaluate(LABELS, path) == {3: 1.0}
    assert "2 classes have no positive segment and are left out" in capsys.readouterr().out


def test_a_segment_listed_twice_counts_once_and_is_said(tmp_path, capsys):
    path = submission(tmp_path, "3,a:0 a:0 b:0\n")
    assert segment_eval.evaluate(LABELS, path) == {3: 1.0}
    assert "1 segments are listed twice" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, message",
    [
        ("3,a:0\nGame,b:0\n", "submission.csv, line 2: 'Game,b:0'; expected class,id:start"),
        ("3\n", "line 1: '3'; expected class,id:start"),
        ("3,a:0\n3,b:0\n", "line 2: class 3 again; expected one line a class"),
        ("9,a:0\n", "no class of it has a positive segment among the 6 rated ones"),
        ("3,a:0\n7,a:0 abc b:5\n", "submission.csv, line 2: segment 'abc'; expected id:start"),
        ("3,:0\n", "line 1: segment ':0'; expected id:start"),
        ("3,a:x\n", "line 1: segment 'a:x'; expected id:start"),
        ("", "submission.csv: holds no predictions; expected lines of class,id:start"),
        ("Class,Segments\n", "submission.csv: holds no predictions; expected lines of class,id:start"),
    ],
)
def test_what_is_no_submission_is_refused_by_file_and_line(text, message, tmp_path):
    with pytest.raises(ValueError, match="submission.csv") as error:
        segment_eval.evaluate(LABELS, submission(tmp_path, text))
    assert message in str(error.value) and "\n" not in str(error.value)


# --- labels -------------------------------------------------------------------------------------------------


def write_records(path, videos, key="id"):
    """`videos`: name -> list of (class, start, score)."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, rated in videos.items():
            example = tf.train.SequenceExample()
            feature = example.context.feature
            feature[key].bytes_list.value.append(name.encode())
            for column, kind, index in (("labels", "int64_list", 0), ("start_times", "int64_list", 1)):
                getattr(feature[f"segment_{column}"], kind).value.extend(r[index] for r in rated)
            feature["segment_scores"].float_list.value.extend(r[2] for r in rated if r[2] is not None)
            writer.write(example.SerializeToString())


def test_labels_come_from_records_and_then_from_the_cache(tmp_path, capsys):
    write_records(tmp_path / "1.tfrecord", {"a": [(3, 0, 1.0), (3, 5, 0.0), (7, 0, 0.0)], "none": []})
    write_records(tmp_path / "2.tfrecord", {"b": [(3, 0, 0.0), (3, 0, 1.0), (7, 5, 1.0)]}, key="video_id")
    with open(tmp_path / "2.tfrecord", "rb") as f, gzip.open(tmp_path / "3.tfrecord", "wb") as g:
        shutil.copyfileobj(f, g)
    (tmp_path / "2.tfrecord").unlink()
    path, cache = submission(tmp_path, "Class,Segments\n3,a:5 a:0 b:0\n"), tmp_path / "cache" / "labels.csv"
    flags = [
        f"--submission_file={path}",
        f"--label_cache={cache}",
        f"--eval_data_pattern={tmp_path}/*.tfrecord",
    ]
    status, out, _ = run(capsys, *flags)
    assert status == 0 and out.splitlines()[-1] == "Num classes: 1 | mAP@0: 0.583333"
    lines = cache.read_text().splitlines()
    assert lines == ["a:0,3,1.0", "a:5,3,0.0", "a:0,7,0.0", "b:0,3,1.0", "b:5,7,1.0"]  # the last rating stays
    for file in tmp_path.glob("*.tfrecord"):
        file.unlink()
    status, out, _ = run(capsys, *flags, "--top_n=2")
    assert status == 0 and f"labels read from {cache}" in out and "mAP@2: 0.250000" in out


def test_broken_records_labels_and_flags_are_one_line(tmp_path, capsys):
    path = submission(tmp_path, "3,a:0\n")
    write_records(tmp_path / "odd.tfrecord", {"a": [(3, 0, None)]})
    write_records(tmp_path / "cut.tfrecord", {"a": [(3, 0, 1.0)]})
    write_records(tmp_path / "none.tfrecord", {"a": []})
    data = (tmp_path / "cut.tfrecord").read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(data[:-3])
    (tmp_path / "labels.csv").write_text("a:0,3,1.0\na:0,three,1.0\n")
    (tmp_path / "long.csv").write_text("a:0,3," + "1" * 140_000)
    (tmp_path / "nan.csv").write_text("a:0,3,1.0\na:5,3,nan\n")
    cases = {
        f"--submission_file={path} --label_cache={tmp_path}/long.csv": "long.csv, line 1: field larger than",
        f"--submission_file={path} --label_cache={tmp_path}/nan.csv": "line 2: 'a:5,3,nan'; expected segment",
        "": "no --submission_file",
        f"--submission_file={path}": "no --label_cache is given; expected --eval_data_pattern",
        f"--submission_file={path} --label_cache=absent.csv": "absent.csv does not exist",
        f"--submission_file={path} --eval_data_pattern={tmp_path}/x*": "x*: no such file",
        f"--submission_file={path} --eval_data_pattern={tmp_path}/odd*": "'a' has 1, 1, 0 segment labels",
        f"--submission_file={path} --eval_data_pattern={tmp_path}/cut*": "cut.tfrecord: not whole",
        f"--submission_file={path} --eval_data_pattern={tmp_path}/none*": "no record has segment labels",
        f"--submission_file={path} --label_cache={tmp_path}/labels.csv": "line 2: 'a:0,three,1.0'",
        f"--submission_file={tmp_path}/no.csv --label_cache={tmp_path}/labels.csv": "labels.csv, line 2",
    }
    for flags, message in cases.items():
        status, _, err = run(capsys, *flags.split())
        assert status == 1 and message in err and err.startswith("error: ") and err.count("\n") == 1, flags
    assert run(capsys, "--top=5")[0] == 2


# --- the golden check has teeth -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["s0", "s0_last_is_positive", "s1_top5"])
def test_a_changed_number_fails_the_golden_check(case, shared, tmp_path):
    for file in shared(f"golden/segeval_{case}.json").parent.glob(f"segeval_{case}*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / f"segeval_{case}.json"
    golden_metrics.segeval(path, tmp_path)
    tree = json.loads(path.read_text())
    tree["aps"][1] += 0.01
    path.write_text(json.dumps(tree))
    with pytest.raises(AssertionError, match="aps"):
        golden_metrics.segeval(path, tmp_path)


def test_a_shard_that_cannot_be_opened_is_an_error_and_not_a_part_of_the_labels(tmp_path, monkeypatch):
    from tfvc.data import records

    monkeypatch.setattr(records, "files", lambda pattern: [str(tmp_path / "gone")])
    with pytest.raises(ValueError, match="gone: not whole, or no records"):
        segment_eval.read_labels(str(tmp_path / "*"), "")
