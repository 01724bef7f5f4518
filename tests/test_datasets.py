"""Where clips come from: folders, UCF-101, manifests, records; and what each says when it cannot."""

import json
import os

import pytest

from tfvc.data import datasets
from tfvc.recipe import Data


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def test_a_folder_gives_classes_ids_and_groups(tmp_path):
    root = _touch(
        tmp_path / "my set", "b/x.MP4", "a/v_a_g01_c02.avi", "a/.hidden.avi", "a/notes.txt", ".git/c.avi"
    )
    found = datasets.load(Data(), str(root))
    assert (found.kind, found.name, found.classes) == ("folder", "my_set", ["a", "b"])
    clips = [(c.id, c.labels, c.group) for c in found.clips]
    assert clips == [("a/v_a_g01_c02", ("a",), "v_a_g01"), ("b/x", ("b",), "")]
    assert found.clips[0].path == str(root / "a/v_a_g01_c02.avi")
    assert "ignored, as no clips: 1 (" in found.notes[0] and "notes.txt" in found.notes[0]


def test_clips_that_differ_in_their_extension_only_keep_it(tmp_path):
    root = _touch(tmp_path, "a/x.mp4", "a/x.avi", "b/x.mp4")
    assert [c.id for c in datasets.load(Data(), str(root)).clips] == ["a/x.avi", "a/x.mp4", "b/x"]


@pytest.mark.parametrize("name", ["new\nline", "tab\there", "odd\u2028line", "escape\x1b[31m"])
def test_a_class_with_a_control_character_is_refused(name, tmp_path):
    for label in ("a", name):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.mp4").touch()
    with pytest.raises(ValueError, match="holds a line break or another control character; rename") as raised:
        datasets.load(Data(), str(tmp_path))
    assert len(str(raised.value).splitlines()) == 1


def test_symlinks_are_clips_and_classes(tmp_path):
    real = _touch(tmp_path / "real", "x.mp4")
    root = _touch(tmp_path / "set", "b/y.mp4")
    (root / "a").symlink_to(real)
    (root / "b" / "gone.mp4").symlink_to(tmp_path / "nowhere")  # extraction lists it as skipped
    assert [c.id for c in datasets.load(Data(), str(root)).clips] == ["a/x", "b/gone", "b/y"]


def test_a_file_name_of_any_bytes_has_an_id_that_can_be_written(tmp_path):
    root = _touch(tmp_path, "a/x.mp4", "b/y.mp4")
    with open(os.fsencode(root / "a") + b"/\xff\n.avi", "wb"):
        pass
    clips = datasets.load(Data(), str(root)).clips
    assert "a/\\xff\n" in [c.id for c in clips] and all(c.id.encode() for c in clips)
    assert all(os.path.exists(c.path) for c in clips)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no clips; expected <class>/<clip>"),
        (["a/readme.txt"], "no clips"),
        (["x.mp4"], "1 lie outside a class folder"),
        (["a/x.mp4"], "one class only, 'a'"),
        (["train/a/x.mp4", "train/b/x.mp4"], "they lie deeper"),
        (["a/x.mp4", "b/x.mp4", "b/deep/x.mp4"], "below the class folders"),
    ],
)
def test_a_folder_without_classes_of_clips_is_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(Data(), str(_touch(tmp_path, *names)))


def test_what_does_not_exist_or_is_of_another_kind_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        datasets.load(Data(), str(tmp_path / "nowhere"))
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="x.mp4: a file; expected a folder, or a .csv or .jsonl manifest"):
        datasets.load(Data(), str(tmp_path / "x.mp4"))
    with pytest.raises(ValueError, match="data.kind=manifest expects"):
        datasets.load(Data(kind="manifest"), str(tmp_path))
    with pytest.raises(ValueError, match="data.kind=folder needs --data"):
        datasets.load(Data(kind="folder"), "")
    with pytest.raises(ValueError, match="data.kind=demo takes no --data"):
        datasets.load(Data(kind="demo"), str(tmp_path))


def test_loose_clips_to_predict_need_no_class(tmp_path):
    root = _touch(tmp_path, "x.mp4", "deep/er/y.avi", ".hidden/z.avi")
    found = datasets.load(Data(), str(root), labelled=False)
    assert [(c.id, c.labels) for c in found.clips] == [("deep/er/y", ()), ("x", ())] and found.classes == []
    one = _touch(tmp_path / "one", "a/x.mp4")
    assert datasets.load(Data(), str(one), least_classes=1).classes == ["a"]


