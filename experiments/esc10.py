"""Sound alone: mafnet's audio path on ESC-10, each fold held out in turn.

    python -m experiments.esc10 --data=../shared/data/esc10

--data is the folder of `<class>/<fold>-<id>.ogg`. Each fold is the test part of a run of its own, trained on
the others for a fixed number of epochs: nothing is chosen by the fold that is reported. The features are the
maps of VGGish, with random weights unless --weights says otherwise, standardised on the training folds. Ends
with status 1 where the mean accuracy is below the bar."""

import statistics
from pathlib import Path

from absl import flags

from tfvc import cli, files, recipe, train

_BAR = 0.3
_SETTINGS = (
    "model_args.modality=audio",
    "audio.dtype=float16",
    "model_args.units=64",
    "model_args.momentum=0.9",
    "data.frames=5",  # seconds of a clip
    "data.split=group",
    "data.validation_fraction=0",  # one training fold is not cut up: the last epoch is reported
    "backbone.standardize=yes",
    "train.report=last",
    "train.patience=0",
    "train.epochs=40",
    "train.batch_size=16",
    "train.learning_rate=0.001",
)


def listing(data, path):
    """Writes the manifest of the sounds: their class by folder, their fold as group.

    Args:
        data: folder of `<class>/<fold>-<id>.ogg`.
        path: of the manifest, `.csv`.

    Returns:
        The folds' names, sorted.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two folds in it.
    """
    root = Path(data).absolute()
    if not data or not root.is_dir():
        raise FileNotFoundError(
            f"--data={data}: no such folder; expected ESC-10's clips in it, as <class>/<fold>-<id>.ogg"
        )
    rows = []
    for file in sorted(root.glob("*/*-*.ogg")):
        label, fold = file.parent.name, file.name.partition("-")[0]
        rows.append([f"{label}/{file.stem}", str(file), label, f"fold{fold}"])
    folds = sorted({row[3] for row in rows})
    if len(folds) < 2:
        raise ValueError(
            f"{data}: {len(rows)} sounds of {len(folds)} folds; expected <class>/<fold>-<id>.ogg, two folds"
        )
    files.write_csv(path, [["id", "path", "labels", "group"], *rows])
    return folds


def study(data, *, workdir="runs/esc10", weights="random", overrides=(), seed=0):
    """Trains and measures a run for each fold held out.

    Args:
        data: as of `listing`.
        workdir: folder of the runs; those that are finished are not run again.
        weights: of VGGish, as `audio.weights`.
        overrides: further `section.field=value`.
        seed: of the runs.

    Returns:
        dict: `folds` ({fold: accuracy}), `clips` ({fold: count}), `accuracy` (the mean of the folds).

    Raises:
        ValueError, FileNotFoundError: as `listing` and `train`.
    """
    manifest = Path(workdir) / "esc10.csv"
    folds, clips = {}, {}
    for fold in listing(data, manifest):
        given = [*_SETTINGS, f"audio.weights={weights}", f"data.test_groups={fold}", *overrides]
        resolved = recipe.get("mafnet", "corrected", given)
        measured = train.train(resolved, data=str(manifest), workdir=Path(workdir) / fold, seed=seed)
        folds[fold], clips[fold] = measured["test"]["accuracy"], measured["test"]["clips"]
    result = {"folds": folds, "clips": clips, "accuracy": statistics.mean(folds.values())}
    files.write_json(Path(workdir) / "result.json", result)
    return result


def main(argv=None):
    def command(arguments):
        result = study(
            arguments.data,
            workdir=arguments.workdir,
            weights=arguments.weights,
            overrides=arguments.set,
            seed=arguments.seed,
        )
        for fold, value in result["folds"].items():
            print(f"{fold} held out: accuracy {value:.4f} on {result['clips'][fold]} sounds")
        met = result["accuracy"] >= _BAR
        print(f"mean accuracy {result['accuracy']:.4f}; bar {_BAR}: {'met' if met else 'missed'}")
        return int(not met)

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "folder of <class>/<fold>-<id>.ogg", values)
    flags.DEFINE_string("workdir", "runs/esc10", "folder of the runs", values)
    flags.DEFINE_string("weights", "random", "of VGGish: random, audioset, or a file", values)
    flags.DEFINE_multi_string("set", [], "recipe field, as --set=train.epochs=5; repeatable", values)
    cli.number("seed", 0, "seed of the first weights and the order", 0, 2**32 - 1, values)
    cli.launch("experiments.esc10", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
