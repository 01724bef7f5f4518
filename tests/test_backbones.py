"""Backbones: rows, files given, weight files, random networks, arithmetic, determinism."""

import doctest
import http.server
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
import squeezenet
import tensorflow as tf

from tfvc.backbones import __main__ as command
from tfvc.backbones import visual, weights
from tfvc.recipe import Backbone

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
SMALL = Backbone(name="vgg16", weights="random", size=(40, 48))


def cosine(a, b):
    a, b = np.float64(a), np.float64(b)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def identity():
    """A network that gives back what it is fed: it shows the preprocessing."""
    x = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 1, use_bias=False, dtype="float32")
    model = keras.Model(x, layer(x))
    layer.set_weights([np.eye(3, dtype="float32").reshape(1, 1, 3, 3)])
    return model


@pytest.fixture(scope="module")
def identity_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("identity") / "identity.keras"
    identity().save(path)
    return path


@pytest.fixture
def empty_homes(tmp_path, monkeypatch):
    """Neither weight folder holds anything, and vgg16's weights come from a port where nobody listens."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TFVC_WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        row = replace(weights.FILES["vgg16"], url=f"http://127.0.0.1:{s.getsockname()[1]}/x")
        monkeypatch.setitem(weights.FILES, "vgg16", row)
        yield tmp_path


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(visual.ROWS))
def test_each_row_gives_the_map_that_the_table_says(name):
    network = visual.ROWS[name].build(weights=None, include_top=False, input_shape=(224, 224, 3))
    assert network.output_shape[1:] == visual.ROWS[name].map_shape
    assert set(visual.ROWS) == set(weights.FILES)


def test_flattened_sizes_are_the_papers():
    size = {name: int(np.prod(row.map_shape)) for name, row in visual.ROWS.items()}
    assert size["vgg19"] == size["vgg16"] == 25088 and size["inception_v3"] == 51200
    assert size["resnet50"] == size["xception"] == 100352


def test_flatten_average_and_maximum_are_poolings_of_one_map():
    flat = visual.load(SMALL).encode(FRAMES)
    big = np.tile(FRAMES, (1, 2, 2, 1))
    wide = replace(SMALL, size=(80, 96))
    maps = visual.load(wide).encode(big).reshape(5, 2, 3, 512)  # row-major (height, width, channels)
    average = visual.load(replace(wide, pooling="avg")).encode(big)
    largest = visual.load(replace(wide, pooling="max")).encode(big)
    np.testing.assert_allclose(average, maps.mean((1, 2)), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(largest, maps.max((1, 2)))
    assert flat.shape == (5, 512)


def test_a_wrong_name_and_a_small_size_are_told():
    with pytest.raises(ValueError, match="did you mean 'vgg19'"):
        visual.load(Backbone(name="vgg91"))
    with pytest.raises(FileNotFoundError, match="nowhere.keras: no such model"):
        visual.load(Backbone(name="nowhere.keras", preprocessing="none"))
    with pytest.raises(ValueError, match="at least 75"):
        visual.load(Backbone(name="inception_v3", weights="random", size=(40, 48)))


def test_the_example_of_load_runs():
    assert doctest.testmod(visual).attempted >= 2 and doctest.testmod(visual).failed == 0


def test_frames_passes_pictures_through_and_refuses_what_it_cannot_apply():
    encoder = visual.load(Backbone(name="frames", weights="none", size=(40, 48)), channel_order="bgr")
    assert encoder.encode(FRAMES) is FRAMES and encoder.dtype == "uint8"
    assert encoder.feature_shape == (40, 48, 3) and encoder.model is None and not encoder.random
    np.testing.assert_array_equal(encoder.tensor(tf.constant(FRAMES)), FRAMES[..., ::-1])
    with pytest.raises(ValueError, match="backbone.pooling=avg: frames has no network"):
        visual.load(Backbone(name="frames", pooling="avg"))


# --- preprocessing and channel order ------------------------------------------------------------


@pytest.mark.parametrize("name", [*visual.ROWS, "caffe", "tf", "torch", "none", "scale"])
def test_preprocessing_is_keras_own_and_bgr_goes_straight_in(identity_file, name):
    backbone = Backbone(name=str(identity_file), preprocessing=name, size=(40, 48))
    pixels = FRAMES.astype("float32")
    if name in visual.ROWS:
        expected = visual.ROWS[name].preprocess(pixels.copy())
    elif name in ("none", "scale"):
        expected = pixels / (255.0 if name == "scale" else 1.0)
    else:
        expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=name)
    expected = expected.reshape(5, -1)
    for order in ("rgb", "bgr"):
        encoder = visual.load(backbone, channel_order=order)
        np.testing.assert_allclose(encoder.encode(FRAMES), expected, rtol=1e-6, atol=1e-5)
    rgb = tf.constant(FRAMES[..., ::-1].copy())  # the same pictures for a server, which sends RGB
    np.testing.assert_allclose(encoder.tensor(rgb), expected, rtol=1e-6, atol=1e-5)


def test_a_file_without_its_preprocessing_named_is_refused(identity_file):
    with pytest.raises(ValueError, match="set backbone.preprocessing to one of: .*caffe"):
        visual.load(Backbone(name=str(identity_file)))
    with pytest.raises(ValueError, match="unknown value of backbone.preprocessing 'cafe'.*'caffe'"):
        visual.load(Backbone(name=str(identity_file), preprocessing="cafe"))


# --- files given --------------------------------------------------------------------------------


def test_every_form_of_a_given_model_gives_the_same_features(tmp_path):
    model = keras.Sequential([keras.Input((40, 48, 3)), keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    model.export(tmp_path / "saved", verbose=False)
    expected = model.predict(FRAMES / np.float32(255), verbose=0).reshape(5, -1)
    names = [
        str(tmp_path / "m.keras"),
        str(tmp_path / "m.h5"),
        str(tmp_path / "saved"),
        f"hub:{tmp_path}/saved",
    ]
    for name in names:
        encoder = visual.load(Backbone(name=name, preprocessing="scale", size=(40, 48)))
        np.testing.assert_allclose(encoder.encode(FRAMES), expected, rtol=1e-5, atol=1e-5)
        assert encoder.feature_size == 38 * 46 * 4 and encoder.weights.startswith("given (")
    with pytest.raises(ValueError, match="SavedModel's arithmetic is fixed"):
        visual.load(Backbone(name=names[2], preprocessing="scale", size=(40, 48), precision="bfloat16"))
    with pytest.raises(FileNotFoundError, match="hub:.*nowhere.*cannot be had"):
        visual.load(Backbone(name=f"hub:{tmp_path}/nowhere", preprocessing="scale"))
    with pytest.raises(ValueError, match="cannot take frames of backbone.size=.64, 64."):
        visual.load(Backbone(name=names[0], preprocessing="scale", size=(64, 64)))


@pytest.mark.parametrize("form", ["row", "saved"])
def test_tensor_exports_and_reloads_with_its_weights_inside(tmp_path, form):
    if form == "row":
        encoder = visual.load(SMALL, channel_order="bgr")
    else:
        identity().export(tmp_path / "in", verbose=False)
        encoder = visual.load(Backbone(name=str(tmp_path / "in"), preprocessing="scale", size=(40, 48)))
    module = tf.Module()
    module.model = encoder.model
    spec = [tf.TensorSpec((None, 40, 48, 3), tf.uint8)]
    module.features = tf.function(encoder.tensor, input_signature=spec, autograph=False)
    tf.saved_model.save(module, str(tmp_path / "out"), {"frames": module.features})
    again = tf.saved_model.load(str(tmp_path / "out"))
    np.testing.assert_allclose(
        again.features(tf.constant(FRAMES)), encoder.tensor(tf.constant(FRAMES)), rtol=1e-5, atol=1e-4
    )


def test_a_vector_cannot_be_pooled_and_two_outputs_are_refused(tmp_path):
    x = keras.Input((40, 48, 3))
    flat = keras.layers.Flatten()(x)
    keras.Model(x, flat).save(tmp_path / "vector.keras")
    keras.Model(x, [flat, flat]).save(tmp_path / "two.keras")
    one = Backbone(name=str(tmp_path / "vector.keras"), preprocessing="none", size=(40, 48))
    assert visual.load(one).feature_size == 40 * 48 * 3
    with pytest.raises(ValueError, match="backbone.pooling=avg.*expected none"):
        visual.load(replace(one, pooling="avg"))
    with pytest.raises(ValueError, match="expected one output, it has 2"):
        visual.load(replace(one, name=str(tmp_path / "two.keras")))
    with pytest.raises(ValueError, match="brings its own weights"):
        visual.load(replace(one, weights="random"))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_in_a_file_is_refused_and_not_run(tmp_path, suffix):
    flag = tmp_path / "ran"
    x = keras.Input((40, 48, 3))
    code = eval(f"lambda t: (open({str(flag)!r}, 'w').close(), t)[1]")  # what a hostile file would hold
    keras.Model(x, keras.layers.Lambda(code, output_shape=(40, 48, 3))(x)).save(tmp_path / f"m.{suffix}")
    flag.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="not a model that can be loaded"):
        visual.load(Backbone(name=str(tmp_path / f"m.{suffix}"), preprocessing="none", size=(40, 48)))
    assert not flag.exists()


def test_weights_alone_or_rubbish_are_no_model(tmp_path, shared):
    (tmp_path / "m.keras").write_bytes(b"rubbish")
    (tmp_path / "folder").mkdir()
    for path in (shared(squeezenet.FILE), tmp_path / "m.keras", tmp_path / "folder"):
        with pytest.raises(ValueError, match=f"{path.name}: not a model that can be loaded"):
            visual.load(Backbone(name=str(path), preprocessing="caffe"))


def test_real_weights_given_as_a_file_tell_punch_from_yoyo(tmp_path, shared):
    from tfvc.data import video

    path = squeezenet.save(shared(squeezenet.FILE), tmp_path / "squeezenet.keras")
    backbone = Backbone(name=str(path), preprocessing=squeezenet.PREPROCESSING, pooling="avg")
    encoder = visual.load(backbone)
    clips = sorted(shared("data/ucf101").glob("Punch/*")) + sorted(shared("data/ucf101").glob("YoYo/*"))
    label = np.array([c.parent.name for c in clips])
    group = np.array([c.name[:-8] for c in clips])
    x = np.stack([encoder.encode(video.read_frames(c, size=(224, 224)).frames).mean(0) for c in clips])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    right = np.zeros(len(x), bool)
    for g in np.unique(group):
        centres = {k: x[(group != g) & (label == k)].mean(0) for k in np.unique(label)}
        for i in np.flatnonzero(group == g):
            right[i] = min(centres, key=lambda k: np.linalg.norm(x[i] - centres[k])) == label[i]
    assert len(clips) == 22
    assert np.mean([right[label == k].mean() for k in np.unique(label)]) >= 0.8


# --- weight files -------------------------------------------------------------------------------


def test_local_weights_are_read_and_their_checksum_verified(empty_homes, monkeypatch):
    network = visual.ROWS["vgg16"].build(weights=None, include_top=False, input_shape=(40, 48, 3))
    path = empty_homes / "mine" / weights.FILES["vgg16"].name
    network.save(path)  # Keras' legacy layout, as the published files
    with pytest.raises(ValueError, match=f"{path}: MD5 .*expected 6d6bbae1"):
        visual.load(replace(SMALL, weights="imagenet"))
    monkeypatch.setitem(weights.FILES, "vgg16", replace(weights.FILES["vgg16"], md5=weights.md5(path)))
    encoder = visual.load(replace(SMALL, weights="imagenet"))
    assert encoder.weights_path == str(path) and encoder.weights.startswith(f"imagenet ({path.name}, sha256 ")
    expected = network.predict(visual.ROWS["vgg16"].preprocess(FRAMES.astype("float32")), verbose=0)
    np.testing.assert_allclose(encoder.encode(FRAMES), expected.reshape(5, -1), rtol=1e-4, atol=1e-4)
    own = empty_homes / "own.weights.h5"
    network.save_weights(own)
    given = visual.load(replace(SMALL, weights=str(own)))
    np.testing.assert_array_equal(given.encode(FRAMES), encoder.encode(FRAMES))
    with pytest.raises(ValueError, match="not a weights file of mobilenet_v2"):
        visual.load(replace(SMALL, name="mobilenet_v2", weights=str(own)))
    with pytest.raises(FileNotFoundError, match="backbone.weights=nowhere: no such file"):
        visual.load(replace(SMALL, weights="nowhere"))


def test_absent_weights_stop_a_run_and_let_the_demo_go_on(empty_homes, capsys):
    wanted = replace(SMALL, weights="imagenet")
    with pytest.raises(FileNotFoundError) as caught:
        visual.load(wanted)
    for part in (weights.FILES["vgg16"].name, "mine", "keras/models", "--set=backbone.weights=random"):
        assert part in str(caught.value)
    encoder = visual.load(wanted, seed=3, demo=True)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "going on with a random network" in said
    assert encoder.random and encoder.weights == "random (seed 3)" and encoder.weights_path == ""


@pytest.fixture
def server():
    """Answers `/good`, half of what it announces at `/short`, a byte now and then at `/drip`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path == "/absent" else 200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            for byte in b"abcdefgh"[: 4 if self.path == "/short" else 8]:
                time.sleep(0.2 if self.path == "/drip" else 0)
                self.wfile.write(bytes([byte]))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as it:
        thread = threading.Thread(target=it.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{it.server_address[1]}"
        it.shutdown()
        thread.join()


def test_a_download_is_whole_or_not_at_all(empty_homes, server):
    row = weights.WeightFile("w.h5", "e8dc4081b13434b45189a720b77b6818", f"{server}/good")
    target = weights.keras_folder() / "w.h5"
    for path, reason in (
        ("short", "4 of 8 bytes"),
        ("absent", "Not Found"),
        ("drip", "not complete after 0.5 s"),
    ):
        with pytest.raises(weights.Unavailable, match=reason):
            weights.fetch(replace(row, url=f"{server}/{path}"), total=0.5)
    with pytest.raises(ValueError, match="/good: MD5 e8dc.*expected 0000"):
        weights.fetch(replace(row, md5="0000"))
    assert not target.exists()
    assert weights.fetch(row) == target and target.read_bytes() == b"abcdefgh"
    assert weights.fetch(replace(row, url="http://nowhere.invalid")) == target  # found, not asked for again
    assert [p.name for p in target.parent.iterdir()] == ["w.h5"]


def test_a_server_that_never_answers_is_waited_for_no_longer_than_told(empty_homes):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        row = weights.WeightFile("w.h5", "", f"http://127.0.0.1:{silent.getsockname()[1]}/w.h5")
        start = time.monotonic()
        with pytest.raises(weights.Unavailable, match="timed out"):
            weights.fetch(row, timeout=0.3)
        assert time.monotonic() - start < 2
    assert socket.getdefaulttimeout() is None


def test_the_command_lists_files_checksums_and_places(empty_homes, capsys):
    damaged = empty_homes / "mine" / weights.FILES["vgg19"].name
    damaged.write_bytes(b"half")
    with pytest.raises(SystemExit) as stop:
        command.main([])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"damaged: {damaged}" in text and str(empty_homes / "mine") in text
    assert all(row.name in text and row.md5 in text and row.url in text for row in weights.FILES.values())
    heavy = "{'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    code = f"import sys, tfvc.backbones.__main__; sys.exit(len({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- random networks ----------------------------------------------------------------------------


def test_random_networks_follow_the_seed_and_nothing_else():
    one = visual.load(replace(SMALL, name="mobilenet_v2"))
    keras.layers.Conv2D(1, 1)  # moves Keras' counter of layer names
    two = visual.load(replace(SMALL, name="mobilenet_v2"))
    other = visual.load(replace(SMALL, name="mobilenet_v2"), seed=1)
    np.testing.assert_array_equal(one.encode(FRAMES), two.encode(FRAMES))
    assert one.digest == two.digest != other.digest
    assert np.abs(one.encode(FRAMES) - other.encode(FRAMES)).max() > 0.1
    kernel = visual.load(SMALL).model.get_weights()[0]
    assert kernel.ravel()[:3] == pytest.approx(
        [0.18134034, 0.45337352, -0.12655221], abs=1e-7
    )  # the same on every version


@pytest.mark.parametrize("name", ["vgg19", "resnet50", "xception"])
def test_random_networks_keep_the_size_of_activations(name):
    encoder = visual.load(Backbone(name=name, weights="random", size=(96, 96)))
    network = next(v for v in encoder.model.layers if isinstance(v, keras.Model))
    kinds = (keras.layers.Add, keras.layers.MaxPooling2D)
    outputs = [v.output for v in network.layers if isinstance(v, kinds)]
    smooth = np.kron(FRAMES[:2, :12, :12], np.ones((1, 8, 8, 1), np.uint8))
    pixels = visual.ROWS[name].preprocess(smooth.astype("float32"))
    size = [np.sqrt(np.mean(np.square(np.float64(v)))) for v in keras.Model(network.input, outputs)(pixels)]
    assert len(size) >= 5 and max(size) < 4 * min(size)
    assert encoder.encode(smooth).std(0).mean() > 0.02 * size[-1]  # and they still tell frames apart


# --- arithmetic, batches, bytes -----------------------------------------------------------------


def test_bfloat16_stays_near_float32_and_leaves_the_callers_policy(identity_file, tmp_path):
    few = FRAMES[:2]  # TensorFlow's bfloat16 convolutions are slow on a CPU
    for name in ("vgg19", "mobilenet_v2"):
        full = visual.load(replace(SMALL, name=name))
        keras.config.set_dtype_policy("mixed_float16")  # what a trainer may have set
        try:
            fast = visual.load(replace(SMALL, name=name, precision="bfloat16"))
            same = visual.load(replace(SMALL, name=name))
            assert keras.config.dtype_policy().name == "mixed_float16"
        finally:
            keras.config.set_dtype_policy("float32")
        a, b = full.encode(few), fast.encode(few)
        assert b.dtype == np.float32 and not np.array_equal(a, b) and cosine(a, b).min() >= 0.99
        np.testing.assert_array_equal(a, same.encode(few))
        assert fast.digest != full.digest
    visual.load(replace(SMALL, name="mobilenet_v2")).model.layers[-2].save(tmp_path / "m.keras")
    given = Backbone(name=str(tmp_path / "m.keras"), preprocessing="tf", size=(40, 48))
    a = visual.load(given).encode(few)
    b = visual.load(replace(given, precision="bfloat16")).encode(few)
    assert not np.array_equal(a, b) and cosine(a, b).min() >= 0.99


def test_batches_of_any_length_share_one_trace_and_give_the_same_bytes():
    encoder = visual.load(replace(SMALL, batch_size=2, dtype="float16"))
    whole = encoder.encode(FRAMES)
    assert whole.dtype == np.float16 and whole.shape == (5, 512)
    assert whole.tobytes() == encoder.encode(FRAMES).tobytes()
    assert encoder.encode(FRAMES, at_once=True).tobytes() == encoder._compiled(FRAMES).numpy().tobytes()
    parts = np.concatenate(
        [encoder.encode(FRAMES[:2]), encoder.encode(FRAMES[2:4]), encoder.encode(FRAMES[4:])]
    )
    assert whole.tobytes() == parts.tobytes()
    assert encoder.encode(FRAMES[:0]).shape == (0, 512)
    assert encoder._compiled.experimental_get_tracing_count() == 1
    with pytest.raises(ValueError, match="expected uint8"):
        encoder.encode(FRAMES.astype("float32"))
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 40, 48, 3\)"):
        encoder.encode(FRAMES[:, :10])


def test_float16_features_saturate_instead_of_overflowing(tmp_path):
    x = keras.Input((40, 48, 3))
    keras.Model(x, keras.layers.Rescaling(1e6)(x)).save(tmp_path / "m.keras")
    backbone = Backbone(name=str(tmp_path / "m.keras"), preprocessing="none", size=(40, 48), dtype="float16")
    assert visual.load(backbone).encode(FRAMES).max() == np.finfo(np.float16).max
