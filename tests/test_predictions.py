"""The file of predictions: written, read back, and what of it is still good."""

import pytest

from tfvc import files, predictions

TOP = [{"label": "flood", "score": 0.75}, {"label": "a;b", "score": 0.5}]
ROW = {"path": "x.mp4", "missing": ["audio", "text"], "part": "video", "start": 0.0, "end": None}
ROW |= {"labels": ["flood", "a;b", 'say "so"'], "top": TOP, "attention": [{"time": 0.5, "weight": 0.25}]}


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"clip")
    return path


def table(folder, clip, text, ending=".csv", made_by=("model",)):
    return predictions.Table(folder / f"out{ending}", list(made_by), {clip: text})


@pytest.mark.parametrize("ending", predictions.SUFFIXES)
@pytest.mark.parametrize("labels", [ROW["labels"], ["flood"], []])
def test_rows_come_back_as_they_were(tmp_path, clip, ending, labels):
    row = ROW | {"path": str(clip), "labels": labels}
    first = table(tmp_path, clip, "water", ending)
    first.add(clip, [row])
    first.write()
    assert predictions.read(first.output) == [row]
    assert table(tmp_path, clip, "water", ending).rows() == [row]


def test_a_plain_row_has_neither_labels_nor_missing(tmp_path, clip):
    row = {name: ROW[name] for name in ("part", "start", "top", "attention")}
    row |= {"path": str(clip), "end": 2.0}
    first = table(tmp_path, clip, None)
    first.add(clip, [row])
    first.write()
    assert "labels" not in first.output.read_text().splitlines()[0]
    assert predictions.read(first.output) == [row]


def test_another_text_or_another_model_holds_nothing(tmp_path, clip, capsys):
    first = table(tmp_path, clip, "water")
    first.add(clip, [ROW | {"path": str(clip)}])
    first.write()
    assert table(tmp_path, clip, "water").holds(clip)
    assert not table(tmp_path, clip, "fire").holds(clip)
    assert not table(tmp_path, clip, "").holds(clip) and not table(tmp_path, clip, None).holds(clip)
    assert not capsys.readouterr().out
    assert not table(tmp_path, clip, "water", made_by=("model", "svm")).holds(clip)
    assert "it is written anew" in capsys.readouterr().out


def test_the_state_says_nothing_of_texts_where_none_are_read(tmp_path, clip):
    sizes = []
    for text in (None, "water"):
        one = table(tmp_path, clip, text)
        one.add(clip, [ROW | {"path": str(clip)}])
        one.write()
        sizes.append(len(files.read_json(one.state)["files"][str(clip)]))
    assert sizes == [2, 3]  # size and time, as before there were texts
