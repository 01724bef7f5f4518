"""Table 1 of "Multi-level Attention Fusion Network for Audio-visual Event Recognition": three models.

All four: `python -m experiments.run mafnet_table1 mafnet_table2 mafnet_table3 mafnet_table4`.
"""

from dataclasses import replace

from experiments.studies._mafnet import elsewhere, row, study


def _row(name, title, ave, ucf51, kinetics_sounds, **fields):
    plain = row(name, title, ave, **fields)
    return replace(plain, printed=plain.printed | {"ucf51": ucf51, "kinetics_sounds": kinetics_sounds})


STUDY = study(
    "mafnet_table1",
    "MAFnet and two models it is compared with",
    "Table 1: accuracy on AVE (UCF51 and Kinetics-Sounds as printed)",
    rows=(
        _row("attention_cluster", "Attention Cluster", 80.71, 84.79, 73.91, model="attention_cluster"),
        _row(
            "dmrn",
            "DMRN (same features)",
            80.96,
            82.93,
            77.5,
            model="dmrn",
            note="the paper's DMRN with its own features is not one of ours",
        ),
        _row("mafnet", "MAFnet", 90.86, 86.72, 83.94),
    ),
    differs=(
        "The paper does not print the sizes, rates and batches of the two models it compares with; "
        "their recipes say which are taken.",
    ),
    also_printed=elsewhere("ucf51", "kinetics_sounds"),
)
