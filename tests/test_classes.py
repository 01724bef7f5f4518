"""The list of classes to keep, of every kind of data."""

import dataclasses

import made
import pytest

from tfvc.data import classes, datasets, pipeline
from tfvc.recipe import Data


@pytest.fixture
def videos(tmp_path):
    root = tmp_path / "set"
    for name in ("Loud/a", "Loud/b", "Half/a", "Half/b", "Half/c", "Half/d", "Mute/a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.avi").write_bytes(b"")
    return root


def test_what_is_written_is_read_again(tmp_path):
    classes.write(tmp_path / "keep.txt", {"b c", "a"})
    assert (tmp_path / "keep.txt").read_text() == "a\nb c\n"
    assert classes.read(tmp_path / "keep.txt") == {"a": 1, "b c": 2}


def test_data_classes_keeps_the_clips_of_its_classes_sound_or_not(videos, tmp_path):
    file = tmp_path / "keep.txt"
    classes.write(file, ["Mute", "Half"])
    found = datasets.load(Data(classes=str(file)), str(videos))
    assert found.classes == ["Half", "Mute"] and len(found.clips) == 5
    assert found.notes[-1] == f"{file}: 2 of 3 classes, 5 of 7 clips"
    assert not datasets.load(Data(), str(videos)).notes
    loose = datasets.load(Data(classes=str(file)), str(videos), labelled=False)
    assert len(loose.clips) == 7  # clips to predict have no class


def test_data_classes_of_a_manifest_with_several_labels(tmp_path):
    (tmp_path / "m.csv").write_text("id,labels\n1,x;y\n2,y;z\n3,z\n4,x\n")
    (tmp_path / "keep.txt").write_text("\ufeffx\n\n y \n", encoding="utf-8")
    data = Data(classes=str(tmp_path / "keep.txt"))
    found = datasets.load(data, str(tmp_path / "m.csv"), media=False)
    assert [(c.id, c.labels, c.path) for c in found.clips] == [
        ("1", ("x", "y"), ""),
        ("2", ("y",), ""),
        ("4", ("x",), ""),
    ]
    assert found.multi_label and found.classes == ["x", "y"]


def test_data_classes_of_records_keeps_clips_and_turns_the_numbers_of_their_labels(tmp_path):
    folder = made.make_records(tmp_path / "records", classes=("left", "middle", "right"), groups=2)
    (tmp_path / "keep.txt").write_text("right\nmiddle\n")
    found = datasets.load(Data(classes=str(tmp_path / "keep.txt")), folder)
    assert (found.kind, found.classes, len(found.clips)) == ("records", ["middle", "right"], 8)
    row = dataclasses.replace(made.ROW, shape=(3, 6))
    source = pipeline.Source(folder, [row], found.classes, False, [c.id for c in found.clips])
    _, labels, ids = next(iter(pipeline.batches(source, 8)))
    named = [found.classes[i] for i in labels.numpy().argmax(axis=1)]
    assert named == [id.decode().split("/")[0] for id in ids.numpy()] and labels.shape == (8, 2)


def test_faults_of_the_list_are_named(videos, tmp_path):
    file = tmp_path / "keep.txt"
    data = Data(classes=str(file))
    with pytest.raises(FileNotFoundError, match="keep.txt: no such file; data.classes expects"):
        datasets.load(data, str(videos))
    for text, message in [
        ("Loud\n\nloud\n", r"keep.txt:3: 'loud' is none of the 3 classes of the data; did you mean 'Loud'\?"),
        ("xyzzy", r"keep.txt:1: 'xyzzy' is none of the 3 classes.*for example, 'Half'"),
        ("\n", "keep.txt: names no class"),
        ("Loud", "one class only, 'Loud'"),
    ]:
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            datasets.load(data, str(videos))
    with pytest.raises(ValueError, match=r"none of the 0 classes of the data; the data has no class"):
        classes.chosen(file, [])
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="keep.txt: not UTF-8"):
        datasets.load(data, str(videos))
