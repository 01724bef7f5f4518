"""Manifests: what a list of clips to predict may leave out, and names that are none."""

import pytest

from tfvc.data import datasets, disaster, manifests
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


def _listing(path, **options):
    """The faults of a manifest, without its name."""
    with pytest.raises(ValueError) as error:
        manifests.read(path, **options)
    first, *rest = str(error.value).split("\n")
    assert all(row.startswith(f"{path}:") for row in rest) and first == f"{len(rest)} faults in a manifest"
    return [row.removeprefix(f"{path}:") for row in rest]


EXPECTED = (
    "expected Demonstration, EmergencyResponse, FloodStorm, HumanRelief, Damage, Victim, Speak, or 0 to 6 "
)
EXPECTED += "in that order"


def test_every_kind_of_fault_of_a_csv_manifest_is_in_one_listing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    lines = [
        (b"id,video,description,labels,split", ()),
        (b'1,a.mp4,"two', ()),
        (b'lines",speak;Damage,train', ()),
        (b"2,a.mp4,,Victim,", ()),  # the same video, without text: no fault
        (b",a.mp4,,Victim,", ["no id"]),
        (b"1,a.mp4,,Victim,", ["id '1' stands in line 2 already"]),
        (b"3,,,Victim,", ["no path"]),
        (b"4,gone.mp4,,Victim,", [f"gone.mp4: no such file (paths start at {tmp_path})"]),
        (b"5,a.mp4,, ;,", ["no label"]),
        (b"6,a.mp4,,Fire;Victim,", [f"label 'Fire' is no concept; {EXPECTED}"]),
        (
            b"7,a.mp4,,7,",
            [
                "label '7' is a number, and line 2 has the name 'speak'; expected all names or all numbers",
                f"label '7' is no concept; {EXPECTED}",
            ],
        ),
        (b"8,a.mp4,,Victim,dev", ["split 'dev'; expected train, validation or test"]),
        (b"9,a.mp4,Victim,", ["4 fields; the header has 5"]),
        (b"10,a.mp4,,,Victim,,", ["7 fields; the header has 5"]),
        (b"11,a.mp4,\xff,Victim,", ["not UTF-8 (byte 0xff); save the file as UTF-8"]),
        (b"12\x00,a.mp4,,Victim,", ["id: a line break or a NUL in it"]),
        (b"13,a\x00.mp4,,Victim,", ["path: a line break or a NUL in it"]),
        (b"14,a.mp4," + b"x" * 131073 + b",Victim,", ["not CSV (field larger than field limit (131072))"]),
        (b'15,a.mp4,"so" it,Victim,', ["not CSV (',' expected after '\"')"]),
        (b'16,a.mp4,"no end,Victim,', ["not CSV (unexpected end of data)"]),
        (b"17,,,Victim,", ["no path"]),  # behind the open quote
        (b"1,a.mp4,,Victim,", ["id '1' stands in line 2 already"]),
    ]
    file = tmp_path / "m.csv"
    file.write_bytes(b"\n".join(line for line, _ in lines))
    want = [f"{n}: {reason}" for n, (_, reasons) in enumerate(lines, 1) for reason in reasons]
    assert _listing(file, concepts=True) == want and len(want) == 19


def test_every_kind_of_fault_of_a_jsonl_manifest_is_in_one_listing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    whole = '{"id": %d, "video": "a.mp4", "labels": [%s]}'
    lines = [
        (whole % (1, "3, 10"), ()),
        ("{", ["not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"]),
        ("[1]", ["expected an object, found list"]),
        ('{"id": 2, "labels": 1}', ["no path; the line has: id, labels"]),
        ('{"id": 3, "id": 4, "video": "a.mp4", "labels": 1}', ["not JSON (two values for 'id')"]),
        ('{"id": 3, "path": "a", "video": "a", "labels": 1}', ["two columns for path: path, video"]),
        ('{"id": 4, "path": {"a": 1}, "labels": 1}', ["path: expected text, found dict"]),
        (whole % (5, "true"), ["labels: expected text, found list"]),
        (
            whole % (6, '"fire"'),
            ["label 'fire' is a name, and line 1 has the number '3'; expected all names or all numbers"],
        ),
        (
            whole % (7, '"a\\nb"'),
            ["label 'a\\nb' is a name, and line 1", "labels: a line break or a NUL in it"],
        ),
        (
            whole % (8, '"\\udc00"'),
            ["label '\\udc00' is a name, and line 1", "labels: half a surrogate pair"],
        ),
        (
            whole % (9, "1" * 140000),
            ["not JSON (Exceeds the limit (4300 digits) for integer string conversion"],
        ),
        (whole % (9, f'"{"1" * 140000}"'), ["labels: over 131072 characters"]),
        (
            '{"id": 10, "path": "a.mp4", "labels": 1, "text": "%s"}' % ("x" * 131073),
            ["text: over 131072 char"],
        ),
        (whole % (11, ""), ["no label"]),
        (whole % (1, "1"), ["id '1' stands in line 1 already"]),
        *((whole % (n, "1"), ()) for n in (20, 21, 22)),
    ]
    file = tmp_path / "m.jsonl"
    file.write_text("\n".join(line for line, _ in lines))
    want = [f"{n}: {reason}" for n, (_, reasons) in enumerate(lines, 1) for reason in reasons]
    found = _listing(file)
    assert len(found) == len(want)
    assert all(row.startswith(text) for row, text in zip(found, want, strict=True))


