"""SoundNet: lengths, pieces, batches of several lengths, weights, and what the command says of a pickle."""

import golden_soundnet
import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import read

from tfvc.backbones import __main__ as command
from tfvc.backbones import soundnet, vggish, weights
from tfvc.backbones.soundnet_weights import HEADS, PUBLISHED, kinds, read_weights
from tfvc.data import audio

WIDTHS = (2, 3, 2, 3, 2, 3, 4, 3, 2)
NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, 12 * soundnet.RATE).astype("float32")


@pytest.fixture(scope="module")
def arrays():
    """Random arrays of a narrow SoundNet, norms too: (layer, name) -> array."""
    rng, found = np.random.default_rng(1), {}
    for layer, width in zip(soundnet.LAYERS + soundnet.TOPS, WIDTHS, strict=True):
        before = WIDTHS[6] if layer.name in HEADS else (1, *WIDTHS)[soundnet.OUTPUTS.index(layer.name)]
        for kind in kinds(layer.name):
            shape = (layer.kernel, before, width) if kind == "weights" else (width,)
            value = rng.normal(0, 0.3, shape)
            found[layer.name, kind] = (np.abs(value) + 0.5 if kind == "var" else value).astype("float32")
    return found


@pytest.fixture(scope="module")
def file(arrays, tmp_path_factory):
    return write(tmp_path_factory.mktemp("soundnet") / "sound8.npz", arrays)


@pytest.fixture(scope="module")
def net(file):
    return soundnet.load(str(file))


def write(path, arrays):
    """The form that the published pickle's owner makes of it: kernels (length, 1, in, out)."""
    named = {f"{PUBLISHED[layer]}/{kind}": a for (layer, kind), a in arrays.items()}
    np.savez(path, **{k: a[:, None] if k.endswith("weights") else a for k, a in named.items()})
    return path


def oracle(arrays, samples, output):
    """The equations in float64: a layer before its norm, and behind the ReLU."""
    x = samples.astype("float64")[:, None] * 256
    for layer in soundnet.LAYERS + soundnet.TOPS:
        if layer.name in HEADS and layer.name != output:
            continue
        a = {kind: arrays[layer.name, kind].astype("float64") for kind in kinds(layer.name)}
        padded = np.pad(x, ((layer.pad, layer.pad), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, axis=0)[::2]
        raw = np.einsum("nck,kcd->nd", windows, a["weights"]) + a["biases"]
        if layer.name in HEADS:
            return raw, raw
        x = np.maximum(0, (raw - a["mean"]) / np.sqrt(a["var"] + 1e-5) * a["gamma"] + a["beta"])
        if layer.name == output:
            return raw, x
        x = x[: len(x) // layer.pool * layer.pool].reshape(-1, layer.pool, x.shape[1]).max(1)


def near(ours, wanted):
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("output", ["conv1", "conv2", "conv5", "conv7", *HEADS])
def test_each_layer_is_the_equations_before_and_after_its_relu(net, arrays, output):
    sound = NOISE[: 10 * soundnet.RATE + 777]
    raw, after = oracle(arrays, sound, output)
    near(net.encode(sound, output), after)
    near(net.encode(sound, output, after_relu=False), raw)
    assert len(after) == soundnet.length(sound.size, output)


@pytest.mark.parametrize("output", ["conv1", "conv7", "scenes"])
def test_pieces_of_any_size_give_what_the_whole_gives(net, monkeypatch, output):
    monkeypatch.setattr(soundnet, "_PIECE", 1 << 30)
    whole = net.encode(NOISE, output)
    given = {"samples": NOISE[None] * np.float32(256), "lengths": np.array([NOISE.size])}
    near(whole, net.model(given)[output].numpy()[0])
    for piece in (256, 5000, 1 << 16):
        monkeypatch.setattr(soundnet, "_PIECE", piece)
        # Not bit for bit on every processor: where a piece ends, some sum in another order (2e-7 was seen).
        np.testing.assert_allclose(net.encode(NOISE, output), whole, rtol=0, atol=1e-6 * np.abs(whole).max())


def test_a_long_sound_is_never_whole_in_the_network(net, monkeypatch):
    stages, most = net._make_stage, []

    def watched(*given):
        stage = stages(*given)
        return lambda rows: most.append(len(rows)) or stage(rows)

    monkeypatch.setattr(net, "_stage", watched)
    long = np.tile(NOISE, 20)
    assert net.encode(long).shape == (soundnet.length(long.size), 4)
    assert max(most) < 3 * soundnet._PIECE < long.size / 10


@pytest.mark.parametrize("output", ["conv2", "conv7", "objects"])
@pytest.mark.parametrize("after_relu", [True, False])
def test_a_clip_in_a_batch_gives_what_it_gives_alone(net, output, after_relu):
    lengths = [NOISE.size, 0, 1000, soundnet.shortest(output), 110251]
    batch = np.full((len(lengths), NOISE.size), 0.5, "float32")  # what lies behind a clip is not looked at
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = NOISE[:length]
    signature = [tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None,), tf.int32)]

    @tf.function(input_signature=signature, autograph=False)  # as it is exported
    def exported(samples, lengths):
        return net.tensor(samples, lengths, output, after_relu)

    found = exported(batch, lengths).numpy()
    assert found.shape[1] == soundnet.length(NOISE.size, output)
    for row, length in zip(found, lengths, strict=True):
        alone = net.encode(NOISE[:length], output, after_relu) if length else row[:0]
        np.testing.assert_allclose(row[: len(alone)], alone, rtol=1e-5, atol=1e-5 * np.abs(found).max())
        assert not row[len(alone) :].any()
    short = exported(batch[2:3, :1000], [1000]).numpy()
    np.testing.assert_allclose(short[0], net.encode(NOISE[:1000], output, after_relu), rtol=1e-5, atol=1e-3)


