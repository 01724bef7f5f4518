"""The docs are true: links, examples, fields, messages, quirks. Their commands: `test_docs.py`."""

import ast
import importlib
import inspect
import re

import pytest
from conftest import ROOT

from tfvc import names, recipe
from tfvc.data import manifests

README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTER = (ROOT / "starter/README.md").read_text(encoding="utf-8")
DOCS = [ROOT / "README.md", ROOT / "starter/README.md", *sorted((ROOT / "experiments").rglob("*.md"))]
ALL = "".join(path.read_text(encoding="utf-8") for path in DOCS)
PAGES = sorted(path for path in (ROOT / "experiments").glob("*/README.md"))
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def test_the_main_job_is_in_it():
    assert "tfvc.train --model=attention_boosted --backbone=vgg19" in README


def anchors(path):
    """What a heading may be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_somewhere(path):
    text = re.sub(r"`[^`]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        if "://" not in link:
            target = path.parent / name if name else path
            assert target.exists(), f"{link}: no such file"
            assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_papers_page_has_its_parts_and_its_quirks(page):
    text = page.read_text(encoding="utf-8")
    parts = re.findall(r"^## (\w+)", text, re.M)
    assert parts == ["Claim", "Ours", "Command", "Quirks", "Deviations"]
    named = [m for m in names.available("models") if f"`{m}`" in text or m == page.parent.name]
    for model in named:
        for field, value, why in recipe.get(model).quirks:
            row = f"| `{field}` | {value} | {why} |"
            assert row in text, f"expected the row {row} ..."


def test_each_paper_has_a_page_and_no_page_is_taken_for_a_module():
    told = {page.parent.name for page in PAGES}
    assert told == {"attention_boosted", "mafnet", "mfb", "raf", "resbilstm"}
    assert not any((ROOT / f"experiments/{name}.py").exists() for name in told)


@pytest.mark.parametrize("suffix", ("csv", "jsonl"))
def test_the_manifests_that_are_shown_are_manifests(suffix, tmp_path):
    shown = re.search(rf"```{suffix}\n(.+?)```", (ROOT / "experiments/data.md").read_text(), re.S).group(1)
    (tmp_path / f"m.{suffix}").write_text(shown)
    rows = manifests.read(tmp_path / f"m.{suffix}", media=False)
    assert len(rows) == shown.count("clips/") and rows[0]["labels"] == ("flood", "damage")
    assert rows[0]["group"] == "video1" and {row["part"] for row in rows} >= {"train", "test"}


def test_sports_1m_becomes_a_manifest_as_told(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.+?)```", (ROOT / "experiments/data.md").read_text(), re.S).group(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sports").mkdir()
    for name in "abd":
        (tmp_path / f"sports/{name}.mp4").touch()
    lines = ("a 12", "b 3,4", "c 12")  # b has two labels, c is not there
    (tmp_path / "train_partition.txt").write_text("".join(f"http://x/watch?v={line}\n" for line in lines))
    (tmp_path / "test_partition.txt").write_text("http://x/watch?v=d 3\n")
    exec(compile(code, "experiments/data.md", "exec"), {})
    rows = manifests.read(tmp_path / "sports.csv")
    assert [(row["id"], row["labels"], row["part"]) for row in rows] == [
        ("a", ("12",), "train"),
        ("d", ("3",), "test"),
    ]


def test_the_python_example_calls_what_there_is():
    tree = ast.parse(re.search(r"## In Python\n+```python\n(.+?)```", README, re.S).group(1))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    for call in calls:
        function = getattr(importlib.import_module(f"tfvc.{call.func.value.id}"), call.func.attr)
        inspect.signature(function).bind(*call.args, **{k.arg: k.value for k in call.keywords})
    assert len(calls) == 4


def test_the_starters_python_example_trains(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.+?)```", STARTER, re.S).group(1)
    for big, small in (("1024", "8"), ("128", "4"), ("300", "6"), ("3862", "5")):
        code = code.replace(big, small)
    folder = tmp_path / "yt8m/frame"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    import numpy as np
    import tensorflow as tf

    from tfvc.data import schema
    from tfvc.recipe import Feature

    rows = [Feature(name, (None, size), "uint8") for name, size in (("rgb", 8), ("audio", 4))]
    with tf.io.TFRecordWriter(str(folder / "train0.tfrecord")) as writer:
        for k in range(6):
            frames = {row.name: np.full((3 + k, row.shape[1]), 40 * k, "uint8") for row in rows}
            writer.write(schema.serialize(str(k), [k % 5], frames, rows))
    found = {}
    exec(compile(code, "starter/README.md", "exec"), found)
    assert found["model"].output_shape == (None, 5) and "gap" in capsys.readouterr().out


SECTIONS = "data|backbone|audio|text|train|second_stage|predict|model_args"
FIELDS = re.findall(rf"(?:--set=|`)((?:{SECTIONS})\.(?!npz|md)[a-z]\w*)[=`]", ALL)


@pytest.mark.parametrize("field", sorted(set(FIELDS)))
def test_each_recipe_field_exists(field):
    models = names.available("models")
    known = {key for model in models for key in recipe.flatten(recipe.get(model))}
    known |= {f"model_args.{key}" for model in models for key in names.keyword_defaults(model)}
    assert field in known


@pytest.mark.parametrize("quote", re.findall(r"^\| `([^`]*\.\.\.[^`]*)` \|", README, re.M))
def test_each_quoted_message_is_one_of_ours(quote):
    paths = [path for room in ("tfvc", "starter") for path in (ROOT / room).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    words = [w.strip("() .") for w in quote.split("...")]
    assert all(w in source for w in words), words