def test_numbers_are_classes_in_the_order_of_numbers(tmp_path):
    file = tmp_path / "m.csv"
    file.write_text("id,labels\na,10;9;9\nb,2\nc,9\n")
    found = datasets.load(Data(kind="manifest"), str(file), media=False)
    assert found.classes == ["2", "9", "10"] and found.clips[0].labels == ("10", "9")
    file.write_text("id,labels\na,10 cats\nb,9\nc,b\n")
    assert _one(file) == (
        f"{file}:3: label '9' is a number, and line 2 has the name '10 cats'; expected all names or all "
        "numbers"
    )


def _one(file, **data):
    with pytest.raises(ValueError) as error:
        datasets.load(Data(**data), str(file), media=False)
    return str(error.value)


def test_disaster_has_its_seven_classes_by_name_or_by_number(tmp_path):
    file, data = tmp_path / "m.csv", Data(kind="disaster")
    for labels in ("speak;DAMAGE;Speak,Flood/Storm", "6;4;6,02"):
        file.write_text("id,labels\n" + "".join(f"{i},{text}\n" for i, text in enumerate(labels.split(","))))
        found = datasets.load(data, str(file), media=False)
        assert found.classes == list(disaster.CONCEPTS) and found.multi_label and found.kind == "disaster"
        assert [clip.labels for clip in found.clips] == [("Speak", "Damage"), ("FloodStorm",)]
    file.write_text("id,labels\n1,7\n")
    assert _one(file, kind="disaster").startswith(
        f"{file}:2: label '7' is no concept; expected Demonstration, "
    )
    file.write_text("id,path,labels\n1,a.mp4,anything\n")  # to predict
    assert datasets.load(data, str(file), labelled=False, media=False).clips[0].path
    with pytest.raises(ValueError, match="a folder; data.kind=disaster expects a .csv or .jsonl file"):
        datasets.load(data, str(tmp_path))
    with pytest.raises(ValueError, match="m.txt: a file; expected a folder, or a .csv or .jsonl manifest"):
        (tmp_path / "m.txt").touch()
        datasets.load(data, str(tmp_path / "m.txt"))


def test_a_manifest_of_texts_needs_no_video(tmp_path):
    file = tmp_path / "m.csv"
    file.write_text('id,description,labels\n1,"a\nflood",x\n2,,y\n')
    with pytest.raises(ValueError, match="no column path"):
        datasets.load(Data(streams="frames,text"), str(file))
    found = datasets.load(Data(streams="text"), str(file))
    assert [(clip.path, clip.text) for clip in found.clips] == [("", "a\nflood"), ("", "")]
    file.write_text("id,path,description,labels\n1,gone.mp4,flood,x\n2,,fire,y\n")
    assert [clip.text for clip in datasets.load(Data(streams="text"), str(file)).clips] == ["flood", "fire"]
    assert len(datasets.load(Data(streams="text"), str(file), labelled=False).clips) == 2


def test_a_video_with_two_texts_is_two_clips_of_one_group_and_that_is_said(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    file = tmp_path / "m.csv"
    rows = (
        "id,path,text,labels,group",
        "2,a.mp4,one,x,",
        "1,./a.mp4,two,x,",
        "3,b.mp4,,y,",
        "4,a.mp4,,y,mine",
    )
    file.write_text("\n".join(rows))
    found = datasets.load(Data(), str(file))
    assert [clip.group for clip in found.clips] == ["video of 1", "video of 1", "", "mine"]
    assert found.notes == [
        f"{file}: 3 clips share their video with another ({tmp_path}/a.mp4 the first); those of one video "
        "are one group, where the manifest names none"
    ]


def test_real_texts_with_line_breaks_are_read_whole(shared, tmp_path):
    rows = shared("data/text/disaster_tweets/train.csv").read_text(encoding="utf-8").split("\n", 1)[1]
    file = tmp_path / "m.csv"
    file.write_text("id,keyword,location,description,label\n" + rows, encoding="utf-8")
    found = datasets.load(Data(streams="text"), str(file))
    assert len(found.clips) == 7613 and found.classes == ["0", "1"] and not found.multi_label
    assert any("\n" in clip.text for clip in found.clips)
