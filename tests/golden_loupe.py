"""Golden checks of LOUPE's pooling layers and context gating; see test_golden.py."""

import numpy as np
from golden import read
from keras import ops

from tfvc.layers import ContextGating, NetFV, NetRVLAD, NetVLAD, SoftDBoW

ATOL, ATOL_FV, ATOL_AFTER = 2e-5, 5e-5, 1e-6  # LOADER.md
POOLINGS = {cls.__name__: cls for cls in (NetVLAD, NetRVLAD, NetFV, SoftDBoW)}


def named(layer):
    """The weights by the original's names: a batch norm's stand under its own name, the others alone."""
    parts = [(w.path.split("/"), w) for w in layer.weights]
    return {"/".join(p[-2:]) if p[-2].endswith("_bn") else p[-1]: w for p, w in parts}


def loaded(layer, golden):
    """The layer, built, with every weight of the file."""
    layer.build(golden["x"].shape)
    weights = named(layer)
    assert {f"w/{name}" for name in weights} == {name for name in golden if name.startswith("w/")}
    for name, weight in weights.items():
        weight.assign(golden[f"w/{name}"])
    return layer


def check(make, golden, mids, atol):
    """Outputs, `mids` (name -> method) and moving statistics, in both modes. Every array is read."""
    seen = {"x"} | {name for name in golden if name.startswith("w/")}

    def close(ours, name, atol):
        ours = np.reshape(ops.convert_to_numpy(ours), golden[name].shape)
        np.testing.assert_allclose(ours, golden[name], atol=atol, rtol=0, err_msg=name)
        seen.add(name)

    x = golden["x"]
    for mode, training in (("inf", False), ("train", True)):
        layer = loaded(make(), golden)
        close(layer(x, training=training), f"{mode}_out", atol)
        for name, weight in named(layer).items():
            if "/moving_" in name:
                close(weight, f"after/{name}" if training else f"w/{name}", ATOL_AFTER if training else 0)
        for name in mids:
            close(getattr(layer, mids[name])(x, training=training), f"{mode}_mid/{name}", atol)
    assert seen == set(golden), f"not checked: {sorted(set(golden) - seen)}"


def pooling(path, tmp_path):
    golden, meta = read(path)
    assert golden["x"].shape[1:] == (meta["max_samples"], meta["feature_size"])
    mids = {"assignment_softmax": "assignment"}
    if meta["gating"]:
        mids["before_gating"] = "before_gating"
    arguments = [meta[name] for name in ("cluster_size", "output_dim", "gating", "add_batch_norm")]
    atol = ATOL_FV if meta["cls"] == "NetFV" else ATOL
    check(lambda: POOLINGS[meta["cls"]](*arguments), golden, mids, atol)


def gating(path, tmp_path):
    golden, meta = read(path)
    check(lambda: ContextGating(meta["add_batch_norm"]), golden, {}, ATOL)


CHECKS = {"loupe_": pooling, "loupe_ContextGating_": gating}
