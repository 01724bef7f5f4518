"""Words that go with a clip: cleaning, vocabulary, rows, and the same rows in an exported graph."""

import csv

import numpy as np
import pytest
import tensorflow as tf
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tfvc import recipe
from tfvc.backbones import __main__ as command
from tfvc.backbones import text, weights

LEARNED = recipe.Text(embedding="learned")
TEXTS = ["Flood in Texas: flood!", "The storm, the FLOOD", "storm in Texas", "smoke"]


def cleaned(string):
    return text.clean(tf.constant(string)).numpy().decode()


@pytest.fixture
def vectors(tmp_path):
    """A file of five words, one of which Keras has a use of its own for."""
    path = tmp_path / "small.txt"
    path.write_text("flood 1 0\n[UNK] 9 9\nstorm 0 1\n[unk] 7 7\ntexas 1e5 2\n", encoding="utf-8")
    return recipe.Text(weights=str(path))


@pytest.mark.parametrize(
    "given, expected",
    [
        ("Fires NEAR La Ronge, Sask. Canada", "fires near la ronge sask canada"),
        ("so http://t.co/a?b=1&amp;c see(https://x.y/z) www.a.com/b Http: end", "end"),
        ("rain @me_2 RT@you: flood @ 5pm", "rain rt flood 5pm"),
        ("a&amp;amp;b x&lt;3 &#39;q&#x27; &eacute; smoke&gt rock &amp", "b x 3 q smoke rock"),
        ("It's California’s, don't; can't 'shelter'", "california dont shelter"),
        ("#wild_fires 13,000 - \t\r\n\x89Û_ 🔥 日本\u3000地震", "wild fires 13 000 û 日本 地震"),
        ("señor ÉCOLE i a-the", "señor école"),  # `or` stands in no word
        ("the the of the", ""),
        ("", ""),
    ],
)
def test_cleaning_leaves_words(given, expected):
    assert cleaned(given) == expected
    assert cleaned(expected) == expected  # what is clean stays so


def test_cleaning_drops_every_stop_word_and_takes_any_bytes_and_shapes():
    stop = sorted(ENGLISH_STOP_WORDS)
    assert cleaned(" ".join(stop)) == "" and cleaned("?".join(s.upper() for s in stop)) == ""
    assert cleaned(" ".join(f"{s}q" for s in stop)) == " ".join(f"{s}q" for s in stop)
    assert text.clean(tf.constant(b"flo\xffod \xc3")).numpy() == b"flo od"
    assert text.clean(tf.constant([["A flood"], ["B"]])).numpy().tolist() == [[b"flood"], [b"b"]]


def test_a_learned_vocabulary_is_the_most_frequent_words_and_can_be_given_again():
    words = text.load(LEARNED, TEXTS)
    assert words.vocabulary == ["flood", "storm", "texas", "smoke"]  # the alphabet decides among equals
    sentence = f"learned (4 words, digest {recipe.digest(words.vocabulary)})"
    assert (words.row_shape, words.row_dtype, words.weights) == ((1,), "int32", sentence)
    rows = words.rows("Smoke, fog and flood: storm!")
    assert rows.tolist() == [[4], [1], [2]] and rows.dtype == "int32"  # fog is unknown, left out
    assert words.rows("fog").shape == words.rows("").shape == (0, 1)
    assert dict(words.unknown) == {"words": 5, "unknown": 2}
    assert words.known() == "3 of 5 words are known (60.0%)"
    few = text.load(recipe.Text(embedding="learned", words=2), TEXTS)
    assert few.vocabulary == ["flood", "storm"] and few.digest != words.digest
    again = text.load(LEARNED, vocabulary=words.vocabulary)
    assert again.rows("texas flood").tolist() == [[3], [1]]
    assert (again.weights, again.digest) == (words.weights, words.digest)
    assert text.load(LEARNED, TEXTS).known() == "0 of 0 words are known"
    for nothing in ((), ["", "the http://t.co"]):
        with pytest.raises(ValueError, match=f"text.embedding=learned: no words in {len(nothing)} texts"):
            text.load(LEARNED, nothing)
    assert words.rows("\ud800 flood").tolist() == [[1]]  # half a surrogate pair is no word


def test_the_sentence_of_a_vocabulary_tells_its_words_and_their_order():
    given = (["flood", "storm"], ["storm", "flood"], ["flood", "fog"], ["flood"])
    said = {text.load(LEARNED, vocabulary=words).weights for words in given}
    assert len(said) == 4 and all(len(s.partition("digest ")[2]) == len("0123456789)") for s in said)


