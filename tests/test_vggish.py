"""VGGish: front end, cutting into seconds, network, weights in every form, PCA and quantisation."""

import json
import socket
from dataclasses import replace

import golden_audio
import h5py
import numpy as np
import oracles
import pytest
import tensorflow as tf
from golden import read

from tfvc.backbones import __main__ as command
from tfvc.backbones import log_mel, vggish, weights
from tfvc.data.audio import read_audio

SMALL = {"widths": (2, 3, 4, 5), "dense": 6}
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 40000).astype("float32")  # 2.5 s
CONVOLUTIONS = ("conv1", "conv2", "conv3_1", "conv3_2", "conv4_1", "conv4_2")


@pytest.fixture(scope="module")
def small():
    """Random arrays of a narrow VGGish: (layer, kind) -> array."""
    generator = np.random.default_rng(1)
    model = vggish.build_model(**SMALL)
    return {
        (layer.name, kind): generator.normal(0, 0.3, w.shape).astype("float32")
        for layer in model.layers
        for kind, w in zip(("kernel", "bias"), layer.weights, strict=False)
    }


@pytest.fixture(scope="module")
def checkpoint(small, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("ckpt") / "vggish_model.ckpt", small, "V2")


def slim(layer):
    """The published path of a layer: conv3_1 lies in conv3."""
    return f"{layer[:-2]}/{layer}" if layer[-2] == "_" else layer


def write_checkpoint(path, arrays, version):
    """The form of the published checkpoint, with the optimizer's slots that must be left alone."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for (layer, kind), array in arrays.items():
            name = f"vggish/{slim(layer)}/{ {'kernel': 'weights', 'bias': 'biases'}[kind] }"
            v1.get_variable(name, initializer=array)
            v1.get_variable(f"{name}/Adam", initializer=np.full_like(array, 9))
        v1.get_variable("global_step", initializer=np.int64(7))
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=getattr(v1.train.SaverDef, version))
        saver.save(session, str(path), write_meta_graph=False)
    return path


def write_h5(path, arrays, whole=False):
    """Keras 2's form: a group named by the layer, in it the variables by their full names."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        for (layer, kind), array in arrays.items():
            name = f"vggish_{slim(layer)}" if layer.startswith("fc") else slim(layer)
            root[f"{name}/{name}/{kind}:0"] = array
            if whole:
                file[f"optimizer_weights/Adam/{slim(layer)}/{kind}:0"] = np.full_like(array, 9)
    return path


def same(net, small):
    """Whether a network's weights are the small ones, those that it has."""
    for layer in (v for v in net.model.layers if v.weights):
        for kind, weight in zip(("kernel", "bias"), layer.weights, strict=True):
            np.testing.assert_array_equal(weight, small[layer.name, kind])


# --- front end ------------------------------------------------------------------------------------


def test_log_mel_is_the_equation():
    samples = log_mel.windows(NOISE)[0]
    expected = np.stack([oracles.log_mel(row) for row in samples])
    np.testing.assert_allclose(log_mel.log_mel(samples), expected, atol=1e-5)
    np.testing.assert_allclose(log_mel.log_mel(samples, "float32"), expected, atol=2e-3)


def test_seconds_and_patches_are_cut_where_the_originals_cut_them():
    seconds, mask = log_mel.windows(NOISE)
    assert seconds.shape == (3, 15600) and mask.tolist() == [True] * 3
    np.testing.assert_array_equal(seconds[1], NOISE[16000:31600])
    np.testing.assert_array_equal(seconds[2, :8000], NOISE[32000:])
    assert not seconds[2, 8000:].any()
    patches, mask = log_mel.windows(NOISE, "patch")
    assert patches.shape == (2, 15600) and mask.all()
    np.testing.assert_array_equal(patches[1], NOISE[15360:30960])


@pytest.mark.parametrize("cut", ["second", "patch"])
@pytest.mark.parametrize("size", [None, 0, 1, 399, 8000, 15599, 15600, 16000, 16001])
def test_sound_of_any_length_gives_at_least_one_row(cut, size):
    waveform = None if size is None else NOISE[:size]
    pieces, mask = log_mel.windows(waveform, cut)
    rows = 2 if size == 16001 and cut == "second" else 1
    assert pieces.shape == (rows, 15600) and mask.tolist() == [bool(size)] * rows
    pieces, mask = log_mel.windows(waveform, cut, 4)
    step = log_mel.CUTS[cut]
    assert pieces.shape == (4, 15600) and mask.tolist() == [(size or 0) > i * step for i in range(4)]
    assert np.isfinite(log_mel.log_mel(pieces)).all()


