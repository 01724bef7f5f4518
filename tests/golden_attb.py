"""Golden checks of attention_boosted; see test_golden.py."""

import hashlib

import keras
import numpy as np
from golden import read
from keras import ops

from tfvc.data import pipeline, schema, shards
from tfvc.data.datasets import Clip, Dataset
from tfvc.layers import FrameAttention
from tfvc.models.attention_boosted import build_model
from tfvc.recipe import Feature

ATOL = 1e-5  # of every attb_* file with floats; LOADER.md


def close(ours, golden, what):
    np.testing.assert_allclose(ours, golden, atol=ATOL, rtol=0, err_msg=what)


def attb_block(path, tmp_path):
    golden, _ = read(path)
    x, layer = golden["x"], FrameAttention()
    layer.build(x.shape)
    layer.set_weights(_dense(golden, "dense_1"))
    close(layer.scores(x), golden["attention_probs"], "attention_probs")
    close(layer(x), golden["out"], "out")


def attb_net(path, tmp_path):
    golden, meta = read(path)
    mode = max((m for m in _NETS if path.name.startswith(f"attb_{m}_")), key=len)
    net = build_golden(golden, meta, mode)
    layer = {part.name: part for part in net.layers}
    wanted = {k: part.output for k, part in layer.items() if k in ("bilstm", "embedding")}
    if "attention" in layer:
        wanted |= {"attention": layer["attention"].output, "seen": layer["attention"].input}
    # The outputs of the layers, then what follows from them without a layer of its own.
    ours = {
        k: ops.convert_to_numpy(v) for k, v in keras.Model(net.input, wanted)({"frames": golden["x"]}).items()
    }
    ours["probabilities"] = out = ops.convert_to_numpy(net({"frames": golden["x"]}))
    kernel, bias = layer["probabilities"].get_weights()
    ours["logits"] = ours["embedding"] @ kernel + bias
    if "attention" in layer:
        ours["scores"] = ops.convert_to_numpy(layer["attention"].scores(ours["seen"]))
        ours["scores, turned"] = ours["scores"].swapaxes(1, 2)
    close(out, golden["out"], "out")
    mids = [name for name in golden if name.startswith("mid/")]
    assert mids, "no mid/ in the file"
    for name in mids:
        close(ours[_NETS[mode]["mid"][name.removeprefix("mid/")]], golden[name], name)
    loss = ops.mean(keras.losses.categorical_crossentropy(golden["y"], out))
    close(loss, golden["loss_inference"], "loss")
    close((out.argmax(-1) == golden["y"].argmax(-1)).mean(), golden["accuracy_inference"], "accuracy")


_HEAD = {"bidirectional_1": "bilstm", "dense_2": "embedding", "dense_3": "probabilities"}
_ATTENTION = {"dense_1": "scores, turned", "attention_vec": "scores", "attention_mul": "attention"}
_NETS = {  # mode -> our layer of each of the original's dense layers, and of each of its intermediate outputs
    "cnn_lstm": {
        "dense": {"embedding": "dense_1", "probabilities": "dense_2"},
        "mid": {
            "bidirectional_1": "bilstm",
            "dense_1": "embedding",
            "dense_2": "logits",
            "activation_1": "probabilities",
        },
    },
    "cnn_attention_lstm": {
        "dense": {"attention": "dense_1", "embedding": "dense_2", "probabilities": "dense_3"},
        "mid": _ATTENTION | _HEAD,
    },
    "cnn_lstm_attention": {
        "dense": {"attention": "dense_1", "embedding": "dense_2", "probabilities": "dense_3"},
        "mid": _ATTENTION | _HEAD,
    },
}


def _dense(golden, name):
    return [golden[f"w/{name}/kernel"], golden[f"w/{name}/bias"]]


def build_golden(golden, meta, mode):
    """Our model, sizes read off the file, with the file's weights; every one of them is used."""
    dense, lstm = _NETS[mode]["dense"], "w/bidirectional_1/{}_lstm_1/{}"
    net = build_model(
        [Feature("frames", golden["x"].shape[1:])],
        golden["y"].shape[1],
        mode=mode,
        units=golden[lstm.format("forward", "recurrent_kernel")].shape[0],
        dense=golden[f"w/{dense['embedding']}/bias"].shape[0],
        recurrent_activation="hard_sigmoid_keras2" if "hard" in meta["recurrent_activation"] else "sigmoid",
    )
    halves = (
        (way, part) for way in ("forward", "backward") for part in ("kernel", "recurrent_kernel", "bias")
    )
    net.get_layer("bilstm").set_weights([golden[lstm.format(*half)] for half in halves])
    for ours, name in dense.items():
        net.get_layer(ours).set_weights(_dense(golden, name))
    assert len(net.weights) == sum(name.startswith("w/") for name in golden)
    return net


def attb_generate_batch(path, tmp_path):
    golden, _ = read(path)
    samples = [golden[f"sample_{k}"] for k in range(len(golden["y"]))]
    source = write_records(tmp_path, samples, golden["y"].argmax(-1), int(golden["expected_frames"]))
    size = golden["batches_x"].shape[1]
    batches, steps = pipeline.train_batches(source, size, shuffle=False, drop_remainder=True)
    assert steps == len(samples) // size
    count = 0
    for (inputs, labels), x, y in zip(batches, golden["batches_x"], golden["batches_y"], strict=False):
        np.testing.assert_array_equal(inputs["frames"], x)
        np.testing.assert_array_equal(labels, y)
        count += 1
    assert count == len(golden["batches_x"])


def write_records(folder, samples, labels, frames):
    """Records of the real writer, in the order of the samples: ids are given out in reading order."""
    ids = sorted((f"clip{k}" for k in range(len(samples))), key=lambda i: hashlib.sha1(i.encode()).digest())
    classes = [f"class{k}" for k in range(len(samples))]
    rows = [Feature("frames", (None, *samples[0].shape[1:]), str(samples[0].dtype))]
    clips = [Clip(i, f"{i}.avi", (classes[k],)) for i, k in zip(ids, labels, strict=True)]
    shards.open_folder(folder / "records", {}, Dataset("golden", "manifest", "", clips, classes), rows, 3)
    by_id = {i: (s, int(k)) for i, s, k in zip(ids, samples, labels, strict=True)}
    for number, clips_of_shard in enumerate(shards.plan(clips, 3)):
        records = []
        for clip in clips_of_shard:
            sample, label = by_id[clip.id]
            records.append(
                (clip.id, schema.serialize(clip.id, [label], {"frames": sample}, rows), len(sample))
            )
        shards.write_shard(folder / "records", number, records, [])
    shards.finish(folder / "records")
    final = [Feature("frames", (frames, *samples[0].shape[1:]), str(samples[0].dtype))]
    return pipeline.Source(folder / "records", final, classes)


CHECKS = {
    "attb_block_": attb_block,
    "attb_cnn_lstm_": attb_net,
    "attb_cnn_attention_lstm_": attb_net,
    "attb_cnn_lstm_attention_": attb_net,
    "attb_generate_batch_": attb_generate_batch,
}
