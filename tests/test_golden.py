"""Every file of the golden folder (`TFVC_GOLDEN`, default ../shared/golden), checked by its prefix.

Drop a file of a known kind into the folder and it is checked. A kind without a check is listed by
`test_kinds_without_a_check_belong_to_issues_still_open`, and fails once its issue is in `RESOLVED`.
"""

import hashlib
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import SHARED, shared_path
from keras import ops

from tfvc.data import pipeline, schema, shards
from tfvc.data.datasets import Clip, Dataset
from tfvc.layers import FrameAttention
from tfvc.models.attention_boosted import build_model
from tfvc.recipe import Feature

RESOLVED = {2}
ATOL = 1e-5  # of every attb_* file with floats; LOADER.md

_GIVEN = os.environ.get("TFVC_GOLDEN")
FOLDER = Path(_GIVEN) if _GIVEN else SHARED / "golden"
FILES = sorted(p for p in FOLDER.glob("*") if p.is_file() and p.suffix != ".md")


def read(path):
    """Arrays of a golden file by name, weights too, and its meta."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def close(ours, golden, what):
    np.testing.assert_allclose(ours, golden, atol=ATOL, rtol=0, err_msg=what)


# --- attb_ --------------------------------------------------------------------------------------------------


def attb_block(path):
    golden, _ = read(path)
    x, layer = golden["x"], FrameAttention()
    layer.build(x.shape)
    layer.set_weights(_dense(golden, "dense_1"))
    close(layer.scores(x), golden["attention_probs"], "attention_probs")
    close(layer(x), golden["out"], "out")


def attb_net(path):
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


# --- the table ----------------------------------------------------------------------------------------------

# Prefix -> (issue that owns the kind, its check or None). The longest prefix of a file's name wins.
KINDS = {
    "attb_": (2, None),
    "attb_block_": (2, attb_block),
    "attb_cnn_lstm_": (2, attb_net),
    "attb_cnn_attention_lstm_": (2, attb_net),
    "attb_cnn_lstm_attention_": (2, attb_net),
    "attb_generate_batch_": (2, attb_generate_batch),
    "yt8m_": (3, None),
    "reader_": (3, None),
    "metrics_": (3, None),
    "apcalc_": (3, None),
    "format_lines_": (3, None),
    "get_segments_": (3, None),
    "segeval_": (3, None),
    "loupe_": (3, None),
    "vggish_": (3, None),
    "frames_": (3, None),
    "segments_": (3, None),
    "videos_": (3, None),
    "mfb_": (4, None),
    "mafnet_": (5, None),
    "soundnet_": (6, None),
}


def kind(name):
    """(issue, check) of a file name.

    Raises:
        LookupError: a file of no known kind.
    """
    known = [prefix for prefix in KINDS if name.startswith(prefix)]
    if not known:
        raise LookupError(f"{name}: a golden file of no known kind; add its prefix to KINDS")
    return KINDS[max(known, key=len)]


def uncovered(file_names, resolved):
    """(names without a check, those of them whose issue is resolved)."""
    missing = [name for name in file_names if kind(name)[1] is None]
    return missing, [name for name in missing if kind(name)[0] in resolved]


def covered_files():
    """Files with a check; one of no known kind counts, and fails by name."""
    return [p for p in FILES if not any(p.name.startswith(k) for k in KINDS) or kind(p.name)[1]]


def run(path, tmp_path):
    check = kind(path.name)[1]
    check(path, tmp_path) if check is attb_generate_batch else check(path)


def test_the_golden_folder_holds_files():
    if not _GIVEN:
        shared_path("golden")
    assert FILES, f"no golden file in {FOLDER}"


@pytest.mark.parametrize("path", covered_files(), ids=lambda p: p.name)
def test_golden(path, tmp_path):
    run(path, tmp_path)


def test_kinds_without_a_check_belong_to_issues_still_open(capsys):
    missing, late = uncovered([p.name for p in FILES], RESOLVED)
    with capsys.disabled():
        checked = len(FILES) - len(missing)
        print(f"\ngolden: {checked} files checked, {len(missing)} not covered: {_kinds(missing)}")
    assert not late, f"their issue is resolved, and no check was written: {late}"


def _kinds(names):
    prefixes = {p for p in KINDS for n in names if n.startswith(p)}
    return ", ".join(sorted(f"{p}* (issue {KINDS[p][0]})" for p in prefixes)) or "none"


# --- the checks have teeth ----------------------------------------------------------------------------------


def test_a_resolved_issue_without_a_check_and_an_unknown_kind_are_seen():
    assert uncovered(["mfb_s9.npz", "attb_block_s9.npz"], {2}) == (["mfb_s9.npz"], [])
    assert uncovered(["mfb_s9.npz"], {2, 4}) == (["mfb_s9.npz"], ["mfb_s9.npz"])
    assert uncovered(["attb_new_s0.npz"], {2})[1] == ["attb_new_s0.npz"]
    with pytest.raises(LookupError, match="nonsense_s0.npz"):
        kind("nonsense_s0.npz")
    assert kind("attb_cnn_lstm_attention_x.npz")[1] is attb_net


@pytest.mark.parametrize(
    "name, array",
    [
        ("attb_block_s0.npz", "w/dense_1/kernel"),
        ("attb_cnn_lstm_s0.npz", "w/bidirectional_1/backward_lstm_1/recurrent_kernel"),
        ("attb_cnn_attention_lstm_s0.npz", "w/dense_1/bias"),
        ("attb_cnn_lstm_attention_s0.npz", "mid/attention_mul"),
        ("attb_cnn_lstm_attention_s0.npz", "loss_inference"),
        ("attb_generate_batch_s0.npz", "sample_2"),
        ("attb_generate_batch_s0.npz", "batches_y"),
    ],
)
def test_a_changed_number_fails_the_check(shared, name, array, tmp_path):
    golden, meta = read(shared(f"golden/{name}"))
    golden[array] = golden[array].copy()
    golden[array][(0,) * golden[array].ndim] += 0.01
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError):
        run(tmp_path / name, tmp_path)


def test_a_plain_sigmoid_gate_fails_the_check(shared, tmp_path):
    golden, meta = read(shared("golden/attb_cnn_lstm_s0.npz"))
    np.savez(
        tmp_path / "attb_cnn_lstm_s0.npz",
        meta=json.dumps(meta | {"recurrent_activation": "sigmoid"}),
        **golden,
    )
    with pytest.raises(AssertionError, match="out"):
        run(tmp_path / "attb_cnn_lstm_s0.npz", tmp_path)
