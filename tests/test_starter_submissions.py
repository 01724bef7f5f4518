"""The text of inference: lines, windows, rankings, class ids and names."""

import csv
import http.server
import json
import threading

import numpy as np
import pytest
from golden import read
from served import split

from starter import submissions
from starter.inference import format_lines, get_segments
from tfvc.data import vocabulary

# --- lines --------------------------------------------------------------------------------------------------


def test_lines_fall_by_score_and_ties_by_class():
    made = [split(x) for x in format_lines(["a", b"b"], np.array([[0.5, 0.75, 0.5], [0, 0, 1.0]]), 3)]
    assert made == [("a", [1, 0, 2], [0.75, 0.5, 0.5]), ("b", [2, 0, 1], [1.0, 0, 0])]


def test_top_k_above_the_classes_lists_them_all():
    ((_, classes, _),) = map(split, format_lines(["a"], np.array([[0.1, 0.2, 0.3]]), 20))
    assert classes == [2, 1, 0]


def test_masked_classes_are_never_listed_and_predictions_stay():
    predictions = np.array([[0.1, 0.2, 0.3, 0.9]])
    given = predictions.copy()
    ((_, classes, scores),) = map(split, format_lines(["a"], predictions, 4, np.array([1, 0, 1, 0])))
    assert (classes, scores) == ([2, 0], [0.3, 0.1])
    np.testing.assert_array_equal(predictions, given)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_names_the_video(bad):
    with pytest.raises(ValueError, match="video b: its prediction is not a finite number"):
        list(format_lines(["a", "b"], np.array([[0.5, 0.5], [0.5, bad]]), 2))
    ranking = submissions.Ranking(3)
    with pytest.raises(ValueError, match="video b: .*not a finite"):
        ranking.add(["a", "b"], [[0, 0], [1, 0]], [[0], [0]], [[0.5], [bad]])


def test_an_id_with_a_comma_and_names_with_commas_stay_readable():
    names = ["Game", 'Toys "R" Us', "Nike, Inc."]
    made = list(submissions.lines(["a,b.mp4"], [[2, 1]], [[0.5, 0.25]], names))
    ((video, pairs),) = csv.reader([made[0].decode()])
    assert video == "a,b.mp4"
    assert [p.rsplit(" ", 1) for p in pairs.split(";")] == [["Nike, Inc.", "0.5"], ['Toys "R" Us', "0.25"]]


def test_ids_that_are_no_utf8_keep_their_bytes():
    assert list(submissions.lines([b"\xff"], [[0]], [[1.0]])) == [b"\xff,0 1\n"]


# --- segments -----------------------------------------------------------------------------------------------


def test_a_window_beyond_the_padded_length_is_filled_with_zeros():
    """The original raises here."""
    video = np.arange(1, 15, dtype="uint8").reshape(1, 7, 2)
    made = get_segments(video, np.array([7]), 5)
    assert made["num_frames_batch"].tolist() == [5, 2]
    np.testing.assert_array_equal(made["video_batch"][1], [[11, 12], [13, 14], [0, 0], [0, 0], [0, 0]])
    assert made["video_batch"].dtype == "uint8"


def test_videos_without_frames_have_no_window_and_long_ones_end_at_the_padded_length():
    made = get_segments(np.ones((3, 10, 2)), np.array([0, 300, 1]), 5)
    assert made["video_segment_ids"].tolist() == [[1, 0], [1, 5], [2, 0]]
    assert made["num_frames_batch"].tolist() == [5, 5, 1]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("format_lines_s0.npz", "predictions"),
        ("format_lines_s1_mask.npz", "predictions_after"),
        ("get_segments_s0.npz", "video_matrix"),
        ("get_segments_s1.npz", "out_video_segment_ids"),
    ],
)
def test_a_changed_number_fails_the_golden_check(shared, name, array, tmp_path):
    import golden_programs

    golden, meta = read(shared(f"golden/{name}"))
    golden[array] = golden[array].copy()
    golden[array].flat[golden[array].argmax()] += 1
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    check = next(c for prefix, c in golden_programs.CHECKS.items() if name.startswith(prefix))
    with pytest.raises(AssertionError):
        check(tmp_path / name, tmp_path)


