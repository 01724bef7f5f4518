"""Table 1 of "Multi-level Attention Fusion Network for Audio-visual Event Recognition": three models.

All four: `python -m experiments.run mafnet_table1 mafnet_table2 mafnet_table3 mafnet_table4`.
"""

from dataclasses import replace

from experiments.studies._mafnet import elsewhere, row, study
from experiments.study import Row

_END_TO_END = "a network on pictures alone, trained end to end on Kinetics; not a model of this project"
_TRAIN = "python -m tfvc.train --model=mafnet --fidelity=corrected"


def _compared(name, title, reason, *printed):
    """A row that the paper compares with; no number = not printed."""
    names = ("accuracy", "ucf51", "kinetics_sounds")
    return Row(name, title=title, printed=dict(zip(names, printed, strict=False)), not_run=reason)


def _row(name, title, ave, ucf51, kinetics_sounds, **fields):
    plain = row(name, title, ave, **fields)
    return replace(plain, printed=plain.printed | {"ucf51": ucf51, "kinetics_sounds": kinetics_sounds})


STUDY = study(
    "mafnet_table1",
    "MAFnet and two models it is compared with",
    "Table 1: accuracy on AVE (UCF51 and Kinetics-Sounds as printed)",
    rows=(
        _compared("i3d", "I3D", _END_TO_END, 73.28, 86.92, 80.22),
        _compared("r2plus1d", "R(2+1)D", _END_TO_END, 79.19, 95.54, 79.10),
        _compared("slowfast", "SlowFast", _END_TO_END, 80.41, 91.78, 81.91),
        _compared("mars", "MARS", _END_TO_END, 79.44, 97.83),
        _row("attention_cluster", "Attention Cluster", 80.71, 84.79, 73.91, model="attention_cluster"),
        _row("dmrn", "DMRN (same features)", 80.96, 82.93, 77.5, model="dmrn"),
        _compared(
            "dmrn_own",
            "DMRN (its own features)",
            "needs VGG19's and VGGish-PCA's features of AVE in place of those that all rows share here",
            85.02,
            81.04,
        ),
        _row("mafnet", "MAFnet", 90.86, 86.72, 83.94),
    ),
    differs=(
        "The paper does not print the sizes, rates and batches of the two models it compares with; "
        "their recipes say which are taken.",
    ),
    also_printed=elsewhere("ucf51", "kinetics_sounds"),
    full=(
        ("AVE", "python -m experiments.run mafnet_table1 --data=AVE_Dataset"),
        (
            "UCF51, the mean of the lists 1, 2 and 3 (ucf51.txt: python -m tfvc.data.ucf51)",
            f"{_TRAIN} --data=UCF-101 --set=data.classes=ucf51.txt --set=data.list_number=1",
        ),
        (
            "Kinetics-Sounds (the paper names none of its 32 classes: sounds.txt is yours)",
            f"{_TRAIN} --data=kinetics.csv --set=data.kind=kinetics_sounds --set=data.classes=sounds.txt",
        ),
    ),
)
