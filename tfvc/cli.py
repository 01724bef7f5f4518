"""The shared flags, and how every command starts, fails and stops.

A flag says where and which; the recipe says what and how much.
"""

import errno
import math
import os
import re
import sys

from absl import flags

import tfvc
from tfvc import files, names, recipe, start


class _Whole(flags.IntegerParser):
    """absl's, without Python's own words in the message."""

    def convert(self, argument):
        try:
            return super().convert(argument)
        except ValueError:
            raise ValueError("expected a whole number") from None


class _Real(flags.FloatParser):
    """absl's, which takes NaN for a number within any bounds."""

    def convert(self, argument):
        try:
            value = super().convert(argument)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError("expected a number")
        return value


def number(name, default, text, low, high, values):
    """Defines the flag of a number: whole where `low` is. Bounds included, neither NaN nor infinite.

    Args:
        name, default, text: of the flag.
        low, high: the bounds.
        values: absl `FlagValues`.
    """
    parser = (_Whole if isinstance(low, int) else _Real)(low, high)
    flags.DEFINE(parser, name, default, text, values, flags.ArgumentSerializer())


def _define_seed(name, default, text, flag_values):
    number(name, default, text, 0, 2**32 - 1, flag_values)  # NumPy's bounds


_SHARED = {
    "model": (flags.DEFINE_string, "attention_boosted", "which paper: {models}"),
    "fidelity": (
        flags.DEFINE_string,
        "original",
        "original (the authors' program, quirks included) or corrected",
    ),
    "data": (
        flags.DEFINE_string,
        "",
        "folder of <class>/<clip> (sound files where only sound is read), UCF-101's or AVE's folder, "
        "CSV/JSONL manifest, Kinetics list (data.kind=kinetics_sounds), or extracted records; for mfb a "
        "pattern of YouTube-8M records, as 'yt8m/train*.tfrecord'; empty: the embedded demo set "
        "(evaluate: the run's own test part)",
    ),
    "workdir": (
        flags.DEFINE_string,
        "",
        "folder of the run (extract: of the records); empty, of train and extract alone: named by the recipe",
    ),
    "set": (flags.DEFINE_multi_string, [], "recipe field, as --set=train.epochs=5; repeatable"),
    "seed": (
        _define_seed,
        0,
        "seed of the split, the model's first weights and the order; evaluate: of the resamples of --compare",
    ),
}
_OWN = {
    "backbone": (flags.DEFINE_string, "", "short for --set=backbone.name=..."),
    "strategy": (
        flags.DEFINE_string,
        "default",
        "default, mirrored (all GPUs), multiworker (the processes that TF_CONFIG names), or cpu:N (N logical "
        "CPU replicas)",
    ),
    "init_from": (flags.DEFINE_string, "", "start from this run's weights, by layer name"),
    "dry_run": (flags.DEFINE_boolean, False, "print the resolved recipe and stop"),
    "on_corrupt": (
        flags.DEFINE_string,
        "stop",
        "at a damaged record of YouTube-8M: stop, or skip (named and counted)",
    ),
    "strict": (flags.DEFINE_boolean, False, "exit with status 1 if any clip was skipped"),
    "runner": (
        flags.DEFINE_string,
        "",
        "DirectRunner, FlinkRunner, SparkRunner or DataflowRunner of Apache Beam (pip install 'tfvc[beam]'); "
        "--data and --workdir must be paths that all workers reach; empty: this process alone",
    ),
    "pipeline_options": (
        flags.DEFINE_string,
        "",
        "options of Beam, in one string, as '--direct_num_workers=2 --direct_running_mode=multi_processing'",
    ),
    "output": (flags.DEFINE_string, "", "predictions file, .csv or .json; empty: <workdir>/predictions.csv"),
    "compare": (
        flags.DEFINE_string,
        "",
        "RUN1,RUN2: folders of two finished runs, compared clip by clip; in place of --workdir",
    ),
    "explain": (
        flags.DEFINE_string,
        "",
        "picture (.png) of the scores over time beside the video's thumbnails; empty: none",
    ),
    "text": (
        flags.DEFINE_string,
        "",
        "words that go with the one video given, of a run that reads text: a bare video file has no other "
        "place for them (of several videos: a manifest's column text)",
    ),
}
_MEMORY = (
    "train.batch_size, backbone.batch_size, data.cache_mb, data.frames or model_args.units, or pool the "
    "features (backbone.pooling=avg)"
)
# What TensorFlow tells of the system, partly as exhausted: `{{node x}} /run/events; No space left on device`.
_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE)
_CAUSES = "|".join(map(os.strerror, _NUMBERS))
_NOT_MEMORY = re.compile(rf"(?:(?:^|\}}\}} )(?P<path>[^;{{}}\n]+); )?(?P<what>{_CAUSES})", re.MULTILINE)
# What helps where the system refuses, by its words, which TensorFlow passes on without the number.
_ACCESS = "let this user read and write there, or give another place"
_ROOM = "make room, then run the same command again"
_REMEDIES = {
    os.strerror(number): remedy
    for number, remedy in {
        errno.EEXIST: "a file stands where a folder is needed; move it, or give another place",
        errno.ENOTDIR: "a file stands where a folder is needed; move it, or give another place",
        errno.EISDIR: "a folder stands where a file is needed; move it, or give another place",
        errno.EACCES: _ACCESS,
        errno.EPERM: _ACCESS,
        errno.EROFS: "give a place that can be written",
        errno.ENOSPC: _ROOM,
        errno.EDQUOT: _ROOM,
        errno.EFBIG: "raise the limit of a file's size (ulimit -f), then run the same command again",
        errno.EMFILE: "raise the limit of open files (ulimit -n), then run the same command again",
        errno.ENAMETOOLONG: "give a shorter name",
    }.items()
}


