"""A quicker start of commands: TensorFlow and Keras come with less, and without the garbage collector."""

import gc
import importlib.abc
import importlib.machinery
import sys
import threading

# Keras' wrappers of scikit-learn, its galleries of pictures and its data frames: no command uses them, and
# importing these takes as long again as two thirds of TensorFlow.
_SPARED = ("matplotlib", "pandas", "sklearn")
_SPARING = ("tensorflow", "keras")


def spare():
    """From now on, what takes time where TensorFlow and Keras are imported is spared: scikit-learn, pandas
    and Matplotlib are not found by them then, as where they are not installed (before and afterwards whoever
    imports these has them); and the garbage collector stands still, and never looks at what was imported.

    For processes that run a command: `keras.wrappers`, and data frames given to `fit`, do without.

    Example:
        >>> spare()
        >>> import keras, sklearn  # the second is imported here, not within the first
    """
    if _Finder not in map(type, sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    importer = None  # the thread that imports one of _SPARING: others find what they ask for

    def find_spec(self, name, path=None, target=None):
        if name in _SPARED and self.importer == threading.get_ident():
            raise ModuleNotFoundError(f"{name}: spared for a quicker start (tfvc.start)", name=name)
        if name not in _SPARING:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(importlib.abc.Loader):
    """A package's own loader, without the collector: it would walk over half a million objects that stay,
    again and again, for a fifth of a short run's time."""

    def __init__(self, loader, finder):
        self._loader, self._finder = loader, finder

    def __getattr__(self, name):  # sources and resources
        if name.startswith("_"):  # as while a copy is made, which has no loader yet
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        stood, around = not gc.isenabled(), self._finder.importer
        self._finder.importer = threading.get_ident()
        gc.disable()
        try:
            self._loader.exec_module(module)
        finally:
            self._finder.importer = around
            if not stood:
                gc.enable()
        gc.freeze()
