"""The five papers: what each claims, which studies are its tables and figures, and what of it is no study."""

from dataclasses import dataclass

from tfvc.data.disaster import CONCEPT_CLIPS, CONCEPTS


@dataclass(frozen=True)
class Shown:
    """A table or figure that holds no result of a model, or one that is drawn and not measured.

    Args:
        name: as the paper numbers it.
        what: what it shows, and what makes ours.
    """

    name: str
    what: str


@dataclass(frozen=True)
class Paper:
    """A paper of the report.

    Args:
        name: of its model and of the folder of its page.
        title: authors, title, place.
        claim: what it says of its results.
        studies: names of files of `experiments/studies`, in the paper's order.
        others: its remaining tables and figures, each a `Shown`.
    """

    name: str
    title: str
    claim: str
    studies: tuple
    others: tuple


_DRAWN = "a drawing of the model; ours: `workdir.load(RUN).model().summary()`"

PAPERS = (
    Paper(
        "attention_boosted",
        "You & Korhonen, *Attention Boosted Deep Networks for Video Classification*, ICIP 2020",
        "attention behind the LSTM is better than none and than attention before it; of the backbones "
        "VGG16 and VGG19 are the best, then InceptionV3, then ResNet50 and Xception; a CNN with an LSTM "
        "is better than a 3-D network.",
        ("attention_boosted", "attention_boosted_ucf"),
        (Shown("Diagrams of the three networks", _DRAWN),),
    ),
    Paper(
        "mfb",
        "Liu, Yuan & Wang, *Towards Good Practices for Multi-modal Fusion in Large-scale Video "
        "Classification*, 2018",
        "MFB fuses sight and sound better than concatenation does, also than concatenation of "
        "projections with as many parameters, whichever way frames are aggregated; two modalities are "
        "far better than one.",
        ("mfb_table1", "mfb_table2", "mfb_table3"),
        (
            Shown("Figures 1 and 2", _DRAWN),
            Shown(
                "Figure 3",
                "learning curves of three fusions: the picture on the page of each of the three studies",
            ),
        ),
    ),
    Paper(
        "mafnet",
        "Brousmiche, Rouat & Dupont, *Multi-level Attention Fusion Network for Audio-visual Event "
        "Recognition*, 2021",
        "both modalities are better than one, one softmax over times and modalities better than either "
        "attention alone, and FiLM in the sound's path better than elsewhere; best of the compared on "
        "AVE and Kinetics-Sounds, and on UCF51 best of those that read features of both modalities.",
        (
            "mafnet_table1",
            "mafnet_table2",
            "mafnet_table3",
            "mafnet_table4",
            "mafnet_figure6",
            "mafnet_missing",
        ),
        (
            Shown("Figures 1, 2 and 4", _DRAWN),
            Shown(
                "Figure 3",
                "the attention's scores over one video, an example; ours: "
                "`python -m tfvc.predict --workdir=RUN clip.mp4 --explain=why.png`",
            ),
            Shown(
                "Figure 5",
                "what several models say of some clips, examples; ours: `python -m tfvc.predict "
                "--workdir=RUN clip.mp4`, once for each run",
            ),
            Shown(
                "Figure 7",
                "t-SNE of the block before and after FiLM, a picture without a number; ours: "
                "`python -m experiments.tsne --workdir=RUN`",
            ),
        ),
    ),
    Paper(
        "raf",
        "Pouyanfar, Wang & Chen, *Residual Attention-based Fusion for Video Classification*, 2019",
        "attention behind residual LSTMs, itself with a residual, fuses three modalities better than "
        "attention without one, than residual attention in each layer, and than early or late fusion "
        "without attention.",
        ("raf_table1",),
        (
            Shown("Figure 1", _DRAWN),
            Shown("Figure 2", "pictures of the data set, which is not public"),
            Shown("Figure 3", "F1 of each class: on the page of `raf_table1`, under Class by class"),
        ),
    ),
    Paper(
        "resbilstm",
        "Pouyanfar et al., *A Multi-label Multimodal Deep Learning Framework for Imbalanced Data "
        "Classification*, MIPR 2019",
        "separate temporal networks, ranked features and a weighted SVM on label sets are better than "
        "early and late fusion, most at the rarest concepts; three modalities are better than two, and "
        "two than one.",
        ("resbilstm_table2",),
        (
            Shown("Figure 1", _DRAWN),
            Shown(
                "Algorithm 1", "`tfvc/estimators/elimination.py`; measured in the row `proposed` of Table II"
            ),
            Shown(
                "Table I",
                f"counts of the paper's set, and no result: of {CONCEPT_CLIPS:,} clips "
                f"{', '.join(f'{name} {count}' for name, count in CONCEPTS.items())}. Not run: the set is "
                "not public. The demo set draws its concepts in these shares; how many were trained on "
                "is on the page of `resbilstm_table2`",
            ),
            Shown(
                "Figure 2",
                "F1 of each concept: on the page of `resbilstm_table2`, under Class by class",
            ),
            Shown(
                "Beyond the paper",
                "why the second stage loses on the demo set: [second_stage](tables/second_stage.md)",
            ),
        ),
    ),
)
