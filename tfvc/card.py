"""The model card of an export: `README.md`, made of what the run and the SavedModel hold, nothing else."""

import inspect
import re
from pathlib import Path

import tfvc
from tfvc import compare, files, names
from tfvc import recipe as recipes
from tfvc.backbones import weights as published

FILE = "README.md"
_CLASSES = 100  # listed; assets/classes.txt has all
_MARKS = re.compile(r"([\\`*_\[\]{}<>#|~$]|&(?=#?\w+;))")  # a lone & is none
_STREAMS = {"frames": "pictures", "audio": "sound", "text": "words"}
_OUTPUTS = {
    "probabilities": "of each class, in the order of `classes`",
    "classes": "names of the classes",
    "ids": "of the records",
    "labels": "1 where the clip is given the label",
    "label_scores": "what `labels` are decided by; higher is likelier",
    "scores": "weight of each row and stream (attention)",
    "heads": "probabilities of each modality's own network",
}


def write(path, run, worst):
    """Writes the card into the folder of a SavedModel.

    Args:
        path: the folder; `saved_model.pb` lies there.
        run: `tfvc.workdir.Run`.
        worst: signature -> largest difference from the model after reloading.
    """
    text = card(run, signatures_of(path), worst)
    with files.aside(Path(path) / FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def signatures_of(path):
    """The signatures of a SavedModel: name -> (inputs, outputs), each name -> (shape, dtype).

    Read from `saved_model.pb`, without loading the model; -1 is a size that the caller chooses.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())

    def tensors(infos):
        return {
            name: (
                tuple(size.size for size in info.tensor_shape.dim),
                tf.as_dtype(info.dtype).name,
            )
            for name, info in sorted(infos.items())
        }

    return {
        name: (tensors(found.inputs), tensors(found.outputs))
        for name, found in sorted(model.meta_graphs[0].signature_def.items())
        if not name.startswith("__")
    }


def card(run, signatures, worst):
    """The text of the card, Markdown. Names that a data set gave are escaped."""
    sections = {
        "What it is": _what(run),
        "Intended use": _use(run),
        "Trained on": _data(run),
        "Measured": _measured(run),
        "Inputs and outputs": _signatures(run, signatures, worst),
        "Preprocessing": _preprocessing(run),
        "Kept of the authors' program, and what differs": _fidelity(run),
        "Weights behind the features, and licences": _weights(run),
        "Serving": _serving(run, signatures),
        "Limitations": _limits(run),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {text_of(run.recipe.model)}: a classifier of {text_of(run.facts.dataset)}\n\n{body}\n"


def text_of(value):
    r"""Any text as it may stand in Markdown: one line, nothing in it is a mark.

    Example:
        >>> text_of("a|b\n# <c>")
        'a\\|b\\\\n\\# \\<c\\>'
    """
    return _MARKS.sub(r"\\\1", files.printable(str(value)))


def _list(lines):
    return "\n".join(f"- {line}" for line in lines)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _versions():
    import keras
    import tensorflow as tf

    return f"tfvc {tfvc.__version__}, TensorFlow {tf.__version__}, Keras {keras.__version__}"


def _what(run):
    module, metrics = names.load("models", run.recipe.model), run.metrics()
    first = (inspect.getdoc(module) or "").partition("\n")[0]
    lines = [
        text_of(first or "its file says nothing of it"),
        f"Source: {text_of(_paragraph(module, 'Source') or 'its file names none')}",
        f"Recipe: `{run.recipe.model}`, fidelity {run.recipe.fidelity}, seed {run.seed}; every setting is in "
        "`assets.extra/recipe.json`",
        f"Parameters: {metrics['parameters']:,}" if "parameters" in metrics else "Parameters: not recorded",
        f"Exported with {_versions()}",
    ]
    if run.facts.init_from:
        lines.append(f"Training began with the weights of {text_of(run.facts.init_from)}")
    return _list(lines)


def _paragraph(module, name):
    """What stands behind **Source** or **Differs** in a model's docstring; "" where there is none."""
    doc = inspect.getdoc(module.build_model) or ""
    found = re.search(rf"\*\*{name}\*\*: (.+?)(?=\n\s*\n|\n\*\*|\Z)", doc, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _use(run):
    how = "any number of them, or none" if run.facts.multi_label else "exactly one, also where none fits"
    return (
        f"To label clips like those it was trained on, of the {len(run.facts.classes)} classes below: {how}. "
        "Nothing was measured on other clips than those named here, and nothing on decisions about people."
    )


def _data(run):
    facts, split = run.facts, run.split()
    unit = "files of records" if facts.kind == "yt8m" else "clips"
    parts = ", ".join(f"{len(ids)} {part}" for part, ids in split.items())
    named = "the embedded demo set, drawn by this program" if not facts.source else text_of(facts.dataset)
    classes = ", ".join(map(text_of, facts.classes[:_CLASSES]))
    more = len(facts.classes) - _CLASSES
    lines = [
        f"Data set: {named}; {unit}: {parts}",
        f"{len(facts.classes)} classes: {classes}"
        + (f", and {more} more (`assets/classes.txt`)" if more > 0 else ""),
    ]
    said = [f"the run said: {text_of(note)}" for note in facts.notes]
    return _list(lines + said)


def _measured(run):
    metrics = run.metrics()
    if "epochs" not in metrics:
        return "Nothing: the run has no metrics.json."
    rows = []
    for part in ("test", "validation"):
        rows += [
            [part, text_of(name), f"{value:.4f}"]
            for name, value in metrics[part].items()
            if isinstance(value, float) and name != "seconds"
        ]
    chose = f"the weights are those of epoch {metrics['validation']['epoch']} of {metrics['epochs']}"
    lines = [
        _table(["part", "measure", "value"], rows),
        f"Test: {metrics['test']['clips']} clips; {chose} (train.report={run.recipe.train.report}).",
    ]
    split = run.split()
    if split["validation"] in ([], split["test"]):
        lines.append("There was no validation part of its own: the test part served.")
    other = metrics.get("evaluation", {})
    if other.get("part") == "all":
        found = [["all", text_of(k), f"{v:.4f}"] for k, v in other.items() if isinstance(v, float)]
        lines += [
            f"On {text_of(other.get('data', 'other data'))}, {other.get('clips')} clips:",
            _table(["part", "measure", "value"], found),
        ]
    paths = sorted((run.path / "compare").glob("*.json"))
    model = files.sha256(run.path / "model.keras") if paths else ""
    compared = [_comparison(path, model) for path in paths]
    return "\n\n".join(lines + (compared or ["No interval: `tfvc.evaluate --compare` was not run."]))


def _comparison(path, model):
    """A comparison that `tfvc.compare` wrote; `model`: the SHA-256 of this run's model."""
    tree = files.read_json(path, "remove it")
    try:
        other, clips, how, data = Path(tree["runs"][1]).name, tree["clips"], tree["interval"], tree["data"]
        if tree.get("models", [""])[0] != model:
            told = f"The comparison with {other} is left out: it is of another model than this one."
            return f"{text_of(told)} Run `tfvc.evaluate --compare` again."
        rows = [
            [text_of(name), *(compare.shown(row[key], "+.4f") for key in ("difference", "low", "high"))]
            for name, row in tree["measures"].items()
        ]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a comparison of ours ({error!r}); remove it") from None
    where = "the test part" if data == "test" else f"{data} (training clips may be among them)"
    head = text_of(f"{other} minus this run, {clips} clips, on {where}; {how}:")
    return f"{head}\n\n{_table(['measure', 'difference', 'low', 'high'], rows)}"


def _signatures(run, signatures, worst):
    parts = []
    for name, (inputs, outputs) in signatures.items():
        rows = [["input", f"`{key}`", *_shape(*of), _unit(run, name, key)] for key, of in inputs.items()]
        rows += [["output", f"`{key}`", *_shape(*of), _OUTPUTS.get(key, "")] for key, of in outputs.items()]
        checked = f"; reloaded without tfvc it differed by {worst[name]:.1e} at most" if name in worst else ""
        parts.append(f"`{name}`{checked}\n\n{_table(['', 'name', 'shape', 'dtype', 'what'], rows)}")
    return "\n\n".join(["N clips a call; -1 is any number.", *parts])


def _shape(shape, dtype):
    return f"({', '.join('N' if k == 0 and n == -1 else str(n) for k, n in enumerate(shape))})", dtype


def _unit(run, signature, name):
    """What an input holds, in which unit."""
    if name == "examples":
        return "serialised records (tf.train.Example or SequenceExample)"
    if signature not in ("serving_default", "serialized"):
        second = "whole clips at 22,050 Hz" if run.recipe.audio.name == "soundnet" else "seconds at 16 kHz"
        return {
            "frames": "RGB pictures, 0 to 255; black ones at the end are padding",
            "samples": f"sound in [-1, 1], {second}; zeros at the end are padding",
            "text": "words, as written",
        }[name]
    if run.facts.kind == "yt8m":
        if name.endswith("_length"):
            return "how many rows are real"
        quantized = {row.name: row.quantized for row in run.facts.features}[name]
        return "features as YouTube-8M stores them" + ", 8 bits for -2 to 2" * quantized
    return f"{_STREAMS.get(name, name)}: rows as tfvc.extract gives them, zeros behind a short clip"


def _preprocessing(run):
    if run.facts.kind == "yt8m":
        return "None: features go in as YouTube-8M's records hold them."
    flat, read = recipes.flatten(run.recipe), recipes.read_by(run.recipe)
    keys = ["data.sampling", "data.frames", "data.max_seconds"]
    keys += ["data.fps", "data.pool", "data.channel_order", "data.interpolation"] * ("frames" in read)
    keys += [f"backbone.{k}" for k in ("name", "size", "pooling", "dtype")] * ("frames" in read)
    keys += [f"audio.{k}" for k in ("name", "output", "dtype")] * ("audio" in read)
    keys += [f"text.{k}" for k in ("embedding", "words")] * ("text" in read)
    rows = [[f"`{key}`", text_of(flat[key])] for key in keys]
    shapes = ", ".join(f"{row.name} {row.shape}" for row in run.facts.features)
    state = "as they were extracted"
    if run.facts.standardized:
        state += "; the model itself standardises them, by the training clips"
    table = _table(["setting", "value"], rows)
    return (
        f"Features of a clip: {shapes}. They go in {state}. The signature of raw clips, where "
        f"there is one, does this inside, but for cutting frames and sound out of the file.\n\n{table}"
    )


def _fidelity(run):
    quirks = [text_of(line) for line in recipes.quirks_in_force(run.recipe)]
    differs = _paragraph(names.load("models", run.recipe.model), "Differs")
    lines = quirks or [f"No quirk is kept (fidelity {run.recipe.fidelity})."]
    return _list([*lines, f"Differs: {text_of(differs)}" if differs else "Its file names no difference."])


def _weights(run):
    if run.facts.kind == "yt8m":
        return "None in this export: the features come from YouTube-8M's own networks."
    lines, recipe = [], run.recipe
    names_of = {"frames": recipe.backbone.name, "audio": recipe.audio.name, "text": recipe.text.embedding}
    for stream in recipes.read_by(recipe):
        made = run.facts.made_with[stream]
        if made.startswith(("random", "none", "learned")):
            licence = "no weights of others"
        elif stream == "frames" and made.startswith("imagenet"):
            licence = published.LICENCES.get(names_of[stream], "licence not known here")
        else:
            licence = "licence: its owner's; not known here"
        lines.append(f"{stream}: {text_of(names_of[stream])}, weights {text_of(made)}; {licence}")
    lines.append("Code of tfvc: Apache-2.0. The data set's own terms hold for what was learnt from it.")
    return _list(lines)


def _serving(run, signatures):
    inputs, _ = signatures["serving_default"]
    zeros = ", ".join(
        f"{name}=tf.zeros({[1, *(max(n, 1) for n in shape[1:])]}, tf.{dtype})"
        for name, (shape, dtype) in inputs.items()
    )
    served = re.sub(r"\W", "_", run.recipe.model)
    asked = ", ".join(f'"{name}": [...]' for name in inputs)
    return (
        "Plain TensorFlow, in this folder; tfvc need not be installed:\n\n"
        "```python\nimport tensorflow as tf\n\n"
        'model = tf.saved_model.load(".")  # keep it: the function does not hold its variables\n'
        'answer = model.signatures["serving_default"]\n'
        f"result = answer({zeros})\n"
        'best = int(tf.argmax(result["probabilities"][0]))\n'
        'print(result["classes"][best].numpy().decode(), float(result["probabilities"][0, best]))\n```\n\n'
        "TensorFlow Serving looks for numbered folders, so this one is mounted as version 1 (not tried where "
        "this was written: no Docker daemon runs there):\n\n"
        "```bash\n"
        f'docker run --rm -p 8501:8501 -v "$PWD:/models/{served}/1:ro" -e MODEL_NAME={served} '
        "tensorflow/serving\n"
        f"curl http://localhost:8501/v1/models/{served}:predict -d "
        f'\'{{"signature_name": "serving_default", "inputs": {{{asked}}}}}\'\n```\n\n'
        "Each `[...]` is a nested list of the shape above. Say `inputs`, not `instances`: `classes` has no "
        'row a clip. Records go into `serialized` as `{"b64": "..."}`.'
    )


def _limits(run):
    facts = run.facts
    lines = ["Probabilities are the network's; whether they are calibrated was not measured."]
    if not facts.multi_label:
        lines.append("A clip that shows none of the classes is given one all the same.")
    if not facts.source:
        lines.append("The demo set is drawn: its numbers say nothing of real videos.")
    for stream in recipes.read_by(run.recipe) if facts.kind != "yt8m" else ():
        if facts.made_with[stream].startswith("random"):
            lines.append(f"The network behind the stream {stream} has random weights.")
    leaks = [note for note in facts.notes if note.startswith("group leakage")]
    if leaks and not re.match(r"group leakage: 0 of", leaks[-1]):
        lines.append(f"{text_of(leaks[-1])}: the test numbers may flatter.")
    rows = facts.features[0].shape[0] if len(facts.features[0].shape) > 1 else 0
    if rows:
        lines.append(f"It sees {rows} rows of a clip; tfvc.predict cuts longer ones into windows.")
    return _list(lines)
