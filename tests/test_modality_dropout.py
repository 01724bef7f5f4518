"""tfvc/layers/modality_dropout.py: how often, of what, never the last."""

import numpy as np
import pytest

from tfvc.layers import ModalityDropout


def test_modality_dropout_takes_one_stream_never_both_and_only_in_training():
    layer = ModalityDropout(0.6, seed=1)
    there = np.tile([[1, 1], [1, 0], [0, 1], [0, 0]], (3000, 1)).astype("float32")
    out = layer(there, training=True).numpy().reshape(3000, 4, 2)
    np.testing.assert_array_equal(out[:, 1:], there.reshape(3000, 4, 2)[:, 1:])
    both = out[:, 0]
    assert both.any(1).all()
    np.testing.assert_allclose((both == 0).mean(0), [0.3, 0.3], atol=0.03)
    np.testing.assert_array_equal(layer(there), there)
    with pytest.raises(ValueError, match="rate=1.0: expected at least 0 and less than 1"):
        ModalityDropout(1.0)
