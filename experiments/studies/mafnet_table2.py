"""Table 2 of MAFnet: one modality or two, and how two are fused; without FiLM.

All four: `python -m experiments.run mafnet_table1 mafnet_table2 mafnet_table3 mafnet_table4`.
"""

from experiments.studies._mafnet import row, study

STUDY = study(
    "mafnet_table2",
    "One modality or two, and four fusions",
    "Table 2: accuracy on AVE, without FiLM",
    rows=(
        row("visual", "visual only", 75.63, "modality=visual", "film=none", note="temporal attention alone"),
        row("audio", "audio only", 69.29, "modality=audio", "film=none", note="temporal attention alone"),
        row("addition", "addition", 84.77, "fusion=addition", "film=none"),
        row(
            "concat",
            "concatenation",
            89.34,
            "fusion=concat",
            "film=none",
            note="the same runs as Table 3's both",
        ),
        row("mcb", "MCB", 88.83, "fusion=mcb", "film=none"),
        row("dmr", "DMR", 87.56, "fusion=dmr", "film=none"),
    ),
    differs=("The size of MCB's sketch is not printed; it is that of the recipe.",),
)
