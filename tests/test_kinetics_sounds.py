"""Kinetics' CSV files, a list of classes, and videos as the usual downloaders name them."""

import pytest

from tfvc.data import datasets
from tfvc.data.splits import split
from tfvc.recipe import Data

HEADER = "label,youtube_id,time_start,time_end,split"
ROWS = [
    "tap dancing,aaa,1,11,train",
    'singing,"bbb",0.0,10.0,train',
    "tap dancing,ccc,100,110,validate",
    "singing,ddd,5,15,val",
    "abseiling,eee,0,10,train",
    "singing,fff,7,17,test",
]


def _set(
    root, rows=ROWS, names=("tap dancing", "singing"), videos=("train/tap_dancing/aaa_000001_000011.mp4",)
):
    root.mkdir(parents=True, exist_ok=True)
    (root / "kinetics.csv").write_text("\n".join([HEADER, *rows, ""]))
    (root / "keep.txt").write_text("\n".join(names))
    for name in videos:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return Data(kind="kinetics_sounds", classes=str(root / "keep.txt"))


def test_clips_of_the_wanted_classes_are_found_under_each_usual_name(tmp_path):
    videos = [
        "train/tap_dancing/aaa_000001_000011.mp4",
        "bbb.mp4",
        "val/tap dancing/ccc_000100_000110.mkv",
        "other/ddd_000005_000015.mp4",
        "singing/ddd_000005_000015.mp4",
        "singing/ddd.mp4",
        "abseiling/eee_000000_000010.mp4",
    ]
    data = _set(tmp_path, videos=videos)
    for source in (tmp_path, tmp_path / "kinetics.csv"):
        found = datasets.load(data, str(source))
        assert (found.kind, found.classes) == ("kinetics_sounds", ["singing", "tap dancing"])
        ids = ["aaa_000001_000011", "bbb_000000_000010", "ccc_000100_000110", "ddd_000005_000015"]
        assert [c.id for c in found.clips] == [*ids, "fff_000007_000017"]
        places = [c.path.removeprefix(f"{tmp_path}/") for c in found.clips]
        assert places == [*videos[:3], videos[4], "singing/fff_000007_000017.mp4"]
        assert [c.part for c in found.clips] == ["train", "train", "validation", "validation", "test"]
        assert [c.group for c in found.clips] == ["aaa", "bbb", "ccc", "ddd", "fff"]
        assert "1 of 5 videos are not there (singing/fff_000007_000017.mp4 the first)" in found.notes[0]
        assert found.notes[1:] == [f"{data.classes}: 2 of 3 classes, 5 of 6 clips"]


def test_the_csv_files_may_lie_elsewhere_and_others_beside_them(tmp_path):
    data = _set(tmp_path / "lists")
    (tmp_path / "lists" / "test.csv").write_text("youtube_id,time_start,time_end,split\nzzz,0,10,test\n")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "aaa.mp4").write_bytes(b"")
    data = Data(kind="kinetics_sounds", classes=data.classes, lists=str(tmp_path / "lists"))
    found = datasets.load(data, str(tmp_path / "videos"))
    assert len(found.clips) == 5 and found.clips[0].path == str(tmp_path / "videos" / "aaa.mp4")
    assert "test.csv has not the columns label,youtube_id" in found.notes[0]
    with pytest.raises(FileNotFoundError, match="no CSV file of Kinetics.*data.lists names another"):
        datasets.load(Data(kind="kinetics_sounds", classes=data.classes), str(tmp_path / "videos"))


def test_a_clip_that_is_listed_twice_has_two_ids(tmp_path):
    data = _set(tmp_path, [*ROWS, "singing,aaa,1,11,train"])
    found = datasets.load(data, str(tmp_path))
    assert [(c.id, c.labels) for c in found.clips if c.group == "aaa"] == [
        ("aaa_000001_000011", ("tap dancing",)),
        ("aaa_000001_000011#2", ("singing",)),
    ]
    assert "1 clips stand in the lists more than once" in found.notes[-2]


def test_without_a_test_part_the_validation_part_is_measured_on(tmp_path):
    dataset = datasets.load(_set(tmp_path, ROWS[:4]), str(tmp_path))
    made = split(dataset, Data(split="official"), 0)
    assert made.validation == [] and made.test == ["ccc_000100_000110", "ddd_000005_000015"]
    assert "split: the official lists have no test part; their validation part is it" in made.notes


def test_no_list_of_classes_is_shipped_and_why(tmp_path):
    _set(tmp_path)
    with pytest.raises(ValueError, match="needs data.classes.*the paper counts 32 classes and names none"):
        datasets.load(Data(kind="kinetics_sounds"), str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["tap dancing", "sing"]}, r"keep.txt:2: 'sing' is none of the 3 classes.*'singing'"),
        ({"rows": ["singing,aaa,x,10,train"]}, r"kinetics.csv:2: times 'x', '10'; expected seconds"),
        ({"rows": ["singing,aaa,0,10,dev"]}, r"kinetics.csv:2: split 'dev'; expected train"),
        ({"rows": ["singing,../a,0,10,train"]}, r"kinetics.csv:2: '\.\./a' is no video id"),
        ({"rows": ["singing,aaa,0,10"]}, r"kinetics.csv:2: 4 fields; the header has 5"),
        ({"rows": ["singing,aaa,0,1e300,train"]}, r"kinetics.csv:2: times '0', '1e300'; expected seconds"),
        (
            {"rows": ["singing,aaa,-1,nan,train"]},
            r"kinetics.csv:2: times '-1', 'nan'; expected seconds, 0 to",
        ),
        ({"rows": ["singing,a\0,0,10,train"]}, r"kinetics.csv:2: 'a\\x00' is no video id"),
        ({"rows": ['singing,"a\na",0,10,train']}, r"kinetics.csv:3: 'a\\na' is no video id"),
        (
            {"rows": [ROWS[0], f"singing,{'a' * 200_000},0,10,train"]},
            r"kinetics.csv:3: not CSV \(field larger",
        ),
        ({"rows": []}, "Kinetics' lists hold no clip; expected lines label,youtube_id"),
        ({"rows": ['singing,"aaa']}, r"kinetics.csv:\d: not CSV"),
        (
            {"videos": []},
            "not one of 5 videos is there; expected tap dancing/aaa_000001_000011.mp4 or aaa.mp4",
        ),
    ],
)
def test_each_fault_is_one_line(tmp_path, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        datasets.load(_set(tmp_path, **change), str(tmp_path))
    assert "\n" not in str(error.value)


def test_another_csv_file_is_refused(tmp_path):
    data = _set(tmp_path)
    (tmp_path / "kinetics.csv").write_text("id,path,labels\n1,a,b\n")
    with pytest.raises(FileNotFoundError, match=r"no CSV file of Kinetics.*kinetics.csv has not the columns"):
        datasets.load(data, str(tmp_path / "kinetics.csv"))
    with pytest.raises(ValueError, match=r"keep.txt: a file; expected a folder, or a .csv file of Kinetics"):
        datasets.load(data, str(tmp_path / "keep.txt"))
