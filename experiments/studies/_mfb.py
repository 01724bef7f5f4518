"""What the studies of MFB share (Liu, Yuan, Wang 2018): five fusions of each aggregation."""

import functools

from experiments.baselines import class_prior
from experiments.study import Metric, Parts, Row, Study, halves
from tfvc.recipe import Feature

TITLES = {
    "audio": "audio only",
    "video": "video only",
    "concat": "concatenation",
    "fc_concat": "FC + concatenation",
    "mfb": "MFB",
}
_PRINTED = {  # GAP, %
    "average": {"audio": 38.1, "video": 69.6, "concat": 74.2, "fc_concat": 81.8, "mfb": 83.3},
    "netvlad": {"audio": 50.7, "video": 82.3, "concat": 85.0, "fc_concat": 84.6, "mfb": 85.5},
    "dbof": {"audio": 48.9, "video": 81.8, "concat": 84.0, "fc_concat": 84.1, "mfb": 85.9},
}
_PROJECTIONS = ("model_args.k=5", "model_args.o=100")  # k x o = 500, the same for both
_FRAMES = "nothing (made-up records), or the folder of train/ and validate/, frame-level .tfrecord shards"
METRICS = (Metric("gap", "GAP@20, %"), Metric("hit_at_one", "Hit@1, %"))
PRIOR = "baseline: one prediction for all videos; of equals, wrong ones rank first"


def row(aggregation, fusion, **fields):
    """A row of the aggregation's table."""
    names = ("mean_rgb", "mean_audio") if aggregation == "average" else ("rgb", "audio")
    streams = {"audio": names[1], "video": names[0]}.get(fusion, ",".join(names))
    overrides = (
        f"model_args.aggregation={aggregation}",
        f"model_args.fusion={fusion}",
        f"data.streams={streams}",
        *(_PROJECTIONS if fusion in ("fc_concat", "mfb") else ()),
    )
    return Row(fusion, overrides, TITLES[fusion], {"gap": _PRINTED[aggregation][fusion]}, **fields)


def of_frames(name, title, source, aggregation):
    """A study of an aggregation of frames; YouTube-8M's frames are on no machine of ours: made-up ones."""
    return Study(
        name=name,
        title=title,
        source=f"Liu, Yuan, Wang 2018, {source}, GAP@20",
        differs=(
            "Without --data, made-up records (192 videos train, 64 choose the evaluation that is "
            "reported, 64 are reported; 12 classes, 6 to 12 frames) in place of YouTube-8M's frames (1.5 "
            "TB; the real records here hold averages only). A class there is a pair of picture and "
            "sound, so one stream cannot tell it. The levels cannot be the paper's, and 64 videos order "
            "no fusions whose means lie within each other's deviations.",
            "On the made-up records the recipe's settings for them are in force: 12 frames a video in "
            "place of 300 sampled ones, batches of 32, 60 steps, one rate of 0.005. Most curves still "
            "rise then: the order is of how soon a fusion learns.",
            "MFB with k = 5 and o = 100, and FC + concatenation with projections of the same 500 units a "
            "side: equal for both. The paper does not print k and o; the recipe has 5 and 1,000.",
            "A seed is of the weights only: the records and their parts are the same for all. One seed "
            "says nothing of how far another would lie.",
        ),
        model="mfb",
        common=("data.kind=yt8m", "train.monitor=gap", "train.report=best", "train.keep_checkpoints=1"),
        demo=("data.num_classes=12",),
        rows=tuple(row(aggregation, fusion) for fusion in TITLES),
        grid={},
        choose_by="gap",
        metrics=METRICS,
        parts=_frames,
        data=_FRAMES,
        baseline_note=PRIOR,
        baseline=functools.partial(class_prior, rows=[Feature("audio", (300, 128), "uint8", True)]),
        full=(("YouTube-8M's frames", f"python -m experiments.run {name} --data=yt8m/frame --seeds=1"),),
    )


def _frames(data):
    """The parts of YouTube-8M's folders; "" = the made-up records, drawn on first use."""
    from tfvc.data import demo_records

    if data:
        return halves(data, _FRAMES)
    patterns, _ = demo_records.ensure("frame")
    return Parts(**patterns, demo=True)
