"""What a run will be, told before it is one."""

from pathlib import Path

import pytest
from made import recipe
from test_imports import quick

from tfvc import plan
from tfvc import recipe as recipes
from tfvc import train as train_module
from tfvc.plan import default_workdir


def test_paths_of_a_recipe_are_made_absolute_and_words_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net", "vgg19", "imagenet"):
        Path(name).mkdir()
    for given, expected in [
        ("net", str(tmp_path / "net")),
        ("hub:./net", f"hub:{tmp_path / 'net'}"),
        ("hub:https://tfhub.dev/net", "hub:https://tfhub.dev/net"),
        ("vgg19", "vgg19"),
        ("nowhere.keras", "nowhere.keras"),
    ]:
        found = plan.settled(recipe(f"backbone.name={given}"))
        assert found.backbone.name == expected and plan.settled(found) == found
    found = plan.settled(recipe("backbone.weights=net", "data.lists=net"))
    assert found.backbone.weights == found.data.lists == str(tmp_path / "net")
    assert plan.settled(recipe()) == recipe()


def test_the_default_folder_is_named_by_all_that_makes_the_run():
    base = default_workdir(recipe(), "x", 0)
    assert base.startswith("runs/attention_boosted-") and base == default_workdir(recipe(), "x", 0)
    others = [
        default_workdir(recipe("train.epochs=4"), "x", 0),
        default_workdir(recipe(), "y", 0),
        default_workdir(recipe(), "x", 1),
        default_workdir(recipe(), "x", 0, "runs/z"),
    ]
    assert len({base, *others}) == 5


def test_dry_run_is_quick_and_marks_what_only_the_data_can_tell(tmp_path):
    line = ["-m", "tfvc.train", "--dry_run", "--set=train.epochs=7", "--backbone=vgg16"]
    out, best = quick(line, False, tmp_path)
    assert best < 0.5
    lines = out.splitlines()
    assert "train.epochs = 7" in lines and "backbone.name = vgg16" in lines
    assert "demo set: train.batch_size=16 (not the paper's setting)" in lines
    assert "data.frames = 0, settled <from the data>" in lines
    marked = [line.split(" = ")[0] for line in lines if line.endswith(recipes.FROM_DATA)]
    assert marked == [
        "data.kind",
        "data.frames",
        "backbone.standardize",
        "train.batch_size",
        "classes",
        "frames per clip (T)",
        "feature width (D)",
        "clips in training, validation, test",
        "steps per epoch",
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--backbone=vgg18"], "unknown backbone 'vgg18' (did you mean 'vgg19'?)"),
        (["--backbone=my/net.keras"], "my/net.keras: no such model"),
        (["--data=absent"], "absent: no such file or folder"),
        (["--strategy=mirored"], "unknown strategy 'mirored' (did you mean 'mirrored'?)"),
        (["--strategy=cpu:0"], "unknown strategy 'cpu:0'"),
        (["--strategy=cpu:N"], "unknown strategy 'cpu:N'"),
        (["--init_from=absent"], "absent/recipe.json: no such file"),
        (["--set=model_args.mode=cnn_lsmt"], "unknown value of model_args.mode 'cnn_lsmt'"),
        (["--set=model_args.units=0"], "model_args.units=0: expected at least 1"),
        (["--set=model_args.dropout=1"], "model_args.dropout=1.0: expected less than 1"),
        (["--set=backbone.weights=foo"], "backbone.weights=foo: no such file"),
        (["--set=backbone.size=1000000,1000000"], "each up to 8192"),
        (["--set=data.fps=1e300"], "data.fps=1e+300: expected at most 1000"),
        (["--set=data.test_groups=g01"], "data.test_groups is for data.split=group"),
        (["--seed=-1"], "--seed=-1"),
    ],
)
def test_a_dry_run_refuses_names_that_are_none(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_module.main(["--dry_run", *words])
    out, err = capsys.readouterr()
    assert stopped.value.code and message in err and not out and len(err.splitlines()) == 1


def test_a_demo_override_that_the_user_replaced_is_not_announced():
    lines = plan.describe(
        recipes.get("attention_boosted", overrides=["train.batch_size=4"], demo=True), "", "x"
    )
    assert "demo set: backbone.size=112,112 (not the paper's setting)" in lines
    assert not any("train.batch_size=16" in line for line in lines)