def test_linked_folders_are_searched_for_loose_clips_and_a_circle_ends(tmp_path):
    _touch(tmp_path / "real", "a.mp4", "deep/b.mp4")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "deep" / "up").symlink_to(tmp_path / "set")
    found = datasets.load(Data(kind="folder"), str(tmp_path / "set"), labelled=False)
    assert [c.id for c in found.clips] == ["link/a", "link/deep/b"]


def test_official_lists_mark_the_parts_of_ucf101(shared):
    data = Data(lists=str(shared("data/ucf101_splits")))
    found = datasets.load(data, str(shared("data/ucf101")))
    assert (found.kind, found.classes) == ("ucf101", ["Punch", "SoccerJuggling", "YoYo"])
    parts = {c.id: c.part for c in found.clips}
    assert len(parts) == 23
    assert {parts[i] for i in parts if i.startswith("Punch")} == {
        "test"
    }  # g01 and g04: list 1 tests g01 to g07
    assert parts["YoYo/v_YoYo_g08_c01"] == "train" and parts["YoYo/v_YoYo_g03_c03"] == "test"
    with pytest.raises(FileNotFoundError, match="trainlist04.txt"):
        datasets.load(Data(lists=data.lists, list_number=4), str(shared("data/ucf101")))


def test_lists_are_found_near_the_clips_whatever_their_extension_and_case(tmp_path):
    root = _touch(tmp_path / "UCF-101", "A/v_A_g01_c01.mp4", "B/v_b_g08_c01.mp4", "B/v_B_g09_c01.mp4")
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("B/v_B_g08_c01.avi 2\n")
    (lists / "testlist01.txt").write_text("A/v_A_g01_c01.avi\r\n\r\n")
    found = datasets.load(Data(), str(root))
    assert found.kind == "ucf101" and [c.part for c in found.clips] == ["test", "", "train"]
    with pytest.raises(FileNotFoundError, match="no trainlist01.txt"):
        datasets.load(Data(lists=str(tmp_path)), str(root))
    alone = _touch(tmp_path / "alone", "A/v_A_g01_c01.mp4", "B/v_B_g01_c01.mp4")
    (tmp_path / "ucfTrainTestlist" / "trainlist01.txt").unlink()
    assert datasets.load(Data(), str(alone)).kind == "folder"


def test_the_demo_set_is_its_manifest():
    found = datasets.load(Data(clips=24), "")
    assert (found.kind, found.name, len(found.clips), len(found.classes)) == ("demo", "demo-motion", 24, 4)
    assert all(os.path.isfile(c.path) for c in found.clips) and not found.multi_label


# Manifests


def test_a_csv_manifest(tmp_path):
    _touch(tmp_path, "v/a.mp4", "v/b.mp4")
    file = tmp_path / "m.csv"
    header = "\ufeffid,video,label,description,group,split"
    rows = '1,v/a.mp4,x; y;x,"two\nlines, ""so""",g1,val', "", "2,v/b.mp4,y,,,train"
    file.write_text("\n".join([header, *rows]), encoding="utf-8")
    found = datasets.load(Data(), str(file))
    assert (found.kind, found.name, found.classes, found.multi_label) == ("manifest", "m", ["x", "y"], True)
    first, second = found.clips
    assert first == datasets.Clip(
        "1", str(tmp_path / "v/a.mp4"), ("x", "y"), 'two\nlines, "so"', "g1", "validation"
    )
    assert (second.labels, second.text, second.group, second.part) == (("y",), "", "", "train")


def test_a_manifest_reads_the_groups_that_it_does_not_name_off_the_file_names(tmp_path):
    _touch(tmp_path, "v_Punch_g01_c02.avi", "v_YoYo_g02_c01.avi")
    rows = "1,v_Punch_g01_c02.avi,a,", "2,v_YoYo_g02_c01.avi,b,mine"
    (tmp_path / "m.csv").write_text("\n".join(["id,path,labels,group", *rows]))
    assert [c.group for c in datasets.load(Data(), str(tmp_path / "m.csv")).clips] == ["v_Punch_g01", "mine"]


def test_two_columns_that_mean_the_same_are_a_fault(tmp_path):
    _touch(tmp_path, "a.mp4")
    (tmp_path / "m.csv").write_text("id,path,labels,label\n1,a.mp4,x,y\n")
    with pytest.raises(ValueError, match=r"m\.csv:1: two columns for labels: labels, label"):
        datasets.load(Data(), str(tmp_path / "m.csv"))
    (tmp_path / "m.jsonl").write_text(
        '{"id": "a\\nb", "path": "a.mp4", "labels": "x"}\n{"id": 1, "video": 2, "path": 3}'
    )
    with pytest.raises(ValueError, match=r"(?s)m\.jsonl:1: id: a line break.*m\.jsonl:2: no labels"):
        datasets.load(Data(), str(tmp_path / "m.jsonl"))


