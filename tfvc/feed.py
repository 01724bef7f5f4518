"""What a run is fed: training, validation and test batches out of its records."""

import tensorflow as tf

from tfvc import names
from tfvc.data import pipeline, sharing


class Feed:
    """The batches of a run. Says, and notes, where they are not what the recipe asks for.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe`.
        facts: `tfvc.workdir.Facts`; what is said goes into its notes.
        split: `{"train": ids, "validation": ids, "test": ids}`.
        seed: of the order.
        replicas: devices that share a batch, in equal parts, which `train.accumulate` parts once more.
        share: the worker's, where several train.

    Raises:
        ValueError: the batch has not one clip for each part.
    """

    def __init__(self, recipe, facts, split, seed, replicas=1, share=sharing.ALONE):
        self._recipe, self._facts, self._split, self._seed = recipe, facts, split, seed
        asked, clips, pieces = recipe.train.batch_size, len(split["train"]), recipe.train.accumulate
        self._share, self._parts = share, replicas * pieces
        self.batch = min(asked, clips) // self._parts * self._parts
        sharers = sharing.sharers(replicas, pieces)
        if not self.batch:
            raise ValueError(
                f"{sharers} share a batch of {min(asked, clips)}; expected at least one clip each: "
                "raise train.batch_size, or give more clips, or fewer of them"
            )
        if clips < asked:
            facts.say(f"batch of {asked} shrunk to the {clips} training clips")
        if self.batch < min(asked, clips):
            facts.say(f"batch of {min(asked, clips)} shrunk to {self.batch}, a multiple of {sharers}")
        if self.batch == self._parts and "momentum" in names.keyword_defaults(recipe.model):
            facts.say("a batch of one clip a replica: batch norms cannot tell clips apart, little is learnt")
        left = clips % (self.batch if recipe.train.drop_remainder else self._parts)
        if left:
            same = "" if recipe.train.shuffle else ", the same ones each time"
            what = "full batch" if recipe.train.drop_remainder else f"equal parts for {sharers}"
            facts.say(f"{left} training clips make no {what} and are dropped in each epoch{same}")
        self._held = split["validation"] or split["test"]
        if not split["validation"]:
            choice = recipe.train.report == "best" or recipe.train.patience
            chooses = " and chooses the epoch that is reported" if choice else ""
            facts.say(f"validation: the test part serves in each epoch{chooses}")
        elif recipe.train.report == "best" and len(self._held) < 2 * len(facts.classes):
            facts.say(f"validation: only {len(self._held)} clips choose the epoch that is reported")
        self._whole = recipe.train.drop_remainder and len(self._held) >= self.batch
        if recipe.train.drop_remainder and not self._whole:
            facts.say(f"validation: {len(self._held)} clips are less than a batch, so none is dropped")
        self._first, self.steps = self._endless(0)

    def training(self, first_step):
        """Infinite, shuffled as the recipe says, from a step on."""
        # The first is not made twice, nor kept beside another: its records may fill data.cache_mb of memory.
        first, self._first = None if first_step else self._first, None
        return first or self._endless(first_step)[0]

    def validation(self):
        """One pass over the validation part, or over the test part where there is none."""
        return self._once(self._held, drop_remainder=self._whole, cache_mb=self._recipe.data.cache_mb)

    def test(self):
        """One pass over all test clips."""
        return self._once(self._split["test"])

    def once(self, part):
        """One pass over all clips of a part; None where the split has no such part."""
        return self._once(self._split[part]) if self._split[part] else None

    def readable(self):
        """Around whatever reads the batches: a shard that breaks is named."""
        return pipeline.readable(self._facts.records)

    def statistics(self, name):
        """Mean and variance of each channel of a row, over the training clips' features."""
        mean, variance = pipeline.feature_statistics(self._source(self._split["train"]), name)
        places = tuple(range(mean.ndim - 1))  # of a map: all its positions are one channel's
        return mean.mean(places), variance.mean(places) + mean.var(places)

    def _endless(self, first_step):
        return pipeline.train_batches(
            self._source(self._split["train"]),
            self.batch,
            seed=self._seed,
            shuffle=self._recipe.train.shuffle,
            drop_remainder=self._recipe.train.drop_remainder,
            first_step=first_step,
            replicas=self._parts,
            cache_mb=self._recipe.data.cache_mb,
            share=self._share,
        )

    def _once(self, ids, drop_remainder=False, **options):
        source = self._source(ids)
        dataset = pipeline.batches(source, self.batch, drop_remainder=drop_remainder, ids=False, **options)
        count = len(ids) // self.batch if drop_remainder else -(-len(ids) // self.batch)
        # Else nobody could know before where a pass ends.
        return dataset.apply(tf.data.experimental.assert_cardinality(count))

    def _source(self, ids):
        f = self._facts
        return pipeline.Source(f.records, f.features, f.classes, f.multi_label, ids)
