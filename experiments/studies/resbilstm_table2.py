"""Table II of "A Multi-label Multimodal Deep Learning Framework for Imbalanced Data Classification".

Both papers': `python -m experiments.run raf_table1 resbilstm_table2`.
"""

from experiments.studies._three import row, study


def _static(name, title, printed):
    """Static features and a dense layer, no LSTM."""
    return row(name, title, printed, f"modality={name}", "temporal=False")


STUDY = study(
    "resbilstm_table2",
    "One, two and three modalities, and how three are fused",
    "Pouyanfar et al., MIPR 2019, Table II and Figure 2",
    "resbilstm",
    (
        _static("visual", "visual", (0.6767, 0.1586, 0.6015)),
        _static("audio", "audio", (0.5022, 0.2565, 0.4197)),
        _static("text", "text", (0.7789, 0.1187, 0.6945)),
        _static("visual_audio", "visual + audio", (0.6667, 0.1652, 0.5928)),
        _static("visual_text", "visual + text", (0.823, 0.0969, 0.7472)),
        _static("audio_text", "text + audio", (0.8586, 0.078, 0.7882)),
        row("early", "early fusion", (0.812, 0.102, 0.7351), "fusion=early"),
        row("late", "late fusion", (0.9022, 0.0575, 0.8409), "fusion=late"),
        row("proposed", "proposed", (0.9414, 0.0348, 0.8993), "fusion=separate"),
    ),
    (
        ("early", "late", "proposed"),
        "late",
        "Figure 2 of the paper shows these three; it prints no numbers. Its text: the proposed one is above "
        'both at every concept, close to late fusion at "speak" and "flood", far above at "demo" and '
        '"emergency response", which are rarer.',
    ),
)
