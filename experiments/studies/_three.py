"""What the studies of raf and resbilstm share (Pouyanfar et al. 2019): sight, sound and text of disasters."""

from experiments import per_class
from experiments.baselines import label_prior
from experiments.study import Metric, PerClass, Row, Study, clips
from tfvc import recipe

_PRINTED = ("micro_f1", "hamming_loss", "map")
_METRICS = (
    Metric("micro_f1", "Micro F1", 1.0, 3),
    Metric("hamming_loss", "Hamming loss", 1.0, 3, lower=True),
    Metric("map", "MAP", 1.0, 3),
    Metric("network_micro_f1", "Micro F1 of the network alone", 1.0, 3),
)

# Every row extracts all streams, also where it reads one: so all of them share one set of features.
_COMMON = ("data.streams=frames,audio,text", "train.keep_checkpoints=1")

# Twice the form's own number: of the rarest concept 6 clips are tested in place of 3. Epochs: half as many.
_DEMO = ("data.clips=308", "train.epochs=15")

_DIFFERS = (
    "The paper's set (1,540 clips of two hurricanes) is not public. Without --data, the embedded demo set "
    "(form disaster: 308 drawn clips of 6 s, its 7 concepts as rare or frequent as the paper's). A concept "
    "always shows in one stream there and often in a second. The levels cannot be the paper's, nor the order "
    "of the single modalities.",
    "On the demo set the recipe's settings for it are in force, and not the paper's sizes: {demo}. So words "
    "are learnt with the network there, in place of GloVe's vectors.",
    "Where the published weights of the backbones (ImageNet, Flickr's sounds) cannot be had, those of the "
    "demo set are random ones; which they were is said below.",
    "Optimiser, rate, batch, epochs, units and the pooling over time are not printed; they are the recipe's. "
    "Each seed draws its split anew: 60 % train, 20 % choose, 20 % are reported, the labels' shares kept.",
    "Micro F1 of the network alone: its probabilities at 0.5, without the SVM behind it. The rows that are "
    "baselines have no SVM.",
)


def row(name, title, printed, *overrides, **fields):
    """A row; `printed`: micro F1, Hamming loss and MAP (None = not printed); `overrides`: model arguments."""
    printed = {key: value for key, value in zip(_PRINTED, printed, strict=True) if value is not None}
    return Row(name, tuple(f"model_args.{text}" for text in overrides), title, printed, **fields)


def study(name, title, source, model, rows, figure, differs=()):
    """A study of how three modalities are fused.

    Args:
        name, title, source, rows, differs: as `study.Study` has them.
        model: raf or resbilstm.
        figure: `PerClass` arguments: rows, the row that the gain is counted from, what the paper tells.
    """
    keys = {recipe.key_of(text) for text in _DEMO}
    kept = [
        text
        for text in recipe.get(model).demo_overrides
        if recipe.key_of(text) not in (*keys, "data.demo_form")
    ]
    own = ", ".join([*kept, *(text for text in _DEMO if recipe.key_of(text) != "data.clips")])
    return Study(
        name=name,
        title=title,
        source=source,
        differs=(*(text.format(demo=own) for text in _DIFFERS), *differs),
        model=model,
        common=_COMMON,
        demo=_DEMO,
        rows=tuple(rows),
        grid={},
        choose_by="micro_f1",
        metrics=_METRICS,
        further=per_class.further,
        parts=clips,
        data="nothing (the embedded demo set), or a manifest with a column text and several labels a clip",
        baseline=label_prior,
        baseline_title="label prior",
        baseline_note="baseline: the labels that most training clips have, for every clip",
        per_class=PerClass(*figure),
        full=(
            (
                "clips of your own with the seven concepts (the papers' set is not public)",
                f"python -m experiments.run {name} --data=manifest.csv",
            ),
        ),
    )
