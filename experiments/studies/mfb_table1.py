"""Table 1 of "Multi-modal factorized bilinear pooling" on YouTube-8M (Liu, Yuan, Wang 2018): five fusions.

Reproduced: the comparison of audio, video, concatenation, projection and concatenation, and MFB over averaged
features, each with the same classifier, loss and training. Rates and stopping are chosen on half of the
validate shards with one seed, from one grid that is the same for all; the other half is reported, over
several seeds.

    python -m experiments.run mfb_table1 --data=../shared/data/yt8m
    python -m experiments.report
"""

import functools

from experiments.baselines import class_prior
from experiments.studies._mfb import METRICS, PRIOR, TITLES, row
from experiments.study import Row, Study, halves
from tfvc.recipe import Feature

_DATA = "the folder of train/ and validate/, YouTube-8M's video-level .tfrecord shards"
_BATCH, _PASS = 128, 56  # 7,102 training videos are 56 batches

_MFB = row("average", "mfb", note="as the paper: unit length, not scaled")
_SCALED = Row(
    "mfb_scaled",
    (*_MFB.overrides, "model_args.scale=true"),
    "MFB, times sqrt(o)",
    note="not in the paper: the output has length sqrt(o), so that the classifier sees values near 1",
)

STUDY = Study(
    name="mfb_table1",
    title="Five fusions of averaged features on YouTube-8M",
    source="Liu, Yuan, Wang 2018, Table 1 and Figure 3 (a), GAP@20",
    differs=(
        "7,102 training videos of YouTube-8M's video-level records in place of some 4.7 million; so the "
        "level of the numbers cannot be the paper's, and only the order of the fusions can be compared.",
        "MFB with k = 5 and o = 100, so k x o = 500, and FC + concatenation with projections of the same 500 "
        "units a side: equal for both. The paper does not print k and o; the recipe has 5 and 1,000.",
        "Adam's rate is chosen for each row from one grid, on the first half of the validate shards with "
        "seed 0, and each run stops there after 4 evaluations without a better GAP, 20 at most, one "
        "every 56 steps (a pass); the paper takes 2e-4 and 250,000 steps for all.",
        "Reported are the weights with the best GAP on the choosing half, measured on the other half of the "
        "validate shards, which chose nothing; the paper measures on shards that it also watched.",
        "The averages are YouTube-8M's own (of all frames), not those of 300 sampled frames.",
    ),
    model="mfb",
    common=(
        "data.kind=yt8m",
        f"train.batch_size={_BATCH}",
        f"train.steps={20 * _PASS}",
        f"train.evaluate_steps={_PASS}",
        "train.monitor=gap",
        "train.patience=4",
        "train.report=best",
        "train.keep_checkpoints=1",
    ),
    rows=(*(row("average", fusion) for fusion in TITLES if fusion != "mfb"), _MFB, _SCALED),
    grid={"train.learning_rate": (0.001, 0.003, 0.01, 0.03)},
    choose_by="gap",
    metrics=METRICS,
    parts=functools.partial(halves, what=_DATA),
    data=_DATA,
    baseline_note=PRIOR,
    baseline=functools.partial(class_prior, rows=[Feature("mean_audio", (128,), "float32")]),
    full=(
        (
            "YouTube-8M at video level; a run for each fusion, 250,000 steps",
            "python -m tfvc.train --model=mfb --data='yt8m/train*.tfrecord' "
            "--set=data.validation='yt8m/validate*.tfrecord' --set=model_args.fusion=mfb "
            "--set=data.streams=mean_rgb,mean_audio",
        ),
    ),
)
