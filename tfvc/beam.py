"""Extraction on many workers: an Apache Beam pipeline whose unit of work is one shard of the plan.

A worker writes its shard with the very function of the local path, aside and then renamed. So the bytes are
the same, a shard that is tried twice gives them twice, and what was written stays if the pipeline fails.
"""

import contextlib
import dataclasses
import json
import logging
import os
import platform
import re
import shlex
import signal
import subprocess
import threading
import types
from dataclasses import dataclass

import tfvc
from tfvc import cli, encoders, extract, names
from tfvc import recipe as recipes

RUNNERS = ("DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner")
_ABSENT = (
    "--runner={}: Apache Beam is not installed; pip install 'tfvc[beam]' (it goes with constraints.txt; Beam "
    "takes no protobuf 7, which constraints-newest.txt has)"
)
_FAILED = re.compile(r"tfvc: (shard \d+: .+?)(?: \[while running .*|\\n.*)?$", re.MULTILINE)
_AGAIN = "shards that are there stay: start the same command again to go on"


@dataclass(frozen=True)
class Job:
    """What a worker must know, in plain data: it is sent to other processes.

    Args:
        folder: of the records; all workers must reach it under this name.
        classes: of the data set, in label order.
        recipe: as `recipe.to_json` gives it, dumped.
        demo: whether it is the embedded demo set.
        vocabulary: of a learned embedding, else ().
        texts: whose words' vectors are needed, else ().
        expected: what `_made_by` must give there as it did here, dumped.
    """

    folder: str
    classes: tuple
    recipe: str
    demo: bool
    vocabulary: tuple
    texts: tuple
    expected: str


def options(runner, text=""):
    """Beam's options of a command line.

    Args:
        runner: one of `RUNNERS`.
        text: Beam's own options, as "--direct_num_workers=2 --direct_running_mode=multi_processing".

    Returns:
        `apache_beam.options.pipeline_options.PipelineOptions`.

    Raises:
        ValueError: an unknown runner; an option that Beam does not know, or whose value it refuses; or Beam
            is not installed.
    """
    if runner not in RUNNERS:
        raise cli.Usage(names.suggest("runner", runner, RUNNERS))
    beam = _imported(runner)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise cli.Usage(f"--pipeline_options={text!r}: {error}; expected words as in a shell") from None
    found, parsers = beam.options.pipeline_options.PipelineOptions(words), []

    def refuse(message):
        raise cli.Usage(f"--pipeline_options: {message}")

    def watch(parser):  # argparse's own way is to print the usage of all that Beam has, and to exit
        parser.error = refuse
        parsers.append(parser)

    with _quiet():
        found.get_all_options(add_extra_args_fn=watch)
    known, unknown = parsers[0].parse_known_args(words)
    if unknown:
        name = unknown[0].split("=")[0].removeprefix("--")
        refuse(names.suggest("option of Beam", name, vars(known)).split("; expected")[0])  # hundreds of them
    if known.runner:
        refuse(f"--runner={known.runner} is given twice; expected it outside, as --runner={runner}")
    found.view_as(beam.options.pipeline_options.StandardOptions).runner = runner
    if runner == "DirectRunner" and not (known.default_sdk_harness_log_level or _debug()):
        found.view_as(beam.options.pipeline_options.WorkerOptions).default_sdk_harness_log_level = "CRITICAL"
    return found


