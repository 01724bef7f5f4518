"""What the studies of MAFnet share (Brousmiche, Rouat, Dupont 2021)."""

from experiments.baselines import majority
from experiments.study import Metric, Row, Study, clips
from tfvc import recipe

_FIDELITY = "corrected"
_WHERE = {"accuracy": "AVE", "ucf51": "UCF51", "kinetics_sounds": "Kinetics-Sounds"}

# Every row extracts both streams, also where it reads one: so all of them share one set of features.
_COMMON = ("data.streams=frames,audio", "train.keep_checkpoints=1")

# The width that the paper prints, on the demo set too; of the others, which it does not print, the recipes'.
WIDTHS = {
    "mafnet": "model_args.units=512",
    "dmrn": "model_args.units=128",
    "attention_cluster": "model_args.clusters=32",
}

_DIFFERS = (
    "Without --data, the embedded demo set (form multimodal: 144 drawn clips of 6 s, 8 classes) in place of "
    "AVE (4,143 videos of 10 s, 28 classes). Picture and sound tell two of a class's three bits there; the "
    "third is in the text, which no model here reads: one of them allows 25 %, both 50 % on average. The "
    "levels cannot be the paper's. The rows with both streams come close to the 50 %, and one of some 48 "
    "test clips is 2 points: two streams can be told from one, but the order among fusions, attentions or "
    "places of FiLM is chance.",
    "On the demo set the recipe's settings for it are in force: fewer and smaller frames, a "
    "faster average in the batch norms, another rate, batch and number of epochs than the paper's: {demo}.",
    "Where the published weights of the backbones (ImageNet, AudioSet) cannot be had, those of the demo set "
    "are random ones; which they were is said below.",
    "Fidelity corrected: padding masked, one Adam that leaves a standing path alone, and the epoch chosen on "
    "clips that are neither trained on nor reported; demo clips are split by group, anew for each seed.",
)


def row(name, title="", accuracy=None, *overrides, **fields):
    """A row of AVE's accuracy; `overrides` are model arguments without their section."""
    printed = {} if accuracy is None else {"accuracy": accuracy}
    given = (WIDTHS[fields.get("model") or "mafnet"], *(f"model_args.{text}" for text in overrides))
    return Row(name, given, title, printed, **fields)


def study(name, title, source, rows, differs=(), **fields):
    """A study of mafnet's accuracy on clips."""
    command = f"python -m experiments.run {name} --data=AVE_Dataset"
    fields = {"full": (("AVE", command),)} | fields
    shown = ", ".join(dict.fromkeys(text for each in rows for text in _demo(each.model or "mafnet")))
    fields = {"metrics": (Metric("accuracy", "Accuracy, %"),)} | fields
    return Study(
        name=name,
        title=title,
        source=f"Brousmiche, Rouat, Dupont 2021, {source}",
        differs=(*(text.format(demo=shown) for text in _DIFFERS), *differs),
        model="mafnet",
        fidelity=_FIDELITY,
        common=_COMMON,
        rows=tuple(rows),
        grid={},
        choose_by="accuracy",
        parts=clips,
        data="nothing (the embedded demo set), or AVE's folder, or other clips or a manifest",
        baseline=majority,
        **fields,
    )


def elsewhere(*names):
    """Metrics that the paper prints of data sets that are not read here."""
    return tuple(
        Metric(name, f"Accuracy on {_WHERE[name]}, %", not_run="its videos are not on this machine")
        for name in names
    )


def _demo(model):
    """The demo settings of a model, those of another model under its name."""
    own = [
        text
        for text in recipe.get(model, _FIDELITY).demo_overrides
        if recipe.key_of(text) != recipe.key_of(WIDTHS[model])
    ]
    usual = recipe.get("mafnet", _FIDELITY).demo_overrides
    return own if model == "mafnet" else [f"{model} {text}" for text in own if text not in usual]
