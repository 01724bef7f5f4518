"""One training by one process, by two replicas in it, and by two workers: the same curve, the same weights.

The other families: `python tests/crew.py FOLDER`.
"""

import crew
import numpy as np
import pytest
import tensorflow as tf

from tfvc.workers import Crew

# Clipped: the gradients are summed first. Published: batch norms, and paths that stand still.
CASES = ("clipped", "mafnet published")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crew")
    alone = tf.distribute.get_strategy()
    for name in CASES:
        crew.keep(folder, "default", name, crew.train(name, alone, Crew(alone), folder / "default" / name))
    for name in crew.BY_PATHS:
        crew.keep(folder, "default", name, crew.by_paths(name, alone, folder / "default" / name))
    return folder


@pytest.fixture(scope="module")
def replicas(folder):
    """The same folder, once a process with two replicas has trained all too."""
    statuses, texts = crew.run(folder, "cpu:2", [*CASES, *crew.BY_PATHS])
    assert not any(statuses), texts
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    """Statuses and texts of two workers, of which the second dies in the end."""
    return crew.run(folder, "multiworker", [*CASES, crew.GONE])


def assert_same(folder, strategy, name):
    losses, measures, weights = crew.distances(
        crew.found(folder, "default", name), crew.found(folder, strategy, name)
    )
    assert losses < 1e-5 and measures < 1e-5 and weights < 1e-5, (losses, measures, weights)


@pytest.mark.parametrize("name", CASES)
def test_two_workers_train_as_one_process(folder, pair, name):
    assert_same(folder, "multiworker", name)


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_train_as_one(replicas, name):
    assert_same(replicas, "cpu:2", name)


@pytest.mark.parametrize("name", crew.BY_PATHS)
def test_two_replicas_take_the_steps_of_one_device(replicas, name):
    one, two = (crew.found(replicas, strategy, name) for strategy in ("default", "cpu:2"))
    atol = 1e-5 if "float32" in crew.BY_PATHS[name] else 2e-3
    assert one.keys() == two.keys() and len(one["losses"]) == 1
    for key in one.keys() - {"losses"}:
        np.testing.assert_allclose(two[key], one[key], atol=atol, err_msg=key)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-2)


def test_a_worker_whose_like_is_gone_says_so_and_stops(pair):
    statuses, texts = pair
    assert statuses == [1, -9], texts
    assert "worker 0 of 2: another worker (localhost:" in texts[0] and "start all again" in texts[0], texts
    assert not texts[0].count("is gone, or cannot be reached") > 1
