"""Batch predictions from JSON lines to CSV."""

import json

import pytest

from starter import convert_prediction_from_json_to_csv as converter


def run(capsys, *argv):
    with pytest.raises(SystemExit) as exit_:
        converter.main(argv)
    return exit_.value.code, *capsys.readouterr()


def line(video="v1", classes=(3, 1), scores=(0.75, 0.5)):
    return json.dumps({"video_id": video, "class_indexes": list(classes), "predictions": list(scores)})


def test_lines_of_all_files_in_their_order(tmp_path, capsys):
    (tmp_path / "b.json").write_text(line("v2", [7], [1e-7]) + "\n\n" + line("v3", [], []))
    (tmp_path / "a.json").write_text(line("ä") + "\n")
    out = tmp_path / "new" / "out.csv"
    flags = f"--json_prediction_files_pattern={tmp_path}/*.json", f"--csv_output_file={out}"
    status, text, _ = run(capsys, *flags)
    assert status == 0 and text == f"written: {out}, 3 videos\n"
    assert out.read_text(encoding="utf-8") == (
        "VideoId,LabelConfidencePairs\nä,3 0.750000 1 0.500000\nv2,7 0.000000\nv3,\n"
    )


@pytest.mark.parametrize(
    "broken",
    [
        '{"video_id": "v"',
        '{"video_id": "v", "class_indexes": [1]}',
        line(scores=[0.5]),
        line(scores=["x", "y"]),
        '{"video_id": "v", "class_indexes": 1, "predictions": 2}',
        "[]",
        "3",
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(broken, tmp_path, capsys):
    (tmp_path / "a.json").write_text(line() + "\n" + broken + "\n")
    out = tmp_path / "out.csv"
    out.write_text("earlier")
    flags = f"--json_prediction_files_pattern={tmp_path}/a.json", f"--csv_output_file={out}"
    status, _, err = run(capsys, *flags)
    assert status == 1 and f"{tmp_path}/a.json, line 2: " in err and err.count("\n") == 1
    assert "expected a JSON object with video_id, class_indexes, predictions" in err
    assert out.read_text() == "earlier" and sorted(p.name for p in tmp_path.iterdir()) == [
        "a.json",
        "out.csv",
    ]


def test_flags_that_are_missing_or_match_nothing(tmp_path, capsys):
    assert "expected --json_prediction_files_pattern" in run(capsys)[2]
    flags = f"--json_prediction_files_pattern={tmp_path}/*.json", f"--csv_output_file={tmp_path}/out.csv"
    status, _, err = run(capsys, *flags)
    assert status == 1 and "no file matches" in err
