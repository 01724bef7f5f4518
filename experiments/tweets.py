"""Text alone: the text path of resbilstm on short texts, disaster or not; a fifth of them is held out.

    python -m experiments.tweets --data=../shared/data/text/disaster_tweets/train.csv

--data is a CSV file with columns id, text and target (1: about a disaster, 0: not). The texts are cleaned and
their words learned (text.embedding=learned; the vocabulary is that of all texts, held-out ones too). Texts of
the same words once cleaned are one group, so that none is trained on and measured too.

--glove=FILE (repeatable) says how many words a file of word vectors knows, and trains on its vectors as well;
texts without a known word are then left out. Ends with status 1 where the accuracy of learned words is below
the bar."""

import csv
from collections import Counter
from pathlib import Path

from absl import flags

from tfvc import cli, files, recipe, train

_BAR = 0.75
_LABELS = {"1": "disaster", "0": "other"}
_SETTINGS = (
    "model_args.modality=text",
    "model_args.temporal=true",
    "data.split=group",
    "data.test_fraction=0.2",
    "data.validation_fraction=0.1",
    "text.rows=24",  # words of a text: 99 of 100 have fewer
    "train.epochs=8",
    "train.patience=2",
)


def listing(data, path):
    """Writes the manifest of the texts: no path, and those of the same words in one group.

    Args:
        data: CSV file with columns id, text, target.
        path: of the manifest, `.csv`.

    Returns:
        The texts, in the file's order, and how many of them have the same words as another.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no CSV file in UTF-8, other columns, or a target that is neither 0 nor 1.
    """
    if not data or not Path(data).is_file():
        raise FileNotFoundError(f"{data or '--data'}: no such file; expected a CSV file of id, text, target")
    try:
        with open(data, encoding="utf-8", newline="") as f:
            reader = csv.DictReader(f)
            columns, tweets = reader.fieldnames or (), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{data}: no CSV file in UTF-8 ({error}); expected one of id, text, target, saved as UTF-8"
        ) from None
    missing = {"id", "text", "target"} - set(columns)
    if missing:
        raise ValueError(f"{data}: no column {min(missing)}; expected id, text and target")
    wrong = next((row for row in tweets if row["target"] not in _LABELS), None)
    if wrong:
        raise ValueError(f"{data}: target {wrong['target']!r} of id {wrong['id']}; expected 0 or 1")
    first, rows = {}, []
    for row, words in zip(tweets, _cleaned([row["text"] for row in tweets]), strict=True):
        rows.append([row["id"], row["text"], _LABELS[row["target"]], first.setdefault(words, row["id"])])
    files.write_csv(path, [["id", "text", "labels", "group"], *rows])
    shared = Counter(row[3] for row in rows)
    return [row[1] for row in rows], sum(count for count in shared.values() if count > 1)


def study(data, *, workdir="runs/tweets", glove=(), overrides=(), seed=0):
    """Trains and measures a run on learned words, and one on each file of word vectors.

    Args:
        data: as of `listing`.
        workdir: folder of the runs; those that are finished are not run again.
        glove: files of word vectors.
        overrides: further `section.field=value`.
        seed: of the runs.

    Returns:
        dict: `texts` and `repeats` (as `listing`), counted; `runs`: by `learned` and by file: `words` (the
        share that is known, a sentence), `accuracy` of the held-out `clips`.

    Raises:
        ValueError, FileNotFoundError: as `listing`, `glove.read` and `train`.
    """
    from tfvc.backbones import text

    manifest = Path(workdir) / "tweets.csv"
    texts, repeats = listing(data, manifest)
    print(f"{len(texts)} texts, {repeats} of them with the same words as another")
    result = {"texts": len(texts), "repeats": repeats, "runs": {}}
    for file in ("", *glove):
        name = Path(file).name or "learned"
        way = [f"text.weights={file}"] if file else ["text.embedding=learned"]
        resolved = recipe.get("resbilstm", "original", [*_SETTINGS, *way, *overrides])
        words = text.load(resolved.text, texts)
        for one in texts:
            words.rows(one)
        print(f"{name}: {words.known()}")
        measured = train.train(resolved, data=str(manifest), workdir=Path(workdir) / name, seed=seed)["test"]
        kept = {key: measured[key] for key in ("accuracy", "clips")}
        result["runs"][name] = {"words": words.known(), **kept}
    files.write_json(Path(workdir) / "result.json", result)
    return result


def _cleaned(texts):
    import tensorflow as tf

    from tfvc.backbones import text

    return text.clean(tf.constant(texts, tf.string)).numpy().tolist()


def main(argv=None):
    def command(arguments):
        result = study(
            arguments.data,
            workdir=arguments.workdir,
            glove=arguments.glove,
            overrides=arguments.set,
            seed=arguments.seed,
        )
        for name, run in result["runs"].items():
            print(f"{name}: {run['words']}; accuracy {run['accuracy']:.4f} of {run['clips']} held-out texts")
        met = result["runs"]["learned"]["accuracy"] >= _BAR
        print(f"accuracy of learned words; bar {_BAR}: {'met' if met else 'missed'}")
        return int(not met)

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "CSV file with columns id, text, target", values)
    flags.DEFINE_string("workdir", "runs/tweets", "folder of the runs", values)
    flags.DEFINE_multi_string("glove", [], "file of word vectors, to try too; repeatable", values)
    flags.DEFINE_multi_string("set", [], "recipe field, as --set=train.epochs=5; repeatable", values)
    cli.number("seed", 0, "seed of the first weights, the order and the split", 0, 2**32 - 1, values)
    cli.launch("experiments.tweets", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
