"""Golden checks of SoundNet; see test_golden.py."""

import json

import numpy as np
from golden import read
from keras import ops

from tfvc.backbones import soundnet
from tfvc.backbones.soundnet_weights import HEADS, kinds

_NAMES = {"weights": "conv{}_kernel", "biases": "conv{}_bias"}
_NAMES |= {kind: "bn{}_" + kind for kind in ("gamma", "beta", "mean", "var")}


def named(golden):
    """Arrays of a golden file as `soundnet.assign` takes them."""
    found = {}
    for layer in soundnet.OUTPUTS:
        which = f"8_{layer}" if layer in HEADS else layer.removeprefix("conv")
        found |= {(layer, kind): golden["w/" + _NAMES[kind].format(which)] for kind in kinds(layer)}
    return found


def network(golden, meta, heads=HEADS):
    model = soundnet.build_model(widths=meta["channels"], heads=heads)
    soundnet.assign(model, named(golden))
    return soundnet.SoundNet(model, "golden", "golden")


def tiny(path, tmp_path):
    golden, meta = read(path)
    net, samples = network(golden, meta), golden["x"]
    assert meta["samples"] == samples.size and meta["bn_eps"] == soundnet.EPSILON
    outputs = net.model({"samples": samples[None], "lengths": np.array([samples.size])})
    outputs = {name: ops.convert_to_numpy(value)[0] for name, value in outputs.items()}
    for pooled in (layer for layer in soundnet.LAYERS if layer.pool > 1):
        rows = outputs[pooled.name]
        rows = rows[: len(rows) // pooled.pool * pooled.pool]
        outputs[f"pool_after_{pooled.name}"] = rows.reshape(-1, pooled.pool, rows.shape[1]).max(1)
    checked = [name for name in golden if not name.startswith("w/") and name != "x"]
    assert {"conv2", "pool_after_conv2", "conv5", "pool_after_conv5", "conv6", "conv7"} <= set(checked)
    for name in checked:
        np.testing.assert_allclose(outputs[name], golden[name], atol=1e-4, rtol=0, err_msg=name)
        if name in net.outputs:
            ours = net.encode(samples / np.float32(soundnet.SCALE), name)
            np.testing.assert_allclose(ours, golden[name], atol=1e-4, rtol=0, err_msg=f"encode {name}")
    for name in HEADS:
        assert len(outputs[name]) == soundnet.length(samples.size, name) == 0  # both files are too short


def shapes(path, tmp_path):
    meta = json.loads(path.read_text())
    layers = [*soundnet.LAYERS, *soundnet.TOPS]
    net = []
    for before, layer in zip([None, *layers[:7], layers[6]], layers, strict=True):
        width = before.width if before else 1
        net.append(["conv", width, layer.width, layer.kernel, soundnet.STRIDE, layer.pad])
        net += [["pool", layer.pool, layer.pool]] * (layer.pool > 1)
    assert net == meta["net"]
    widths = dict(zip(soundnet.OUTPUTS, soundnet.WIDTHS, strict=True))
    pools = {layer.name: layer.pool for layer in soundnet.LAYERS}
    for length, rows in meta["shapes"].items():
        samples = int(length.split("_")[1])
        for name, count, width in rows:
            conv = name.removeprefix("pool_after_")
            layer = "objects" if conv == "conv8" else conv
            ours = soundnet.length(samples, layer) // (1 if conv == name else pools[layer])
            assert ours == (count if isinstance(count, int) else 0), (length, name)
            assert width is None or width == widths[layer]


CHECKS = {"soundnet_tiny_": tiny, "soundnet_shapes": shapes}