def test_lengths_of_numbers_and_tensors_and_the_shortest_sounds():
    for output in soundnet.OUTPUTS:
        least = soundnet.shortest(output)
        assert (soundnet.length(least, output), soundnet.length(least - 1, output)) == (1, 0)
        samples = np.array([0, 1, 4573, 22050, 500_000], "int32")
        ours = soundnet.length(tf.constant(samples), output).numpy()
        np.testing.assert_array_equal(ours, [soundnet.length(int(n), output) for n in samples])
    with pytest.raises(ValueError, match="output='conv9': expected one of conv1, "):
        soundnet.length(1, "conv9")


@pytest.mark.parametrize("sound", [None, np.zeros(0, "float32"), np.float32([0.5])])
def test_short_and_absent_sound_gives_one_row(net, sound):
    assert net.encode(sound).shape == (1, 4) and net.encode(sound, "objects").shape == (1, 3)


def test_what_is_no_sound_or_no_output_is_told(net):
    for wrong in (np.zeros((2, 9), "float32"), np.zeros(9, "int16"), np.float32([np.nan])):
        with pytest.raises(ValueError, match="expected finite floats"):
            net.encode(wrong)
    with pytest.raises(ValueError, match="output='conv8'.*gives conv1, "):
        net.encode(NOISE, "conv8")
    with pytest.raises(ValueError, match="expected 9"):
        soundnet.build_model(widths=(1, 2))


def test_the_golden_net_too_is_the_same_in_pieces(shared, monkeypatch):
    golden, meta = read(shared("golden/soundnet_tiny_s1_5s.npz"))
    monkeypatch.setattr(soundnet, "_PIECE", 1000)
    net = golden_soundnet.network(golden, meta, heads=())
    np.testing.assert_allclose(net.encode(golden["x"] / np.float32(256)), golden["conv7"], atol=1e-4, rtol=0)


# --- weights ------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_and_without_heads_and_told_apart(net, file, arrays, tmp_path, monkeypatch):
    assert net.weights.startswith("given (sound8.npz, digest ") and net.outputs == soundnet.OUTPUTS
    assert not net.random
    net.model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras", safe_mode=True)
    given = {"samples": NOISE[None], "lengths": np.array([50000])}
    np.testing.assert_array_equal(again(given)["conv7"], net.model(given)["conv7"])
    bare = {key: a for key, a in arrays.items() if key[0] not in HEADS}
    headless = soundnet.load(str(write(tmp_path / "bare.npz", bare)))
    assert headless.outputs == soundnet.OUTPUTS[:7] and headless.digest != net.digest
    np.testing.assert_array_equal(headless.encode(NOISE), net.encode(NOISE))
    monkeypatch.setenv("TFVC_WEIGHTS", str(file.parent))
    published = soundnet.load()
    assert published.weights.startswith("flickr (sound8.npz") and published.digest == net.digest


