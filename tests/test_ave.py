"""AVE's folder: annotations, both forms of its split, videos that stand twice, and what each fault says."""

import h5py
import numpy as np
import pytest

from tfvc.data import ave, datasets
from tfvc.data.splits import split
from tfvc.recipe import Data

ROWS = [
    "Church bell&aaa&good&0&10",
    "Violin, fiddle&bbb&good&3&10",
    "Church bell&ccc&good&0&10",
    "Banjo&bbb&good&3&10",
    "Banjo&ddd&good&0&4",
]
TEXT = {"train": [0, 1], "val": [2], "test": [3, 4]}
ORDER = {"train": [4, 0], "val": [1], "test": [2, 3]}


def _set(root, rows=ROWS, text=TEXT, order=None, videos=("AVE/aaa.mp4",), header="", encoding="utf-8"):
    (root / "AVE").mkdir(parents=True, exist_ok=True)
    (root / "Annotations.txt").write_text(header + "\n".join(rows) + "\n", encoding)
    for name, wanted in (text or {}).items():
        (root / f"{name}Set.txt").write_text(header + "\r\n".join(rows[i] for i in wanted))
    for name, wanted in (order or {}).items():
        with h5py.File(root / f"{name}_order.h5", "w") as f:
            f["order"] = np.array(wanted)
    for name in videos:
        (root / name).write_bytes(b"")
    return str(root)


def _parts(found):
    return {clip.id: clip.part for clip in found.clips}


@pytest.mark.parametrize("header", ["", "Category&VideoID&Quality&StartTime&EndTime\n", "\ufeff"])
def test_the_text_files_give_classes_parts_groups_and_ids(tmp_path, header):
    root = _set(tmp_path, header=header, videos=["AVE/aaa.mp4", "bbb.mkv", "ccc.mp4", "AVE/ccc.mp4"])
    found = datasets.load(Data(), root)
    assert (found.kind, found.classes) == ("ave", ["Banjo", "Church bell", "Violin, fiddle"])
    assert _parts(found) == {
        "aaa": "train",
        "bbb": "train",
        "ccc": "validation",
        "bbb#2": "test",
        "ddd": "test",
    }
    assert [c.group for c in found.clips] == ["aaa", "bbb", "ccc", "bbb", "ddd"]
    places = [c.path.removeprefix(f"{root}/") for c in found.clips]
    assert places == ["AVE/aaa.mp4", "bbb.mkv", "AVE/ccc.mp4", "bbb.mkv", "AVE/ddd.mp4"]
    notes = "\n".join(found.notes)
    assert "AVE: split by trainSet.txt, valSet.txt, testSet.txt" in notes
    assert "1 video ids stand more than once (bbb), in 1 rows besides the first" in notes
    assert "1 of these videos leak across the parts of the split (bbb in train and test)" in notes
    assert "AVE: 1 of 4 videos are not there (AVE/ddd.mp4 the first): skipped when extracted" in notes


def test_row_numbers_give_the_parts_where_there_is_no_text(tmp_path):
    found = datasets.load(Data(kind="ave"), _set(tmp_path, text=None, order=ORDER))
    assert _parts(found) == {
        "aaa": "train",
        "bbb": "validation",
        "ccc": "test",
        "bbb#2": "test",
        "ddd": "train",
    }
    assert "AVE: split by train_order.h5, val_order.h5, test_order.h5" in found.notes[0]


def test_of_both_forms_the_text_is_read_and_that_is_said(tmp_path):
    found = datasets.load(Data(), _set(tmp_path, order=ORDER))
    assert _parts(found)["ddd"] == "test"
    assert found.notes[0].endswith(
        "testSet.txt; train_order.h5, val_order.h5, test_order.h5 are there too and are not read"
    )


def test_the_official_split_has_all_three_parts_and_a_group_split_keeps_videos_whole(tmp_path):
    dataset = datasets.load(Data(), _set(tmp_path))
    made = split(dataset, Data(split="official", validation_fraction=0.5), 0)  # nothing more is drawn
    assert made.parts() == {"train": ["aaa", "bbb"], "validation": ["ccc"], "test": ["bbb#2", "ddd"]}
    assert "group leakage: 1 of 2 test clips share a group with a training clip" in made.notes
    data = Data(split="group", test_groups=("bbb",))
    with pytest.raises(ValueError, match="only one group in class 'Violin, fiddle'"):
        split(dataset, data, 0)


def test_a_row_in_two_parts_is_measured_on_and_told(tmp_path):
    root = _set(tmp_path, text={"train": [0, 1, 3], "val": [2, 0], "test": [3, 4]})
    found = datasets.load(Data(), root)
    assert _parts(found)["aaa"] == "validation" and _parts(found)["bbb#2"] == "test"
    assert any("2 rows stand in two parts of the split (line 1 of Annotations.txt" in n for n in found.notes)


def test_two_rows_of_one_class_and_video_land_in_the_parts_of_their_lines(tmp_path):
    rows = [
        "Banjo&aaa&good&0&10",
        "Banjo&bbb&good&0&3",
        "Banjo&bbb&good&5&9",
        "Horn&ccc&ok&0&9",
        "Horn&ccc&ok&0&9",
    ]
    root = _set(tmp_path, rows, {"train": [0, 2], "val": [3], "test": [1, 4]})
    found = datasets.load(Data(), root)
    parts = ["train", "test", "train", "validation", "test"]
    assert _parts(found) == dict(zip(["aaa", "bbb", "bbb#2", "ccc", "ccc#2"], parts, strict=True))
    assert any(
        "2 of these videos leak across the parts of the split (bbb in " in note for note in found.notes
    )