def test_the_ranking_is_the_same_however_it_is_cut(monkeypatch):
    rng = np.random.default_rng(0)
    classes = np.stack([rng.permutation(6)[:3] for _ in range(200)])
    scores = rng.integers(0, 20, (200, 3)) / 20  # many ties
    videos = [f"v{i}" for i in range(100)]
    segments = np.stack([np.repeat(np.arange(100), 2), np.tile([0, 5], 100)], -1)

    def ranked(size, prune):
        monkeypatch.setattr(submissions, "_PRUNE", prune)
        ranking = submissions.Ranking(limit=7)
        ranking._cut_at = prune
        for i in range(0, 100, size):
            rows = slice(2 * i, 2 * (i + size))
            part = segments[rows] - [i, 0]
            ranking.add(videos[i : i + size], part, classes[rows], scores[rows])
        return b"".join(ranking.lines()).decode()

    expected = ""
    for c in range(6):
        places = [(-scores[n, k], n) for n in range(200) for k in range(3) if classes[n, k] == c]
        best = [f"v{n // 2}:{n % 2 * 5}" for _, n in sorted(places)[:7]]
        expected += f"{c},{' '.join(best)}\n"
    assert ranked(100, 1 << 22) == ranked(4, 10) == ranked(50, 10) == expected


def test_an_id_that_would_break_the_segment_file_is_refused():
    with pytest.raises(ValueError, match="'my clip.mp4'.*another id"):
        submissions.Ranking(3).add(["my clip.mp4"], [[0, 0]], [[0]], [[0.5]])


# --- class ids and names ------------------------------------------------------------------------------------


def test_class_ids_come_from_a_file_or_an_address(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("Index\n3\n\n1\n")
    assert submissions.class_mask(str(file), 5).tolist() == [0, 1, 0, 1, 0]

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/ids.csv"
        assert submissions.class_mask(address, 5).tolist() == [0, 1, 0, 1, 0]
        with pytest.raises(ValueError, match="cannot be fetched .*local copy"):
            submissions.class_mask(address + "x", 5)
        server.shutdown()


@pytest.mark.parametrize(("text", "word"), [("Index\n", "lists no class"), ("1\n5\n", "line 2: class 5")])
def test_wrong_class_ids_name_the_file(tmp_path, text, word):
    (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(ValueError, match=f"ids.csv.*{word}"):
        submissions.class_mask(str(tmp_path / "ids.csv"), 5)


def test_real_segment_classes_and_names(shared):
    mask = submissions.class_mask(str(shared("data/yt8m/segment_label_ids.csv")), 3862)
    assert mask.sum() == 1000 and mask[3] == 1
    names = vocabulary.class_names(str(shared("data/yt8m/vocabulary.csv")), 3862)
    assert names[:2] == ["Game", "Video game"] and names[120] == "/m/0dxrf" and all(names)


@pytest.mark.parametrize(
    ("text", "word"), [("a,b\n", "expected Index and Name"), ("Index,Name\n0,x\n", "no row for class 1")]
)
def test_a_wrong_vocabulary_names_the_file(tmp_path, text, word):
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(ValueError, match=f"names.csv: .*{word}"):
        vocabulary.class_names(str(tmp_path / "names.csv"), 2)


@pytest.mark.parametrize(
    "text", [b"Index,Name\n0,\xff\xfe\n", b"\x89PNG\r\n", b'Index,Name\n0,"' + b"x" * 200000]
)
def test_a_vocabulary_that_is_no_text_names_the_file(tmp_path, text):
    (tmp_path / "names.csv").write_bytes(text)
    with pytest.raises(ValueError, match="names.csv: no CSV file .*expected columns Index and Name"):
        vocabulary.class_names(str(tmp_path / "names.csv"), 2)
