"""Commands started by `fork` of a process that has TensorFlow imported already, and never used it."""

import fcntl
import gc
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass

from tfvc import start

_PIPE = 1 << 20  # bytes of output that wait in a pipe until they are read
_SECONDS = 300  # a child that takes longer hangs
_IMPORTS = ("tensorflow", "keras", "sklearn.svm", "matplotlib.figure", "av", "tfvc.data.ahead")
_IMPORTS += tuple(f"tfvc.{name}" for name in ("train", "extract", "evaluate", "predict", "export", "convert"))
_IMPORTS += ("tfvc.data.datasets", "tfvc.backbones.visual", "tfvc.training", "tfvc.data.pipeline")


def prepare():
    """Imports what the commands take long to import. Nothing of TensorFlow may be called before a fork."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    start.spare()
    for name in _IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # the children need not look at all this once more


@dataclass
class Ended:
    """How a child ended: exit status (minus the signal that killed it), and what it printed."""

    status: int
    out: str
    err: str


class Child:
    """A started child, to be killed or waited for; `subprocess.Popen` of the same methods starts afresh."""

    def __init__(self, work, environment=None, largest=None):
        """Starts it.

        Args:
            work: function without arguments; what it raises, as SystemExit, gives the exit status.
            environment: variables of the child's own.
            largest: bytes that a file of its may have (`ulimit -f`); None = no limit.
        """
        self.returncode = None
        pipes = [os.pipe(), os.pipe()]
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            for number, (_, end) in enumerate(pipes, 1):
                os.dup2(end, number)
            _work(work, environment or {}, largest)
        for _, end in pipes:
            os.close(end)
        self._ends, self._texts = [end for end, _ in pipes], []
        for end in self._ends:
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE)

    def poll(self):
        """Exit status, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self):
        """Ends it with SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """Waits for the end; returns `Ended`."""
        limit = time.monotonic() + _SECONDS
        while self.poll() is None:
            if time.monotonic() > limit:
                self.kill()
            time.sleep(0.002)
        while self._ends:
            with open(self._ends.pop(0), "rb") as f:
                self._texts.append(f.read().decode(errors="backslashreplace"))
        return Ended(self.returncode, *self._texts)


def command(module, *arguments):
    """The work of a command: its `main` with these arguments."""
    return lambda: importlib.import_module(module).main([str(argument) for argument in arguments])


def _work(work, environment, largest):
    """Never returns: nothing of the parent's own is undone in the child."""
    status = 1
    try:
        os.environ.update(environment)
        tempfile.tempdir = None  # looked up anew
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is an error, not the end
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        try:
            work()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        gc.collect()  # what is closed only now may fail too, and print
    except BaseException:  # printed as Python itself would, for whoever reads it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
