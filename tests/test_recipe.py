"""Names, recipes and their overrides: what is accepted, what is refused and with which words."""

import json

import pytest

from tfvc import names, recipe
from tfvc.recipe import Recipe, get, quirks_in_force

MODELS = names.available("models")


def test_every_model_file_has_a_recipe_and_every_recipe_a_model():
    assert names.available("recipes") == MODELS and "attention_boosted" in MODELS


@pytest.mark.parametrize("fidelity", ["original", "corrected"])
@pytest.mark.parametrize("model", MODELS)
def test_every_recipe_resolves_and_comes_back_from_json(model, fidelity):
    try:
        resolved = get(model, fidelity)
    except ValueError as error:  # a paper where nothing differs refuses `corrected`, and says so
        assert fidelity == "corrected" and "corrected" in str(error)
        return
    assert (resolved.model, resolved.fidelity) == (model, fidelity)
    assert recipe.from_json(json.loads(json.dumps(recipe.to_json(resolved)))) == resolved
    assert set(resolved.model_args) <= set(names.keyword_defaults(model))
    assert {key for key, _, _ in resolved.quirks} <= set(recipe.flatten(resolved))


def test_the_original_keeps_seven_quirks_and_the_corrected_none():
    assert len(quirks_in_force(get("attention_boosted"))) == 7
    assert quirks_in_force(get("attention_boosted", "corrected")) == []


def test_a_quirk_that_is_overridden_is_no_longer_reported():
    mended = get("attention_boosted", overrides=["data.channel_order=rgb", "train.shuffle=true"])
    kept = "\n".join(quirks_in_force(mended))
    assert len(kept.splitlines()) == 5 and "BGR" not in kept and "shuffled" not in kept


@pytest.mark.parametrize(
    "text, section, name, value",
    [
        ("train.epochs=5", "train", "epochs", 5),
        ("train.learning_rate=1e-4", "train", "learning_rate", 1e-4),
        ("train.jit=True", "train", "jit", True),
        ("data.kind=ucf101", "data", "kind", "ucf101"),
        ("backbone.size=112,96", "backbone", "size", (112, 96)),
        ("backbone.size=(112, 96)", "backbone", "size", (112, 96)),
        ("backbone.weights=/a=b/c.h5", "backbone", "weights", "/a=b/c.h5"),
        ("data.test_groups=g01,g02", "data", "test_groups", ("g01", "g02")),
        (" predict.top_k = 3", "predict", "top_k", 3),
    ],
)
def test_an_override_takes_the_type_of_its_field(text, section, name, value):
    got = getattr(getattr(get("attention_boosted", overrides=[text]), section), name)
    assert got == value and type(got) is type(value)


def test_model_arguments_are_checked_against_the_keywords_of_build_model():
    args = get(
        "attention_boosted", overrides=["model_args.units=8", "model_args.standardize=true"]
    ).model_args
    assert args == {"recurrent_activation": "hard_sigmoid_keras2", "units": 8, "standardize": True}
    with pytest.raises(ValueError, match="did you mean 'dropout'"):
        get("attention_boosted", overrides=["model_args.drop_out=0.1"])


def test_the_last_override_wins_and_backbone_is_short_for_its_name():
    got = get("attention_boosted", overrides=["train.epochs=5", "train.epochs=7"], backbone="vgg16")
    assert (got.train.epochs, got.backbone.name) == (7, "vgg16")
    assert get("attention_boosted", overrides=["backbone.name=x"], backbone="vgg16").backbone.name == "x"


@pytest.mark.parametrize(
    "text, message",
    [
        ("train.epoch=5", "did you mean 'epochs'"),
        ("trian.epochs=5", "did you mean 'train'"),
        ("train.epochs", "expected section.field=value"),
        ("epochs=5", "expected section.field=value"),
        ("model=raf", "expected section.field=value"),
        ("train.epochs=five", "expected int, as 60"),
        ("train.epochs=2.5", "expected int, as 60"),
        ("train.epochs=0", "expected at least 1"),
        ("train.learning_rate=nan", "expected float"),
        ("train.jit=yes", "expected true or false"),
        ("data.split=grup", "did you mean 'group'"),
        ("data.test_fraction=1", "expected less than 1"),
        ("backbone.size=112", "expected height,width"),
        ("backbone.size=112,a", "expected height,width"),
        ("model_args.units=many", "expected int, as 256"),
    ],
)
def test_a_wrong_override_is_refused_with_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        get("attention_boosted", overrides=[text])


