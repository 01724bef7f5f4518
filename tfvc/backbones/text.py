"""The words that go with a clip -> rows: a word's GloVe vector, or its number for a learned embedding.

A text is cleaned, split at blanks, and each of its words looked up by `keras.layers.TextVectorization`. Words
that are not known are left out and counted.
"""

import functools
from collections import Counter

import keras
import numpy as np
import tensorflow as tf
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tfvc import files, recipe
from tfvc.backbones import glove, weights

RULE = 1  # of `clean`. Raise it whenever a text would give other words
_UNKNOWN = 1  # what TextVectorization numbers an unknown word
_BATCH = 1024  # texts a call

# In order; what a pattern matches gives way to the text behind it.
_RULES = (
    (r"(?:https?:|ftp:|www\.)[^\s\pZ]*", " "),  # URLs
    (r"&(?:amp;)*(?:#[0-9]+|#x[0-9a-f]+|[a-z][a-z0-9]*);", " "),  # HTML entities, also those written twice
    (r"&(?:amp|lt|gt|quot|apos|nbsp)\b", " "),  # ... and those that were cut off
    (r"@[\pL\pN_]+", " "),  # @names
    (r"['’]s\b", ""),  # it's, California's: their stem is what stop words and GloVe know
    (r"['’]", ""),  # don't: scikit-learn's list has such words without the apostrophe
    (r"[^\pL\pM\pN]+", "  "),  # punctuation, symbols, control characters, blanks
    (r"^ *| *$", " "),  # now each word has a blank of its own on both sides
    (f" (?:{'|'.join(sorted(ENGLISH_STOP_WORDS))}) ", ""),
    (r" +", " "),
)