def test_the_digest_tells_another_label_and_not_another_order(tmp_path):
    made = [datasets.Clip("a", "", ("x",), group="g"), datasets.Clip("b", "", ("y",))]
    digests = [
        datasets.Dataset("n", "folder", "", clips, ["x", "y"]).digest()
        for clips in (made, made[::-1], [made[0], datasets.Clip("b", "", ("x",))], made[:1])
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_a_jsonl_manifest(tmp_path):
    _touch(tmp_path, "a.mp4", "b.mp4")
    rows = [
        {"id": 1, "path": "a.mp4", "labels": ["x"], "text": "é"},
        {"id": "2", "path": str(tmp_path / "b.mp4"), "label": "y", "group": None},
    ]
    file = tmp_path / "m.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = datasets.load(Data(), str(file))
    assert [(c.id, c.labels, c.text, c.group) for c in found.clips] == [
        ("1", ("x",), "é", ""),
        ("2", ("y",), "", ""),
    ]
    assert not found.multi_label and all(os.path.isfile(c.path) for c in found.clips)


def test_every_fault_of_a_csv_manifest_is_listed_by_line(tmp_path):
    _touch(tmp_path, "a.mp4")
    file = tmp_path / "m.csv"
    lines = [
        b"id,path,labels,split",
        b'1,a.mp4,"x',
        b'",train',
        b"1,a.mp4,x,train",  # line 4: twice
        b"2,gone.mp4,x,train",
        b"3,a.mp4, ;,train",
        b"4,a.mp4,x",
        b"5,a.mp4,\xff,train",
        b",a.mp4,x,dev",
        b"6," + b"n" * 5000 + b",x,",
    ]
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError) as error:
        datasets.load(Data(), str(file))
    text = str(error.value)
    assert text.startswith("8 faults in a manifest\n") and len(text.splitlines()) == 9
    for line, reason in [
        (4, "id '1' stands in line 2 already"),
        (5, "gone.mp4: no such file"),
        (6, "no label"),
        (7, "3 fields; the header has 4"),
        (8, "not UTF-8 (byte 0xff)"),
        (9, "no id"),
        (9, "split 'dev'; expected train, validation or test"),
        (10, "n: no such file"),
    ]:
        assert any(row.startswith(f"{file}:{line}: ") and reason in row for row in text.splitlines()), (
            line,
            text,
        )


def test_every_fault_of_a_jsonl_manifest_is_listed_by_line(tmp_path):
    _touch(tmp_path, "a.mp4")
    file = tmp_path / "m.jsonl"
    good = '{"id": "1", "path": "a.mp4", "labels": ["x"]}'
    deep = "[" * 100000
    rows = [good, "{", "3", '{"id": "2"}', '{"id": "3", "path": ["a.mp4"], "labels": "x"}', good, deep]
    rows += ['{"id": ' + "9" * 5000 + "}", good.replace('"1"', '"4\\ud800"')]
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        datasets.load(Data(), str(file))
    text = str(error.value)
    for line, reason in [
        (2, "not JSON"),
        (3, "expected an object, found int"),
        (4, "no path, labels"),
        (5, "path: expected text, found list"),
        (6, "id '1' stands in line 1"),
        (7, "not JSON"),
        (8, "not JSON"),
        (9, "id: half a surrogate pair is no text"),
    ]:
        assert f"{file}:{line}: {reason}" in text


def test_columns_empty_files_and_broken_quotes_are_named(tmp_path):
    file = tmp_path / "m.csv"
    for text, message in [
        ("id;path;labels\n1;a;b\n", "m.csv:1: no column id, path, labels; the header has: id;path;labels"),
        ("", "m.csv:1: no clips"),
        ("id,path,labels\n", "m.csv:1: no clips"),
        ('id,path,labels\n1,"a', "not CSV"),
        ("id,path,labels\n1,a," + "x" * 200000, "not CSV .field larger than field limit"),
    ]:
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            datasets.load(Data(), str(file))


def test_a_manifest_to_predict_needs_no_labels(tmp_path):
    _touch(tmp_path, "a.mp4")
    file = tmp_path / "m.csv"
    file.write_text("id,path\n../../x,a.mp4\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no column labels"):
        datasets.load(Data(), str(file))
    assert [c.id for c in datasets.load(Data(), str(file), labelled=False).clips] == ["../../x"]
