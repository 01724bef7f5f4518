"""Every group is the test part once: what a group split can tell of a small data set.

    python -m experiments.leave_one_group_out --data=clips --workdir=runs/groups [--backbone=...]

Each fold is a run of its own under `--workdir`, so a study that was killed goes on where it stopped.
"""

import collections
import dataclasses
import json
import re
from pathlib import Path

from tfvc import cli, evaluate, files, recipe, start, train
from tfvc.data import datasets

_FLAGS = ("model", "fidelity", "data", "workdir", "set", "seed", "backbone")


def study(overrides, *, data, workdir, model="attention_boosted", fidelity="corrected", seed=0, backbone=""):
    """Trains once a group and pools what was right on the groups left out.

    Args:
        overrides: `section.field=value` strings, for all folds.
        data: clips with groups, at least two groups a class.
        workdir: folder of the folds.

    Returns:
        dict: `balanced_accuracy` (mean recall over classes, all folds pooled), `accuracy`,
        `clips`, and `folds`, {group: accuracy}.

    Raises:
        ValueError: a class with one group only (named), or anything `train` refuses.
    """
    given = [*overrides, "data.split=group"]
    base = recipe.get(model, fidelity, given, backbone)
    dataset = datasets.load(base.data, data)
    groups = sorted({clip.group for clip in dataset.clips})
    odd = [group for group in groups if not re.fullmatch(r"[\w-][\w. -]*", group)]
    if odd:  # a fold's folder is named by its group
        raise ValueError(
            f"{data}: group {odd[0]!r}; expected every clip in a group named by letters and digits"
        )
    right, clips, folds = collections.Counter(), collections.Counter(), {}
    for group in groups:
        cut = dataclasses.replace(base.data, test_groups=(group,))
        fold = dataclasses.replace(base, data=cut)
        folder = Path(workdir) / group
        train.train(fold, data=data, workdir=folder, seed=seed)
        measured = evaluate.evaluate(folder)
        for row in measured["classes"]:
            right[row["class"]] += round(row["recall"] * row["clips"])
            clips[row["class"]] += row["clips"]
        folds[group] = measured["accuracy"]
    return {
        "balanced_accuracy": sum(right[c] / clips[c] for c in clips) / len(clips),
        "accuracy": right.total() / clips.total(),
        "clips": clips.total(),
        "folds": folds,
    }


def main(argv=None):
    def run(arguments):
        start.keep_memory()
        result = study(
            arguments.set,
            data=arguments.data,
            workdir=arguments.workdir or "runs/groups",
            model=arguments.model,
            fidelity=arguments.fidelity,
            seed=arguments.seed,
            backbone=arguments.backbone,
        )
        files.write_json(Path(arguments.workdir or "runs/groups") / "result.json", result)
        print(json.dumps(result, indent=1))

    cli.command("experiments.leave_one_group_out", __doc__, _FLAGS, run, argv)


if __name__ == "__main__":
    main()
