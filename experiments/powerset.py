"""Why a second stage on label sets gains or loses: its parts, one changed at a time, on a run's own vectors.

    python -m experiments.powerset --workdir=RUN,RUN,...

For the test part of each run, micro F1 of: the network alone; the SVM on label sets (all features); one SVM a
label on the same vectors (the same cost, labels weighed by inverse frequency); and the best that label sets
can do: for each clip the set seen in training that is nearest to the truth. With it the share of test clips
whose label set was never seen. The mean over the runs stands first; --out writes all as JSON.
"""

import statistics

from absl import flags

from tfvc import cli, estimators, files, second_stage, workdir

TITLES = {
    "unseen": "test clips of unseen label sets",
    "sets": "label sets in training",
    "network": "network alone",
    "label_sets": "SVM on label sets",
    "each_label": "one SVM a label",
    "bound": "best that label sets can do",
}


def compare(folder):
    """The parts of one run, as the module tells.

    Args:
        folder: of a finished run whose clips have several labels; with or without a second stage.

    Returns:
        dict: `unseen` (share), `sets` (number), and micro F1 as `network`, `label_sets`, `each_label`,
        `bound`, of the test part.

    Raises:
        ValueError: a run with one label a clip, or whose network has no vector.
        FileNotFoundError: no finished run there.
    """
    import numpy as np
    from sklearn.metrics import f1_score

    run = workdir.load(folder)
    if not run.facts.multi_label:
        raise ValueError(f"{folder}: one label a clip; expected a run whose clips have several")
    parts = second_stage.vectors_of(run)
    (train, known, _), (test, truth, probabilities) = parts["train"], parts["test"]
    stage = run.recipe.second_stage
    powerset = estimators.LabelPowersetClassifier(
        estimators.WeightedLinearSVM(C=stage.C), weights=stage.weights
    )
    sets = np.unique(known, axis=0)
    far = (truth[:, None] != sets[None]).sum(2)
    labels = {
        "network": (probabilities > 0.5).astype(int),
        "label_sets": powerset.fit(train, known).predict(test),
        "each_label": np.stack([_one(train, column, test, stage.C) for column in known.T], axis=1),
        "bound": sets[far.argmin(1)],
    }
    found = {name: float(f1_score(truth, guess, average="micro")) for name, guess in labels.items()}
    return {"unseen": float((far.min(1) > 0).mean()), "sets": len(sets)} | found


def _one(train, column, test, cost):
    svm = estimators.WeightedLinearSVM(C=cost, class_weight="balanced")
    return svm.fit(train, column).predict(test)


def main(argv=None):
    def command(arguments):
        if not arguments.workdir:
            raise cli.Usage("expected --workdir=RUN, or several with commas")
        results = {folder: compare(folder) for folder in arguments.workdir}
        width = max(map(len, TITLES.values()))
        for name, title in TITLES.items():
            values = [result[name] for result in results.values()]
            print(
                f"{title:{width}}  {statistics.mean(values):.3f}  ({', '.join(f'{v:.3f}' for v in values)})"
            )
        if arguments.out:
            files.write_json(arguments.out, results)

    values = flags.FlagValues()
    flags.DEFINE_list("workdir", [], "folders of runs, with commas", values)
    flags.DEFINE_string("out", "", "a .json file for the results; empty: none", values)
    cli.launch("experiments.powerset", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