def test_a_wrong_waveform_is_told():
    for wrong in (NOISE[None], (NOISE * 32768).astype("int16"), NOISE * np.float32("nan")):
        with pytest.raises(ValueError, match=r"waveform .*expected finite floats"):
            log_mel.windows(wrong)
    with pytest.raises(ValueError, match="cut='hour'.*second, patch"):
        log_mel.windows(NOISE, "hour")


# --- network --------------------------------------------------------------------------------------


def test_the_full_network_has_the_published_sizes():
    net = vggish.load("random", seed=3)
    assert net.random and net.weights == "random (seed 3)"
    shapes = {v.name: tuple(v.kernel.shape) for v in net.model.layers if v.weights}
    assert shapes["fc1_1"] == (12288, 4096) and shapes["fc1_2"] == (4096, 4096)
    assert shapes["fc2"] == (4096, 128) and net.model.count_params() == 72141184
    embeddings, mask = net.encode(NOISE[:16800])
    assert embeddings.shape == (2, 128) and embeddings.dtype == "float32" and mask.all()
    assert (embeddings < 0).any() and np.isfinite(embeddings).all()  # no ReLU behind it
    again = net.encode(NOISE[:16800])[0]
    np.testing.assert_array_equal(embeddings, again)


def test_outputs_follow_from_the_maps(checkpoint, small):
    net = vggish.load(str(checkpoint), pooling="max")
    maps, pooled, embedding = (net.encode(NOISE, output)[0] for output in vggish.OUTPUTS)
    assert maps.shape == (3, 12, 8, 5) and maps.min() == 0
    pool4 = maps.reshape(3, 6, 2, 4, 2, 5).max((2, 4))
    np.testing.assert_array_equal(pooled, pool4.max((1, 2)))
    average = vggish.load(str(checkpoint)).encode(NOISE, "pooled")[0]
    np.testing.assert_allclose(average, pool4.mean((1, 2)), rtol=1e-5)
    x = pool4.reshape(3, -1)
    for name in ("fc1_1", "fc1_2"):
        x = np.maximum(0, x @ small[name, "kernel"] + small[name, "bias"])
    np.testing.assert_allclose(embedding, x @ small["fc2", "kernel"] + small["fc2", "bias"], atol=1e-4)
    with pytest.raises(ValueError, match="pooling='min'"):
        vggish.build_model(pooling="min")


def test_pieces_that_are_cut_already_give_the_same(checkpoint):
    net = vggish.load(str(checkpoint))
    pieces = np.random.default_rng(2).uniform(-0.5, 0.5, (18, 15600)).astype("float32")  # two batches
    padded = np.pad(pieces, ((0, 0), (0, 400))).reshape(-1)
    for output in vggish.OUTPUTS:
        rows = net.encode_pieces(pieces, output)
        assert rows.dtype == "float32" and len(rows) == 18
        np.testing.assert_array_equal(rows, net.encode(padded, output)[0])
    for wrong in (pieces[:0], pieces[:, :15000], pieces[0]):
        with pytest.raises(ValueError, match=r"pieces \(.*expected \(S, 15600\), S >= 1"):
            net.encode_pieces(wrong)
    with pytest.raises(ValueError, match="output='maps'"):
        net.encode_pieces(pieces, "maps")


def test_what_lies_under_the_mask_never_changes_the_rest(checkpoint):
    net = vggish.load(str(checkpoint))
    short, mask = net.encode(NOISE[:32000], count=4)
    assert mask.tolist() == [True, True, False, False]
    np.testing.assert_allclose(short[:2], net.encode(NOISE)[0][:2], rtol=1e-5, atol=1e-5)
    for absent in (None, NOISE[:0]):
        embeddings, mask = net.encode(absent)
        assert embeddings.shape == (1, 128) and not mask.any() and np.isfinite(embeddings).all()
    silent, mask = net.encode(np.zeros(20000, "float32"))
    assert silent.shape == (2, 128) and mask.all() and np.isfinite(silent).all()


