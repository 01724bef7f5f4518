"""What finished runs lose where a stream is missing: accuracy of their test parts with and without it.

    python -m experiments.missing_stream --workdir=RUN[,RUN...] --stream=audio

A missing stream is rows of zeros, as of a clip that has no sound. `python -m experiments.run mafnet_missing`
trains the runs that are worth comparing, and measures them so."""

from absl import flags

from tfvc import cli, evaluate, files, inference, names, recipe, workdir


def accuracies(run, missing):
    """Accuracy of a run's test part, measured once for each of the streams named.

    Args:
        run: `tfvc.workdir.Run`, finished.
        missing: streams whose rows are made zeros, one at a time; "" = none is.

    Returns:
        list of float, in the same order.

    Raises:
        ValueError: the model reads no such stream, or its clips have several labels.
    """
    import numpy as np

    from tfvc.data import pipeline

    read = [row.name for row in run.facts.features]
    for name in missing:
        if name and name not in read:
            raise ValueError(
                f"{run.path}: its model reads {','.join(read)}; expected a run that reads {name}"
            )
    if run.facts.multi_label:
        raise ValueError(f"{run.path}: clips with several labels; expected a run whose clips have one each")
    network = inference.as_function(run.model())
    source, _ = evaluate.clips_of(run, run.recipe)
    right, clips = np.zeros(len(missing), int), 0
    with pipeline.readable(source.folder):
        for inputs, labels, _ in pipeline.batches(source, run.recipe.train.batch_size):
            for k, name in enumerate(missing):
                given = {**inputs, name: np.zeros_like(inputs[name])} if name else inputs
                guess = np.argmax(network(given)["probabilities"], axis=1)
                right[k] += np.sum(guess == np.argmax(labels, axis=1))
            clips += len(labels)
    return [float(value) for value in right / clips]


def further(folder):
    """For a study: accuracy without each stream; a model that does not read it does not miss it.

    Args:
        folder: of a finished run.

    Returns:
        dict, `without_<stream>` of each stream that its model can be built to read.
    """
    run = workdir.load(folder)
    read = {row.name for row in run.facts.features}
    known = set().union(*names.literal(run.recipe.model, "STREAMS").values())
    streams = [name for name in recipe.STREAMS if name in known]
    found = accuracies(run, [name if name in read else "" for name in streams])
    return {f"without_{name}": value for name, value in zip(streams, found, strict=True)}


def compare(folders, stream):
    """Runs with and without a stream.

    Args:
        folders: of finished runs.
        stream: `audio` or `frames`.

    Returns:
        list of dicts, one a run and one of the means: `run`, `whole`, `without`, `loss`.

    Raises:
        ValueError: there is no such stream, or a model does not read it.
    """
    if stream not in recipe.STREAMS:
        raise ValueError(names.suggest("stream", stream, recipe.STREAMS))
    if not folders:
        raise ValueError("--workdir: expected folders of runs, as --workdir=runs/a,runs/b")
    rows = []
    for folder in folders:
        whole, without = accuracies(workdir.load(folder), ["", stream])
        rows.append({"run": str(folder), "whole": whole, "without": without, "loss": whole - without})
    means = {key: sum(row[key] for row in rows) / len(rows) for key in ("whole", "without", "loss")}
    return [*rows, {"run": f"mean of {len(rows)}", **means}]


def main(argv=None):
    def command(arguments):
        rows = compare([f.strip() for f in arguments.workdir if f.strip()], arguments.stream)
        width = max(len(files.shown(row["run"])) for row in rows)
        print(f"{'run':{width}}   whole  without {arguments.stream}    loss")
        for row in rows:
            numbers = (
                f"{row['whole']:6.4f}  {row['without']:{8 + len(arguments.stream)}.4f}  {row['loss']:6.4f}"
            )
            print(f"{files.shown(row['run']):{width}}  {numbers}")

    values = flags.FlagValues()
    flags.DEFINE_list("workdir", [], "folders of finished runs, separated by commas", values)
    flags.DEFINE_string("stream", "audio", "which is missing: audio or frames", values)
    cli.launch("experiments.missing_stream", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
