"""Several processes train one model: who they are, what they agree on, and which of them writes.

Each builds the same network and takes the same steps, with its own part of each batch. Worker 0, the chief,
alone writes into the folder of the run, which all must be able to read.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass

_FORM = '{"cluster": {"worker": ["a:9800", "b:9800"]}, "task": {"type": "worker", "index": 0}}'
_LONGEST = 500  # letters of TF_CONFIG in an error
_WORD = 30  # seconds from one word about who is missing to the next


@dataclass(frozen=True)
class Task:
    """A process and its like.

    Args:
        index: of this process; 0 is the chief.
        addresses: `host:port` of each.
    """

    index: int = 0
    addresses: tuple = ("",)


def task():
    """This process, by the environment variable TF_CONFIG.

    Raises:
        ValueError: it is not set, or not what TensorFlow would understand.

    Example:
        >>> os.environ["TF_CONFIG"] = _FORM
        >>> task().addresses
        ('a:9800', 'b:9800')
        >>> del os.environ["TF_CONFIG"]
    """
    text = os.environ.get("TF_CONFIG", "")
    wrong = f"TF_CONFIG={text!r}: " if text else "TF_CONFIG is not set: "
    try:
        tree = json.loads(text or "{}")
        cluster, own = tree["cluster"], tree["task"]
        kind, number, chief = own["type"], str(own["index"]), list(cluster.get("chief", []))
        addresses = [*chief, *cluster.get("worker", [])]
        fault = next((f"{a!r} is no host:port" for a in addresses if not _is_address(a)), "")
        if not set(cluster) <= {"chief", "worker"} or kind not in cluster or len(chief) > 1:
            fault = "the types of its tasks are not worker, or chief (one) and worker"
        elif not (number.isascii() and number.isdecimal() and int(number) < len(cluster[kind])):
            fault = f"index {number} is not one of its {len(cluster[kind])} tasks of type {kind}"
        elif len({a.lower() for a in addresses}) < len(addresses):
            fault = "an address stands there twice"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = f"not of this form ({type(error).__name__})"
    if fault:
        raise ValueError(
            f"{wrong[:_LONGEST]}{fault}; expected all workers and which of them this is, as {_FORM}"
        )
    return Task(int(number) + (len(chief) if kind == "worker" else 0), tuple(addresses))


def _is_address(text):
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    named = re.fullmatch(r"[^\s,/:\[\]]+|\[[0-9a-fA-F:.]+(%\w+)?\]", host)
    return bool(named and re.fullmatch(r"[1-9]\d{0,4}", port, re.ASCII)) and int(port) < 1 << 16


def join():
    """The strategy of a training by several workers, once all are there.

    Raises:
        ValueError: as `task`; the port is taken.
    """
    import tensorflow as tf

    own = task()
    if len(own.addresses) > 1:
        print(
            f"worker {own.index} of {', '.join(own.addresses)}: waiting until all are there "
            "(each is started by the same command, with its own index in TF_CONFIG)",
            flush=True,
        )
    _meet(own)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"worker {own.index}, {own.addresses[own.index]}: cannot join ({lines[0]})"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # TensorFlow takes it for itself


def _meet(own):
    """Waits until all workers are there: TensorFlow, which would wait too, looks at no signal meanwhile."""
    host, _, port = own.addresses[own.index].rpartition(":")
    both = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
    try:
        here = socket.create_server(("", int(port)), **both)
    except OSError as error:
        raise ValueError(
            f"worker {own.index}, {host}:{port}: cannot listen there ({os.strerror(error.errno)}); end what "
            "does, or give TF_CONFIG another port, for all workers"
        ) from None
    with here:
        since = time.monotonic()
        for number, address in enumerate(own.addresses):
            while number != own.index and (why := _absent(address, port)):
                time.sleep(0.5)
                if time.monotonic() - since > _WORD:
                    since = time.monotonic()
                    print(
                        f"worker {own.index}: still waiting for worker {number}, {address} ({why})",
                        flush=True,
                    )


def _absent(address, own_port):
    """Why nobody answers at an address; "" where somebody does."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as line:
            here, there = line.getsockname()[0], line.getpeername()[0]
    except OSError as error:  # not yet
        return error.strerror or str(error)
    if here == there and port == own_port:
        raise ValueError(
            f"{address}: this very process answers there, so TF_CONFIG has one machine under two names; "
            "expected an address or a port of its own for each worker"
        )
    return ""


