"""What happens after each training step: the log line, the summaries, the checkpoints, the way out."""

import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from starter import eval_util
from starter.checkpoints import KEEP, SUBFOLDER
from tfvc import checkpoints

EVERY = 10  # steps from one look at Hit@1, PERR and GAP to the next, as in the original
SAVE_SECONDS = 15 * 60


class Steps(keras.callbacks.Callback):
    """Watches a `starter.trainer.Trainer` that is fitted.

    Every step's loss and speed are printed; at each 10th step the batch's Hit@1, PERR and GAP too, which go
    to TensorBoard. A checkpoint is saved at the first 10th step of a sitting, then at a 10th step when
    `export_model_steps` have passed, after 15 minutes, on a signal and at the end.

    **Source**: `Trainer.run` of YouTube-8M's train.py.
    **Differs**: the original keeps every checkpoint, ours the newest `checkpoints.KEEP`.

    Args:
        folder: train_dir.
        network: what is saved.
        progress: `tfvc.checkpoints.Progress`; its `step` is kept here.
        wait: `tfvc.callbacks.DataWait` around the data.
        signals: `tfvc.callbacks.Signals`, looked at after each step.
        max_steps: stop at this step; None = at the end of the data.
        export_model_steps: see above.
        crew: `tfvc.workers.Crew`; the chief alone writes, and a signal to one stops all, at the same step.
        ending: `tfvc.data.sharing.Ending` of this worker's batches: the first that has no more stops all.

    Raises, at a step whose loss is not finite, a ValueError that names it, and `Stopped` after a signal.
    """

    def __init__(self, folder, network, progress, wait, signals, max_steps, export_model_steps, crew, ending):
        super().__init__()
        self._crew, self._ending = crew, ending
        self._folder, self._network, self._progress = Path(folder), network, progress
        self._wait, self._signals = wait, signals
        self._max_steps, self._export_steps = max_steps, export_model_steps
        self._writer = tf.summary.create_file_writer(str(folder)) if crew.chief else None
        self._exported, self._saved = None, progress.step if progress.step else None
        self._saved_at = self._begun = time.perf_counter()
        self.taken = 0  # steps of this sitting
        self.over = False  # whether a worker has no more data

    def on_train_batch_begin(self, batch, logs=None):
        # Here, not at the end of the step before: the time of a checkpoint is not the model's.
        self._clock = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        self._progress.step += 1
        self.taken += 1
        step, seen = self._progress.step, self.model.seen
        if not math.isfinite(loss):
            raise ValueError(
                f"step {step}: the loss is {loss}. Lower --base_learning_rate or look at the data; an "
                f"earlier checkpoint, if there is one, is kept in {self._folder}"
            )
        speed = int(seen.labels.shape[0]) / seconds
        line = f"training step {step} | Loss: {loss:.2f} Examples/sec: {speed:.2f}"
        if step % EVERY:
            print(line, flush=True)
        else:
            hit, perr, gap = _measured(np.asarray(seen.predictions), np.asarray(seen.labels))
            print(f"{line} | Hit@1: {hit:.2f} PERR: {perr:.2f} GAP: {gap:.2f}", flush=True)
            if self._writer:
                self._summarise(step, loss, speed, hit, perr, gap)
        due = step % EVERY == 0 and (self._exported is None or step - self._exported >= self._export_steps)
        if due:
            self._exported = step
        if due or time.perf_counter() - self._saved_at >= SAVE_SECONDS:
            self._save()
        # One that came while it was saved, too.
        caught, self.over = self._crew.largest(self._signals.caught, self._ending.last == self.taken)
        if caught:
            self._save()
        self._signals.obey(caught)
        if self.over or (self._max_steps and step >= self._max_steps):
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.taken:
            self._save()

    def wait_share(self):
        """The share of this sitting's time that went by waiting for data."""
        return min(1.0, self._wait.seconds / max(time.perf_counter() - self._begun, 1e-9))

    def close(self):
        """Hands the summaries to the file system."""
        if self._writer:
            self._writer.close()

    def _save(self):
        step, now = self._progress.step, time.perf_counter()
        if step == self._saved or not self._crew.chief:
            return
        self._progress.seconds += now - self._saved_at
        checkpoints.save(self._folder / SUBFOLDER, self._network, self.model.optimizer, self._progress, KEEP)
        self._saved, self._saved_at = step, time.perf_counter()
        self._writer.flush()

    def _summarise(self, step, loss, speed, hit, perr, gap):
        rows = {
            "model/Training_Hit@1": hit,
            "model/Training_Perr": perr,
            "model/Training_GAP": gap,
            "global_step/Examples/Second": speed,
            "label_loss": loss,
            "reg_loss": float(self.model.seen.regularization),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "data_wait_share": self.wait_share(),
        }
        with self._writer.as_default(step=step):
            for name, value in rows.items():
                tf.summary.scalar(name, value)


def _measured(predictions, labels):
    return (
        eval_util.calculate_hit_at_one(predictions, labels),
        eval_util.calculate_precision_at_equal_recall_rate(predictions, labels),
        eval_util.calculate_gap(predictions, labels),
    )