def clean(strings):
    """Lower case, without URLs, @names, HTML entities, punctuation and scikit-learn's English stop words.

    TensorFlow's operations on strings only, so that an exported graph does the same.

    **Source** spec/raf.md, "clean (stop words, punctuation)"; what is cut of tweets is ours.

    Of scikit-learn's list all words go, as the paper does not say which it took: `fire` and `system` too.

    Args:
        strings: tensor of strings, of any shape, UTF-8; other bytes are taken for punctuation.

    Returns:
        A tensor of that shape: words, one blank between two.

    Example:
        >>> clean(tf.constant("Don't miss: @me &amp; California's #floods! http://t.co/x")).numpy().decode()
        'dont miss california floods'
    """
    strings = tf.strings.lower(tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8"), "utf-8")
    for pattern, replacement in _RULES:
        strings = tf.strings.regex_replace(strings, pattern, replacement)
    return tf.strings.strip(strings)


class Words:
    """Turns texts into rows. Made by `load`.

    Attributes:
        weights: sentence for people, as "glove (glove.6B.300d.txt, sha256 0123456789ab, 300 wide)" or
            "learned (4000 words, digest 0123456789)", where the digest is of the words in their order.
        digest: hex digits that name everything that settles the rows.
        vocabulary: of a learned embedding: the words in the order of their numbers, from 1; [] for GloVe.
        row_shape: of a word: `(D,)`, or `(1,)` where it is a number.
        row_dtype: `float32`, `float16` or `int32`.
        unknown: Counter of what `rows` has met: `words`, and how many of them were `unknown`.
    """

    def __init__(self, weights, identity, *, vocabulary=(), width=0, dtype="", read=None):
        self.weights, self.digest = weights, recipe.digest(["text", RULE, identity])
        self.vocabulary = list(vocabulary)
        self.row_shape, self.row_dtype = ((width,), dtype) if read else ((1,), "int32")
        self.unknown = Counter(words=0, unknown=0)
        self._read = read
        self._wanted = set() if read else None  # words whose vectors were looked for; None = all
        self._set(self.vocabulary, np.zeros((1, width), dtype) if read else None)

    def rows(self, text):
        """The rows of a text, one a known word.

        Args:
            text: a string; it may be empty.

        Returns:
            float (N, D), or int32 (N, 1); N may be 0.
        """
        if self._wanted is not None and not self._wanted.issuperset(_count([text])):
            self._want(None)
        ids = self._numbers(_strings([text])).numpy()
        self.unknown.update(words=len(ids), unknown=int(np.sum(ids == _UNKNOWN)))
        known = ids[ids > _UNKNOWN] - 1
        return known.astype("int32")[:, None] if self._vectors is None else self._vectors[known]

    def known(self):
        """Sentence: how many of the words that `rows` has met are known."""
        words, unknown = self.unknown["words"], self.unknown["unknown"]
        share = f" ({1 - unknown / words:.1%})" if words else ""
        return f"{words - unknown} of {words} words are known{share}"

    def tensor(self, strings, length):
        """The rows as a tensor, for an exported graph. Call it inside a `tf.function`.

        Args:
            strings: string tensor (B,).
            length: L, rows of a text: words behind are cut off, zeros fill up.

        Returns:
            float (B, L, D) or int32 (B, L, 1). What the exported module must hold for it is in `held`.
        """
        table, *vectors = self.held
        ids = table(strings)
        ids = (tf.ragged.boolean_mask(ids, ids > _UNKNOWN) - 1).to_tensor(shape=(None, length))
        return tf.gather(vectors[0], ids) if vectors else tf.cast(ids, tf.int32)[..., None]

    @functools.cached_property
    def held(self):
        """What an exported module must hold for `tensor`: the table of words and, for GloVe, the vectors."""
        with tf.init_scope():  # made once, outside the graph that asks first
            if self._wanted is not None:
                self._want(None)
            vectors = [] if self._vectors is None else [tf.Variable(self._vectors, trainable=False)]
            return [self._table, *vectors]

    def _want(self, wanted):
        """Reads the vectors of wanted words; None = all."""
        words, vectors = self._read(words=wanted)
        vectors = np.concatenate([np.zeros((1, *self.row_shape), "float32"), vectors])  # row 0: padding
        if self.row_dtype == "float16":  # saturated: an infinity would poison the statistics
            vectors = vectors.clip(-65504.0, 65504.0).astype("float16")
        self._wanted = wanted
        self._set(words, vectors)

    def _set(self, words, vectors):
        self._table, self._vectors = _table(words), vectors
        self._numbers = tf.function(lambda s: self._table(s).values, [tf.TensorSpec([None], tf.string)])


def load(text, texts=(), vocabulary=()):
    """What turns texts into rows.

    Args:
        text: `recipe.Text`.
        texts: of the data set. `learned`: their most frequent `text.words` words become the vocabulary, the
            alphabet deciding among equals. `glove`: the vectors of their words alone are kept in memory; a
            text of other words, given to `rows` later, makes the whole file be read.
        vocabulary: of a finished run's `learned`, in place of `texts`.

    Returns:
        A `Words`.

    Raises:
        FileNotFoundError: no such file of vectors.
        ValueError: a file that is damaged (`glove.read`), texts without a word to learn, or a vocabulary
            that no texts give.

    Example:
        >>> words = load(recipe.Text(embedding="learned"), ["A storm!", "storm and flood"])
        >>> words.vocabulary, words.rows("flood, storm, smoke").tolist(), words.known()
        (['storm', 'flood'], [[2], [1]], '2 of 3 words are known (66.7%)')
    """
    if text.embedding == "learned":
        vocabulary = _checked(vocabulary) if vocabulary else _frequent(texts, text.words)
        sentence = f"learned ({len(vocabulary)} words, digest {recipe.digest(vocabulary)})"
        return Words(sentence, ["learned", vocabulary], vocabulary=vocabulary)
    path = weights.text_file(text.weights)
    width, digest = glove.width(path), files.sha256(path)
    sentence = f"glove ({path.name}, sha256 {digest[:12]}, {width} wide)"
    read = functools.partial(glove.read, path, most=text.words)
    words = Words(sentence, ["glove", digest, text.words], width=width, dtype=text.dtype, read=read)
    if texts:
        words._want(set(_count(texts)))
    return words


def _table(words):
    """Strings (B,) -> ragged numbers (B, None): 1 for an unknown word, 2 for the first of `words` ..."""
    # A line break stands in no cleaned text: it keeps the place of what Keras has a use of its own for.
    words = ["\n" if word == "[UNK]" else word for word in words] or ["\n"]
    return keras.layers.TextVectorization(
        standardize=clean, split="whitespace", ragged=True, vocabulary=words
    )


def _strings(texts):
    """Half a surrogate pair, as the command line may hold it, is no text: it becomes a question mark."""
    return tf.constant([text.encode("utf-8", "replace") for text in texts], tf.string)


def _count(texts):
    """How often each word stands in texts, cleaned."""
    counts = Counter()
    for start in range(0, len(texts), _BATCH):
        words = _split(_strings(texts[start : start + _BATCH])).numpy()
        counts.update(word.decode() for word in words)
    return counts


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def _split(strings):
    return tf.strings.split(clean(strings)).values


def _checked(vocabulary):
    """The list of a vocabulary's words, each as `clean` leaves it and there once."""
    words = list(vocabulary)
    left = [word.decode() for word in clean(_strings(words)).numpy()]
    place = {}
    for number, (word, kept) in enumerate(zip(words, left, strict=True), 1):
        if not word or word != kept or " " in word or place.setdefault(word, number) != number:
            raise ValueError(
                f"the vocabulary is not one of ours: word {number} is {word[:40]!a}; expected words of "
                "cleaned texts, each once; train again, or extract the clips again"
            )
    return words


def _frequent(texts, most):
    """The most frequent words of texts; 0 = all."""
    counts = _count(texts)
    if not counts:
        raise ValueError(
            f"text.embedding=learned: no words in {len(texts)} texts, and no vocabulary is given; expected "
            "some, as in a column text"
        )
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked[: most or None]