def test_wrong_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'attention_boosted'"):
        get("atention_boosted")
    with pytest.raises(ValueError, match="did you mean 'corrected'"):
        get("attention_boosted", "correct")
    assert "did you mean" not in names.suggest("model", "zzz", ["raf"])


def test_the_demo_overrides_apply_to_the_demo_only_and_under_the_users():
    plain, demo = get("attention_boosted"), get("attention_boosted", demo=True)
    assert (plain.train.batch_size, plain.backbone.size) == (128, (224, 224))
    assert (demo.train.batch_size, demo.backbone.size) == (16, (112, 112))
    assert get("attention_boosted", overrides=["train.batch_size=4"], demo=True).train.batch_size == 4


@pytest.mark.parametrize("backbone, batch", [("resnet50", 16), ("xception", 16), ("vgg16", 128)])
def test_the_batch_follows_the_backbone_unless_it_was_given(backbone, batch):
    assert get("attention_boosted", backbone=backbone).train.batch_size == batch
    given = get("attention_boosted", overrides=["train.batch_size=64"], backbone=backbone)
    assert given.train.batch_size == 64


def test_the_3d_network_reads_raw_frames_and_has_no_gates():
    got = get("attention_boosted", overrides=["model_args.mode=cnn3d"])
    assert (got.backbone.name, got.backbone.size, got.backbone.standardize) == ("frames", (60, 40), "no")
    assert got.model_args == {"mode": "cnn3d"} and not any("LSTM" in q for q in quirks_in_force(got))
    larger = get("attention_boosted", overrides=["model_args.mode=cnn3d", "backbone.size=80,60"])
    assert larger.backbone.size == (80, 60)


def test_a_recipe_of_another_version_is_refused_by_field():
    tree = recipe.to_json(get("attention_boosted"))
    with pytest.raises(ValueError, match="unknown field of train 'epoch'"):
        recipe.from_json({**tree, "train": {"epoch": 1}})
    with pytest.raises(ValueError, match="unknown section of the recipe 'trian'"):
        recipe.from_json({**tree, "trian": {}})
    assert isinstance(recipe.from_json(tree), Recipe)


def test_differences_name_both_values_and_the_digest_follows_them():
    old, new = (recipe.flatten(get("attention_boosted", overrides=o)) for o in ([], ["train.epochs=5"]))
    assert recipe.differences(old, new) == ["train.epochs: 60 -> 5"]
    assert recipe.differences(old, old) == []
    assert recipe.differences({"a": 1}, {"b": 2}) == ["a: 1 -> (absent)", "b: (absent) -> 2"]
    assert recipe.digest(old) == recipe.digest(dict(reversed(old.items()))) != recipe.digest(new)


def test_spaces_around_a_field_change_nothing():
    spaced = get("attention_boosted", overrides=["train.batch_size = 8"], backbone="resnet50")
    assert spaced.train.batch_size == 8


def test_group_names_stay_text_however_often_they_are_set():
    twice = get("attention_boosted", overrides=["data.test_groups=01,2", "data.test_groups=02"])
    assert twice.data.test_groups == ("02",)


def test_what_a_model_lets_choose_is_checked_without_keras():
    with pytest.raises(ValueError, match=r"model_args.mode 'cnn_lsmt' \(did you mean 'cnn_lstm'"):
        recipe.get("attention_boosted", overrides=["model_args.mode=cnn_lsmt"])


def test_a_value_of_another_type_in_a_stored_recipe_is_named():
    tree = recipe.to_json(recipe.get("attention_boosted"))
    for section, key, value in (("train", "epochs", "five"), ("train", "jit", 1), ("data", "fps", "1")):
        broken = {**tree, section: {**tree[section], key: value}}
        with pytest.raises(ValueError, match=f"{section}.{key}={value!r}: expected"):
            recipe.from_json(broken)
    assert recipe.from_json({**tree, "data": {**tree["data"], "fps": 2}}).data.fps == 2
