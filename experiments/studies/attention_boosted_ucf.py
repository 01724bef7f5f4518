"""Real UCF-101 clips through a real ImageNet network: 22 clips, so no table of the paper.

The three modes of You & Korhonen (ICIP 2020) on Punch and YoYo, tested on groups they have not seen. The
network is the SqueezeNet of ../shared, a file of 3 MB (`tests/squeezenet.py` makes it):

    mkdir two && ln -s "$PWD"/../shared/data/ucf101/Punch "$PWD"/../shared/data/ucf101/YoYo two
    PYTHONPATH=tests python -c "import squeezenet as s; s.save('../shared/' + s.FILE, 'squeezenet.keras')"
    python -m experiments.run attention_boosted_ucf --data=two
"""

from experiments.baselines import majority
from experiments.study import Metric, Row, Study, clips


def _row(mode, title):
    return Row(mode, (f"model_args.mode={mode}",), title)


STUDY = Study(
    name="attention_boosted_ucf",
    title="The three networks on 22 real clips of UCF-101",
    source="You & Korhonen, ICIP 2020, its model and data; not in the paper, whose backbones it does not use",
    differs=(
        "22 clips of two classes, Punch (2 groups) and YoYo (4), all there are here with more than one "
        "group, in place of 13,320 clips of 101 classes. Two classes cannot be compared with a hundred "
        "and one.",
        "SqueezeNet 1.1 with its published ImageNet weights, averaged over the picture, in place of the "
        "paper's five backbones, whose weights cannot be had here; 64 units in place of 256, 15 epochs "
        "in place of 60.",
        "Split by group, anew for each seed: no clip of a tested group is trained on. The program splits "
        "at random. The rest is fidelity original; the last epoch is measured, and nothing is chosen.",
        "8 clips are tested in each split: one of them is 12.5 points, so the modes cannot be ordered. "
        "Each group left out once: `python -m experiments.leave_one_group_out --data=CLIPS`.",
    ),
    model="attention_boosted",
    common=(
        "data.split=group",
        "backbone.name=squeezenet.keras",
        "backbone.preprocessing=caffe",
        "backbone.pooling=avg",
        "backbone.standardize=yes",
        "model_args.units=64",
        "train.epochs=15",
        "train.keep_checkpoints=1",
    ),
    rows=(
        _row("cnn_lstm", "SqueezeNet + LSTM"),
        _row("cnn_lstm_attention", "SqueezeNet + LSTM + attention"),
        _row("cnn_attention_lstm", "SqueezeNet + attention + LSTM"),
    ),
    grid={},
    choose_by="accuracy",
    metrics=(Metric("accuracy", "Accuracy", 1.0, 3),),
    parts=clips,
    data="a folder of the classes Punch and YoYo; squeezenet.keras lies where the command runs",
    baseline=majority,
    seeds=5,
)
