"""Writes what was measured beside what was printed: a page and pictures for each study, and the summary.

    python -m experiments.report                   results/results.jsonl -> results/<study>.md and .png
    python -m experiments.report --results=FILE --out=FOLDER
    python -m experiments.report --published       experiments/tables/*.jsonl -> their pages and pictures
                                                   beside them, and experiments/README.md

It reads nothing but the lines of `experiments.run`."""

import contextlib
from pathlib import Path

from absl import flags

from experiments import page, papers, results, study
from tfvc import cli, files

HERE = Path(__file__).resolve().parent
TABLES = HERE / "tables"
_PREFACE = """# What five papers claim, and what is measured here

Written by `python -m experiments.report --published` from the lines of `tables/*.jsonl`, one for each run
that was made here; of what was measured, no number is typed by hand. How studies are run, and the other
commands: [RUNNING.md](RUNNING.md); how to get the sets: [data.md](data.md).

None of the papers' sets is whole on the machine that builds this, nor are the weights of their backbones. So
the runs are of the embedded demo sets, of real YouTube-8M records (averages) and of 22 real UCF-101 clips;
each table says which. The levels are not the papers'; the command for the paper's own set stands under it.
Here: mean ± standard deviation over the seeds (lowest to highest, number of seeds), of the part of the data
that chose nothing. **not run**: no line, for the reason under the table."""


def write(path=results.FILE, out="results", names=()):
    """Writes the page and the pictures of every study that has lines.

    Args:
        path: `results.jsonl`.
        out: folder.
        names: of the studies; none = all.

    Returns:
        list of the files written.

    Raises:
        FileNotFoundError: no such file, or no results yet.
        ValueError: a line that is no result of a run.
    """
    lines = results.some(path)
    written = []
    for a_study in study.named(path, lines, names):
        mine, others = page.latest(results.of_study(path, lines, a_study))
        table = [page.measured(a_study, row, mine) for row in a_study.rows]
        with _new(out, f"{a_study.name}.md", written) as temporary:
            temporary.write_text(page.page(a_study, table, mine, others), encoding="utf-8")
        for file, figure in page.drawn(a_study, table):
            with _new(out, file, written) as temporary:
                figure.savefig(temporary, format="png", dpi=120)
    return written


@contextlib.contextmanager
def _new(folder, name, written):
    """A file that appears whole, and is listed then."""
    with files.aside(Path(folder) / name) as temporary:
        yield temporary
    written.append(Path(folder) / name)


def publish():
    """Writes the pages and pictures of the stored lines beside them, and `experiments/README.md`.

    Returns:
        list of the files written.
    """
    written = [file for path in sorted(TABLES.glob("*.jsonl")) for file in write(path, TABLES)]
    with _new(HERE, "README.md", written) as temporary:
        temporary.write_text(summary(), encoding="utf-8")
    return written


def summary(folder=TABLES):
    """All papers, all their tables and figures, as Markdown.

    Args:
        folder: of `*.jsonl`, the stored lines.
    """
    lines = [line for path in sorted(Path(folder).glob("*.jsonl")) for line in results.read(path)]
    index = [*page.head(["paper", "study", "rows measured", "not run", "cost"])]
    parts = []
    for paper in papers.PAPERS:
        parts += [f"## {paper.name}", f"{paper.title}. Its own page: [{paper.name}]({paper.name}/README.md)."]
        parts.append(f"Claims: {paper.claim}")
        for name in paper.studies:
            a_study, (mine, _) = study.load(name), page.latest(results.find(lines, study=name))
            table = [page.measured(a_study, row, mine) for row in a_study.rows]
            ran = sum(bool(m.runs) for m in table)
            cells = [paper.name, f"{a_study.title} (`{name}`)", f"{ran}", f"{len(table) - ran}"]
            index.append(page.in_cells([*cells, page.cost(a_study, mine)]))
            parts += _section(a_study, table, mine)
        if paper.others:
            parts += ["### No study", page.bullets(f"{each.name}: {each.what}" for each in paper.others)]
    return "\n\n".join([_PREFACE, "\n".join(index), *parts]) + "\n"


def _section(a_study, table, lines):
    """A study in the summary: the table, what was not run, the orders, the cost, the full set."""
    yield f"### {a_study.title}"
    yield f"{a_study.source}; study `{a_study.name}`."
    rows = [page.numbers(a_study, m) for m in table]
    rows += [page.prior(a_study, line) for line in results.find(lines, row=a_study.baseline_title)[:1]]
    yield "\n".join([*page.head(page.heads(a_study)), *map(page.in_cells, rows)])
    if missing := [*page.not_run(a_study, table), *page.elsewhere(a_study)]:
        yield "Not run:\n\n" + page.bullets(missing)
    yield from page.orders(a_study, table)
    if lines:
        data, *_ = page.circumstances(a_study, lines, 0)
        yield (
            f"Here: {data}; {page.cost(a_study, lines)}. What differs from the paper, settings, curves, "
            f"versions: [{a_study.name}](tables/{a_study.name}.md)."
        )
    if a_study.full:
        yield page.commands(a_study.full)


def main(argv=None):
    def command(arguments):
        given = arguments.published, arguments.results, arguments.out
        if arguments.published and given[1:] != (results.FILE, "results"):
            raise cli.Usage("--published: reads and writes what is stored; expected no --results, no --out")
        for file in publish() if arguments.published else write(arguments.results, arguments.out):
            print(f"written: {file}")

    values = flags.FlagValues()
    flags.DEFINE_string("results", results.FILE, "lines of experiments.run", values)
    flags.DEFINE_string("out", "results", "folder of the pages and pictures", values)
    flags.DEFINE_bool("published", False, "the stored lines, and experiments/README.md", values)
    cli.launch("experiments.report", values, __doc__, command, argv)


if __name__ == "__main__":
    main()
