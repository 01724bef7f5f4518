"""Videos a second through the metrics of YouTube-8M, against the original's design, and the memory they take.

(a) ours: `starter.eval_util.EvaluationMetrics`, from predictions (B, C) that lie in memory to Hit@1, PERR,
mAP and GAP; (b) the original's design: `argpartition` a video, a heap a class and one for all, Python loops;
(c) `tf.math.top_k` alone, for scale. The same batches, the rounds alternating, medians; no equal scores.
Memory: the growth of the peak of a process that evaluates `memory_videos`, above its first batch.
"""

import heapq
import subprocess
import sys
from pathlib import Path

import numpy as np

from experiments.benchmarks import Result, alternate, medians, memory

OPTIONS = {
    "videos": 10240,
    "classes": 3862,
    "batch": 1024,
    "top_k": 20,
    "rounds": 5,
    "memory_videos": 1_000_000,
}
_RATE, _RATIO = 38_000, 5  # videos/s, or so many times the original's design
_AGREEMENT = 1e-9
_MEGABYTES = 250  # for 1,000,000 videos


def run(options):
    """Measures speed, agreement and memory; returns the list of results."""
    import tensorflow as tf

    predictions, labels = made(options["videos"], options["classes"], options["top_k"])
    rows = range(0, options["videos"], options["batch"])
    batches = [(predictions[i : i + options["batch"]], labels[i : i + options["batch"]]) for i in rows]
    found = {}
    cases = {
        "ours": lambda: found.update(ours=_ours(batches, options)),
        "original": lambda: found.update(original=_original(batches, options)),
        "top_k": lambda: [tf.math.top_k(p, options["top_k"]) for p, _ in batches],
    }
    for case in cases.values():
        case()
    seconds = alternate(cases, options["rounds"])
    rate = {key: options["videos"] / value for key, value in medians(seconds).items()}
    ratio = rate["ours"] / rate["original"]
    shown = ", ".join(f"{key} {value:,.0f}" for key, value in rate.items())
    details = {"seconds": seconds, "videos_per_second": rate}
    growth = _memory(options)
    scale = options["memory_videos"] / 1_000_000
    return [
        Result(
            f"speed: of {_RATE:,} videos/s or {_RATIO} x the original's design, the nearer",
            max(rate["ours"] / _RATE, ratio / _RATIO),
            1.0,
            f"videos/s: {shown}",
            details,
        ),
        Result("ours / the original's design", ratio),
        Result(
            f"agreement: {_AGREEMENT:g} / largest difference",
            _AGREEMENT / max(_difference(**found), 1e-18),
            1.0,
            f"difference {_difference(**found):.1e} in Hit@1, PERR, GAP and every AP",
        ),
        Result(
            f"memory: {_MEGABYTES} MB a million videos / growth",
            _MEGABYTES * scale / max(growth, 1e-3),
            1.0 if scale >= 1 else None,  # the blocks do not shrink with the set
            f"{growth:.0f} MB for {options['memory_videos']:,} videos",
        ),
    ]


def made(videos, classes, top_k, seed=0):
    """Predictions whose `top_k` of each video are all different numbers, and labels, three a video."""
    rng = np.random.default_rng(seed)
    predictions = rng.random((videos, classes), "float32") * np.float32(0.5)
    best = np.argsort(rng.random((videos, classes), "float32"), axis=1)[:, :top_k]
    numbers = 0.5 + 0.5 * (rng.permutation(best.size) + 0.5) / best.size
    np.put_along_axis(predictions, best, numbers.reshape(best.shape).astype("float32"), 1)
    labels = np.zeros((videos, classes), bool)
    np.put_along_axis(labels, best[:, :2], True, 1)  # found; the third seldom is
    np.put_along_axis(labels, rng.integers(0, classes, (videos, 1)), True, 1)
    return predictions, labels


def _ours(batches, options):
    from starter.eval_util import EvaluationMetrics

    metrics = EvaluationMetrics(options["classes"], options["top_k"])
    for predictions, labels in batches:
        metrics.accumulate(predictions, labels, 0.0)
    whole = metrics.get()
    return [whole["avg_hit_at_one"], whole["avg_perr"], whole["gap"], *whole["aps"]]


def _original(batches, options):
    """The original's design, written anew: triplets a video, a heap a class, sorted lists at the end."""
    classes, k = options["classes"], min(options["top_k"], options["classes"])
    heaps, everything = [[] for _ in range(classes)], []
    positives, hits, shares, videos = np.zeros(classes), 0, 0.0, 0
    for predictions, labels in batches:
        videos += len(predictions)
        positives += labels.sum(axis=0)
        for p, y in zip(predictions, labels, strict=True):
            hits += y[np.argmax(p)]
            wanted = int(y.sum())
            best = np.argpartition(p, -wanted)[-wanted:]
            shares += sum(y[c] for c in best if p[c] > 0) / wanted
            for c in np.argpartition(p, -k)[-k:]:
                heapq.heappush(heaps[c], (p[c], y[c]))
                heapq.heappush(everything, (p[c], y[c]))
    aps = [_average_precision(heap, n) for heap, n in zip(heaps, positives, strict=True) if n]
    return [hits / videos, shares / videos, _average_precision(everything, positives.sum()), *aps]


def _average_precision(pairs, positives):
    right, total = 0, 0.0
    for place, (_, hit) in enumerate(sorted(pairs, reverse=True), 1):
        if hit:
            right += 1
            total += right / place
    return total / positives


def _difference(ours, original):
    return float(np.max(np.abs(np.subtract(ours, original))))


def _memory(options):
    """MB by which the peak of a fresh process grows while it evaluates many videos."""
    names = ("memory_videos", "classes", "batch", "top_k")
    call = f"print(metrics.growth({', '.join(f'{options[name]}' for name in names)}))"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", f"from experiments.benchmarks import metrics; {call}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ValueError(f"the process that measures memory failed: {result.stderr.strip()[-300:]}")
    return float(result.stdout.split()[-1])


def growth(videos, classes, batch, top_k):
    """MB by which this process' peak rises above what it holds after two batches. The same batch again and
    again, with other scores each time. Linux only."""
    from starter.eval_util import EvaluationMetrics

    predictions, labels = made(batch, classes, top_k)
    scaled = np.empty_like(predictions)
    metrics = EvaluationMetrics(classes, top_k)
    for step in range(-(-videos // batch)):
        np.multiply(predictions, np.float32(1 - step * batch / (2 * videos)), out=scaled)
        metrics.accumulate(scaled[: videos - step * batch], labels[: videos - step * batch], 0.0)
        if step == 1:
            metrics.get()
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
            before = memory("VmRSS")
    metrics.get()
    return memory("VmHWM") - before
