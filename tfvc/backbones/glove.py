"""Word vectors from a GloVe text file: a word and its numbers a line, in UTF-8.

**Source**: Pennington, Socher, Manning (EMNLP 2014); https://nlp.stanford.edu/projects/glove.
"""

import array
from pathlib import Path

import numpy as np

_LONGEST = 1 << 20  # bytes of a line: a file without line breaks must not eat the machine
_WIDEST = 10_000  # numbers a word: so a damaged header cannot ask for more memory than there is
_FAULTS = 100  # so many are listed; a file of more is no GloVe file
_EMPTY = "{path}: no words; expected a GloVe text file, a word and its numbers a line"


def read(path, words=None, most=400_000):
    r"""Reads the words of a file and their vectors.

    The width is the file's own. A header line, as word2vec's text form has (`400000 300`: words and width),
    is seen and checked. A word may hold blanks (glove.840B has such): the numbers are what ends the line. Of
    a word that stands twice the first line counts; how many there are is printed.

    Args:
        path: the text file.
        words: a set of the words that are wanted: only their vectors are kept, and memory is bounded by it;
            None = all.
        most: the first so many lines are read, the most frequent words in the published files; 0 = all.

    Returns:
        (list of N words in the file's order, float32 (N, D)). N is 0 where none that is wanted is there.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such text file; or damaged lines, each named by file and line: another number of
            numbers, what is no finite number, what is not UTF-8; or a header that says otherwise than the
            file. Lines of words that are not wanted are checked too.

    Example:
        >>> _ = Path("two.txt").write_text("red 1 0\nblue 0 1\n", encoding="utf-8")
        >>> read("two.txt", {"blue", "green"})[0], read("two.txt")[1].tolist()
        (['blue'], [[1.0, 0.0], [0.0, 1.0]])
    """
    _check(path)
    place, values, faults, twice = {}, array.array("f"), [], 0
    width = stated = 0
    count = 0  # lines that are no header and not empty
    for number, line in _lines(path):
        if not width:
            stated, width = _begin(path, number, line)
            if stated:
                continue
        if most and count == most:
            break
        count += 1
        word, vector, fault = _parse(line, width)
        if fault:
            faults.append(f"{path}:{number}: {fault}")
            if len(faults) == _FAULTS:
                faults.append(f"{path}: so many that the rest was not looked at; is it a GloVe text file?")
                break
        elif word in place:
            twice += 1
        elif words is None or word in words:
            place[word] = len(place)
            values.extend(vector)
    whole = not most or count < most
    if stated and not faults and (count != stated if whole else count > stated):
        faults.append(f"{path}:1: the header says {stated} words; the file has {count}; is it whole?")
    if not count and not faults:
        faults.append(_EMPTY.format(path=path))
    if faults:
        listing = "\n".join(faults)
        raise ValueError(
            f"{len(faults)} faults in a file of word vectors\n{listing}" if faults[1:] else listing
        )
    if twice:
        print(f"{path}: {twice} lines of words that stood before; the first of each counts")
    return list(place), np.frombuffer(values, "float32").reshape(-1, width)


def width(path):
    """How many numbers a word of the file has, by its first line.

    Raises:
        FileNotFoundError, ValueError: as `read`.
    """
    _check(path)
    first = next(_lines(path), None)
    if first is None:
        raise ValueError(_EMPTY.format(path=path))
    return _begin(path, *first)[1]


def _check(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a GloVe text file, as glove.6B.300d.txt")


def _lines(path):
    """Number and bytes of each line that is not empty."""
    with open(path, "rb") as f:
        number = 0
        while line := f.readline(_LONGEST):
            number += 1
            if b"\r" in line.rstrip() and not line.startswith(b"PK"):
                what = "CR inside a line; expected lines that end in LF or CR LF, not in CR alone"
                raise ValueError(f"{path}:{number}: {what}; convert the file")
            if len(line) == _LONGEST or line.startswith(b"PK\x03\x04"):
                kind = "a zip archive, unpack it" if line.startswith(b"PK") else f"over {_LONGEST} bytes long"
                raise ValueError(f"{path}:{number}: {kind}; expected a text line, a word and its numbers")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def _begin(path, number, line):
    """(words that a header states, else 0; width), by the first line that is not empty.

    The first field of a line is a word, whatever it looks like; the width is how many numbers end the line.
    """
    fields, width = line.split(), 0
    if len(fields) == 2 and all(f.isdigit() and len(f) < 20 for f in fields):
        stated, width = map(int, fields)
        if not stated or not 1 <= width <= _WIDEST:
            what = f"the header says {stated} words of {width} numbers"
            raise ValueError(f"{path}:{number}: {what}; expected words, of 1 to {_WIDEST} numbers each")
        return stated, width
    while width < len(fields) - 1 and _is_number(fields[-1 - width]):
        width += 1
    if not 1 <= width <= _WIDEST:
        what = f"a line that ends in {width} numbers"
        raise ValueError(f"{path}:{number}: {what}; expected a word and 1 to {_WIDEST} numbers, as GloVe has")
    return 0, width


def _parse(line, width):
    """(word, its numbers, "") of a line, or (None, None, what is wrong with it)."""
    word, *fields = line.rsplit(None, width)
    # Split by bytes: Python's text would also break words at U+0085, which the published files hold.
    if len(fields) < width or _is_number(word.rsplit(None, 1)[-1]) and b" " in word.strip():
        found = len(line.split()) - 1
        return None, None, f"{found} numbers; expected a word and {width}, as in the lines before"
    try:
        vector = array.array("f", map(float, fields))
    except ValueError:
        vector = None
    if vector is None or b"_" in line[len(word) :]:  # Python takes 1_0 for ten
        wrong = next(f for f in fields if b"_" in f or not _is_number(f)).decode("utf-8", "backslashreplace")
        return None, None, f"{wrong[:40]!r} is no number; expected a word and {width} numbers"
    if not np.isfinite(np.frombuffer(vector, "float32")).all():
        return None, None, "a number that is not finite in float32; expected finite numbers"
    try:
        return word.decode("utf-8"), vector, ""
    except UnicodeDecodeError as error:
        return None, None, f"the word is not UTF-8 (byte 0x{word[error.start]:02x}); expected UTF-8"


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True
