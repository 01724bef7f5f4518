"""Two runs compared: the statistics against loops, scikit-learn and SciPy; the command on hand-made runs."""

import json

import keras
import made
import numpy as np
import pytest
import scipy.stats

from tfvc import bootstrap, compare, evaluate, metrics, multilabel, recipe, topk, workdir
from tfvc.data import demo_records
from tfvc.data.sources import files
from tfvc.models import mfb
from tfvc.recipe import Feature

CLASSES = ["left", "right"]
LETTERS = list("abcd")


def drawn(seed=0, clips=40):
    """Truth, labels, scores on a grid, so that some are equal; nobody has the last class, some clips none."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((clips, 4)) < [0.5, 0.3, 0.2, 0.0]).astype(int)
    scores = rng.integers(0, 8, (clips, 4)) / 8 + 0.3 * truth
    return truth, (scores > 0.6).astype(int), scores


def weights_of(clips, count=5, seed=1):
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1 / clips), count).astype("float64")


def repeated(weights):
    """The clips of a resample, one after the other."""
    return np.repeat(np.arange(len(weights)), weights.astype(int))


# --- measures under weights are those of the clips written out ----------------------------------------------


def test_weighted_measures_of_one_label_are_evaluates_on_the_clips_written_out():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, 30), rng.integers(0, 4, 30)  # nobody is of the last class
    weights = np.vstack([np.ones(30), weights_of(30)])
    found = bootstrap.of_one_label(truth, guess, 4)(weights)
    for k, row in enumerate(weights):
        chosen = repeated(row)
        expected = evaluate.measures(truth[chosen], guess[chosen], LETTERS)
        assert {name: values[k] for name, values in found.items()} == pytest.approx(
            {name: value for name, value in expected.items() if name != "classes"}
        )


def test_weighted_measures_of_several_labels_are_multilabels_on_the_clips_written_out():
    truth, labels, scores = drawn()
    weights = np.vstack([np.ones(40), weights_of(40)])
    found = bootstrap.of_labels(truth, labels, scores)(weights)
    assert not truth.any(axis=1).all()
    for k, row in enumerate(weights):
        chosen = repeated(row)
        expected = multilabel.measures(truth[chosen], labels[chosen], scores[chosen], LETTERS)
        assert {name: values[k] for name, values in found.items()} == pytest.approx(
            {name: expected[name] for name in found}
        )


def test_weighted_measures_of_rankings_are_the_metrics_on_the_videos_written_out():
    rng = np.random.default_rng(0)
    truth = (rng.random((25, 7)) < 0.25).astype("float32")
    scores = (rng.integers(0, 6, (25, 7)) / 6).astype("float32")  # many are equal
    right, share, pairs = topk.summary(truth, scores, 4)
    labels = np.argwhere(truth)
    of = bootstrap.of_rankings(right.numpy(), share.numpy(), *(x.numpy() for x in pairs[:3]), labels)
    weights = np.vstack([np.ones(25), weights_of(25)])
    assert weights.max() > 2  # a video drawn three times takes three places
    found = of(weights)
    for k, row in enumerate(weights):
        chosen = repeated(row)
        each = [metrics.HitAtOne(), metrics.PrecisionAtEqualRecall(), metrics.GlobalAveragePrecision(4)]
        for metric in (*each, mean := metrics.MeanAveragePrecision(7, top_k=4)):
            metric.update_state(truth[chosen], scores[chosen])
        expected = {metric.name: float(metric.result()) for metric in (*each, mean)}
        assert {name: values[k] for name, values in found.items()} == pytest.approx(expected)


def test_no_right_prediction_at_all_counts_zero():
    labels = np.array([[0, 1], [1, 2]])
    found = bootstrap.of_rankings(
        np.zeros(2), np.zeros(2), np.ones((2, 1)), np.zeros((2, 1), int), np.zeros((2, 1), bool), labels
    )(np.ones((1, 2)))
    assert {name: float(value[0]) for name, value in found.items()} == dict.fromkeys(found, 0)


# --- intervals ----------------------------------------------------------------------------------------------


def rate(right):
    """A measure: the share of right ones."""
    return lambda weights: {"accuracy": weights @ right / weights.sum(1)}


def test_the_blocks_are_a_loop_over_resamples():
    rng = np.random.default_rng(0)
    first, second, groups = rng.random(12) < 0.5, rng.random(12) < 0.7, np.arange(12) // 3
    found = bootstrap.differences(rate(first), rate(second), groups, seed=3, resamples=50)["accuracy"]
    rng, spread = np.random.default_rng(3), []
    for _ in range(50):
        chosen = np.repeat(np.arange(4), rng.multinomial(4, [0.25] * 4))
        clips = np.concatenate([np.flatnonzero(groups == g) for g in chosen])
        spread.append(second[clips].mean() - first[clips].mean())
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(spread, [0.025, 0.975]))
    assert found["difference"] == pytest.approx(second.mean() - first.mean()) and found["resamples"] == 50


def test_small_blocks_draw_what_one_draws(monkeypatch):
    first, second = np.arange(9) % 2, np.arange(9) % 3 > 0
    whole = bootstrap.differences(rate(first), rate(second), range(9), resamples=101)
    monkeypatch.setattr(bootstrap, "_CELLS", 9 * 7)
    assert bootstrap.differences(rate(first), rate(second), range(9), resamples=101) == whole
    assert bootstrap.differences(rate(first), rate(second), range(9), cells=1000, resamples=101) == whole


def test_the_interval_of_single_clips_is_scipys():
    rng = np.random.default_rng(0)
    first = (rng.random(150) < 0.6).astype(float)
    second = np.where(rng.random(150) < 0.8, first, 1 - first)
    found = bootstrap.differences(rate(first), rate(second), range(150), resamples=9999)["accuracy"]
    theirs = scipy.stats.bootstrap(
        (first, second),
        lambda a, b, axis: b.mean(axis) - a.mean(axis),
        paired=True,
        method="percentile",
        batch=500,
    ).confidence_interval
    assert [found["low"], found["high"]] == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_a_run_against_itself_differs_by_nothing():
    truth, labels, scores = drawn()
    for of in (
        bootstrap.of_labels(truth, labels, scores),
        bootstrap.of_one_label(truth[:, 0], labels[:, 0], 2),
    ):
        for row in bootstrap.differences(of, of, range(40), resamples=200).values():
            assert row["difference"] == row["low"] == row["high"] == 0


def test_a_run_that_is_right_where_the_other_is_wrong_differs_by_one():
    truth = np.arange(20) % 2
    worst, best = (bootstrap.of_one_label(truth, guess, 2) for guess in (1 - truth, truth))
    row = bootstrap.differences(worst, best, range(20), resamples=200)["accuracy"]
    assert row["difference"] == row["low"] == row["high"] == 1


def covered(groups, whole, repeats=150):
    """How often the interval holds the true difference 0.1; of a group all clips are right, or none is."""
    hits, count = 0, len(set(groups))
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        first = (rng.random(count) < 0.6)[groups]
        second = (rng.random(count) < 0.7)[groups]
        row = bootstrap.differences(
            rate(first), rate(second), groups if whole else range(len(groups)), seed=seed, resamples=300
        )["accuracy"]
        hits += row["low"] <= 0.1 <= row["high"]
    return hits / repeats


def test_the_interval_covers_as_often_as_it_says_and_needs_the_groups():
    groups = np.arange(300) // 5
    assert 0.88 <= covered(groups, whole=True) <= 0.99
    assert covered(groups, whole=False) < 0.75  # 300 clips that are 60


def test_a_resample_without_a_label_has_no_average_precision():
    truth = np.array([[1, 0]] + [[0, 0]] * 5)
    of = bootstrap.of_labels(truth, truth, truth + 0.5)
    found = bootstrap.differences(of, of, range(6), resamples=100)
    assert found["map"]["resamples"] == found["map_labels"]["resamples"] < 100
    assert found["hamming_loss"]["resamples"] == 100 and found["map"]["low"] == 0


def test_one_group_alone_is_refused():
    with pytest.raises(ValueError, match="3 clips of 1 group: nothing to resample"):
        bootstrap.differences(rate(np.ones(3)), rate(np.ones(3)), [0, 0, 0])


# --- the command --------------------------------------------------------------------------------------------


def network(weight, activation="softmax", bias=0.0):
    """Of two classes by the slope of the features over time; `weight` below 0 is always wrong."""
    frames = keras.Input((4, 6), name="frames")
    head = keras.layers.Dense(2, activation=activation, name="probabilities")
    model = keras.Model({"frames": frames}, head(keras.layers.Flatten()(frames)))
    head.set_weights([np.repeat([[-weight, weight]], 24, axis=0), np.float32([bias, 0])])
    return model


def save(folder, model, records, ids, classes=CLASSES, name="attention_boosted", several=False):
    fixed = ["data.channel_order=bgr", "backbone.size=32,32", "data.frames=4"]
    fixed += ["model_args.modality=visual"] if name == "raf" else []
    facts = workdir.Facts(
        "made-up", "", records, classes, [Feature("frames", (4, 6))], several, "random (seed 0)"
    )
    folder.mkdir()
    split = {"train": [], "validation": [], "test": ids}
    workdir.save(folder, recipe.get(name, overrides=fixed), facts, 0, split)
    model.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of which one is always right and one always wrong, on 16 clips of 8 groups."""
    folder = tmp_path_factory.mktemp("compare")
    records = made.make_records(folder / "records", CLASSES, groups=4)
    ids = [f"{c}/{g}_{k}" for c in CLASSES for g in range(4) for k in range(2)]
    return {
        "right": save(folder / "right", network(1.0), records, ids),
        "wrong": save(folder / "wrong", network(-1.0), records, ids),
        "half": save(folder / "half", network(1.0), records, ids[::2]),
        "rest": save(folder / "rest", network(1.0), records, ids[1::2]),
        "other": save(folder / "other", network(1.0), records, ids, ["left", "up"]),
    }


