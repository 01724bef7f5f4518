"""Evaluates the checkpoints of a training: `python -m starter.eval`."""

import sys
import time
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from starter import checkpoints, flags, submissions
from tfvc import files

_DOC = """Evaluates the newest checkpoint of --train_dir: Hit@1, PERR, MAP, GAP and loss.

A line a batch and one for the whole set, also as summaries in <train_dir>/eval. Without --run_once it waits
for the next checkpoint, until Ctrl-C. The model is kept in <train_dir>/inference_model for starter.inference.
The flags of the model are read from model_flags.json; given here as well, they must be the same."""

FLAGS = (
    flags.TRAIN_DIR
    | {
        "eval_data_pattern": (
            "string",
            "",
            "the records: file names, `*` and `?` allowed, separated by commas",
        ),
        "run_once": ("boolean", False, "evaluate once, and do not wait for newer checkpoints"),
        "top_k": ("positive", 20, "how many classes of a video count for GAP and MAP"),
        "init_from": (
            "string",
            "",
            "evaluate this checkpoint, as run/model.ckpt-1000 of TensorFlow 1, not the newest",
        ),
    }
    | flags.reading(1024, 8, "stop")
    | flags.SEGMENTS
    | checkpoints.STORED
)
FLAGS["num_readers"] = ("positive", 8, submissions.READERS)
_POLL = 2.0  # seconds between two looks for a checkpoint


def evaluate(settings):
    """Evaluates the newest checkpoint, then every one that comes; with `run_once` or `init_from` only one.

    **Source** `evaluate` and `evaluation_loop` of YouTube-8M's eval.py.

    **Differs** The flags of the model need not be repeated. Models that sample frames do not sample here: the
    result depends neither on chance nor, but for rounding, on the batch. The kept model is ours (see
    starter/serving.py), and is replaced, not a reason to crash. Between two checkpoints it sleeps.

    Args:
        settings: object with one attribute for each name of `FLAGS`, and `given`, the names that were set.

    Returns:
        dict of the last pass: `epoch_id` (the global step), `avg_hit_at_one`, `avg_perr`, `avg_loss`, `aps`,
        `gap`.

    Raises:
        ValueError, FileNotFoundError: no run, no checkpoint (with `run_once`), other flags than the run's, or
            records that the model cannot read.
    """
    from starter import serving

    if not settings.eval_data_pattern:
        raise ValueError(
            "--eval_data_pattern: expected the records to evaluate on, as 'data/validate*.tfrecord'"
        )
    train_dir = serving.home(settings)
    once = settings.run_once or bool(settings.init_from)
    served = passes = found = None
    for path in [settings.init_from] if settings.init_from else _checkpoints(train_dir, once):
        try:
            if served is None:
                model_flags = serving.flags_for(path, train_dir, settings)
                served = serving.restored(path, model_flags, settings.segment_labels)
            else:
                served.load(path)
        except FileNotFoundError:
            if once or Path(path).exists():
                raise
            print(f"{path}: training has removed it meanwhile", flush=True)
            continue
        print(f"evaluating {files.shown(path)}", flush=True)
        passes = passes or _Passes(served, settings, train_dir / "eval")
        found = passes.run()
        serving.keep(served, serving.kept_folder(train_dir, settings.segment_labels))
    return found


def _checkpoints(train_dir, once):
    """Yields the path of the newest checkpoint, then of every one that comes."""
    seen, listing, waiting = None, None, False
    while True:
        # A look at names is cheap; `newest` reads the whole file.
        now = sorted(
            p.name for p in (*train_dir.glob("*.ckpt-*"), *train_dir.glob(f"{checkpoints.SUBFOLDER}/*"))
        )
        path = checkpoints.newest(train_dir) if now != listing else seen
        listing = now
        if path and path != seen:
            seen, waiting = path, False
            yield path
        elif once:
            from starter import serving

            raise serving.no_model(train_dir)
        if once:
            return
        if not waiting:
            print(f"waiting for a new checkpoint in {files.shown(train_dir)}; Ctrl-C ends it", flush=True)
            waiting = True
        time.sleep(_POLL)