def test_random_weights_follow_their_seed_and_have_the_published_widths():
    one = soundnet.load("random", seed=3)
    rows = one.encode(NOISE[: 5 * soundnet.RATE])
    assert rows.shape == (4, 1024) and one.random and one.weights == "random (seed 3)"
    assert 0.01 < rows.std() < 100
    assert {name: value.shape[-1] for name, value in one.model.output.items()} == dict(
        zip(soundnet.OUTPUTS, soundnet.WIDTHS, strict=True)
    )
    tiny = [soundnet.build_model(widths=WIDTHS) for _ in range(3)]
    for model, seed in zip(tiny, (3, 3, 4), strict=True):
        vggish.randomize(model, seed)
    first, same, other = (model.get_layer("conv2").kernel.numpy() for model in tiny)
    assert (first == same).all() and np.abs(first - other).max() > 0.01


def test_absent_weights_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TFVC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"sound8\.npz: not in .*; .*soundnet_weights=random"
    ) as error:
        soundnet.load()
    assert "\n" not in str(error.value) and "python -m tfvc.backbones sound8.npy" in str(error.value)
    with pytest.raises(FileNotFoundError, match="gone.npz: no such file"):
        soundnet.load(str(tmp_path / "gone.npz"))
    for name in ("flickr", "random"):
        weights.check_sound(name, "soundnet")
    for name, words in (("soundnet", "flickr, random"), ("vggish", "audioset, random")):
        with pytest.raises(FileNotFoundError, match=f"no such file; expected {words} or a path .of {name}"):
            weights.check_sound("neither", name)


def test_a_pickle_is_refused_and_its_owner_told_how(arrays, tmp_path, capsys):
    layers = {name: {} for name in PUBLISHED.values()}
    for (layer, kind), array in arrays.items():
        layers[PUBLISHED[layer]][kind] = array[:, None] if kind == "weights" else array
    path = tmp_path / "sound8.npy"
    np.save(path, np.array(layers, object), allow_pickle=True)
    with pytest.raises(ValueError, match="a pickle can run any code"):
        soundnet.load(str(path))
    with pytest.raises(SystemExit):
        command.main([str(path)])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    exec("\n".join(lines), {})
    named, _ = read_weights(path.with_suffix(".npz"))
    assert named.keys() == arrays.keys()
    assert all((named[key] == arrays[key]).all() for key in arrays)
    with pytest.raises(SystemExit):
        command.main([str(path.with_suffix(".npz"))])
    said = capsys.readouterr().out
    assert "conv7    conv7    4 x 3 x 4" in said and "audio.weights=" in said


@pytest.mark.parametrize(
    "key, wrong, said",
    [
        (("conv3", "weights"), None, "conv3/weights is missing, expected .16, 3, C."),
        (("conv3", "weights"), np.zeros((8, 3, 2)), r"conv3/weights is \(8, 3, 2\), expected \(16, 3, 2\)"),
        (("conv5", "beta"), np.zeros(7), "conv5/beta is"),
        (("scenes", "biases"), None, "conv8_2/biases is missing"),
        (("conv1", "var"), np.float32([-1, 1]), "conv1/var holds values that no weight has"),
        (("conv1", "mean"), np.float32([np.nan, 1]), "conv1/mean holds values"),
        (("conv1", "mean"), np.array([{}, 1], object), "expected a .npz file of plain arrays"),
        (("conv1", "mean"), np.array([1j, 1]), "expected a .npz .*conv1/mean is complex128, expected real"),
        (("conv1", "mean"), np.array([1e300, 1]), "conv1/mean holds values"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_damaged_file_is_told_by_its_array(arrays, tmp_path, key, wrong, said):
    kept = {k: a for k, a in arrays.items() if k != key} | ({} if wrong is None else {key: wrong})
    with pytest.raises(ValueError, match=rf"bad\.npz: {said}"):
        read_weights(write(tmp_path / "bad.npz", kept))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="text.npz: expected a .npz file"):
        read_weights(tmp_path / "text.npz")


def test_real_sound_end_to_end(shared, net):
    for path in (next(shared("data/esc10").rglob("*.ogg")), next(shared("data/grid_av").glob("*.mpg"))):
        track = audio.read_track(path, audio.WholeTrack())
        rows = net.encode(track.samples)
        assert len(rows) == soundnet.length(track.samples.size) >= 2 and np.isfinite(rows).all()
