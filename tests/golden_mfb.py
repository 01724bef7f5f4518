"""Golden checks of factorised bilinear pooling; see test_golden.py."""

import numpy as np
from golden import read

from tfvc.layers import MFB

ATOL, ATOL_ROOT = 1e-5, 1e-4  # LOADER.md; near 0 a root is steep
WEIGHTS = {"q_kernel": "u/kernel", "q_bias": "u/bias", "i_kernel": "v/kernel", "i_bias": "v/bias"}


def loaded(golden, meta, power):
    """The layer with every weight of the file, and its inputs."""
    inputs = [golden["q"], golden["i"]]
    layer = MFB(meta["factor_k"], meta["out_dim"], power=power)
    layer.build([x.shape for x in inputs])
    weights = {"/".join(w.path.split("/")[-2:]): w for w in layer.weights}
    for name, ours in WEIGHTS.items():
        weights.pop(ours).assign(golden[f"w/{name}"])
    assert not weights, f"the file has no value for {sorted(weights)}"
    return layer, inputs


def mfb(path, tmp_path):
    golden, meta = read(path)
    seen = {"q", "i", *(f"w/{name}" for name in WEIGHTS)}

    def close(ours, name, atol):
        np.testing.assert_allclose(ours, golden[name], atol=atol, rtol=0, err_msg=name)
        seen.add(name)

    root, inputs = loaded(golden, meta, "signed_sqrt")
    relu, _ = loaded(golden, meta, "relu")
    z = relu.sumpool(inputs)
    close(z, "sumpool", ATOL)
    close(relu.powered(z), "relu", ATOL)
    close(relu(inputs), "out_relu_l2", ATOL)
    close(root.powered(z), "signed_sqrt", ATOL_ROOT)
    close(root(inputs), "out_signed_sqrt_l2", ATOL_ROOT)
    # The other reading of "replaced with a ReLU", ReLU and then the root: no layer's default, its pieces.
    both = root.powered(relu.powered(z))
    close(both, "sqrt_of_relu", ATOL_ROOT)
    close(root.normalised(both), "out_relu_then_sqrt_l2", ATOL_ROOT)
    assert seen == set(golden), f"not checked: {sorted(set(golden) - seen)}"


CHECKS = {"mfb_": mfb}
