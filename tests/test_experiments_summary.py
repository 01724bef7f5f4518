"""`experiments/README.md`: every table of the five papers, from the stored lines and nothing else."""

import re
import shlex

import pytest
from conftest import ROOT

from experiments import page, papers, report, results, study
from tfvc import recipe

README = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
PUBLISHED = "python -m experiments.report --published"


def test_the_summary_is_what_the_command_makes_of_the_stored_lines():
    assert report.summary() == README, f"run {PUBLISHED}"


def test_each_study_stands_in_one_paper():
    named = [name for paper in papers.PAPERS for name in paper.studies]
    assert sorted(named) == study.available()
    assert {paper.name for paper in papers.PAPERS} == {
        "attention_boosted",
        "mfb",
        "mafnet",
        "raf",
        "resbilstm",
    }


@pytest.mark.parametrize("name", study.available())
def test_each_row_is_measured_or_says_why_not(name):
    a_study = study.load(name)
    section = README.split(f"### {a_study.title}\n")[1].split("\n### ")[0].split("\n## ")[0]
    assert section.count(f"(tables/{name}.md)") == 1 and (report.TABLES / f"{name}.md").is_file()
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = {line.split(" | ")[0].lstrip("| "): line for line in lines}
    for row in a_study.rows:
        line = cells[row.title or row.name]
        assert ("n = " in line) != ("not run" in line)
        assert not row.not_run or row.not_run in section
        if "not run yet" in line:
            assert re.search(rf"`python -m experiments.run {name} --rows=[\w.,]*\b{row.name}\b", section)
        assert all(f" {number} " in line for number in row.printed.values())
    for metric in page.printed(a_study):
        reason = metric.not_run and f"{metric.title}: {metric.not_run}."
        assert metric in a_study.metrics or (reason and reason in section)


def test_stored_pages_are_of_the_stored_lines():
    for path in report.TABLES.glob("*.jsonl"):
        lines = results.read(path)
        for name in {line["study"] for line in lines}:
            a_study, (mine, others) = study.load(name), page.latest(results.find(lines, study=name))
            table = [page.measured(a_study, row, mine) for row in a_study.rows]
            text = (report.TABLES / f"{name}.md").read_text(encoding="utf-8")
            assert text == page.page(a_study, table, mine, others), f"run {PUBLISHED}"


def test_a_study_without_lines_says_so_and_invents_nothing(tmp_path):
    text = report.summary(tmp_path)
    assert " (n = " not in text and ", n = " not in text
    assert "`python -m experiments.run mfb_table1 --rows=audio,video,concat,fc_concat,mfb,mfb_scaled`" in text


@pytest.mark.parametrize("name", study.available())
def test_the_commands_of_the_full_sets_are_ours(name):
    for _, text in study.load(name).full:
        python, dash, module, *words = shlex.split(text)
        assert (python, dash) == ("python", "-m") and module in ("experiments.run", "tfvc.train")
        if module == "experiments.run":
            assert words[0] == name and all(re.match("--(data|seeds)=", word) for word in words[1:])
            continue
        flags = dict(word[2:].split("=", 1) for word in words if not word.startswith("--set="))
        given = [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
        recipe.get(flags.pop("model"), flags.pop("fidelity", "original"), given)
        assert list(flags) == ["data"]
