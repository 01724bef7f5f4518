"""What a run on records by pattern is fed. It has the face of `tfvc.feed.Feed`."""

from tfvc.data import records
from tfvc.data.report import Report


class Feed:
    """The batches of a run.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe`.
        facts: `tfvc.workdir.Facts`.
        parts: `{"train": files, "validation": files, "test": files}`.
        seed: of the order.
        replicas: devices that share a batch, in equal parts.
        on_corrupt: `stop` at what is damaged, or `skip` it.

    Attributes:
        batch: clips a batch.
        steps: from one look at the validation part to the next: an "epoch" of the trainer.
        report: what was skipped.

    Raises:
        ValueError: replicas that do not share a batch equally.
    """

    def __init__(self, recipe, facts, parts, seed, replicas=1, on_corrupt="stop"):
        self._facts, self._parts, self._seed, self._on_corrupt = facts, parts, seed, on_corrupt
        self._shuffle, self.batch = recipe.train.shuffle, recipe.train.batch_size
        self.steps = recipe.train.steps_per_epoch
        self.report = Report()
        if self.batch % replicas:
            raise ValueError(
                f"train.batch_size={self.batch}: expected a multiple of the {replicas} replicas that share it"
            )

    def training(self, first_step):
        """Infinite, shuffled as the recipe says, from a step on; full batches, over the end of a pass."""
        endless = {"epochs": None, "shuffle": self._shuffle, "seed": self._seed, "first_step": first_step}
        return self._pairs("train", **endless, drop_remainder=True)

    def validation(self):
        """One pass over the validation part."""
        return self._pairs("validation")

    def test(self):
        """One pass over the test part."""
        return self._pairs("test")

    def readable(self):
        """Around whatever reads the batches: what is damaged is named."""
        return records.readable()

    def _pairs(self, part, **options):
        return self.batches(part, **options).map(lambda inputs, labels, ids: (inputs, labels))

    def batches(self, part, **options):
        """`(inputs, labels, ids)` of a part, as `records.batches`."""
        source = records.Records(self._parts[part], self._facts.features, len(self._facts.classes))
        return records.batches(source, self.batch, on_corrupt=self._on_corrupt, report=self.report, **options)
