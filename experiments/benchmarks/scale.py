"""Memory and rates with 1, 10 and 100 times the data, and what the whole of YouTube-8M would take.

Each case, with each amount of data, has a process of its own; its peak (VmHWM) at 10x and 100x may exceed the
one at 1x by a tenth. 1x is meant to fill every buffer: shuffling draws from 256 MB of records. (Where
something is trained, or records are small, it is told to draw from less, so that 1x is soon gone through:
`drawn_mb` of `_scale_cases.py`.) 10x and 100x are links to the files of 1x under other names, so they lie in
the system's cache.

What a result is made of has to be kept, some bytes a unit; `keeps` there says what and how many bytes at
most, and the bar is on all else. Those numbers were set after first runs had shown what grows: for the cases
that have one, a bar that is met says that the growth is explained, not that there is none. `as it is` is the
ratio with nothing taken off; what is over a tenth there is named below the table.

The rates of a machine that does other work beside are lower bounds. A rate is of a whole command, but for
loading TensorFlow: at 1x most of it is the start.
"""

import multiprocessing
import os
import tempfile

from experiments.benchmarks import Result, _paper, _scale_cases

OPTIONS = {
    "cases": "",  # separated by commas; "" = all
    "factors": "1,10,100",
    "shards": 16,  # at 1x; in each so many records:
    "frame": 104,  # of frame level; 97 are drawn from at a time
    "short": 128,  # of frame level with at most 30 frames
    "video": 2048,  # of video level, to be read
    "means": 512,  # ... to be trained on
    "few": 128,  # ... to be measured and predicted
    "clips": 512,  # of ours, 129 KB each, and as many of 2 KB
    "cache_mb": 16,  # of the first, more are streamed
    "media": 40,  # video files
    "seconds": 36,  # of the long one: an hour at 100x, the longest that is taken
    "steps": 3,  # timed of each model, in batches of `batch`; 0 = no table of YouTube-8M
    "batch": 128,
    "pictures": 96,  # of 640 x 360 through InceptionV3
}
_FLAT = 1.1


def run(options):
    """Makes the data, measures every case; returns the list of results."""
    names = options["cases"].split(",") if options["cases"] else list(_scale_cases.CASES)
    for name in names:
        if name not in _scale_cases.CASES:
            from tfvc.names import suggest

            raise ValueError(suggest("case", name, _scale_cases.CASES))
    factors = [int(f) for f in options["factors"].split(",")]
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh,
    ):
        fresh.apply(_scale_cases.make, (folder, factors, names, options))
        found = {
            n: [fresh.apply(_scale_cases.measure, (n, folder, f, options)) for f in factors] for n in names
        }
        steps = {}
        if options["steps"]:
            steps = {n: fresh.apply(_paper.step, (n, options)) for n in _paper.MODELS}
            steps["InceptionV3"] = fresh.apply(_paper.pictures, (folder, options))
    results = [_result(name, rows, factors) for name, rows in found.items()]
    for name, row in steps.items():
        unit = "pictures" if name == "InceptionV3" else f"videos, steps of {options['batch']}"
        results.append(Result(f"{name}: {unit}, a second", row["rate"], None, "", row))
    return results


def _result(name, rows, factors):
    case = _scale_cases.CASES[name]
    first, *more = (row["peak"] - case.keeps * row["count"] / 1e6 for row in rows)
    worst = max(row["peak"] for row in rows[1:])
    slope = (rows[-1]["peak"] - rows[0]["peak"]) * 1e6 / max(1, rows[-1]["count"] - rows[0]["count"])
    plain = worst / rows[0]["peak"]
    note = f"as it is x {plain:.2f}: {rows[0]['peak']:.0f} -> {worst:.0f} MB, "
    note += f"{slope:.0f} bytes a {case.unit[:-1]}"
    if case.keeps:
        note += f"; up to {case.keeps} are kept for {case.why}"
    details = {"case": name, "factors": factors, "rows": rows, "slope": slope, "plain": plain}
    title = f"{case.title}: peak at {factors[0]}x / highest of the others"
    return Result(title, first / max(more), 1 / _FLAT, note, details)


def _cell(case, row):
    memory = f"peak {row['peak']:.0f}, end {row['end']:.0f} MB"
    return f"{row['count']:,} {case.unit}, {row['rate']:,.0f}/s, {memory}"


def page(results):
    """What stands below the table of the bars, as Markdown."""
    cases = [r for r in results if "rows" in r.details]
    heads = ["what", "MB before", *(f"{f}x" for f in cases[0].details["factors"])]
    grown = [r for r in cases if r.details["plain"] > _FLAT]
    names = [f"{_scale_cases.CASES[r.details['case']].title} (x {r.details['plain']:.2f})" for r in grown]
    lines = ["", f"Over x {_FLAT} with nothing taken off: {'; '.join(names) or 'none'}."]
    lines += ["", "# Records, rates and memory", "", " ".join(__doc__.split())]
    load = f"{os.getloadavg()[2]:.1f} on {len(os.sched_getaffinity(0))} cores"
    lines += ["", f"Load of the machine meanwhile (mean of the last 15 minutes): {load}.", ""]
    lines += _paper.head(heads)
    for r in cases:
        rows, case = r.details["rows"], _scale_cases.CASES[r.details["case"]]
        cells = [_cell(case, row) for row in rows]
        lines.append(_paper.line([case.title, f"{rows[0]['before']:.0f}", *cells]))
    measured = {r.details["case"]: r.details["rows"][-1]["rate"] for r in cases}
    steps = {r.name.partition(":")[0]: r.details for r in results if "rows" not in r.details}
    if steps and {"read_frames", "read_videos"} <= set(measured):
        lines += _paper.page(measured["read_frames"], measured["read_videos"], steps)
    return "\n".join(lines) + "\n"
