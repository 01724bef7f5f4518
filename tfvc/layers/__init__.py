"""Keras layers, written with `keras.ops` only. Importing this package registers them all for loading."""

from tfvc.layers.attention import FrameAttention, hard_sigmoid_keras2
from tfvc.layers.standardize import Standardize

__all__ = ["FrameAttention", "Standardize", "hard_sigmoid_keras2"]
