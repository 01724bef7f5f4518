"""Figure 6 of MAFnet: accuracy over the share of steps in which the visual path stands still.

`python -m experiments.run mafnet_figure6` trains and draws it.
"""

from experiments.studies._mafnet import WIDTHS, study
from experiments.study import Row

_RATES = ("0", "0.1", "0.3", "0.5", "0.7", "0.9")


def _row(rate):
    note = "the recipe's rate: the same runs as Table 1's MAFnet" if rate == "0.1" else ""
    return Row(
        f"drop_{rate}", (WIDTHS["mafnet"], f"train.drop_visual={rate}"), f"drop rate {rate}", note=note
    )


STUDY = study(
    "mafnet_figure6",
    "Accuracy over the drop rate of the visual path",
    "Figure 6 (a curve; no number of it is printed)",
    rows=[_row(rate) for rate in _RATES],
    axis=("train.drop_visual", "drop rate of the visual path"),
)
