"""Manifests: what a list of clips to predict may leave out, and names that are none."""

import pytest

from tfvc.data import datasets, manifests
from tfvc.recipe import Data


def test_clips_to_predict_need_a_path_and_no_id(tmp_path):
    for name in ("a.mp4", "a.avi", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "m.csv").write_text("path\na.mp4\na.avi\nb.mp4\n")
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4"}\n{"video": "a.avi", "id": ""}\n{"path": "b.mp4"}\n')
    for name in ("m.csv", "m.jsonl"):
        found = datasets.load(Data(kind="manifest"), str(tmp_path / name), labelled=False).clips
        assert [clip.id for clip in found] == ["a", "a.avi", "b"]
        assert [clip.path for clip in found] == [str(tmp_path / n) for n in ("a.mp4", "a.avi", "b.mp4")]
        with pytest.raises(ValueError, match="no (column )?id, labels"):
            manifests.read(tmp_path / name)
    (tmp_path / "m.csv").write_text("id,path\n")
    with pytest.raises(ValueError, match="no column labels"):
        manifests.read(tmp_path / "m.csv")


def test_a_path_with_a_nul_or_a_line_break_is_a_fault_of_one_line(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        '{"id": "1", "path": "a\\u0000.mp4"}\n{"id": "2", "path": "a\\nb.mp4"}\n'
    )
    for media in (True, False):
        with pytest.raises(ValueError) as error:
            manifests.read(tmp_path / "m.jsonl", labelled=False, media=media)
        faults = str(error.value).split("\n")[1:]
        assert faults == [f"{tmp_path}/m.jsonl:{n}: path: a line break or a NUL in it" for n in (1, 2)]
