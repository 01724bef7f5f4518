"""What a run leaves: recipe, split, metrics, checkpoints, stored estimators."""

import contextlib
import hashlib
import io
import json

import numpy as np

from experiments.fuzzing.common import allowed, as_json, as_npz, as_npz_packed, new_folder


def run():
    """`recipe.json` of a run."""
    from tfvc import recipe, workdir

    def read(folder, data):
        (folder / "recipe.json").write_bytes(data)
        with allowed(folder):
            workdir.load(folder)

    facts = workdir.Facts("set", "", "records", ["x", "y"], [recipe.Feature("frames", (4, 2))])
    trees = []
    for name in ("attention_boosted", "mafnet"):
        with new_folder() as folder:
            workdir.save(folder, recipe.get(name), facts, 0, {})
            trees.append((folder / "recipe.json").read_bytes())
    return read, trees


def run_files():
    """`split.json` and `metrics.json` of a run, from the same bytes."""
    from tfvc import recipe, workdir

    facts = workdir.Facts("set", "", "records", ["x", "y"], [recipe.Feature("frames", (4, 2))])
    settings = recipe.get("attention_boosted")

    def read(folder, data):
        opened = workdir.Run(folder, settings, facts, 0)
        for name, open_it in (("split.json", opened.split), ("metrics.json", opened.metrics)):
            (folder / name).write_bytes(data)
            with allowed(folder):
                open_it()

    numbers = {"accuracy": 0.5, "clips": 4}
    metrics = {"epochs": 3, "stopped_early": False, "test": numbers, "validation": numbers | {"epoch": 2}}
    return read, [as_json({"train": ["a"], "validation": [], "test": ["b"]}), as_json(metrics)]


def model_flags():
    """The starter's model_flags.json."""
    from starter import checkpoints

    def read(folder, data):
        (folder / checkpoints.FLAGS_FILE).write_bytes(data)
        with allowed(folder):
            checkpoints.flags_of(folder)

    stored = {name: default for name, (_, default, _) in checkpoints.STORED.items()}
    return read, [as_json(stored), as_json(stored | {"model": "LogisticModel", "frame_features": True})]


def checkpoint():
    """A checkpoint; its checksum is right."""
    import keras

    from tfvc import checkpoints

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def read(folder, data):
        path = folder / "step-00000003.npz"
        path.write_bytes(data)
        beside = {"sha256": hashlib.sha256(data).hexdigest(), "best_step": 0, "best_sha256": ""}
        path.with_suffix(".json").write_bytes(as_json(beside))
        for given in (
            lambda: checkpoints.newest(folder, "begin anew"),
            lambda: checkpoints.load(path, model),
        ):
            with allowed(folder):
                given()

    with new_folder() as folder:
        checkpoints.save(folder, model, None, checkpoints.Progress(step=3))
        whole = (folder / "step-00000003.npz").read_bytes()
    with np.load(io.BytesIO(whole), allow_pickle=False) as stored:
        return read, [whole, as_npz_packed({name: stored[name] for name in stored.files})]


def checkpoint_record():
    """The JSON beside a checkpoint."""
    from tfvc import checkpoints

    whole = as_npz(progress=np.array(json.dumps({"step": 3})))

    def read(folder, data):
        path = folder / "step-00000003.npz"
        path.write_bytes(whole)
        path.with_suffix(".json").write_bytes(data)
        with allowed(folder):
            checkpoints.newest(folder, "begin anew")

    beside = {"sha256": hashlib.sha256(whole).hexdigest(), "best_step": 0, "best_sha256": ""}
    return read, [as_json(beside), as_json(beside | {"best_step": 7})]


def _estimator():
    """The two files of a stored estimator, as a tree and bytes."""
    from tfvc.estimators import LabelPowersetClassifier, WeightedLinearSVM, store

    x, y = np.array([[0.0, 1], [1, 0], [1, 1], [0, 0]]), np.array([[1, 0], [0, 1], [1, 1], [1, 0]])
    with new_folder() as folder:
        store.save(LabelPowersetClassifier(WeightedLinearSVM()).fit(x, y), folder / "svm")
        tree = json.loads((folder / "svm.json").read_bytes())
        return tree, (folder / "svm.npz").read_bytes()


def _signed(folder, tree, arrays):
    from tfvc.estimators import store

    tree = {key: value for key, value in tree.items() if key != "digest"}
    tree["sha256"] = hashlib.sha256(arrays).hexdigest()
    (folder / "svm.npz").write_bytes(arrays)
    text = json.dumps(tree, sort_keys=True).encode()
    (folder / "svm.json").write_bytes(as_json(tree | {"digest": hashlib.sha256(text).hexdigest()}))
    with allowed(folder):
        store.load(folder / "svm")


def estimator():
    """The JSON of a stored estimator, as given and with the checksums made right."""
    from tfvc.estimators import store

    tree, arrays = _estimator()

    def read(folder, data):
        (folder / "svm.npz").write_bytes(arrays)
        (folder / "svm.json").write_bytes(data)
        with allowed(folder):
            store.load(folder / "svm")
        with contextlib.suppress(ValueError, RecursionError):
            edited = json.loads(data)
            if isinstance(edited, dict):
                _signed(folder, edited, arrays)

    return read, [as_json(tree)]


def estimator_arrays():
    """The arrays of a stored estimator; their checksum is right."""
    tree, arrays = _estimator()
    return lambda folder, data: _signed(folder, tree, data), [arrays]
