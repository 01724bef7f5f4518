"""`--strategy` to `tf.distribute`: devices, and workers. The batch size is always the global one."""

import os
import re

from tfvc import names, workers

_WORDS = ("default", "mirrored", "multiworker")


def scope(name="default"):
    """The strategy of a run. Call it before anything else touches a device.

    Each replica takes an equal part of a batch, so the batch is a multiple of their number (`tfvc.feed`).

    Args:
        name: `default` (one device), `mirrored` (every GPU; without one, the CPU, said so), `cpu:N`
            (N logical CPU devices: what several GPUs would do, for tests) or `multiworker` (this process and
            those that TF_CONFIG names, with all their GPUs; returns when all are there).

    Returns:
        A `tf.distribute.Strategy`; build and compile the model under its `scope()`.

    Raises:
        ValueError: another name; `cpu:N` after TensorFlow has set up its devices; a TF_CONFIG that is none.
    """
    import tensorflow as tf  # here, so that `check` answers at once

    count = check(name)
    if name != "multiworker" and os.environ.get("TF_CONFIG"):
        print(f"strategy {name}: this process trains alone; TF_CONFIG is heeded by --strategy=multiworker")
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "multiworker":
        return workers.join()
    if name == "mirrored":
        if not tf.config.list_physical_devices("GPU"):
            print("strategy mirrored: no GPU here, so one CPU replica")
            return tf.distribute.MirroredStrategy(["/cpu:0"])
        return tf.distribute.MirroredStrategy()
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in _logical_cpus(count)])


def check(name):
    """N of `cpu:N`, 0 of the other names; ValueError for what is none, and for `multiworker` without a
    TF_CONFIG."""
    match = re.fullmatch(r"cpu:([1-9]\d{0,2})", name)
    if not match and name not in _WORDS:
        raise ValueError(names.suggest("strategy", name, (*_WORDS, "cpu:N")))
    if name == "multiworker":
        workers.task()
    return int(match[1]) if match else 0


def is_chief(name):
    """Whether this process writes into the folder of the run. Looks at no device."""
    return name != "multiworker" or workers.task().index == 0


def _logical_cpus(count):
    import tensorflow as tf

    physical = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(physical) or ()) != count:
        try:
            tf.config.set_logical_device_configuration(
                physical, [tf.config.LogicalDeviceConfiguration()] * count
            )
        except RuntimeError:
            raise ValueError(
                f"strategy cpu:{count}: TensorFlow has already set up its devices in this process; "
                "ask for it in a fresh one, before any other use of TensorFlow"
            ) from None
    found = len(tf.config.list_logical_devices("CPU"))  # this sets them up
    if found != count:
        raise ValueError(f"strategy cpu:{count}: this process already runs with {found} CPU devices")
    return range(count)
