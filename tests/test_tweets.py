"""Tweets: the manifest without a video, repeats in one group, and a run of words learned or read."""

import csv
import json

import pytest
from studied import raised, stopped

from experiments import tweets
from tfvc import predict, recipe, train

WORDS = {1: ("flood", "storm", "quake"), 0: ("cake", "song", "party")}


def write(tmp_path, rows, name="train.csv"):
    path = tmp_path / name
    with open(path, "w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([["id", "keyword", "text", "target"], *rows])
    return path


def test_the_manifest_has_texts_labels_and_one_group_for_the_same_words(tmp_path):
    rows = [[7, "", 'A flood,\nsaid "he"', 1], [8, "", "song http://t.co/a", 0], [9, "", "@me Song!", 0]]
    texts, repeats = tweets.listing(write(tmp_path, rows), tmp_path / "tweets.csv")
    with open(tmp_path / "tweets.csv", encoding="utf-8", newline="") as f:
        found = list(csv.DictReader(f))
    assert texts == [row[2] for row in rows] == [row["text"] for row in found] and repeats == 2
    assert [row["labels"] for row in found] == ["disaster", "other", "other"]
    assert [row["group"] for row in found] == ["7", "8", "8"]


def test_wrong_files_are_told_in_a_line(tmp_path, capsys):
    out = tmp_path / "tweets.csv"
    assert "no such file" in raised(tweets.listing, tmp_path / "none.csv", out)
    assert "target '2' of id 7; expected 0 or 1" in raised(
        tweets.listing, write(tmp_path, [[7, "", "a", 2]]), out
    )
    (tmp_path / "other.csv").write_text("id,text\n1,a\n")
    for bad, told in (
        (b"id,text,target\n1,\xff,1\n", "can't decode"),
        (b"id,text\n1," + b"a" * 140_000, "limit"),
    ):
        (tmp_path / "bad.csv").write_bytes(bad)
        found = raised(tweets.listing, tmp_path / "bad.csv", out)
        assert "bad.csv: no CSV file in UTF-8 (" in found and told in found and "saved as UTF-8" in found
    assert "no column target" in raised(tweets.listing, tmp_path / "other.csv", out)
    assert stopped(tweets.main) == 1 and capsys.readouterr().err.startswith("error: --data")
    assert not out.exists()


def test_a_run_of_words_alone_predicts_a_manifest_without_videos(tmp_path):
    lines = [f'{k},"The {WORDS[k % 2][k // 2 % 3]} of today",{"ab"[k % 2]}' for k in range(30)]
    (tmp_path / "texts.csv").write_text("\n".join(["id,text,labels", *lines]) + "\n")
    small = ["model_args.modality=text", "model_args.temporal=False", "text.embedding=learned"]
    small += [
        "train.epochs=12",
        "train.batch_size=8",
        "train.learning_rate=0.05",
        "text.rows=3",
        "data.frames=3",
    ]
    train.train(
        recipe.get("resbilstm", overrides=small), data=str(tmp_path / "texts.csv"), workdir=tmp_path / "r"
    )
    (tmp_path / "more.csv").write_text('id,text\nx,a flood\ny,the party\nz,a flood\nw,"of unknown"\n')
    rows = predict.predict(tmp_path / "r", [tmp_path / "more.csv"])
    assert [(row["path"], row["top"][0]["label"]) for row in rows] == [("x", "b"), ("y", "a"), ("z", "b")]
    with open(tmp_path / "r/predictions.csv.skipped.csv", newline="") as f:
        assert list(csv.reader(f))[1:] == [["w", "none of its words is known"]]
    (tmp_path / "more.csv").write_text("id,text\nx,a song\n")  # the text is what a row is made from
    assert predict.predict(tmp_path / "r", [tmp_path / "more.csv"])[0]["top"][0]["label"] == "a"


@pytest.mark.slow
def test_a_fifth_is_held_out_and_the_bar_decides(tmp_path, monkeypatch, capsys):
    rows = [[k, "", f"The {WORDS[k % 2][k // 2 % 3]} of {k}", k % 2] for k in range(80)]
    vectors = tmp_path / "small.txt"
    vectors.write_text("flood 1 0\nstorm 1 0\nquake 1 0\ncake 0 1\nsong 0 1\n")
    where = [f"--data={write(tmp_path, rows)}", f"--workdir={tmp_path}/runs", f"--glove={vectors}"]
    small = [
        "model_args.units=4",
        "model_args.blocks=1",
        "train.batch_size=8",
        "text.rows=4",
        "train.epochs=12",
        "train.learning_rate=0.02",
    ]
    assert stopped(tweets.main, *where, *[f"--set={setting}" for setting in small]) == 0
    out = capsys.readouterr().out
    assert "80 texts, 0 of them with the same words" in out and "bar 0.75: met" in out
    assert "small.txt: 67 of 160 words are known (41.9%)" in out
    result = json.loads((tmp_path / "runs/result.json").read_text())
    learned, read = result["runs"]["learned"], result["runs"]["small.txt"]
    assert learned["clips"] == 16 and learned["accuracy"] > 0.75 and read["accuracy"] > 0.75
    assert read["clips"] < 16  # texts of `party` alone have no known word
    monkeypatch.setattr(tweets, "_BAR", 1.1)
    assert stopped(tweets.main, *where, *[f"--set={setting}" for setting in small]) == 1
