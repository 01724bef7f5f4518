"""Keras layers, written with `keras.ops` only. Importing this package registers them all for loading."""

from tfvc.layers.attention import (
    FrameAttention,
    ModalityAttention,
    ModalityTemporalAttention,
    TemporalAttention,
    hard_sigmoid_keras2,
)
from tfvc.layers.batch_norm import SlimBatchNormalization
from tfvc.layers.bilinear import MFB, MLB, CompactBilinear, DualMultimodalResidual
from tfvc.layers.clusters import AttentionCluster
from tfvc.layers.dbof import DBoF
from tfvc.layers.dequantize import Dequantize
from tfvc.layers.film import FiLM, FiLMedResidualBlock
from tfvc.layers.gating import ContextGating
from tfvc.layers.lstm import MaskedLSTM
from tfvc.layers.modality_dropout import ModalityDropout
from tfvc.layers.moe import MixtureOfExperts
from tfvc.layers.netvlad import NetFV, NetRVLAD, NetVLAD, SoftDBoW
from tfvc.layers.pooling import MaskedPooling
from tfvc.layers.powerset import PowersetVotes
from tfvc.layers.residual import FeatureAttention, ResidualAttentionBiLSTM, ResidualBidirectionalLSTM
from tfvc.layers.sampling import SampleFrames
from tfvc.layers.standardize import Standardize

__all__ = [
    "AttentionCluster",
    "CompactBilinear",
    "ContextGating",
    "DBoF",
    "Dequantize",
    "DualMultimodalResidual",
    "FeatureAttention",
    "FiLM",
    "FiLMedResidualBlock",
    "FrameAttention",
    "MFB",
    "MLB",
    "MaskedLSTM",
    "MaskedPooling",
    "MixtureOfExperts",
    "ModalityAttention",
    "ModalityDropout",
    "ModalityTemporalAttention",
    "NetFV",
    "NetRVLAD",
    "NetVLAD",
    "PowersetVotes",
    "ResidualAttentionBiLSTM",
    "ResidualBidirectionalLSTM",
    "SampleFrames",
    "SlimBatchNormalization",
    "SoftDBoW",
    "Standardize",
    "TemporalAttention",
    "hard_sigmoid_keras2",
]
