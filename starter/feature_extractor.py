"""Pictures to YouTube-8M's 1024 features, under the published program's names. They live in tfvc."""

from tfvc.backbones.yt8m import (
    BACKBONES,
    COMPONENTS,
    INCEPTION,
    MODEL_DIR,
    PCA_FILES,
    PCAS,
    YouTube8MFeatureExtractor,
    quantize,
)

__all__ = [
    "BACKBONES",
    "COMPONENTS",
    "INCEPTION",
    "MODEL_DIR",
    "PCAS",
    "PCA_FILES",
    "YouTube8MFeatureExtractor",
    "quantize",
]
