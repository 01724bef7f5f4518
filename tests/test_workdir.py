"""A run is a folder, read back as it was written."""

import zipfile

import keras
import numpy as np
import pytest

from tfvc import files, recipe, workdir
from tfvc.models.attention_boosted import build_model
from tfvc.recipe import Feature


@pytest.fixture
def run(tmp_path):
    rows = [Feature("frames", (4, 6), "float16")]
    facts = workdir.Facts("folder", "/data", "/records", ["a", "b"], rows, notes=["batch 128 -> 12"])
    settings = recipe.get("attention_boosted", overrides=["backbone.size=32,32", "model_args.units=3"])
    workdir.save(tmp_path, settings, facts, 7, {"train": ["x"], "validation": [], "test": ["y"]})
    return tmp_path, settings, facts


def test_a_run_comes_back_as_it_was_saved(run):
    path, settings, facts = run
    loaded = workdir.load(path)
    assert (loaded.recipe, loaded.facts, loaded.seed, loaded.path) == (settings, facts, 7, path)
    assert loaded.split() == {"train": ["x"], "validation": [], "test": ["y"]}


def test_what_a_run_says_is_printed_and_kept(run, capsys):
    run[2].say("5 clips dropped")
    assert run[2].notes == ["batch 128 -> 12", "5 clips dropped"]
    assert capsys.readouterr().out == "5 clips dropped\n"


def test_the_model_of_a_run_is_loaded_in_safe_mode_with_its_layers(run):
    path, settings, facts = run
    with pytest.raises(FileNotFoundError, match="has not finished"):
        workdir.load(path).model()
    net = build_model(facts.features, 2, **settings.model_args)
    net.save(path / "model.keras")
    loaded = workdir.load(path).model()
    for ours, theirs in zip(loaded.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    keras.Sequential([keras.Input((1,)), keras.layers.Lambda(lambda x: x)]).save(path / "model.keras")
    with pytest.raises(ValueError, match="(?i)lambda|safe"):
        workdir.load(path).model()


def test_what_is_no_run_is_refused_by_name(run, tmp_path):
    with pytest.raises(ValueError, match="--workdir: expected the folder of a run"):
        workdir.load("")
    with pytest.raises(FileNotFoundError, match=r"recipe\.json: no such file; expected the --workdir"):
        workdir.load(tmp_path / "none")
    tree = files.read_json(tmp_path / "recipe.json")
    none = {k: v for k, v in tree.items() if k != "facts"}
    late = {**tree, "recipe": {**tree["recipe"], "train": {**tree["recipe"]["train"], "epochs": "five"}}}
    facts = [
        {**tree["facts"], **edit}
        for edit in (
            {"classes": None},
            {"classes": ["a", None]},
            {"classes": ["a", "a"]},
            {"records": None},
            {"weights": 5},
            {"features": []},
            {"features": [{**tree["facts"]["features"][0], "shape": ["x", 4]}]},
            {"features": [{**tree["facts"]["features"][0], "dtype": "f9"}]},
        )
    ]
    odd = ([], 3, none, late, {**tree, "recipe": []}, {**tree, "seed": "x"})
    for broken in (
        *odd,
        *({**tree, "facts": f} for f in facts),
        {**tree, "facts": {"odd": 1}},
        {**tree, "facts": 3},
    ):
        files.write_json(tmp_path / "recipe.json", broken)
        with pytest.raises(ValueError, match=r"recipe\.json: not the recipe of a run of this version"):
            workdir.load(tmp_path)


def test_a_damaged_model_or_split_is_named_in_one_line(run):
    path, settings, facts = run
    build_model(facts.features, 2, **settings.model_args).save(path / "model.keras")
    whole = (path / "model.keras").read_bytes()
    middle = len(whole) // 2
    for damage in (whole[:middle], b"", whole[:middle] + b"damage" * 99 + whole[middle + 594 :]):
        (path / "model.keras").write_bytes(damage)
        with pytest.raises(ValueError, match=r"model\.keras: ") as error:
            workdir.load(path).model()
        assert len(str(error.value).splitlines()) == 1
    for tree in ([], {"train": 3}, {"train": [1]}):
        files.write_json(path / "split.json", tree)
        with pytest.raises(ValueError, match=r"split\.json: not the split of a run"):
            workdir.load(path).split()


def test_a_model_file_that_unpacks_without_end_is_refused(run):
    path = run[0]
    with zipfile.ZipFile(path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (64 << 20))
    with pytest.raises(ValueError, match=r"model\.keras: would unpack to 0\.0671 GB"):
        workdir.load(path).model()


def test_a_model_of_other_classes_or_frames_than_the_recipe_is_named(run):
    path, settings, facts = run
    build_model(facts.features, 3, **settings.model_args).save(path / "model.keras")
    with pytest.raises(ValueError, match=r"model\.keras: 3 classes of .*, but recipe.json says 2 of"):
        workdir.load(path).model()
