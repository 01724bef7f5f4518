"""Which part of the data a worker reads: by file, or its part of each batch; and where it ends."""

import numpy as np
import pytest
import tensorflow as tf
from made import make_records
from made_records import CLASSES, ROWS, shards

from tfvc.callbacks import DataWait
from tfvc.data import pipeline, records
from tfvc.data.sharing import ALONE, Ending, Share
from tfvc.recipe import Feature

BATCH = 6


def test_a_worker_takes_its_part_of_a_batch():
    batch = ({"x": tf.range(6)}, tf.reshape(tf.range(12), (6, 2)))
    first, second = (Share(i, 2).cut(batch) for i in range(2))
    np.testing.assert_array_equal(first[0]["x"], [0, 1, 2])
    np.testing.assert_array_equal(second[1], [[6, 7], [8, 9], [10, 11]])
    assert ALONE.cut(batch) is batch


@pytest.mark.parametrize("files, expected", [(1, False), (15, False), (16, True), (100, True)])
def test_files_are_shared_out_where_each_worker_gets_eight(files, expected):
    assert Share(0, 2).by_file(files) is expected
    assert not ALONE.by_file(files)


def test_by_file_each_belongs_to_one_worker():
    parts = [Share(i, 3).own(list(range(8))) for i in range(3)]
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize("items", (0, 1, 5))
def test_the_ending_is_told_with_the_last_batch(items):
    ending = Ending()
    dataset = tf.data.Dataset.range(items).map(lambda x: ({"x": x[None]}, tf.fill([2], x)))
    last, seen = {}, []
    for x, y in ending.wrap(dataset):
        seen.append((int(x["x"][0]), y.numpy().tolist()))
        last[len(seen)] = ending.last
    assert seen == [(i, [i, i]) for i in range(items)]
    assert last.get(items) == (items or None)  # known with it; before it, where TensorFlow has read ahead
    assert set(last.values()) <= {None, items}


# ---- batches of the readers ----


def by_pattern(pattern, share, **options):
    """Ids of each batch."""
    source = records.Records(pattern, ROWS, CLASSES)
    with records.readable():
        return [
            ids.numpy().tolist()
            for _, _, ids in records.batches(
                source, BATCH, share=share, seed=1, drop_remainder=True, **options
            )
        ]


@pytest.mark.parametrize("shuffle", (False, True))
def test_few_files_give_each_worker_its_part_of_the_very_batches(tmp_path, shuffle):
    pattern = shards(tmp_path)
    whole = by_pattern(pattern, ALONE, shuffle=shuffle)
    parts = [by_pattern(pattern, Share(i, 2), shuffle=shuffle) for i in range(2)]
    assert len(whole) == 2
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_many_files_are_read_once_between_the_workers(tmp_path):
    pattern = shards(tmp_path, 16, 3)
    parts = [by_pattern(pattern, Share(i, 2), shuffle=True) for i in range(2)]
    assert [len(batch) for part in parts for batch in part] == [BATCH // 2] * 16
    files = [{name.split(b"-")[0] for batch in part for name in batch} for part in parts]
    assert not files[0] & files[1] and len(files[0] | files[1]) == 16
    assert len({name for part in parts for batch in part for name in batch}) == 48


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """40 clips in three shards."""
    return make_records(tmp_path_factory.mktemp("made") / "records")


def of_manifest(folder, share, steps, shuffle=True, **options):
    """Labels and first numbers of each batch of so many steps; steps an epoch."""
    source = pipeline.Source(folder, [Feature("frames", (3, 6))], ["left", "right"])
    given = {"seed": 1, "shuffle": shuffle, "drop_remainder": False, "replicas": 2, "share": share}
    dataset, length = pipeline.train_batches(source, BATCH, **given | options)
    return [x["frames"][:, 0, 0].numpy().tolist() for x, _ in dataset.take(steps)], length


@pytest.mark.parametrize("first_step", (0, 9))
def test_clips_in_memory_too(clips, first_step):
    whole, length = of_manifest(clips, ALONE, 8, first_step=first_step)
    parts = [of_manifest(clips, Share(i, 2), 8, first_step=first_step) for i in range(2)]
    assert [a + b for a, b in zip(parts[0][0], parts[1][0], strict=True)] == whole
    assert [part[1] for part in parts] == [length, length] == [7, 7]


def test_streamed_shards_are_dealt_so_that_the_workers_end_together(clips, monkeypatch):
    monkeypatch.setattr("tfvc.data.sharing._FILES", 1)
    parts = [of_manifest(clips, Share(i, 2), 5, cache_mb=0, shuffle=False) for i in range(2)]
    lengths = {part[1] for part in parts}
    assert len(lengths) == 1
    for batches, _ in parts:
        assert all(len(batch) <= BATCH // 2 for batch in batches)
    seen = [{x for batch in part[0] for x in batch} for part in parts]
    assert not seen[0] & seen[1]


def test_no_iterator_has_a_tuner_that_its_end_would_wait_for(clips, tmp_path):
    source = pipeline.Source(clips, [Feature("frames", (3, 6))], ["left", "right"])
    made = [
        pipeline.train_batches(source, BATCH, shuffle=True, drop_remainder=False)[0],
        pipeline.batches(source, BATCH),
        records.batches(records.Records(shards(tmp_path), ROWS, CLASSES), BATCH),
    ]
    for dataset in made:
        for fed in (dataset, Ending().wrap(dataset), DataWait().wrap(dataset)):
            assert fed.options().autotune.enabled is False
