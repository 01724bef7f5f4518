"""Keras layers, written with `keras.ops` only. Importing this package registers them all for loading."""

from tfvc.layers.attention import FrameAttention, hard_sigmoid_keras2
from tfvc.layers.batch_norm import SlimBatchNormalization
from tfvc.layers.bilinear import MFB, MLB, CompactBilinear
from tfvc.layers.dbof import DBoF
from tfvc.layers.dequantize import Dequantize
from tfvc.layers.gating import ContextGating
from tfvc.layers.lstm import MaskedLSTM
from tfvc.layers.moe import MixtureOfExperts
from tfvc.layers.netvlad import NetFV, NetRVLAD, NetVLAD, SoftDBoW
from tfvc.layers.pooling import MaskedPooling
from tfvc.layers.sampling import SampleFrames
from tfvc.layers.standardize import Standardize

__all__ = [
    "CompactBilinear",
    "ContextGating",
    "DBoF",
    "Dequantize",
    "FrameAttention",
    "MFB",
    "MLB",
    "MaskedLSTM",
    "MaskedPooling",
    "MixtureOfExperts",
    "NetFV",
    "NetRVLAD",
    "NetVLAD",
    "SampleFrames",
    "SlimBatchNormalization",
    "SoftDBoW",
    "Standardize",
    "hard_sigmoid_keras2",
]
