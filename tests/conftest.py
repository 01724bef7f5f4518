"""What every test shares: where ../shared lies, a cache of its own, and the count of what was skipped."""

import functools
import gc
import http.server
import os
import re
import threading
from concurrent import futures
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import collector
import pytest

from tfvc import start

start.spare()  # as commands do: TensorFlow is frozen as soon as it is imported
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TFVC_SHARED") or ROOT.parent / "shared").resolve()
_ABSENT = "needs ../shared (TFVC_SHARED), which is absent: "


def shared_path(relative):
    """A path under ../shared; skips, saying so, where the folder is absent, and never where it is present."""
    if not SHARED.is_dir():
        pytest.skip(_ABSENT + relative)
    path = SHARED / relative
    assert path.exists(), f"{path} is missing from a ../shared that is present"
    return path


def called(module, *arguments):
    """A command in this process; it has to end well."""
    with pytest.raises(SystemExit) as stop:
        module.main([str(argument) for argument in arguments])
    assert not stop.value.code


@pytest.fixture
def shared():
    return shared_path


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The user's cache is neither read nor written by tests; a demo set is drawn once, by the first process
    that needs it."""
    cache, drawn = tmp_path_factory.mktemp("cache"), tmp_path_factory.getbasetemp()
    drawn = (drawn.parent if "PYTEST_XDIST_WORKER" in os.environ else drawn) / "demo"
    drawn.mkdir(exist_ok=True)
    (cache / "demo").symlink_to(drawn)
    os.environ["TFVC_CACHE"] = str(cache)
    os.environ.pop("TFVC_WEIGHTS", None)


@pytest.fixture(scope="session", autouse=True)
def light_collector():
    """Hundreds of small networks are traced for a few steps each; the garbage collector's walks over all of
    TensorFlow are a good part of that, and so are those that Keras asks for before each training."""
    import keras

    collector.walk_rarely()
    clear = functools.partial(keras.utils.clear_session, free_memory=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.utils, "clear_session", clear)
        yield


@pytest.fixture(scope="session", autouse=True)
def light_stacks():
    """Each operation of a graph keeps the stack it was made under, for messages that no test reads: a good
    part of tracing, as pytest's own stack is deep. All keep one, of a thread that has just begun."""
    from tensorflow.python.util import tf_stack

    with futures.ThreadPoolExecutor(1) as pool:
        stack = pool.submit(tf_stack.extract_stack).result()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf_stack, "extract_stack", lambda stacklevel=1: stack)
        yield


@pytest.fixture(scope="session", autouse=True)
def light_threads():
    """An operation keeps to its thread: those of four processes on two cores wait for each other. Commands in
    processes of their own share it out among all cores, as ever."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)


@pytest.fixture(scope="session", autouse=True)
def light_iterators():
    """Nor does a test's own data, or Keras', wait at its end for a tuner that it does not need."""
    import tensorflow as tf

    from tfvc.data import raw

    through = tf.data.Dataset.__iter__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", lambda dataset: through(raw.untuned(dataset)))
        yield


@pytest.fixture(scope="module", autouse=True)
def collected():
    """But what a file has left goes before the next: processes share the memory. What stays then stays for
    good, and is not walked over again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def kept_kernels(collected):
    """Each seed empties TensorFlow's cache of kernels, and each operation makes its own anew: a fifth of a
    test file that seeds each network. It is emptied once a file, before its garbage goes. Nothing here draws
    by a kernel's own state; Keras' draws have none."""
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda handle: None)
        yield
    context.context().clear_kernel_cache()


@pytest.fixture(scope="module", autouse=True)
def light_graphs(request):
    """So is Grappler's search for a faster graph. Commands in processes of their own keep it, and modules
    with `GRAPPLER = True`: numbers against the originals', or bytes against a process."""
    import tensorflow as tf

    whole = getattr(request.module, "GRAPPLER", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not whole})


@pytest.fixture(scope="session")
def _networks():
    return {}


@pytest.fixture(scope="module")
def networks_once(_networks):
    """Random networks of Keras Applications are built once: the same settings give the same network."""
    from tfvc.backbones import visual

    load = visual.load

    def once(backbone, **given):
        if backbone.weights != "random":
            return load(backbone, **given)
        key = (backbone, *sorted(given.items()))
        if key not in _networks:
            _networks[key] = load(backbone, **given)
        return _networks[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visual, "load", once)
        yield


@pytest.fixture(scope="module")
def narrow_vggish():
    """Random VGGish has a fraction of its 72 million weights, and rows as wide as ever: each command draws
    one, each export holds one."""
    from tfvc.backbones import vggish

    with pytest.MonkeyPatch.context() as patch:
        narrow = functools.partial(vggish.build_model, widths=(4, 8, 16, 512), dense=8)
        patch.setattr(vggish, "build_model", narrow)
        yield


@pytest.fixture
def reloaded_here(monkeypatch):
    """An export is compared in this process: a process of its own costs five seconds."""
    import numpy as np
    import tensorflow as tf

    from tfvc import export

    def differences(path, run, given, expected):
        signatures, worst = tf.saved_model.load(str(path)).signatures, {}
        for name, inputs in given.items():
            found = signatures[name](**{key: tf.convert_to_tensor(value) for key, value in inputs.items()})
            assert [c.decode() for c in found["classes"].numpy()] == run.facts.classes
            worst[name] = max(
                float(np.max(np.abs(np.asarray(found[key], "float64") - np.asarray(value, "float64"))))
                for key, value in expected[name].items()
            )
        return worst

    monkeypatch.setattr(export, "differences", differences)


@pytest.fixture
def bare_board(monkeypatch):
    """The board shows nothing of single clips, which takes longer than measuring them."""
    from tfvc import board

    monkeypatch.setattr(board, "clips_of", lambda *_: None)


@pytest.fixture
def serve(tmp_path):
    """A function: whether parts of files can be asked for -> address of a server of tmp_path."""
    servers = []

    def start(parts):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(tmp_path))

            def log_message(self, *args):
                pass

            def send_head(self):
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if parts else None
                path = tmp_path / self.path[1:]
                if not asked or not path.is_file():
                    return super().send_head()
                data = path.read_bytes()
                first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
                if first > last:
                    self.send_error(416)
                    return None
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
                self.send_header("Content-Length", str(last - first + 1))
                self.end_headers()
                self.wfile.write(data[first : last + 1])
                return None

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _roomy(call):
    return call()


# Python keeps the frames of calls in pieces of 16 KB, and asks the system anew for each that it enters: the
# deep stacks of tracing end about such a border 200 000 times in a file. A piece is no less than a power of
# two that holds the frame it begins with: after one of 320 KB, 192 KB are left for all that is called.
_roomy.__code__ = _roomy.__code__.replace(co_stacksize=40_000)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    runner = item.config.pluginmanager.get_plugin("runner")
    return _roomy(lambda: runner.pytest_runtest_protocol(item, nextitem))


def pytest_collection_modifyitems(items):
    """Files with slow tests first, then the larger ones: else one process is left alone with such a file at
    the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    size = {path: path.stat().st_size for path in {item.path for item in items}}
    items.sort(key=lambda item: (item.path not in slow, -size[item.path]))


def pytest_terminal_summary(terminalreporter):
    count = {k: len(terminalreporter.stats.get(k, [])) for k in ("passed", "failed", "skipped")}
    absent = sum(_ABSENT in str(r.longrepr) for r in terminalreporter.stats.get("skipped", []))
    ran = count["passed"] + count["failed"]
    terminalreporter.write_line(f"{ran} tests ran, {absent} were skipped for want of ../shared ({SHARED})")
