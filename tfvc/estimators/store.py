"""Fitted estimators as files without pickle: `<path>.npz` holds the arrays, `<path>.json` all else.

The JSON names format and version, the parameters, what was fitted besides arrays, the SHA-256 of the
arrays' file, and a digest of all this, so that a file cut short, edited, or left over from another save is
seen before it is used. Types and ranges are checked besides, for a digest tells nothing of who wrote it.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tfvc import files
from tfvc.estimators.elimination import RankedElimination
from tfvc.estimators.powerset import LabelPowersetClassifier
from tfvc.estimators.svm import WeightedLinearSVM

FORMAT, VERSION = "tfvc estimator", 2
# Kind -> (class, arrays with their shapes, other fitted numbers). A letter is a size: the same letter in one
# estimator is the same number; P = K (K - 1) / 2, n = n_features_in_.
_KINDS = {
    "WeightedLinearSVM": (
        WeightedLinearSVM,
        {"classes_": "K", "coef_": "Pn", "intercept_": "P", "n_iter_": "P"},
        ("temperature_", "n_features_in_"),
    ),
    "LabelPowersetClassifier": (
        LabelPowersetClassifier,
        {"classes_": "C", "label_sets_": "KC", "set_weights_": "K"},
        ("multilabel_", "n_features_in_"),
    ),
    "RankedElimination": (
        RankedElimination,
        {"classes_": "C", "support_": "n", "ranking_": "n", "importances_": "n"},
        ("scores_", "best_score_", "n_features_in_"),
    ),
}
_REMEDY = "fit and save the estimator again"
# Array -> kinds of dtype as NumPy names them, lowest and highest value.
_VALUES = {
    "classes_": ("biufU", -math.inf, math.inf),
    "coef_": ("f", -math.inf, math.inf),
    "intercept_": ("f", -math.inf, math.inf),
    "n_iter_": ("iu", 0, math.inf),
    "label_sets_": ("iu", 0, 1),
    "set_weights_": ("f", 0, math.inf),
    "support_": ("b", 0, 1),
    "ranking_": ("iu", 1, math.inf),
    "importances_": ("f", 0, 1),
}


def save(estimator, path, of=""):
    """Writes a fitted estimator.

    Args:
        estimator: `WeightedLinearSVM`, or `LabelPowersetClassifier` or `RankedElimination` of such.
        path: without suffix; `<path>.npz` and `<path>.json` are written.
        of: SHA-256 of the network whose vectors it was fitted to; "" = of none.

    Raises:
        ValueError: another estimator inside; a parameter that JSON cannot hold, as a generator of numbers.
        sklearn.exceptions.NotFittedError: it is not fitted.

    Example:
        >>> svm = WeightedLinearSVM().fit([[0.0], [1.0]], [0, 1])
        >>> save(svm, "svm")
        >>> load("svm").predict([[0.2]]).tolist()
        [0]
    """
    arrays = {}
    tree = _described(estimator, arrays, "")
    with files.aside(f"{path}.npz") as temporary, open(temporary, "wb") as f:
        np.savez(f, **arrays)
    tree = {"format": FORMAT, "version": VERSION, "sha256": files.sha256(f"{path}.npz"), "estimator": tree}
    tree |= {"of": of} if of else {}
    files.write_json(f"{path}.json", tree | {"digest": _digest(tree)})


def load(path, of="", remedy=_REMEDY):
    """Reads what `save` wrote.

    Args:
        path: without suffix.
        of: SHA-256 of the network whose vectors it is to read; "", or a file that names none: not compared.
        remedy: the end of the messages, what to do about the files.

    Returns:
        estimator with the same `predict`, `decision_function` and `label_scores`.

    Raises:
        FileNotFoundError: one of the two files is not there.
        ValueError: a damaged, edited, pickled, older or newer file, or of another network; it is named.
    """
    meta, data = Path(f"{path}.json"), Path(f"{path}.npz")
    tree = files.read_json(meta, remedy)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ValueError(f"{meta}: not a stored estimator; expected format {FORMAT!r}; {remedy}")
    version = tree.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"{meta}: version {version!r}; this tfvc reads {VERSION}; use the tfvc that wrote it, or {remedy}"
        )
    try:
        same = tree.pop("digest", None) == _digest(tree)
    except RecursionError:  # some depths can be read and not written: `save` did not
        same = False
    if not same:
        raise ValueError(f"{meta}: edited or damaged since it was saved (its digest differs); {remedy}")
    if not data.is_file():
        raise FileNotFoundError(f"{data}: no such file; it belongs to {meta}; {remedy}")
    if files.sha256(data) != tree.get("sha256"):
        raise ValueError(f"{data}: not the file that {meta.name} describes; {remedy}")
    if of and tree.get("of", of) != of:
        raise ValueError(f"{data}: fitted to the vectors of another network; {remedy}")
    files.check_archive(data, "file of arrays")
    try:
        with np.load(data, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _restored(tree["estimator"], arrays, "")
    except (*files.NO_ARRAY, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({files.printable(files.first_line(error))}); {remedy}") from None


def _digest(tree):
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _described(estimator, arrays, prefix):
    kind = type(estimator).__name__
    if kind not in _KINDS or type(estimator) is not _KINDS[kind][0]:
        raise ValueError(f"{kind}: cannot be stored; expected one of {', '.join(_KINDS)}")
    check_is_fitted(estimator)
    _, shapes, numbers = _KINDS[kind]
    for name in shapes:
        value = np.asarray(getattr(estimator, name))
        value = np.asarray(value.tolist()) if value.dtype == object else value
        arrays[prefix + name] = value
    tree = _parameters(estimator)
    tree["fitted"] = {name: getattr(estimator, name) for name in numbers}
    if "estimator" in tree["parameters"]:
        tree["inner"] = _described(estimator.estimator_, arrays, f"{prefix}estimator_.")
    return tree


def _parameters(estimator):
    """Kind and parameters, of an estimator fitted or not."""
    found = {}
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, dict):
            value = {"pairs": [[_plain(k), _plain(v)] for k, v in value.items()]}
        elif name == "estimator" and value is not None:
            value = _parameters(value)
        found[name] = _plain(value)
        if not isinstance(found[name], (str, int, float, bool, dict, type(None))):
            raise ValueError(f"{name}={value!r}: cannot be stored; give a number, a word or None")
    return {"kind": type(estimator).__name__, "parameters": found}


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _prototype(tree):
    parameters = dict(tree["parameters"])
    for name, value in parameters.items():
        if isinstance(value, dict):
            parameters[name] = _prototype(value) if name == "estimator" else dict(map(tuple, value["pairs"]))
    return _KINDS[tree["kind"]][0](**parameters)


def _restored(tree, arrays, prefix):
    estimator = _prototype(tree)
    estimator.check_parameters()
    _, shapes, numbers = _KINDS[tree["kind"]]
    for name in numbers:
        setattr(estimator, name, _number(name, tree["fitted"][name]))
    sizes = {"n": estimator.n_features_in_}
    for name, letters in shapes.items():
        array = arrays[prefix + name]
        if "K" in sizes:
            sizes.setdefault("P", sizes["K"] * (sizes["K"] - 1) // 2)
        wanted = tuple(
            sizes.setdefault(letter, size) for letter, size in zip(letters, array.shape, strict=True)
        )
        if array.shape != wanted:
            raise ValueError(f"{prefix}{name} is {array.shape}; expected {wanted}")
        _check_values(prefix + name, array, *_VALUES[name])
        setattr(estimator, name, array)
    if len(np.unique(estimator.classes_)) != len(estimator.classes_):
        raise ValueError(f"{prefix}classes_ holds a class twice")
    if "support_" in shapes:
        kept = estimator.ranking_ <= estimator.support_.sum()
        if (estimator.support_ != kept).any():
            raise ValueError(f"{prefix}support_ is not what {prefix}ranking_ says")
    if "estimator" in tree["parameters"]:
        inner = estimator.estimator_ = _restored(tree["inner"], arrays, f"{prefix}estimator_.")
        width = int(estimator.support_.sum()) if "support_" in shapes else sizes["n"]
        classes = np.arange(sizes["K"]) if "K" in sizes else estimator.classes_
        if inner.n_features_in_ != width or not np.array_equal(inner.classes_, classes):
            raise ValueError(f"{prefix}estimator_ does not fit what is around it")
    if tree["kind"] == "LabelPowersetClassifier":
        whole = np.arange(sizes["C"]) if estimator.multilabel_ else np.eye(sizes["C"])
        if not np.array_equal(estimator.classes_ if estimator.multilabel_ else estimator.label_sets_, whole):
            raise ValueError(f"{prefix}multilabel_={estimator.multilabel_} does not fit the label sets")
    return estimator


def _check_values(name, array, kinds, low, high):
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name} is {array.dtype}; expected a dtype of {kinds!r}")
    if array.dtype.kind != "U" and not (np.isfinite(array) & (array >= low) & (array <= high)).all():
        raise ValueError(f"{name} holds numbers beyond {low} .. {high}, or not finite")


def _number(name, value):
    """A fitted number of the JSON, checked."""
    if name == "scores_":
        if not value or not all(_is(left, int, 1) and _is(score, float, 0, 1) for left, score in value):
            raise ValueError(f"{name}: expected pairs of features left and their score, 0 to 1")
        return [tuple(pair) for pair in value]
    fits = {
        "multilabel_": isinstance(value, bool),
        "n_features_in_": _is(value, int, 1),
        "temperature_": _is(value, float, math.ulp(0.0)),
        "best_score_": _is(value, float, 0, 1),
    }
    if not fits[name]:
        raise ValueError(f"{name}={value!r}: expected what `fit` gives")
    return value


def _is(value, kind, low, high=math.inf):
    return type(value) is kind and math.isfinite(value) and low <= value <= high