def test_the_command_compares_prints_and_writes(runs, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main([f"--compare={runs['wrong']},{runs['right']}", "--seed=5"])
    shown = capsys.readouterr()
    assert not end.value.code, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["accuracy", "0.0000", "1.0000", "+1.0000", "+1.0000", "to", "+1.0000", "*"] in lines
    assert (
        "16 clips; 95 % percentile interval of the paired bootstrap, 2000 resamples of 8 groups" in shown.out
    )
    tree = json.loads((runs["wrong"] / "compare" / "right.json").read_text())
    assert tree["runs"] == [str(runs["wrong"]), str(runs["right"])] and tree["seed"] == 5
    assert (tree["clips"], tree["groups"]) == (16, 8)
    assert set(tree["measures"]) == {"accuracy", "balanced_accuracy", "macro_f1"}
    assert not (runs["wrong"] / "metrics.json").exists()  # nothing of the runs themselves is touched


def test_the_table_is_seen_even_where_it_cannot_be_written(runs, capsys):
    (runs["half"] / "compare").touch()  # a file where the folder is made
    with pytest.raises(SystemExit) as end:
        evaluate.main([f"--compare={runs['half']},{runs['right']}"])
    shown = capsys.readouterr()
    assert end.value.code == 1 and "8 clips; 95 %" in shown.out and "written:" not in shown.out
    assert shown.err.startswith(f"error: {runs['half'] / 'compare'}: ") and shown.err.count("\n") == 1
    (runs["half"] / "compare").unlink()


def test_of_few_groups_no_difference_is_called_sure(runs, tmp_path, capsys):
    found = workdir.load(runs["right"])
    ids = [name for name in found.split()["test"] if int(name.split("/")[1][0]) < 2]  # 2 groups of each class
    few = [
        save(tmp_path / name, network(sign), found.facts.records, ids)
        for name, sign in (("a", -1.0), ("b", 1.0))
    ]
    assert compare.compare(*few)["groups"] == 4
    shown = capsys.readouterr().out
    assert "none is given: under 6 groups all agree by chance too often" in shown
    assert "+1.0000 to +1.0000\n" in shown and "  *\n" not in shown


def test_the_values_are_evaluates(runs):
    run = workdir.load(runs["half"])
    _, _, (_, truth, _, scores) = evaluate.decided(run, run.model(), run.recipe)
    one = evaluate.measures(np.argmax(truth, 1), np.argmax(scores, 1), CLASSES)
    found = compare.compare(runs["half"], runs["wrong"])
    assert {name: row["first"] for name, row in found["measures"].items()} == {
        name: one[name] for name in found["measures"]
    }


def test_what_is_common_is_said(runs, capsys):
    assert compare.compare(runs["right"], runs["half"])["clips"] == 8
    assert "8 clips are in both test parts" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no clip is in both test parts \(.*rest has 8, .*half 8\)"):
        compare.compare(runs["rest"], runs["half"])


def test_runs_of_other_classes_kinds_or_labels_are_refused(runs, tmp_path):
    with pytest.raises(ValueError, match=r"2 and 2 classes that differ \(\['right', 'up'\]\)"):
        compare.compare(runs["right"], runs["other"])
    with pytest.raises(ValueError, match="twice; expected two runs"):
        compare.compare(runs["right"], runs["right"].parent / "." / "right")
    turned = made.make_records(tmp_path / "turned", CLASSES, groups=4, labels=lambda name: ("right",))
    other = save(tmp_path / "run", network(1.0), turned, workdir.load(runs["right"]).split()["test"])
    with pytest.raises(ValueError, match=r"8 of 16 common clips have other labels .*left/"):
        compare.compare(runs["right"], other)
    with pytest.raises(ValueError, match="on_corrupt=skip: only for runs on records"):
        compare.compare(runs["right"], runs["wrong"], on_corrupt="skip")
    several = save(tmp_path / "several", network(1.0, "sigmoid"), turned, [], name="raf", several=True)
    with pytest.raises(ValueError, match="one gives a clip one label, one several"):
        compare.compare(runs["right"], several)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--compare=a"], "expected two folders of runs"),
        (["--compare=a,b,c"], "the comma separates them, so neither name may hold one"),
        (["--compare=a,"], "expected two folders of runs"),
        (["--compare="], "expected two folders of runs"),
        (["--compare=a,b", "--workdir=a"], "expected one of them"),
        (["--workdir=a", "--seed=3"], "draws the resamples of --compare"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(given, message, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main(given)
    err = capsys.readouterr().err
    assert end.value.code == 2 and message in err and err.count("\n") == 1


def test_runs_of_several_labels_are_compared_by_their_decisions(tmp_path, capsys):
    def labels(name):
        return ("left",) if name == "left" else ("left", "right")

    records = made.make_records(tmp_path / "records", CLASSES, groups=4, labels=labels)
    ids = [f"{c}/{g}_{k}" for c in CLASSES for g in range(4) for k in range(2)]
    good, bad = (
        save(tmp_path / name, network(w, "sigmoid", 99.0), records, ids, name="raf", several=True)
        for name, w in (("good", 1.0), ("bad", -1.0))
    )
    found = compare.compare(bad, good)["measures"]
    assert found["hamming_loss"]["second"] == 0 and found["hamming_loss"]["high"] < 0
    assert found["micro_f1"]["second"] == found["map"]["second"] == 1 and found["micro_f1"]["low"] > 0
    assert "(lower is better)" in capsys.readouterr().out


def test_scores_that_are_no_numbers_are_refused_with_the_first_clip(runs, tmp_path):
    one = workdir.load(runs["right"])
    broken = save(tmp_path / "nan", network(np.nan), one.facts.records, one.split()["test"])
    told = rf"{broken}: scores of 16 of 16 clips are NaN or infinite, first of (left|right)/\d_\d; expected"
    with pytest.raises(ValueError, match=told):
        evaluate.evaluate(broken)
    with pytest.raises(ValueError, match=told):
        compare.compare(runs["right"], broken)
    assert not (broken / "evaluation").exists() and not (runs["right"] / "compare" / "nan.json").exists()


def test_a_measure_that_does_not_exist_is_a_dash_and_null(tmp_path, capsys):
    records = made.make_records(tmp_path / "records", CLASSES, groups=4, labels=lambda name: ("left",))
    ids = [f"{c}/{g}_{k}" for c in CLASSES for g in range(4) for k in range(2)]
    one, two = (
        save(tmp_path / name, network(w, "sigmoid"), records, ids, name="raf", several=True)
        for name, w in (("one\nline", 1.0), ("two", -1.0))
    )
    missing = {"first": 0.5, "second": np.nan, "difference": np.nan, "low": np.nan, "high": np.nan}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "differences", lambda *_: {"map": missing})
        compare.compare(one, two)
    out = capsys.readouterr().out
    assert ["MAP", "0.5000", "-", "-", "-"] in [line.split() for line in out.splitlines()]
    assert "nan" not in out and r"one\nline" in out and "one\nline" not in out
    text = (one / "compare" / "two.json").read_text()
    assert json.loads(text)["measures"]["map"]["low"] is None and "NaN" not in text


def test_runs_of_one_name_do_not_overwrite_each_other(runs, tmp_path):
    one = workdir.load(runs["right"])
    folders = []
    for parent in ("x", "y"):
        (tmp_path / parent).mkdir()
        folders.append(
            save(tmp_path / parent / "mine", network(-1.0), one.facts.records, one.split()["test"])
        )
    for folder in (*folders, *folders):
        compare.compare(runs["half"], folder)
    found = {p.name: json.loads(p.read_text()) for p in (runs["half"] / "compare").glob("mine*.json")}
    assert len(found) == 2 and found["mine.json"]["runs"][1] == str(folders[0])
    assert {tree["runs"][1] for tree in found.values()} == set(map(str, folders))
    assert found["mine.json"]["models"][0] == evaluate.files.sha256(runs["half"] / "model.keras")
    (runs["half"] / "compare" / "wrong.json").write_text("[]")
    with pytest.raises(ValueError, match="wrong.json: not a comparison of ours; remove it"):
        compare.compare(runs["half"], runs["wrong"])
    (runs["half"] / "compare" / "wrong.json").unlink()


@pytest.mark.slow
def test_runs_on_records_by_pattern_are_compared_by_their_rankings(tmp_path, capsys):
    patterns, classes = demo_records.ensure("video")
    rows, names = demo_records.ROWS["video"], [str(k) for k in range(classes)]
    own = [f"data.{part}={patterns[part]}" for part in ("validation", "test")]
    resolved = recipe.get("mfb", overrides=[*own, f"data.num_classes={classes}", "model_args.o=8"])
    split = {part: files(patterns[part]) for part in ("train", "validation", "test")}
    folders = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        folders.append(tmp_path / str(seed))
        facts = workdir.Facts("yt8m", "", patterns["train"], names, rows, True, kind="yt8m")
        folders[-1].mkdir()
        workdir.save(folders[-1], resolved, facts, seed, split)
        mfb.build_model(rows, classes, **resolved.model_args).save(folders[-1] / "model.keras")
    found = compare.compare(*folders)
    one = evaluate.evaluate(folders[0])
    assert {name: row["first"] for name, row in found["measures"].items()} == pytest.approx(
        {name: one[name] for name in ("gap", "hit_at_one", "perr", "map")}
    )
    assert found["clips"] == found["groups"] == one["clips"] and "GAP" in capsys.readouterr().out
    for row in found["measures"].values():
        assert row["low"] <= row["difference"] <= row["high"]
