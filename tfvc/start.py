"""A quicker start: TensorFlow and Keras without what they import only where it is installed."""

import importlib.abc
import sys

# Keras' wrappers of scikit-learn, its galleries of pictures and its data frames: no command uses them, and
# importing these takes as long again as two thirds of TensorFlow.
_SPARED = ("matplotlib", "pandas", "sklearn")
_SPARING = ("tensorflow", "keras")


def spare():
    """From now on scikit-learn, pandas and Matplotlib are not found by TensorFlow and Keras while these are
    imported, as where they are not installed; before and afterwards whoever imports them has them.

    For processes that run a command: `keras.wrappers`, and data frames given to `fit`, do without.

    Example:
        >>> spare()
        >>> import keras, sklearn  # the second is imported here, not within the first
    """
    if _Spared not in map(type, sys.meta_path):
        sys.meta_path.insert(0, _Spared())


class _Spared(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in _SPARED and any(map(_begun, _SPARING)):
            raise ModuleNotFoundError(f"{name}: spared for a quicker start (tfvc.start)", name=name)


def _begun(package):
    """Whether it is being imported at this moment."""
    spec = getattr(sys.modules.get(package), "__spec__", None)
    return getattr(spec, "_initializing", False)