class Crew:
    """The workers of a strategy; alone, where there is but one process. What they tell each other waits for
    all of them, so all must ask in the same order.

    Args:
        devices: the `tf.distribute.Strategy`.
    """

    def __init__(self, devices):
        import tensorflow as tf

        from tfvc.data.sharing import Share

        self._devices = devices
        several = isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy)
        own = task() if several else Task()
        self.index, self.count, self.chief = own.index, len(own.addresses), own.index == 0
        self.share = Share(self.index, self.count)
        self._addresses = own.addresses

        @tf.function(reduce_retracing=True)
        def rows(values):
            return devices.run(
                lambda own: tf.distribute.get_replica_context().all_gather(own[None], 0), (values,)
            )

        self._rows = rows

    @contextlib.contextmanager
    def standing(self, remedy):
        """Around what the workers do together.

        Raises:
            ValueError: in place of TensorFlow's error: another worker is gone; it ends with the remedy.
        """
        import tensorflow as tf

        gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError)
        gone += (tf.errors.CancelledError, tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError)
        try:
            yield
        except gone as error:
            if self.count == 1:
                raise
            others = ", ".join(a for i, a in enumerate(self._addresses) if i != self.index)
            raise ValueError(
                f"worker {self.index} of {self.count}: another worker ({others}) is gone, or cannot be "
                f"reached ({type(error).__name__}); {remedy}"
            ) from None

    def gathered(self, values):
        """Numbers of all workers: float64 array, a row a worker."""
        import numpy as np
        import tensorflow as tf

        values = np.asarray(values, np.float64)
        if self.count == 1:
            return values[None]

        rows = self._rows(tf.constant(values))
        rows = self._devices.experimental_local_results(rows)[0].numpy()
        return rows[:: len(rows) // self.count]

    def wait(self):
        """Until all are here."""
        self.gathered([0.0])

    def largest(self, *numbers):
        """The largest of the workers' first numbers, of their second ones, and so on: whole numbers."""
        return [int(number) for number in self.gathered(numbers).max(0)]

    def from_chief(self, make, count):
        """`count` numbers that the chief makes, and no other worker."""
        return self.gathered(make() if self.chief else [0.0] * count)[0].tolist()

    def in_turn(self, work):
        """The result of a function that the chief calls first: what it makes, the others find."""
        result = work() if self.chief else None
        self.wait()
        return result if self.chief else work()

    def agree(self, told, remedy):
        """Finds that all workers have been told the same.

        Args:
            told: name -> anything that JSON can hold.
            remedy: what to do where they have not.

        Raises:
            ValueError: what differs is named.
        """
        if self.count == 1:
            return
        texts = (json.dumps(value, sort_keys=True, default=str) for value in told.values())
        sums = [int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) for text in texts]  # whole as floats
        rows = self.gathered(sums)
        other = [name for name, column in zip(told, rows.T, strict=True) if len(set(column)) > 1]
        if other:
            what = f"the workers have not the same {', '.join(other)}"
            raise ValueError(f"worker {self.index} of {self.count}: {what}; {remedy}")

    def see(self, flag, path):
        """Finds that all workers see a file that the chief has written.

        Args:
            flag: that names its folder.
            path: Path of the file.

        Raises:
            ValueError: some do not.
        """
        remedy = f"expected one folder that all read, as on a shared disk, not each its own ({path.parent})"
        self.agree({flag: self.in_turn(path.exists)}, remedy)

    def placed(self, dataset):
        """A worker's batches, on its devices in equal parts; alone, the dataset itself: `fit` places it."""
        import tensorflow as tf

        if self.count == 1:
            return dataset
        local = self._devices.num_replicas_in_sync // self.count

        def parts(*batch):
            stacked = tf.nest.map_structure(lambda values: tf.stack(tf.split(values, local)), batch)
            return tf.data.Dataset.from_tensor_slices(stacked)

        dataset = dataset.flat_map(parts) if local > 1 else dataset
        return self._devices.distribute_datasets_from_function(lambda _: dataset)
