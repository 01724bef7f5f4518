"""How every starter program reads its command line, fails and stops; and the flags that they share.

A flag is a row `name: (kind, default, help)`. A kind is "string", "boolean", a row of `BOUNDS`, or a tuple
of words to choose from. Programs put their tables together and call `command`. They run as
`python -m starter.train` and as `python starter/train.py`; for the latter each program begins, before it
imports anything of ours, with

    import sys
    from pathlib import Path

    if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
        sys.path[0] = str(Path(__file__).resolve().parents[1])

and ends with `if __name__ == "__main__": main()`. Nothing at its top level may import TensorFlow or Keras.
"""

import os

from absl import flags

from starter.model_flags import BOUNDS
from starter.model_flags import FLAGS as MODEL  # noqa: F401  the flags of the models; their one home
from tfvc import cli

TRAIN_DIR = {
    "train_dir": ("string", "/tmp/yt8m_model/", "folder of the run: model_flags.json, checkpoints, summaries")
}
# What model_flags.json of the original holds; the flags of MODEL join them in ours.
IDENTITY = {
    "model": ("string", "LogisticModel", "which model, as LogisticModel or DbofModel"),
    "feature_names": ("string", "mean_rgb", "streams to read, separated by commas, as rgb,audio"),
    "feature_sizes": ("string", "1024", "their widths, in the same order, as 1024,128"),
    "frame_features": (
        "boolean",
        False,
        "the records hold frames (SequenceExample), not means (Example)",
    ),
    "label_loss": ("string", "CrossEntropyLoss", "CrossEntropyLoss, HingeLoss or SoftmaxLoss"),
}
VOCABULARY = {"num_classes": ("size", 3862, "classes: 3862 in YouTube-8M of 2018 and 2019, 4716 in 2017's")}
SEGMENTS = {"segment_labels": ("boolean", False, "read rated segments of 5 frames instead of whole videos")}
PLACEMENT = {"log_device_placement": ("boolean", False, "print the device of every operation")}
_MEMORY = "--batch_size, or the sizes of the model (--dbof_cluster_size, --lstm_cells, ...)"


def reading(batch_size, num_readers, on_corrupt):
    """The flags of whoever reads records, with a program's own defaults."""
    return {
        "batch_size": ("size", batch_size, "videos (or segments) a batch"),
        "num_readers": (
            "few",
            num_readers,
            "threads that read and parse; left out: as many as there are cores",
        ),
        "on_corrupt": (
            ("skip", "stop"),
            on_corrupt,
            "a damaged shard: skip = read what is whole, name the file and the byte, go on; stop = an error",
        ),
    }


def command(prog, doc, flag_specs, run, argv=None):
    """Parses a command line, runs `run(arguments)` and exits with its status.

    An error is one line, exit status 1; a wrong command line 2, with "Did you mean" where a flag is unknown.
    `--help` and `--version` answer without TensorFlow.

    Args:
        prog: module name, as `starter.train`.
        doc: text above the flags in `--help`.
        flag_specs: dict, name -> `(kind, default, help)`.
        run: function of an object with one attribute a flag, and `given`, the set of the names that the
            command line sets; returns an exit status or None. It imports TensorFlow itself.
        argv: the arguments after the program's name; None = `sys.argv[1:]`.

    Raises:
        SystemExit: always.

    Example:
        >>> command("starter.x", "Doc.", {"n": ("positive", 1, "how many")}, lambda a: a.n, ["--n=2"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    values = flags.FlagValues()
    for name, (kind, default, text) in flag_specs.items():
        if isinstance(kind, tuple):
            flags.DEFINE_enum(name, default, kind, text, flag_values=values)
        elif kind in BOUNDS:
            cli.number(name, default, text, *BOUNDS[kind], values)
        else:
            plain = {"string": flags.DEFINE_string, "boolean": flags.DEFINE_boolean}
            plain[kind](name, default, text, flag_values=values)
    cli.launch(prog, values, doc, run, argv, memory=_MEMORY)


def place(arguments):
    """Does what `--log_device_placement` asks for. Call it before TensorFlow is imported."""
    if arguments.log_device_placement:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"  # TensorFlow tells it through its own log
        import tensorflow as tf

        tf.debugging.set_log_device_placement(True)


def chosen(arguments, specs):
    """The flags of a table as a dict, name -> value.

    Example:
        >>> class Arguments:
        ...     train_dir, seed = "/tmp/x", 3
        >>> chosen(Arguments, TRAIN_DIR)
        {'train_dir': '/tmp/x'}
    """
    return {name: getattr(arguments, name) for name in specs}
