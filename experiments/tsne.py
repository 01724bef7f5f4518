"""The sound's embedding just before and just after FiLM, as a picture (Figure 7 of MAFnet).

    python -m experiments.tsne --workdir=RUN [--data=CLIPS] [--out=PICTURE.png]

RUN is a finished run of mafnet whose audio path has FiLM (model_args.film=audio or both). Each clip is a
point: the mean of its real seconds and of the positions, laid out by t-SNE, coloured by class. The number
beside it is of the embedding itself: the silhouette, which is the higher the further classes lie apart.
Without --data, the clips are the run's test part."""

from pathlib import Path

from absl import flags

from experiments.benchmarks import check_writable
from tfvc import cli, evaluate, files, workdir

_KEYS = ("clips", "silhouette")  # of the file of numbers
_PERPLEXITY = 30.0  # scikit-learn's usual one; fewer clips, a smaller one


def embeddings(run, data=""):
    """The embeddings of the audio block before and after its FiLM.

    Args:
        run: `tfvc.workdir.Run` of mafnet.
        data: clips; "" = the run's test part.

    Returns:
        `(before, after, truth, classes)`: (N, n) each, (N,) class numbers, names.

    Raises:
        ValueError: the run has no FiLM in its audio path.
    """
    import numpy as np

    from tfvc.data import pipeline

    before_and_after = _film(run)
    source, _ = evaluate.clips_of(run, run.recipe, data)
    found, truth = {"before": [], "after": []}, []
    with pipeline.readable(source.folder):
        for inputs, labels, _ in pipeline.batches(source, run.recipe.train.batch_size):
            real = np.any(inputs["audio"], axis=tuple(range(2, len(inputs["audio"].shape))))
            real |= ~real.any(axis=1, keepdims=True)  # of a clip without sound, all rows
            share = real / real.sum(axis=1, keepdims=True)
            for name, rows in before_and_after(inputs).items():
                found[name].append(np.einsum("btc,bt->bc", rows, share))
            truth.append(np.argmax(labels, axis=1))
    before, after = (np.concatenate(found[name]) for name in ("before", "after"))
    return before, after, np.concatenate(truth), source.classes


def silhouette(embedding, truth):
    """How far classes lie apart, -1 to 1 (Rousseeuw 1987).

    The mean over clips of (b - a) / max(a, b): a is the mean distance to the other clips of its class, b that
    to those of the nearest other class.

    Args:
        embedding: (N, n).
        truth: (N,) class numbers.

    Raises:
        ValueError: fewer than two classes, or no class with two clips.
    """
    from sklearn.metrics import silhouette_score

    count = len(set(truth.tolist()))
    if not 2 <= count < len(truth):
        raise ValueError(
            f"{len(truth)} clips of {count} classes; expected two classes and several clips of them"
        )
    return float(silhouette_score(embedding, truth))


def draw(before, after, truth, classes, title=""):
    """Both embeddings laid out by t-SNE, side by side.

    Returns:
        A Matplotlib figure.
    """
    from sklearn.manifold import TSNE

    from experiments import pictures

    perplexity = min(_PERPLEXITY, (len(truth) - 1) / 3)
    panels = {}
    for name, embedding in (("before FiLM", before), ("after FiLM", after)):
        layout = TSNE(perplexity=perplexity, init="pca", random_state=0)
        panels[name] = layout.fit_transform(embedding)
    return pictures.maps(panels, truth, classes, title)


def _film(run):
    """A function: a batch of inputs -> the means over positions, (B, T, n), `before` and `after` FiLM."""
    import keras

    model = run.model()
    block = next((layer for layer in model.layers if layer.name == "audio_block"), None)
    if getattr(block, "film", None) is None:
        raise ValueError(
            f"{run.path}: no FiLM in the audio path (model_args.film="
            f"{run.recipe.model_args.get('film', 'audio')}, model {run.recipe.model}); expected a run of "
            "mafnet with model_args.film=audio or both"
        )
    upstream = keras.Model(model.input, block.input)  # maps, condition and, where it masks, a mask of each

    def apart(inputs):
        maps, condition, *masks = upstream(inputs, training=False)
        # Called on values: a layer of a finished graph cannot be given other outputs there.
        _, *pair = block([maps, condition], mask=masks or None, training=False, return_film=True)
        places = tuple(range(2, len(maps.shape) - 1))
        means = [keras.ops.convert_to_numpy(keras.ops.mean(x, places) if places else x) for x in pair]
        return dict(zip(("before", "after"), means, strict=True))

    return apart


def _targets(out):
    """The picture, and beside it the file of its numbers: before anything is computed."""
    out = Path(out)
    numbers = out.with_suffix(".json")
    if out.suffix != ".png":
        raise ValueError(f"--out={out}: expected a name that ends in .png")
    if numbers.exists() and set(files.read_json(numbers, "give another --out")) != set(_KEYS):
        raise ValueError(f"{numbers}: would be replaced, and is not of this command; give another --out")
    check_writable(out)
    return out, numbers


def main(argv=None):
    def command(arguments):
        run = workdir.load(arguments.workdir)
        out, numbers = _targets(arguments.out or run.path / "tsne.png")
        before, after, truth, classes = embeddings(run, arguments.data)
        result = {"before": silhouette(before, truth), "after": silhouette(after, truth)}
        figure = draw(before, after, truth, classes, f"{len(truth)} clips, the sound's embedding")
        with files.aside(out) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        print(f"silhouette of the classes: before FiLM {result['before']:.4f}, after {result['after']:.4f}")
        files.write_json(numbers, dict(zip(_KEYS, (len(truth), result), strict=True)))
        print(f"written: {out}, {numbers}")

    values = flags.FlagValues()
    flags.DEFINE_string(
        "workdir", "", "folder of a finished run of mafnet with FiLM in its audio path", values
    )
    flags.DEFINE_string("data", "", "clips of the run's classes; empty: the run's test part", values)
    flags.DEFINE_string(
        "out",
        "",
        "picture to write, NAME.png, with its numbers in NAME.json; empty: <workdir>/tsne.png",
        values,
    )
    cli.launch("experiments.tsne", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
