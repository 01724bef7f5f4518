"""A quicker start of commands: TensorFlow and Keras come with less, and without the garbage collector.

And memory that a training keeps, where it would be given back and asked for at every step."""

import functools
import gc
import importlib.abc
import importlib.machinery
import sys
import threading

# Keras' wrappers of scikit-learn, its galleries of pictures and its data frames: no command uses them, and
# importing these takes as long again as two thirds of TensorFlow. Nor does any convert JAX to TensorFlow.
_NEEDLESS = {"matplotlib", "pandas", "sklearn"}
_SPARED = {"tensorflow": _NEEDLESS | {"jax"}, "keras": _NEEDLESS}  # by what imports them

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def spare():
    """From now on, what takes time where TensorFlow and Keras are imported is spared: scikit-learn, pandas
    and Matplotlib are not found by them then, nor JAX unless it is Keras' backend, as where they are not
    installed (before and afterwards whoever imports these has them); and the garbage collector stands still,
    and never looks at what was imported.

    For processes that run a command: `keras.wrappers`, and data frames given to `fit`, do without.

    Example:
        >>> spare()
        >>> import keras, sklearn  # the second is imported here, not within the first
    """
    if _Finder not in map(type, sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def keep_memory():
    """From now on this process keeps what memory it frees. Without glibc nothing changes.

    glibc gives each block of over 32 MB back to the kernel as soon as it is freed, and the next step's block
    of the same tensor comes page by page, each cleared anew: half the time of a training with large weights,
    as of `starter`'s MoeModel. The process stays as large as it has ever been: for commands that train.

    Example:
        >>> keep_memory()
    """
    import ctypes  # which no other command's start has to wait for

    mallopt = sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never


class _Finder(importlib.abc.MetaPathFinder):
    # The thread that imports one of the two, and what it does not find: others find what they ask for.
    importer, hidden = None, frozenset()

    def find_spec(self, name, path=None, target=None):
        if name in self.hidden and self.importer == threading.get_ident():
            raise ModuleNotFoundError(f"{name}: spared for a quicker start (tfvc.start)", name=name)
        if name not in _SPARED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader.exec_module = functools.partial(self._undisturbed, spec.loader.exec_module)
        return spec

    def _undisturbed(self, execute, module):
        """Without the collector, which would walk over half a million objects that stay, again and again, for
        a fifth of a short run's time."""
        enabled, around = gc.isenabled(), (self.importer, self.hidden)  # TensorFlow imports Keras
        self.importer, self.hidden = threading.get_ident(), _SPARED[module.__name__]
        gc.disable()
        try:
            execute(module)
        finally:
            # Once Keras has asked for TensorFlow, that is its backend: it will not need JAX.
            self.importer, self.hidden = around[0], around[1] and around[1] | self.hidden
            if enabled:
                gc.enable()
        gc.freeze()
