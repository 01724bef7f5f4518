"""Seconds of a round of `RankedElimination`, against refitting scikit-learn's SVC from the features.

(a) ours: a round of the elimination, one feature dropped, the classifier fitted from the Gram matrix and the
validation part scored; (b) the plain loop: `SVC(kernel="linear")` with the same sample weights, fitted on the
features that are left, and its predictions scored. Both run the same `rounds` rounds from all features on,
one thread each, in turn; seconds are a round's, medians of `repeats`. Equality: of the features left and the
score after every round; 1 = all the same. The set: label sets of `labels` labels drawn as a common factor
model gives them, `sets` different ones at most, features that know the labels beside noise.
"""

import numpy as np

from experiments.benchmarks import Result, alternate, medians

OPTIONS = {
    "samples": 1000,
    "validation": 300,
    "features": 384,
    "labels": 7,
    "sets": 50,
    "rounds": 40,
    "repeats": 5,
    "trees": 50,
}
_BAR = 3.0


def run(options):
    """Measures both ways; returns the list of results."""
    from threadpoolctl import threadpool_limits

    from tfvc.estimators import RankedElimination
    from tfvc.estimators.powerset import label_sets, set_weights

    x, y = made(options)
    train, test = slice(options["samples"]), slice(options["samples"], None)
    given = x[train], y[train], x[test], y[test]
    _, sets, numbers, _ = label_sets(y[train])
    weights = set_weights(sets, numbers, np.ones(len(numbers)), "concepts")[numbers]
    ranked = RankedElimination(trees=options["trees"], random_state=0, eliminate=False).fit(*given)
    order = np.argsort(ranked.ranking_)
    found = {}
    cases = {
        "ours": lambda: found.update(ours=_ours(given, order, options["rounds"])),
        "loop": lambda: found.update(loop=_loop(given, order, options["rounds"], sets, numbers, weights)),
    }
    with threadpool_limits(1):
        seconds = alternate(cases, options["repeats"])
    a_round = {key: value / (options["rounds"] + 1) for key, value in medians(seconds).items()}
    shown = ", ".join(f"{key} {1000 * value:.1f}" for key, value in a_round.items())
    same = np.mean([a == b for a, b in zip(found["ours"], found["loop"], strict=True)])
    details = {"seconds": seconds, "label_sets": len(sets), "scores": found["ours"]}
    return [
        Result(
            "a round: loop of refits / ours", a_round["loop"] / a_round["ours"], _BAR, f"ms: {shown}", details
        ),
        Result("rounds with the same features and score", float(same), 1.0, f"{len(sets)} label sets"),
    ]


def made(options, seed=0):
    """Features (N, D) and an indicator (N, C) whose rows are the `sets` most frequent ones."""
    rng = np.random.default_rng(seed)
    count, labels = options["samples"] + options["validation"], options["labels"]
    factors = rng.normal(size=(40 * count, labels)) + 0.3 * rng.normal(size=(40 * count, 1))
    y = (factors > np.linspace(0.2, 1.2, labels)).astype(int)
    sets, numbers, sizes = np.unique(y, axis=0, return_inverse=True, return_counts=True)
    frequent = np.argsort(-sizes, kind="stable")[: options["sets"]]
    rows = np.flatnonzero(np.isin(numbers.reshape(-1), frequent))[:count]
    mixing = rng.normal(size=(labels, options["features"])) * (rng.random(options["features"]) < 0.6)
    x = y[rows] @ mixing + 2 * rng.normal(size=(len(rows), options["features"]))
    return np.maximum(x, 0).astype("float32"), y[rows]  # as a ReLU's output


def _ours(given, order, rounds):
    """(features left, score) of rounds that are never stopped, without the forest."""
    from tfvc.estimators.elimination import SCORES, Rows, refit
    from tfvc.estimators.powerset import LabelPowersetClassifier

    x, y, x_test, y_test = given
    train = Rows(x.astype("float64"), y, np.ones(len(x)))
    test = Rows(x_test.astype("float64"), y_test, np.ones(len(x_test)))
    one = refit(LabelPowersetClassifier(), train, test, SCORES["f1_micro"])
    return [(left, one.score(np.sort(order[:left]))) for left in _lefts(order, rounds)]


def _loop(given, order, rounds, sets, numbers, weights):
    """The same by scikit-learn alone."""
    from sklearn.metrics import f1_score
    from sklearn.svm import SVC

    x, _, x_test, y_test = given
    scores = []
    for left in _lefts(order, rounds):
        kept = np.sort(order[:left])
        svc = SVC(kernel="linear", C=0.9).fit(x[:, kept], numbers, sample_weight=weights)
        found = sets[svc.predict(x_test[:, kept])]
        scores.append((left, f1_score(y_test, found, average="micro", zero_division=0)))
    return scores


def _lefts(order, rounds):
    return range(len(order), max(0, len(order) - rounds - 1), -1)
