"""Table 4 of MAFnet: where the residual block stands, and whether it is modulated (FiLM).

All four: `python -m experiments.run mafnet_table1 mafnet_table2 mafnet_table3 mafnet_table4`.
"""

from experiments.studies._mafnet import row, study

STUDY = study(
    "mafnet_table4",
    "Where FiLM stands",
    "Table 4: accuracy on AVE",
    rows=(
        row("no_film", "block without FiLM in both paths", 86.55, "film=block"),
        row("both", "FiLM in both paths", 87.62, "film=both"),
        row("audio", "FiLM in the audio path", 90.86, "film=audio", note="the same runs as Table 1's MAFnet"),
        row("visual", "FiLM in the visual path", 90.61, "film=visual"),
    ),
)