def test_the_id_of_a_second_row_is_no_other_video(tmp_path):
    rows = ["A&aaa&good&0&10", "B&aaa&good&0&10", "A&aaa#2&good&0&10", "B&aaa#2&good&0&10", "A&aaa&good&1&9"]
    found = datasets.load(Data(), _set(tmp_path, rows, None), media=False)
    assert [(c.id, c.group) for c in found.clips] == [
        ("aaa", "aaa"),
        ("aaa#3", "aaa"),
        ("aaa#2", "aaa#2"),
        ("aaa#2#2", "aaa#2"),
        ("aaa#4", "aaa"),
    ]


def test_without_any_split_there_are_no_parts(tmp_path):
    found = datasets.load(Data(), _set(tmp_path, text=None))
    assert set(_parts(found).values()) == {""} and "no files of the split there" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": ["Banjo&aaa&good&0"]}, r"Annotations.txt:1: 'Banjo&aaa&good&0'; expected class&videoid"),
        ({"rows": ["&aaa&good&0&10"]}, r"Annotations.txt:1: "),
        ({"rows": [*ROWS, "Banjo&../x&good&0&10"]}, r"Annotations.txt:6: '\.\./x' is no video id"),
        ({"rows": [*ROWS, "Banjo&a\0b&good&0&10"]}, r"Annotations.txt:6: 'a\\x00b' is no video id"),
        ({"rows": [""]}, "Annotations.txt: no clips"),
        (
            {"rows": ["Bänjo&aaa&good&0&10"], "text": None, "encoding": "latin-1"},
            "Annotations.txt: not UTF-8",
        ),
        (
            {"text": {"train": [0], "test": [1]}},
            "valSet.txt: no such file; a split of AVE is all of trainSet",
        ),
        ({"text": None, "order": ORDER | {"val": [5]}}, "val_order.h5: expected row numbers.* 0 to 4"),
        ({"text": None, "order": ORDER | {"val": [0.5]}}, "val_order.h5: expected row numbers"),
        ({"text": None, "order": ORDER | {"val": [0] * 6}}, "val_order.h5: expected row numbers"),
        ({"text": None, "order": ORDER | {"val": [b"1"]}}, "val_order.h5: expected row numbers"),
        ({"videos": []}, "not one of 4 videos is there; expected AVE/aaa.mp4"),
    ],
)
def test_each_fault_is_one_line_that_names_the_file(tmp_path, change, message):
    change = {"text": None, **change} if "rows" in change else change
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        datasets.load(Data(kind="ave"), _set(tmp_path, **change))
    assert "\n" not in str(error.value)


def test_lines_and_files_that_are_none_of_ave(tmp_path):
    root = _set(tmp_path)
    (tmp_path / "valSet.txt").write_text("Church bell&zzz&good&0&10\n")
    with pytest.raises(ValueError, match=r"valSet.txt:1: Church bell&zzz is not in Annotations.txt"):
        datasets.load(Data(), root)
    (tmp_path / "val_order.h5").write_bytes(b"no hdf5")
    for name in ("train", "test"):
        (tmp_path / f"{name}_order.h5").write_bytes(b"")
        (tmp_path / f"{name}Set.txt").unlink()
    with pytest.raises(ValueError, match=r"train_order.h5: cannot be read"):
        datasets.load(Data(), root)
    with pytest.raises(FileNotFoundError, match="Annotations.txt: no such file"):
        ave.read(tmp_path / "AVE")
    with pytest.raises(ValueError, match=r"Annotations.txt: a file; expected a folder"):
        datasets.load(Data(kind="ave"), str(tmp_path / "Annotations.txt"))


def test_the_real_annotations_and_their_split(shared):
    found = datasets.load(Data(), str(shared("data/ave")), media=False)
    assert len(found.clips) == 4143 and len(found.classes) == 28 and not found.multi_label
    parts = list(_parts(found).values())
    assert [parts.count(p) for p in ("train", "validation", "test")] == [3339, 402, 402]
    assert len(_parts(found)) == 4143 and {c.id for c in found.clips} >= {"0f_iTO5t3hU#2", "0f_iTO5t3hU#3"}
    notes = "\n".join(found.notes)
    assert "45 video ids stand more than once (-ccciEuH9FE, " in notes and "in 46 rows besides" in notes
    assert "18 of these videos leak across the parts of the split (0qvQIuQoODo in train and test, " in notes
    made = split(found, Data(split="official"), 0)
    assert [len(p) for p in made.parts().values()] == [3339, 402, 402]
    assert any(
        note.startswith("group leakage: ") and not note.startswith("group leakage: 0") for note in made.notes
    )
    by_video = split(found, Data(split="group"), 0)
    assert "group leakage: 0 of" in by_video.notes[-1]
    with pytest.raises(FileNotFoundError, match="not one of 4097 videos is there"):
        datasets.load(Data(), str(shared("data/ave")))
