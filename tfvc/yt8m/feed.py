"""What a run on records by pattern is fed. It has the face of `tfvc.feed.Feed`."""

import tensorflow as tf

from tfvc.data import records
from tfvc.data.report import Report
from tfvc.data.sharing import ALONE, sharers


class Feed:
    """The batches of a run.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe`.
        facts: `tfvc.workdir.Facts`.
        parts: `{"train": files, "validation": files, "test": files}`.
        seed: of the order.
        replicas: devices that share a batch, in equal parts, which `train.accumulate` parts once more.
        share: the worker's, where several train.
        on_corrupt: `stop` at what is damaged, or `skip` it.

    Attributes:
        batch: clips a batch.
        steps: from one look at the validation part to the next: an "epoch" of the trainer.
        report: what was skipped.

    Raises:
        ValueError: parts of a batch that are not equal.
    """

    def __init__(self, recipe, facts, parts, seed, replicas=1, share=ALONE, on_corrupt="stop"):
        self._share, pieces = share, recipe.train.accumulate
        self._facts, self._parts, self._seed, self._on_corrupt = facts, parts, seed, on_corrupt
        self._shuffle, self.batch = recipe.train.shuffle, recipe.train.batch_size
        self.steps = recipe.train.steps_per_epoch
        self.report = Report()
        if self.batch % (replicas * pieces):
            who = sharers(replicas, pieces)
            raise ValueError(f"train.batch_size={self.batch}: expected a multiple of the {who} that share it")

    def training(self, first_step):
        """Infinite, shuffled as the recipe says, from a step on; full batches, over the end of a pass."""
        endless = {"epochs": None, "shuffle": self._shuffle, "seed": self._seed, "first_step": first_step}
        return self._pairs("train", **endless, drop_remainder=True, share=self._share)

    def validation(self):
        """One pass over the validation part."""
        return self._pairs("validation")

    def test(self):
        """One pass over the test part."""
        return self._pairs("test")

    def readable(self):
        """Around whatever reads the batches: what is damaged is named."""
        return records.readable()

    @tf.autograph.experimental.do_not_convert
    def _pairs(self, part, **options):
        return self.batches(part, **options).map(lambda inputs, labels, ids: (inputs, labels))

    def batches(self, part, **options):
        """`(inputs, labels, ids)` of a part, as `records.batches`."""
        source = records.Records(self._parts[part], self._facts.features, len(self._facts.classes))
        return records.batches(source, self.batch, on_corrupt=self._on_corrupt, report=self.report, **options)
