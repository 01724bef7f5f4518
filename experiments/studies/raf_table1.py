"""Table 1 of "Residual Attention-based Fusion for Video Classification": modalities, fusions, attentions.

Both papers': `python -m experiments.run raf_table1 resbilstm_table2`.
"""

from experiments.studies._three import row, study

_COMPANION = "the companion paper's figure, whose single modalities have no LSTM (resbilstm_table2)"

STUDY = study(
    "raf_table1",
    "Three modalities fused, and where attention stands",
    "Pouyanfar, Wang, Chen 2019, Table 1 and Figure 3",
    "raf",
    (
        row("audio", "audio", (0.502, None, 0.42), "modality=audio", "attention=none", note=_COMPANION),
        row("visual", "visual", (0.677, None, 0.602), "modality=visual", "attention=none", note=_COMPANION),
        row("text", "text", (0.779, None, 0.695), "modality=text", "attention=none", note=_COMPANION),
        row("early", "early fusion", (0.812, None, 0.735), "fusion=early", "attention=none"),
        row("late", "late fusion", (0.902, None, 0.841), "fusion=late", "attention=none"),
        row("late_attention", "RAF, late attention", (0.933, None, 0.891), "attention=late"),
        row("full", "RAF, fully residual attention", (0.947, None, 0.91), "attention=full"),
        row(
            "late_residual",
            "RAF, late residual attention",
            (0.95, None, 0.92),
            "attention=late_residual",
            note="our copy of the table has two rows of RAF; these are the abstract's figures",
        ),
    ),
    (
        ("late_attention", "full", "late_residual"),
        "late_attention",
        "Figure 3 of the paper shows the F1 of the three RAF fusions; it prints no numbers.",
    ),
)
