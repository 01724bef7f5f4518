"""Who the workers are, and what one alone does where several would talk to each other."""

import json
import signal
import socket
import time

import crew as crews
import numpy as np
import pytest
import tensorflow as tf

from tfvc import workers
from tfvc.data.sharing import ALONE

TWO = ["one:2222", "two:2222"]


def config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    "kind, index, expected",
    [("worker", 0, (0, *TWO)), ("worker", 1, (1, *TWO))],
)
def test_a_task_is_what_tf_config_says(kind, index, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config({"worker": TWO}, kind, index))
    own = workers.task()
    assert (own.index, *own.addresses) == expected


@pytest.mark.parametrize("kind, expected", [("chief", 0), ("worker", 1)])
def test_a_chief_by_name_comes_first(kind, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config({"chief": TWO[:1], "worker": TWO[1:]}, kind))
    assert workers.task() == workers.Task(expected, tuple(TWO))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "7",
        config({"worker": TWO}, index=2),
        config({"worker": TWO}, index=-1),
        config({"worker": TWO}, index="x"),
        config({"worker": TWO}, kind="chief"),
        config({"worker": TWO, "ps": ["three:1"]}),
        config({"worker": [TWO[0], TWO[0]]}),
        config({"worker": "one:2222"}),
        config({"worker": ["one"]}),
        config({"worker": [":2222"]}),
        config({"worker": ["one:99999"]}),
        config({"worker": ["one:\u00b2"]}),
        config({"worker": [1]}),
        config({"worker": ["http://one:1"]}),
        config({"worker": ["one two:1"]}),
        config({"worker": ["one,two:1"]}),
        config({"worker": ["one:01"]}),
        config({"worker": ["::1:2"]}),
        config({"worker": ["One:1", "one:1"]}),
        config({}),
    ],
)
def test_a_tf_config_that_is_none_is_refused_in_one_line(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="^TF_CONFIG.*; expected all workers and which of them") as raised:
        workers.task()
    assert "\n" not in str(raised.value)
    assert (repr(text) if text else "is not set") in str(raised.value)


@pytest.mark.parametrize("address", ["[::1]:80", "127.0.0.1:80", "a-b.c_d:65535", "[fe80::1%eth0]:1"])
def test_addresses_of_every_form_are_taken(address, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config({"worker": [address]}))
    assert workers.task().addresses == (address,)


def test_a_long_tf_config_is_not_told_whole(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "x" * 100_000)
    with pytest.raises(ValueError) as raised:
        workers.task()
    assert len(str(raised.value)) < 1000


def test_one_machine_under_two_names_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = workers.Task(0, (f"localhost:{port}", f"127.0.0.1:{port}"))
    with pytest.raises(ValueError, match=f"127.0.0.1:{port}: this very process answers there"):
        workers._meet(own)


def test_one_process_is_chief_and_waits_for_nobody():
    crew = workers.Crew(tf.distribute.get_strategy())
    assert (crew.index, crew.count, crew.chief, crew.share) == (0, 1, True, ALONE)
    crew.wait()
    np.testing.assert_array_equal(crew.gathered([1, 2.5]), [[1, 2.5]])
    assert crew.largest(3, True) == [3, 1]
    assert crew.from_chief(lambda: [0.5, 2], 2) == [0.5, 2]
    assert crew.in_turn(lambda: "made") == "made"
    crew.agree({"settings": 1}, "never")
    dataset = tf.data.Dataset.range(3)
    assert crew.placed(dataset) is dataset


def test_alone_errors_of_tensorflow_stay_what_they_are():
    crew = workers.Crew(tf.distribute.get_strategy())
    with pytest.raises(tf.errors.UnavailableError), crew.standing("start again"):
        raise tf.errors.UnavailableError(None, None, "x")


def test_a_signal_ends_the_wait_for_the_others():
    waiting = crews.start(["-c", "from tfvc import workers; workers.join()"], crews.ports(2), 0)
    while "waiting until all are there" not in waiting.stdout.readline():
        assert waiting.poll() is None
    time.sleep(1)
    waiting.send_signal(signal.SIGTERM)
    try:
        assert waiting.wait(60)
    finally:
        waiting.kill()
        waiting.communicate()


def test_a_port_that_is_taken_is_told(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("TF_CONFIG", config({"worker": [f"localhost:{port}", TWO[1]]}))
        with pytest.raises(ValueError, match=f"^worker 0, localhost:{port}: cannot listen there"):
            workers.join()
