"""Table 3 of MAFnet: attention over time, over modalities, over both; without FiLM.

All four: `python -m experiments.run mafnet_table1 mafnet_table2 mafnet_table3 mafnet_table4`.
"""

from experiments.studies._mafnet import row, study

STUDY = study(
    "mafnet_table3",
    "Four kinds of attention",
    "Table 3: accuracy on AVE, without FiLM",
    rows=(
        row("none", "no attention", 87.82, "attention=none", "film=none"),
        row("temporal", "temporal", 88.92, "attention=temporal", "film=none"),
        row("modality", "modality", 88.66, "attention=modality", "film=none"),
        row(
            "both",
            "modality and temporal",
            89.34,
            "attention=both",
            "film=none",
            note="the same runs as Table 2's concatenation",
        ),
    ),
)