class _Passes:
    """Passes over the records with one model, whose weights may change between them."""

    def __init__(self, served, settings, folder):
        import tensorflow as tf

        from starter import eval_util, losses, serving
        from tfvc.data import records

        self._served = served
        self._pattern = settings.eval_data_pattern
        self._nothing = "no rated segment" if settings.segment_labels else "no whole record"
        self._scope = "SegEval" if settings.segment_labels else "Eval"
        self._metrics = eval_util.EvaluationMetrics(served.num_classes, settings.top_k)
        self._report = records.Report()
        self._batches = serving.batches(
            self._pattern, served, settings, settings.segment_labels, self._report
        )
        label_loss = losses.find(served.flags["label_loss"])
        self._step = _step(served.model, label_loss, settings.top_k, settings.segment_labels)
        self._writer = tf.summary.create_file_writer(str(folder))

    def run(self):
        """One pass; returns its measures, as `EvaluationMetrics.get`, and `epoch_id`."""
        from tfvc.data import records

        self._metrics.clear()
        step, done, clock = self._served.step, 0, time.perf_counter()
        with records.readable(), self._writer.as_default(step):
            for inputs, labels, _, *weights in self._batches:
                summary, loss = self._step(inputs, labels, *weights)
                batch = self._metrics.accumulate_summary(summary, loss)
                done += len(labels)
                now = time.perf_counter()
                speed, clock = len(labels) / max(now - clock, 1e-9), now
                self._log_batch(done, step, batch, speed)
            if not done:
                raise ValueError(f"{self._pattern}: {self._nothing}")
            found = self._metrics.get() | {"epoch_id": step}
            self._log_pass(found)
        self._writer.flush()
        if self._report.faults:
            print(self._report.summary(), flush=True)
        return found

    def _log_batch(self, done, step, batch, speed):
        hit, perr, loss = batch["hit_at_one"], batch["perr"], batch["loss"]
        rows = {"Hit@1": hit, "Perr": perr, "Loss": loss, "Example_Second": speed}
        self._summarise("GlobalStep", rows)
        print(
            f"examples_processed: {done} | global_step {step} | Batch Hit@1: {hit:.3f} "
            f"| Batch PERR: {perr:.3f} | Batch Loss: {loss:.3f} | Examples_per_sec: {speed:.3f}",
            flush=True,
        )

    def _log_pass(self, found):
        hit, perr, loss = (found[f"avg_{name}"] for name in ("hit_at_one", "perr", "loss"))
        aps, gap = found["aps"], found["gap"]
        mean_ap = float(np.mean(aps)) if aps else float("nan")  # no class has a label
        rows = {"Avg_Hit@1": hit, "Avg_Perr": perr, "Avg_Loss": loss, "MAP": mean_ap, "GAP": gap}
        self._summarise("Epoch", rows)
        print(
            f"epoch/eval number {found['epoch_id']} | Avg_Hit@1: {hit:.3f} | Avg_PERR: {perr:.3f} "
            f"| MAP: {mean_ap:.3f} | GAP: {gap:.3f} | Avg_Loss: {loss:3f} | num_classes: {len(aps)}",
            flush=True,
        )

    def _summarise(self, group, rows):
        import tensorflow as tf

        for name, value in rows.items():
            tf.summary.scalar(f"{group}/{self._scope}_{name}", value)


def _step(model, label_loss, top_k, weighted):
    """A function of a batch: what the measures need of it, and its loss. Nothing else leaves the device."""
    import tensorflow as tf

    from starter import serving
    from tfvc import topk

    def step(inputs, labels, weights=None):
        predictions = model(inputs, training=False)
        loss = label_loss.calculate_loss(predictions, labels)
        if weights is not None:  # an unrated class is no prediction; the loss does not know
            predictions = predictions * weights
        return topk.summary(labels, predictions, top_k), loss

    classes = tf.TensorSpec((None, model.output_shape[-1]), tf.float32)
    signature = [serving.signature(model), classes, *([classes] if weighted else [])]
    return tf.function(step, input_signature=signature, autograph=False)


def main(argv=None):
    """The command."""

    def run(settings):
        evaluate(settings)

    flags.command("starter.eval", _DOC, FLAGS, run, argv)


if __name__ == "__main__":
    main()