def run(pipeline, folder, todo, dataset, encoders_here):
    """Has shards written by Beam's workers.

    Args:
        pipeline: of `options`.
        folder: that `shards.open_folder` made; the caller holds its lock.
        todo: number of a shard -> its clips.
        dataset: `tfvc.data.datasets.Dataset`.
        encoders_here: `tfvc.encoders.Encoders` of this process: the workers' must be the same.

    Raises:
        ValueError: the pipeline failed; the message names the shard.
    """
    import grpc

    name = pipeline.get_all_options()["runner"]
    beam = _imported(name)
    runner = beam.runners.create_runner(name)
    if name == "DirectRunner":
        # It would first try Prism, a program that it fetches from the network and that starts no second
        # process; what can be interactive has to heed `direct_running_mode` instead.
        runner.is_interactive()
    texts = {c.text for part in todo.values() for c in part} if encoders_here.words else ()
    job = Job(
        folder=os.path.abspath(folder),
        classes=tuple(dataset.classes),
        recipe=json.dumps(recipes.to_json(encoders_here.recipe)),
        demo=dataset.kind == "demo",
        vocabulary=tuple(encoders_here.vocabulary),
        texts=() if encoders_here.vocabulary else tuple(sorted(texts)),
        expected=json.dumps(_made_by(encoders_here)),
    )
    work = [  # as text: Beam's own coder takes no file name that is no UTF-8
        json.dumps([k, [[dataclasses.asdict(c), extract.fingerprint(c.path)] for c in part]])
        for k, part in todo.items()
    ]
    print(f"{name}: {len(work)} shards to write", flush=True)
    try:
        with _quiet(), _watched(), beam.Pipeline(runner, pipeline) as line:
            shared = beam.utils.shared.Shared()  # one set of networks a process, whatever its threads
            _ = line | beam.Create(work) | beam.Reshuffle() | beam.Map(_write, job, shared)
    except (RuntimeError, ValueError, OSError, ImportError, AssertionError, grpc.RpcError) as error:
        if _debug():
            raise
        known = _FAILED.search(str(error))
        what = known[1] if known else (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ValueError(f"{name}: {what}; {_AGAIN}") from None


def _write(work, job, shared):
    """One shard, in a worker."""
    from tqdm import tqdm

    from tfvc.data import datasets

    number, rows = json.loads(work)
    try:
        clips = [datasets.Clip(**fields) for fields, _ in rows]
        for clip, (_, expected) in zip(clips, rows, strict=True):
            if extract.fingerprint(clip.path) != expected:
                raise ValueError(f"{clip.path}: here it is not the file that the launching machine sees")
        networks = shared.acquire(lambda: _networks(job))
        with tqdm(disable=True) as bar:
            extract.write_shards(job.folder, {number: clips}, job.classes, networks, bar)
    except cli.failures() as error:
        raise RuntimeError(f"tfvc: shard {number}: {cli.one_line(error)} (on {platform.node()})") from error


def _networks(job):
    """The very networks of the launching process, else ValueError."""
    recipe = recipes.from_json(json.loads(job.recipe))
    found = encoders.load(recipe, job.demo, job.texts, job.vocabulary)
    other = recipes.differences(json.loads(job.expected), json.loads(json.dumps(_made_by(found))))
    if other:
        raise ValueError(f"a worker has other networks than the launching machine ({'; '.join(other)})")
    return found


def _made_by(found):
    """What two processes must have in common to write the same records; a flat dict."""
    import tensorflow as tf

    weights = {encoders.WEIGHTS[name]: text for name, text in found.weights.items()}
    rows = {f"row.{row.name}": [list(row.shape), row.dtype] for row in found.rows}
    versions = {"tfvc": tfvc.__version__, "extraction": extract.EXTRACTION, "tensorflow": tf.__version__}
    return versions | weights | rows | {"encoder": encoders.identity(found)}


def _debug():
    return os.environ.get("TFVC_DEBUG")


@contextlib.contextmanager
def _quiet():
    """What fails is told in one line; Beam logs each traceback, of each try."""
    log = logging.getLogger("apache_beam")
    before = log.level
    log.setLevel(before if _debug() else logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _watched():
    """Mends how DirectRunner ends with processes (Beam 2.77).

    A worker that is killed never answers: here its end ends the pipeline. A worker that has started only
    when all the work was done by others is never told so: here it is. And when a pipeline fails, the workers
    that are left are ended: they would go on for a minute, and then write tracebacks.
    """
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2
    from apache_beam.runners.portability import local_job_service
    from apache_beam.runners.portability.fn_api_runner import worker_handlers
    from apache_beam.utils.sentinel import Sentinel

    connections, workers, over = [], [], threading.Event()

    class Connection(worker_handlers.ControlConnection):
        def __init__(self):
            super().__init__()
            connections.append(self)

        def close(self):
            self.push(Sentinel.sentinel)  # "no more work": lies there for who has not yet connected
            super().close()

        def abort(
            self, exn
        ):  # Beam's own leaves who waits for a stage's output waiting: that looks for answers
            for future in list(self._futures_by_id.values()):
                future.set(
                    beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=str(exn))
                )

    def start(*words, **options):  # a session of its own: it is a shell, with Python in it
        silent = {} if _debug() else {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        workers.append(subprocess.Popen(*words, **options, **silent, start_new_session=True))
        return workers[-1]

    def give_up(why):  # again and again: one more question may be put to a worker that is gone
        while not over.wait(0.5):
            for connection in list(connections):
                connection.abort(RuntimeError(why))

    def hook(failed):
        if str(failed.exc_value).startswith("Worker subprocess exited"):
            threading.Thread(target=give_up, args=[str(failed.exc_value)], daemon=True).start()
        elif _debug() or not isinstance(failed.exc_value, grpc.RpcError):  # its streams break too
            hook_before(failed)

    hook_before, threading.excepthook = threading.excepthook, hook
    connection_before, worker_handlers.ControlConnection = worker_handlers.ControlConnection, Connection
    subprocess_before, local_job_service.subprocess = (
        local_job_service.subprocess,
        types.SimpleNamespace(Popen=start),
    )
    try:
        yield
    except BaseException:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        raise
    finally:
        local_job_service.subprocess = subprocess_before
        over.set()
        threading.excepthook = hook_before
        worker_handlers.ControlConnection = connection_before


def _imported(runner):
    """The module `apache_beam`, else ValueError."""
    try:
        logging.disable(logging.WARNING)  # what else of Beam is not installed
        import apache_beam
        import apache_beam.utils.shared
    except ImportError:
        raise ValueError(_ABSENT.format(runner)) from None
    finally:
        logging.disable(logging.NOTSET)
    return apache_beam
