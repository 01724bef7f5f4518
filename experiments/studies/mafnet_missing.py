"""What MAFnet loses where a stream is missing, with and without modality dropout; not in the paper.

`python -m experiments.run mafnet_missing` trains, measures and writes the table.
"""

from experiments.missing_stream import further
from experiments.studies._mafnet import row, study
from experiments.study import Metric

STUDY = study(
    "mafnet_missing",
    "MAFnet without sound, and without picture",
    "its model; this comparison is not in the paper",
    rows=(
        row("mafnet", "MAFnet"),
        row("mafnet_dropout", "MAFnet, modality dropout 0.3", None, "modality_dropout=0.3"),
        row("visual", "visual only", None, "modality=visual", "film=none"),
        row("audio", "audio only", None, "modality=audio", "film=none"),
    ),
    differs=(
        "Without sound (picture): the same test clips, the rows of that stream zeros, as if a clip had none. "
        "A model of one modality does not notice the other's absence.",
    ),
    metrics=(
        Metric("accuracy", "Accuracy, %"),
        Metric("without_audio", "Without sound, %"),
        Metric("without_frames", "Without picture, %"),
    ),
    further=further,
)