class Usage(ValueError):
    """A wrong command line: exit status 2."""


def command(prog, doc, flag_names, run, argv=None, paths=False):
    """Parses a command line, runs `run(arguments)` and exits with its status.

    Args:
        prog: module name, as `tfvc.train`.
        doc: text above the flags in `--help`.
        flag_names: which of the flags of this file the command takes.
        run: function of an object with one attribute a flag (and `paths`, the bare arguments);
            returns an exit status or None. It imports TensorFlow itself, so that `--help` need not.
        argv: the arguments after the program's name; None = `sys.argv[1:]`.
        paths: whether bare arguments are taken.
    """
    values = flags.FlagValues()
    for name in flag_names:
        define, default, text = (_SHARED | _OWN)[name]
        define(name, default, text.format(models=", ".join(names.available("models"))), flag_values=values)
    launch(prog, values, doc, run, argv, paths)


def launch(prog, values, doc, run, argv=None, paths=False, memory=_MEMORY):
    """`command` for flags that are defined already: what tfvc's and the starter's programs share.

    Args:
        prog, doc, run, argv, paths: as of `command`. `run` also gets `given`, the names of the flags that
            the command line sets.
        values: absl `FlagValues`.
        memory: what to lower where memory is out.
    """
    # Before TensorFlow is imported: without a GPU its start prints lines that look like errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start.spare()
    argv = list(sys.argv[1:] if argv is None else argv)
    status = _guarded(prog, values, doc, argv, run, paths, memory)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def interrupted():
    """Says that Ctrl-C ended a command; returns its exit status."""
    print("\nstopped by Ctrl-C; the same command again goes on, or starts anew", file=sys.stderr)
    return 130


def _guarded(prog, values, doc, argv, run, paths, memory):
    try:
        if "--version" in argv:
            print(f"tfvc {tfvc.__version__}")
            return 0
        if {"--help", "-h", "--helpfull"} & set(argv):
            print(_help(prog, values, doc, paths))
            return 0
        return run(_arguments(prog, values, argv, paths)) or 0
    except KeyboardInterrupt:
        return interrupted()
    except BrokenPipeError:
        return 0
    except failures() as error:
        if os.environ.get("TFVC_DEBUG"):
            raise
        print(f"error: {one_line(error, memory)}", file=sys.stderr)
        return 2 if isinstance(error, Usage) else 1


def failures():
    """The classes of errors that are told in one line; any other is a fault of the program."""
    return (ValueError, OSError, MemoryError, *_tensorflow_errors())


def _tensorflow_errors():
    """TensorFlow's own class of errors, where it has been imported at all."""
    tensorflow = sys.modules.get("tensorflow")
    return (tensorflow.errors.OpError,) if tensorflow else ()


def one_line(error, memory=_MEMORY):
    """What is told of an error of `failures`.

    Args:
        error: the exception.
        memory: what to lower where memory is out.
    """
    if isinstance(error, OSError) and error.errno and error.strerror:
        return _refusal(error.filename, error.strerror)
    if isinstance(error, _tensorflow_errors()) and (match := _NOT_MEMORY.search(str(error))):
        return _refusal(match["path"], match["what"])
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return f"out of memory; lower {memory} ({files.first_line(error)})"
    if isinstance(error, _tensorflow_errors()):
        return f"TensorFlow: {files.first_line(error)} (TFVC_DEBUG=1 shows the whole traceback)"
    return "\n".join(map(files.printable, str(error).split("\n")))  # names from a file may hold anything


def _refusal(path, what):
    """Of the system: the place, what it says, what helps."""
    remedy = _REMEDIES.get(what)
    return f"{files.final(path or 'i/o')}: {what}{'; ' + remedy if remedy else ''}"


def progress(total, done, unit):
    """tqdm's bar with rate and time left, on the terminal; in a log, a line every half minute."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    shape = {"mininterval": 0.1} if live else {"mininterval": 30, "ncols": 0}
    return tqdm(total=total, initial=done, unit=unit, **shape)


def _arguments(prog, values, argv, paths):
    see = f"See python -m {prog} --help"
    try:
        rest = values([prog, *argv])[1:]
    except flags.Error as error:
        text = str(error).replace(" ?", "?")  # absl's "Did you mean: model ?"
        raise Usage(f"{text}{'' if text.endswith('?') else '.'} {see}") from None
    if rest and not paths:
        raise Usage(f"unexpected argument {rest[0]!r}; expected --flag=value. {see}")
    given = {name for name in values if values[name].present}
    flat = {name: values[name].value for name in values}
    return type("Arguments", (), flat | {"paths": rest, "given": given})()


def _help(prog, values, doc, paths):
    lines = [f"usage: python -m {prog} [flags]{' PATH...' if paths else ''}", "", doc.strip(), ""]
    lines += [f"  --{name}: {values[name].help} (default: {values[name].default!r})" for name in values]
    return "\n".join([*lines, "  --version, --help"])


def recipe_of(arguments):
    """The resolved recipe of a command line with `--model --fidelity --set [--backbone] --data`.

    Raises:
        ValueError: what `recipe.get` refuses, and fields that this kind of `--data` has no use for.
    """
    given = set(map(recipe.key_of, arguments.set))
    for fields, idle, use in (
        (("data.demo_form", "data.clips"), bool(arguments.data), "the embedded demo set (no --data)"),
        (("data.lists", "data.list_number"), not os.path.isdir(arguments.data), "a UCF-101 folder"),
    ):
        if idle and given & set(fields):
            raise ValueError(f"--set={min(given & set(fields))}: only for {use}; leave it out")
    return recipe.get(
        arguments.model,
        arguments.fidelity,
        arguments.set,
        getattr(arguments, "backbone", ""),
        demo=not arguments.data,
    )
