"""A name is a file: `tfvc/models/raf.py` is the model `raf`, `tfvc/recipes/raf.py` its recipe.

Nothing is registered: listing the folder lists the models, and a sixth paper is two new files.
"""

import ast
import difflib
import functools
import importlib
from pathlib import Path

_PACKAGE = Path(__file__).parent


def available(kind):
    """Sorted names in a room, for example `available("models")` -> `["attention_boosted"]`."""
    return sorted(p.stem for p in (_PACKAGE / kind).glob("*.py") if not p.stem.startswith("_"))


def suggest(what, given, known):
    """The one line that every wrong name gets: what was given, what exists, the nearest.

    Example:
        >>> suggest("model", "rav", ["raf", "mfb"])
        "unknown model 'rav' (did you mean 'raf'?); expected one of: mfb, raf"
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {what} {given!r}{hint}; expected one of: {', '.join(known)}"


def load(kind, name):
    """Imports `tfvc.<kind>.<name>`.

    Raises:
        ValueError: there is no such file; the message names the nearest.
    """
    if name not in available(kind):
        what = "model" if kind == "recipes" else kind.removesuffix("s")  # a recipe is asked for as --model
        raise ValueError(suggest(what, name, available(kind)))
    return importlib.import_module(f"tfvc.{kind}.{name}")


def keyword_defaults(model):
    """Keyword-only arguments of a model's `build_model`, with their literal defaults.

    Read off the syntax tree, so that a command line can be checked without importing Keras.

    Returns:
        dict, argument name -> default. The defaults of `build_model` are literals by convention.
    """
    for node in _body(model):
        if isinstance(node, ast.FunctionDef) and node.name == "build_model":
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {a.arg: None if d is None else ast.literal_eval(d) for a, d in pairs}
    raise ValueError(f"tfvc/models/{model}.py has no build_model; every model file needs one")


def literal(model, name):
    """A dict that a model file may hold, {} if it does not. Read like `keyword_defaults`.

    - `CHOICES`: argument of `build_model` -> the values it may have.
    - `AT_LEAST`, `BELOW`: argument -> its bound.
    - `PARTS`: argument -> the argument that decides whether there is such a part, and its values that do.
    - `STREAMS`: value of `modality` ("" for a model without it) -> the streams of a clip that it reads.
    - `PATHS`: rule -> path -> names of the layers that stand still when that path is not trained.
    - `SIDES`: of a model on records by pattern: fusion -> the streams that it reads.

    Example:
        >>> "cnn3d" in literal("attention_boosted", "CHOICES")["mode"]
        True
    """
    for node in _body(model):
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [name]:
            return ast.literal_eval(node.value)
    return {}


@functools.cache  # every recipe asks several times
def _body(model):
    if model not in available("models"):
        raise ValueError(suggest("model", model, available("models")))
    return ast.parse((_PACKAGE / "models" / f"{model}.py").read_text(encoding="utf-8")).body