@pytest.mark.parametrize("word", ["\n", "", "[UNK]", "\ud800", "A b", "Fog", "the", "flood", " fog"])
def test_a_vocabulary_that_no_texts_give_is_refused(word):
    with pytest.raises(ValueError, match="the vocabulary is not one of ours: word 2 is ") as error:
        text.load(LEARNED, vocabulary=["flood", word])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("texts", [TEXTS, []])
def test_a_files_vectors_are_the_rows_whatever_texts_it_was_read_for(vectors, texts):
    words = text.load(vectors, texts)
    assert words.row_shape == (2,) and words.row_dtype == "float32" and words.vocabulary == []
    assert words.weights.startswith("glove (small.txt, sha256 ") and words.weights.endswith(", 2 wide)")
    assert words.rows("").shape == (0, 2)
    rows = words.rows("Storm over Texas, fog")
    assert rows.dtype == "float32" and rows.tolist() == [[0, 1], [1e5, 2]]
    assert words.rows("unk flood").tolist() == [[1, 0]]  # unk: neither Keras' own word nor the file's
    assert dict(words.unknown) == {"words": 5, "unknown": 2}
    assert words.digest == text.load(vectors).digest


def test_half_precision_is_saturated_and_fewer_lines_are_another_table(vectors):
    half = text.load(recipe.Text(weights=vectors.weights, dtype="float16"), TEXTS)
    rows = half.rows("texas")
    assert rows.dtype == half.row_dtype == "float16" and rows.tolist() == [[65504, 2]]
    first = text.load(recipe.Text(weights=vectors.weights, words=1), TEXTS)
    assert len(first.rows("storm flood")) == 1 and first.digest != half.digest
    assert len(text.load(vectors, ["nothing known"]).rows("nothing")) == 0


def test_a_damaged_file_is_named_before_a_text_is_read(vectors):
    with open(vectors.weights, "a", encoding="utf-8") as f:
        f.write("smoke 1\n")
    with pytest.raises(ValueError, match="small.txt:6: 1 numbers; expected a word and 2"):
        text.load(vectors, TEXTS)


@pytest.mark.parametrize("embedding", ["learned", "glove"])
def test_an_exported_graph_gives_the_same_rows(embedding, vectors, tmp_path):
    words = text.load(LEARNED if embedding == "learned" else vectors, TEXTS)
    given = ["fog, storm http://t.co in Texas &amp; FLOOD", "", "flood"]
    module = tf.Module()
    module.held = words.held
    module.serve = tf.function(lambda s: words.tensor(s, 2), [tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(
        module, str(tmp_path / "saved"), {"serving_default": module.serve.get_concrete_function()}
    )
    found = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](tf.constant(given))
    found = next(iter(found.values()))
    expected = np.zeros((3, 2, *words.row_shape), words.row_dtype)
    for k, one in enumerate(given):
        rows = words.rows(one)[:2]
        expected[k, : len(rows)] = rows
    assert found.dtype == words.row_dtype
    np.testing.assert_array_equal(found, expected)
    assert np.any(expected[0]) and tuple(module.serve.get_concrete_function().output_shapes[1:2]) == (2,)


def test_the_published_file_is_looked_for_and_told_where_to_get(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TFVC_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        text.load(recipe.Text(), TEXTS)
    for part in (
        "glove.6B.300d.txt: not in ",
        str(tmp_path),
        weights.TEXT_FILES["glove"].url,
        "text.weights=FILE",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    (tmp_path / "glove.6B.300d.txt").write_text("flood 1 2 3\n")
    assert text.load(recipe.Text(), TEXTS).row_shape == (3,)
    listing = "\n".join(command.listing())
    assert f"here  {tmp_path / 'glove.6B.300d.txt'}" in listing and weights.TEXT_FILES["glove"].url in listing
    with pytest.raises(
        FileNotFoundError, match="text.weights=none.txt: no such file; expected glove or a path"
    ):
        text.load(recipe.Text(weights="none.txt"))


def test_the_tweets_keep_their_words_and_the_small_files_know_few(shared):
    with open(shared("data/text/disaster_tweets/train.csv"), encoding="utf-8", newline="") as f:
        tweets = [row["text"] for row in csv.DictReader(f)]
    learned = text.load(LEARNED, tweets)
    lengths = [len(learned.rows(tweet)) for tweet in tweets[:300]]
    assert len(tweets) == 7613 and 14000 < len(learned.vocabulary) < 15000
    assert 7 < np.mean(lengths) < 11 and learned.unknown["unknown"] == 0
    assert text.load(LEARNED, vocabulary=learned.vocabulary).weights == learned.weights
    path = shared("data/text/glove/glove_subset_171x50.txt")
    small = text.load(recipe.Text(weights=str(path)), tweets)
    assert {small.rows(tweet).shape[1] for tweet in tweets[:300]} == {50}
    assert 0.9 < small.unknown["unknown"] / small.unknown["words"] < 1
