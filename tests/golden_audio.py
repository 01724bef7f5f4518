"""Golden checks of the sound front end and of VGGish; see test_golden.py."""

import av
import numpy as np
from golden import read
from keras import ops

from tfvc.backbones import log_mel, vggish
from tfvc.data.audio import read_audio


def close(ours, golden, what, atol):
    np.testing.assert_allclose(ours, golden, atol=atol, rtol=0, err_msg=what)


def patches(waveform, cut):
    return ops.convert_to_numpy(log_mel.log_mel(log_mel.windows(waveform, cut)[0]))


def mono(wav_int16):
    """What the original hears of 16 kHz sound: a 32768th, the mean of the channels."""
    return (wav_int16 / 32768.0).reshape(len(wav_int16), -1).mean(1).astype("float32")


def mel_matrix(path, tmp_path):
    golden, _ = read(path)
    close(log_mel.mel_matrix(), golden["f64_mel_matrix"], "mel_matrix", 1e-9)
    close(log_mel.hann(), golden["f64_hann400"], "hann", 1e-9)


def mel(path, tmp_path):
    golden, meta = read(path)
    ours = patches(golden["mono16k"], "patch")
    assert ours.shape == golden["log_mel"].shape
    close(ours, golden["log_mel"], "log_mel of mono16k", 1e-4)
    samples = log_mel.windows(golden["mono16k"], "patch")[0]
    close(log_mel.log_mel(samples, "float32"), golden["log_mel"], "log_mel in float32", 2e-3)
    heard = mono(golden["wav_int16"])
    if meta["sr"] == log_mel.RATE:
        close(heard, golden["mono16k"], "mono16k", 1e-7)
    wav = write_wav(tmp_path / "sound.wav", golden["wav_int16"], meta["sr"])
    heard = read_audio(wav, rate=log_mel.RATE)
    assert heard.size == golden["mono16k"].size
    # Two resamplers agree except near the edge of the band: 7 kHz and up.
    below = log_mel.mel_matrix().argmax(0) < 7000 * log_mel.FFT / log_mel.RATE
    error = np.abs(patches(heard, "patch") - golden["log_mel"])[..., below]
    assert error.mean() < 0.05, f"log_mel of the wav: mean difference {error.mean():.3g}"


def write_wav(path, samples, rate):
    """A 16-bit file; samples int16 (N,) or (N, channels)."""
    samples = samples.reshape(len(samples), -1)
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def extractor(path, tmp_path):
    golden, meta = read(path)
    samples, mask = log_mel.windows(mono(golden["wav_int16"]), count=meta["len_video"])
    assert mask.all()
    close(ops.convert_to_numpy(log_mel.log_mel(samples))[..., None], golden["patches"], "patches", 1e-4)


def recipe_weights(golden, meta):
    """The weights that meta.recipe draws, by (layer, kind), checked against what the file holds of them."""
    widths = {"conv1": (1, 64), "conv2": (64, 128), "conv3_1": (128, 256), "conv3_2": (256, 256)}
    widths |= {"conv4_1": (256, 512), "conv4_2": (512, 512)}
    drawn = {}
    for i, name in enumerate(meta["order"]):
        name = name.removesuffix(":0")
        *_, layer, kind = name.split("/")
        shape = (3, 3, *widths[layer]) if kind == "kernel" else widths[layer][1:]
        z = np.random.RandomState(meta["seed"] * 100 + i).standard_normal(shape)
        scale = np.sqrt(2 / (9 * widths[layer][0])) if kind == "kernel" else 0.1
        drawn[layer, kind] = array = (z * scale).astype("float32")
        sums = [array.sum(dtype="float64"), np.abs(array).sum(dtype="float64")]
        np.testing.assert_allclose(sums, golden[f"wsum/{name}"], rtol=1e-4, atol=1e-2, err_msg=f"wsum/{name}")
        if f"w/{name}" in golden:
            close(array, golden[f"w/{name}"], name, 1e-6)
    return drawn


def net(path, tmp_path):
    golden, meta = read(path)
    drawn = recipe_weights(golden, meta)
    model = vggish.build_model(pooling=meta["pooling"], top=False)
    for layer in (v for v in model.layers if v.weights):
        layer.set_weights([drawn.pop((layer.name, kind)) for kind in ("kernel", "bias")])
    assert not drawn
    ours = {name: ops.convert_to_numpy(v) for name, v in model(golden["x"]).items()}
    close(ours["conv4_2"], golden["conv4_2"], "conv4_2", 2e-4)
    close(ours["pooled"], golden["pooled"], "pooled", 2e-4)
    pool4 = model.get_layer("pool4")(ours["conv4_2"])[..., :2]
    close(pool4, golden["pool4_first2channels"], "pool4_first2channels", 2e-4)


CHECKS = {
    "vggish_mel_matrix": mel_matrix,
    "vggish_mel_s": mel,
    "vggish_extractor_": extractor,
    "vggish_net_": net,
}
