"""Fitted estimators as files without pickle: `<path>.npz` holds the arrays, `<path>.json` all else.

The JSON names format and version, the parameters, what was fitted besides arrays, and the SHA-256 of the
arrays' file, so that a file cut short, changed, or left over from another save is seen before it is used.
"""

import zipfile
from pathlib import Path

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tfvc import files
from tfvc.estimators.elimination import RankedElimination
from tfvc.estimators.powerset import LabelPowersetClassifier
from tfvc.estimators.svm import WeightedLinearSVM

FORMAT, VERSION = "tfvc estimator", 1
# Kind -> (class, arrays with their shapes, other fitted numbers). A letter is a size: the same letter in one
# estimator is the same number; P = K (K - 1) / 2, n = n_features_in_.
_KINDS = {
    "WeightedLinearSVM": (
        WeightedLinearSVM,
        {"classes_": "K", "coef_": "Pn", "intercept_": "P"},
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


def save(estimator, path):
    """Writes a fitted estimator.

    Args:
        estimator: `WeightedLinearSVM`, or `LabelPowersetClassifier` or `RankedElimination` of such.
        path: without suffix; `<path>.npz` and `<path>.json` are written.

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
    files.write_json(f"{path}.json", tree)


def load(path):
    """Reads what `save` wrote.

    Args:
        path: without suffix.

    Returns:
        estimator with the same `predict`, `decision_function` and `label_scores`.

    Raises:
        FileNotFoundError: one of the two files is not there.
        ValueError: a damaged, pickled, or newer file; the file is named.
    """
    meta, data = Path(f"{path}.json"), Path(f"{path}.npz")
    tree = files.read_json(meta, "fit and save the estimator again")
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ValueError(f"{meta}: not a stored estimator; expected format {FORMAT!r}")
    if tree.get("version") != VERSION:
        raise ValueError(
            f"{meta}: version {tree.get('version')}; this tfvc reads {VERSION}; use the tfvc that wrote it"
        )
    if not data.is_file():
        raise FileNotFoundError(f"{data}: no such file; it belongs to {meta}")
    if files.sha256(data) != tree.get("sha256"):
        raise ValueError(f"{data}: not the file that {meta.name} describes; fit and save the estimator again")
    try:
        with np.load(data, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _restored(tree["estimator"], arrays, "")
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged ({files.first_line(error)}); fit and save it again") from None


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
    _, shapes, numbers = _KINDS[tree["kind"]]
    for name in numbers:
        value = tree["fitted"][name]
        setattr(estimator, name, [tuple(pair) for pair in value] if name == "scores_" else value)
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
        setattr(estimator, name, array)
    if "estimator" in tree["parameters"]:
        inner = estimator.estimator_ = _restored(tree["inner"], arrays, f"{prefix}estimator_.")
        width = int(arrays[f"{prefix}support_"].sum()) if "support_" in shapes else sizes["n"]
        if inner.n_features_in_ != width or ("K" in sizes and len(inner.classes_) != sizes["K"]):
            raise ValueError(f"{prefix}estimator_ does not fit what is around it")
    return estimator