def test_real_sound_gives_a_row_a_second(checkpoint, shared):
    clip = sorted(shared("data/esc10").glob("001*/*"))[0]
    waveform = read_audio(clip, rate=log_mel.RATE)
    rows, mask = vggish.load(str(checkpoint)).encode(waveform)
    assert len(rows) == -(-len(waveform) // 16000) and mask.all() and rows.std(0).max() > 0


def test_the_exported_graph_gives_what_encode_gives(checkpoint, tmp_path):
    net = vggish.load(str(checkpoint))
    module = tf.Module()
    module.net = net.model
    module.run = tf.function(net.tensor, input_signature=[tf.TensorSpec((None, 15600), tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    rows = loaded.run(log_mel.windows(NOISE)[0])
    np.testing.assert_allclose(rows["embedding"], net.encode(NOISE)[0], rtol=1e-5, atol=1e-5)


# --- weights --------------------------------------------------------------------------------------


def test_checkpoints_and_h5_files_hold_the_same_network(small, checkpoint, tmp_path):
    model = vggish.build_model(**SMALL)
    for layer in (v for v in model.layers if v.weights):
        layer.set_weights([small[layer.name, "kernel"], small[layer.name, "bias"]])
    model.save_weights(tmp_path / "k3.weights.h5")
    paths = [
        checkpoint,
        write_checkpoint(tmp_path / "v1.ckpt", small, "V1"),  # one file, as the published one
        write_h5(tmp_path / "k2.h5", small),
        write_h5(tmp_path / "whole.hdf5", small, whole=True),
        tmp_path / "k3.weights.h5",
    ]
    assert (tmp_path / "v1.ckpt").is_file() and not checkpoint.is_file()
    nets = [vggish.load(str(path)) for path in paths]
    for net in nets:
        same(net, small)
        assert not net.random
    assert len({net.digest for net in nets}) == 1
    changed = small | {("fc2", "bias"): small["fc2", "bias"] + 1}
    assert vggish.load(str(write_h5(tmp_path / "x.h5", changed))).digest != nets[0].digest


def test_a_file_without_the_top_gives_maps_only(small, tmp_path):
    path = write_h5(tmp_path / "notop.h5", {k: v for k, v in small.items() if k[0] in CONVOLUTIONS})
    net = vggish.load(str(path))
    same(net, small)
    assert net.outputs == ("conv4_2", "pooled") and "without dense layers" in net.weights
    assert net.encode(NOISE, "pooled")[0].shape == (3, 5)
    with pytest.raises(ValueError, match="output='embedding'.*gives conv4_2, pooled"):
        net.encode(NOISE)


def test_wrong_files_are_named(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.ckpt: no such file; expected VGGish"):
        vggish.load(str(tmp_path / "nowhere.ckpt"))
    for name in ("text.ckpt", "text.h5"):
        (tmp_path / name).write_text("no weights at all")
        with pytest.raises(ValueError, match=f"{name}: expected a TensorFlow checkpoint or a Keras"):
            vggish.load(str(tmp_path / name))
    less = {k: v for k, v in small.items() if k != ("conv2", "bias")}
    with pytest.raises(ValueError, match="less.h5: no weights of VGGish; conv2/bias and 0 more"):
        vggish.load(str(write_h5(tmp_path / "less.h5", less)))
    wrong = small | {("conv4_1", "kernel"): np.zeros((3, 3, 7, 5), "float32")}
    with pytest.raises(ValueError, match=r"conv4_1/kernel is \(3, 3, 7, 5\), expected \(3, 3, 4, 5\)"):
        vggish.load(str(write_h5(tmp_path / "wrong.h5", wrong)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: not a model that can be loaded"):
        vggish.load(str(tmp_path / "empty"))


def test_the_published_file_is_found_and_its_absence_told(checkpoint, small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TFVC_WEIGHTS", str(tmp_path))
    with socket.socket() as s:  # a port where nobody listens
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}/x"
        for name, row in weights.SOUND_FILES.items():
            monkeypatch.setitem(weights.SOUND_FILES, name, replace(row, url=url))
        with pytest.raises(FileNotFoundError, match=f"vggish_model.ckpt: not in {tmp_path}.*vggish_weights="):
            vggish.load()
        with pytest.raises(FileNotFoundError, match="vggish_pca_params.npz: not in .*--vggish_pca=FILE"):
            vggish.load_pca()
    write_checkpoint(tmp_path / "vggish_model.ckpt", small, "V1")
    net = vggish.load()
    same(net, small)
    assert net.weights.startswith("audioset (vggish_model.ckpt")
    lines = "\n".join(command.listing())
    assert f"here  {tmp_path / 'vggish_model.ckpt'}" in lines and "vggish_pca" in lines


class Hub(tf.Module):
    """The TF-Hub module's face: a waveform of any length in, a row for each whole patch out."""

    def __init__(self, model, width=128):
        super().__init__()
        self.model, self.width = model, width

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def __call__(self, waveform):
        samples = tf.signal.frame(waveform, 15600, 15360)
        samples = tf.ensure_shape(samples, (None, 15600))
        return self.model(log_mel.log_mel(samples)[..., None])["embedding"][:, : self.width]


@pytest.mark.parametrize("prefix", ["", "hub:"])
def test_a_saved_model_of_the_hub_gives_the_same_embeddings(prefix, checkpoint, tmp_path):
    ours = vggish.load(str(checkpoint))
    tf.saved_model.save(Hub(ours.model), str(tmp_path / "hub"))
    net = vggish.load(f"{prefix}{tmp_path / 'hub'}")
    for waveform in (NOISE, NOISE[:100], None):
        rows, mask = net.encode(waveform)
        expected, real = ours.encode(waveform)
        np.testing.assert_allclose(rows, expected, atol=1e-4)
        assert rows.dtype == "float32" and mask.tolist() == real.tolist()
    with pytest.raises(ValueError, match="output='conv4_2'"):
        net.encode(NOISE, "conv4_2")
    with pytest.raises(ValueError, match="it is its own export"):
        net.tensor(tf.zeros((1, 15600)))


def test_a_saved_model_of_another_kind_is_told(checkpoint, tmp_path):
    tf.saved_model.save(Hub(vggish.load(str(checkpoint)).model, 64), str(tmp_path / "narrow"))
    with pytest.raises(ValueError, match=r"narrow: gives \(1, 64\).*expected VGGish's \(1, 128\)"):
        vggish.load(str(tmp_path / "narrow")).encode(NOISE)
    with pytest.raises(FileNotFoundError, match="hub:.*cannot be had"):
        vggish.load(f"hub:{tmp_path / 'nowhere'}")


# --- PCA and bytes --------------------------------------------------------------------------------


def test_bytes_are_the_published_post_processing(shared, checkpoint):
    path = shared("data/weights/vggish_pca_params.npz")
    pca = vggish.load_pca(str(path))
    with np.load(path, allow_pickle=False) as file:
        matrix, means = file["pca_eigen_vectors"], file["pca_means"]
    net = vggish.load(str(checkpoint))
    embeddings, _ = net.encode(NOISE)
    whitened = np.stack([matrix @ (row - means.ravel()) for row in embeddings.astype("float64")])
    np.testing.assert_allclose(pca.whiten(embeddings), whitened, rtol=1e-4, atol=1e-4)
    quantized, mask = net.encode_quantized(NOISE, pca)
    assert quantized.shape == (3, 128) and quantized.dtype == "uint8" and mask.all()
    levels = np.clip(whitened, -2, 2) * 63.75 + 127.5
    assert np.abs(quantized - (levels - 0.5)).max() <= 0.51  # the fraction is cut off


def test_a_wrong_pca_is_named(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "narrow.npz", pca_eigen_vectors=np.zeros((64, 128)), pca_means=np.zeros(128))
    (tmp_path / "text.npz").write_text("text")
    for name in ("other", "narrow", "text"):
        with pytest.raises(ValueError, match=f"{name}.npz: expected a .npz file with pca_eigen_vectors"):
            vggish.load_pca(str(tmp_path / f"{name}.npz"))
    with pytest.raises(FileNotFoundError, match="nowhere.npz: no such file"):
        vggish.load_pca(str(tmp_path / "nowhere.npz"))


# --- the golden checks have teeth -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name, array",
    [
        ("vggish_mel_matrix.npz", "f64_hann400"),
        ("vggish_mel_s_noise16k.npz", "log_mel"),
        ("vggish_mel_s_stereo44k.npz", "mono16k"),
        ("vggish_extractor_slices_s0.npz", "patches"),
        ("vggish_net_s_max.npz", "conv4_2"),
        ("vggish_net_s_max.npz", "wsum/conv4/conv4_1/kernel"),
    ],
)
def test_a_changed_number_fails_the_check(shared, name, array, tmp_path):
    golden, meta = read(shared(f"golden/{name}"))
    golden[array] = golden[array].copy()
    golden[array][tuple(n // 2 for n in golden[array].shape)] += 0.1 if "wsum" not in array else 10
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    check = golden_audio.CHECKS[max((k for k in golden_audio.CHECKS if name.startswith(k)), key=len)]
    with pytest.raises(AssertionError):
        check(tmp_path / name, tmp_path)
