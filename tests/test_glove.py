"""GloVe text files: both forms, any width, bounded memory, and every damaged line by its number."""

import numpy as np
import pytest

from tfvc.backbones import glove


def write(tmp_path, content, name="g.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def faults(path, **options):
    with pytest.raises(ValueError) as error:
        glove.read(path, **options)
    return str(error.value).replace(f"{path}:", "").split("\n")


def test_both_forms_give_the_words_in_order_and_the_width_of_the_file(tmp_path):
    lines = "red 1 0 -2.5\nblå 0 1e-3 4\n日本 7 8 9\n"
    expected = np.float32([[1, 0, -2.5], [0, 1e-3, 4], [7, 8, 9]])
    forms = {"plain": lines, "header": f"3 3\n{lines}", "crlf": lines.replace("\n", "\r\n")}
    forms |= {"marked": "\ufeff" + lines, "spaces": lines.replace("\n", " \n"), "open": lines.rstrip("\n")}
    for form, content in forms.items():
        path = write(tmp_path, content)
        words, vectors = glove.read(path)
        assert words == ["red", "blå", "日本"] and vectors.dtype == "float32", form
        np.testing.assert_array_equal(vectors, expected, form)
        assert glove.width(path) == 3


def test_only_wanted_words_of_the_first_lines_are_kept(tmp_path):
    path = write(tmp_path, "a 1 1\nb 2 2\nc 3 3\nd 4 4\n")
    words, vectors = glove.read(path, words={"d", "b", "x"})
    assert words == ["b", "d"] and vectors.tolist() == [[2, 2], [4, 4]]
    assert glove.read(path, words={"d", "b"}, most=3)[0] == ["b"]
    assert glove.read(path, most=2)[0] == ["a", "b"] and glove.read(path, most=0)[0] == list("abcd")
    none, empty = glove.read(path, words={"x"})
    assert none == [] and empty.shape == (0, 2)


def test_words_of_the_published_files_that_break_naive_readers(tmp_path):
    odd = ". . . 1 2\nat name@domain.com 3 4\n1.5 5 6\n\u0085 7 8\n\u00a0 9 10\n"
    words, vectors = glove.read(write(tmp_path, odd))
    assert words == [". . .", "at name@domain.com", "1.5", "\u0085", "\u00a0"]
    assert vectors[:, 0].tolist() == [1, 3, 5, 7, 9]
    assert glove.read(write(tmp_path, "1 0.5 2\na 3 4\n"))[0] == ["1", "a"]  # a first word that is a number


def test_of_a_word_that_stands_twice_the_first_counts_and_it_is_said(tmp_path, capsys):
    path = write(tmp_path, "a 1\nb 2\na 3\na 4\nc 5\n")
    words, vectors = glove.read(path)
    assert words == ["a", "b", "c"] and vectors[:, 0].tolist() == [1, 2, 5]
    assert (
        capsys.readouterr().out == f"{path}: 2 lines of words that stood before; the first of each counts\n"
    )


def test_every_damaged_line_is_named_also_of_words_that_nobody_wants(tmp_path):
    lines = [
        b"a 1 2 3",
        b"b 1 2",
        b"c 1 2 3 4",
        b"d 1 x 3",
        b"e 1 nan 3",
        b"f 1 2 1e39",
        b"\xff 1 2 3",
        b"1 2 3",
    ]
    for words in (None, {"a"}):
        found = faults(write(tmp_path, b"\n".join(lines)), words=words)
        assert found[0] == "7 faults in a file of word vectors"
        assert [line.partition(":")[0] for line in found[1:]] == list("2345678")
        for text, part in zip(
            found[1:],
            (
                "2 numbers",
                "4 numbers",
                "'x' is no number",
                "not finite",
                "not finite",
                "byte 0xff",
                "2 numbers",
            ),
            strict=True,
        ):
            assert part in text
    assert faults(write(tmp_path, "a 1 2\nb 1\n")) == [
        "2: 1 numbers; expected a word and 2, as in the lines before"
    ]


def test_a_header_must_fit_the_file(tmp_path):
    lines = "a 1 2\nb 3 4\n"
    assert "1: the header says 3 words; the file has 2" in faults(write(tmp_path, f"3 2\n{lines}"))[0]
    assert "1: the header says 1 words; the file has 2" in faults(write(tmp_path, f"1 2\n{lines}"))[0]
    assert glove.read(write(tmp_path, f"900 2\n{lines}"), most=2)[0] == [
        "a",
        "b",
    ]  # the rest is not looked at
    assert [v[:2] for v in faults(write(tmp_path, f"2 3\n{lines}"))[1:]] == ["2:", "3:"]  # another width


def test_what_is_no_such_file_is_told_in_a_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.txt: no such file; expected a GloVe text file"):
        glove.read(tmp_path / "none.txt")
    for content, message in (
        (b"", "no words"),
        (b"\n \n", "no words"),
        (b"3 2\n", "the header says 3 words; the file has 0"),
        (b"PK\x03\x04\r" + b"x" * 50, "a zip archive, unpack it"),
        (b"\0" * (1 << 20), "over 1048576 bytes long"),
        (b"a\nb\n", "1: a line that ends in 0 numbers; expected a word and 1 to 10000"),
        (b"a" + b" 1" * 10_001, "1: a line that ends in 10001 numbers"),
        (b"0 0\na 1\n", "1: the header says 0 words of 0 numbers"),
        (b"10 0\na 1\n", "1: the header says 10 words of 0 numbers"),
        (b"10 99999999999999\na 1\n", "1: the header says 10 words of 99999999999999 numbers"),
        (b"1" * 5000 + b" " + b"1" * 5000 + b"\n", "not finite"),
        (b"red 1 0\rblue 0 1\r", "1: CR inside a line"),
        (b"red 1 0\nblue 0 1\r" + b"a 1 2\r" * (1 << 18), "2: CR inside a line"),
        (b"a_1 1_0 2\n", "1: '1_0' is no number"),
    ):
        text = faults(write(tmp_path, content))
        assert message in text[-1]
    for content, message in (("", "no words"), ("9 99999999999", "1: the header"), ("a\n", "1: a line that")):
        assert message in str(pytest.raises(ValueError, glove.width, write(tmp_path, content)).value)
    many = faults(write(tmp_path, "a 1 2\n" + "b 1\n" * 500))
    assert len(many) == 102 and "so many that the rest was not looked at" in many[-1]


def test_the_real_vectors(shared):
    for name, count in (("gensim_test_glove_76x50", 76), ("glove_subset_171x50", 171)):
        path = shared(f"data/text/glove/{name}.txt")
        words, vectors = glove.read(path)
        assert vectors.shape == (count, 50) and len(set(words)) == count
        line = path.read_text(encoding="utf-8").splitlines()[count - 1].split(" ")
        assert words[-1] == line[0] and np.array_equal(vectors[-1], np.float32(line[1:]))
