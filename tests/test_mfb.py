"""tfvc/models/mfb.py and its recipe: every aggregation with every fusion, masks, missing streams, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvc import names, recipe
from tfvc.losses import CrossEntropyLoss
from tfvc.models import mfb
from tfvc.recipe import Feature

CLASSES, VIDEOS, FRAMES = 3, 6, 5
K, O = 2, 12  # noqa: E741  the paper's names
FRAME_ROWS = {
    "video": Feature("rgb", (FRAMES, 10), "uint8", True),
    "audio": Feature("audio", (FRAMES, 4), "uint8", True),
}
MEAN_ROWS = {"video": Feature("mean_rgb", (10,)), "audio": Feature("mean_audio", (4,))}
LENGTHS = np.array([5, 1, 3, 5, 2, 4], "int32")
LABELS = np.eye(CLASSES, dtype="float32")[[0, 1, 2, 0, 1, 2]] + np.eye(CLASSES)[[1, 1, 2, 2, 1, 0]] > 0


def build(rows=FRAME_ROWS, fusion="mfb", aggregation="average", **given):
    keras.utils.set_random_seed(0)
    if fusion in ("fc_concat", "mfb"):
        given = {"k": K, "o": O} | given
    if aggregation != "average":
        given = {"clusters": 4} | given
    parts = [rows[side] for side in mfb.sides(fusion)]
    return mfb.build_model(parts, CLASSES, fusion=fusion, aggregation=aggregation, **given)


def batch(net, padding=0):
    """What the readers give; the bytes behind a stream's end are `padding`."""
    rng = np.random.default_rng(0)
    values = {}
    for row in (*FRAME_ROWS.values(), *MEAN_ROWS.values()):
        shape = (VIDEOS, *row.shape)
        values[row.name] = (
            rng.integers(0, 256, shape).astype("uint8") if row.quantized else rng.normal(size=shape)
        )
        if row.quantized:
            values[row.name][np.arange(FRAMES) >= LENGTHS[:, None]] = padding
            values[f"{row.name}_length"] = LENGTHS.copy()
    return {name: values[name] for name in net.input}


def silent(inputs, *videos):
    """The batch with some videos' sound left out, as the readers leave it."""
    inputs = {name: value.copy() for name, value in inputs.items()}
    for name in inputs:
        if "audio" in name:
            inputs[name][list(videos)] = 0
    return inputs


def part(net, inputs, name="embedding"):
    return np.asarray(keras.Model(net.input, net.get_layer(name).output)(inputs))


def learn_save_reload(net, folder):
    """Fits one batch; the file that is saved gives the same."""
    inputs, loss = batch(net), CrossEntropyLoss()
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build(net.trainable_variables)

    @tf.function  # Keras' fit takes four times as long for so few steps
    def step():
        with tf.GradientTape() as tape:
            value = loss(LABELS, net(inputs, training=True))
        weights = net.trainable_variables
        optimizer.apply(tape.gradient(value, [w.value for w in weights]), weights)
        return value

    first = last = float(step())
    for _ in range(200):
        last = float(step())
        if last < 0.1 * first:
            break
    assert last < 0.1 * first, f"loss {first} -> {last}"
    net.save(folder / "m.keras")
    loaded = keras.saving.load_model(folder / "m.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(loaded(inputs), net(inputs), atol=1e-6)
    assert net.output.dtype == "float32" and net.output_names == ["probabilities"]


@pytest.mark.parametrize("fusion", mfb.CHOICES["fusion"])
@pytest.mark.parametrize("aggregation", mfb.CHOICES["aggregation"])
def test_frames_are_learnt_saved_and_reloaded_and_padding_is_never_seen(aggregation, fusion, tmp_path):
    net = build(fusion=fusion, aggregation=aggregation)
    learn_save_reload(net, tmp_path)
    out = net(batch(net))
    np.testing.assert_array_equal(net(batch(net, padding=200)), out)
    moved = batch(net)
    for name in moved:
        if name.endswith("_length"):
            moved[name] = np.minimum(moved[name] + 1, FRAMES)
    assert not np.allclose(net(moved), out, atol=1e-4)  # where padding counts as frames, it is seen


@pytest.mark.parametrize("fusion", mfb.CHOICES["fusion"])
def test_vectors_are_learnt_saved_and_reloaded(fusion, tmp_path):
    learn_save_reload(build(MEAN_ROWS, fusion), tmp_path)


def test_fc_concat_and_mfb_have_the_same_number_of_parameters_in_their_projections():
    def count(net, *layers):
        return sum(net.get_layer(name).count_params() for name in layers)

    for aggregation, widths in (("average", (10, 4)), ("dbof", (4, 4)), ("netvlad", (40, 16))):
        bilinear = count(build(aggregation=aggregation), "mfb")
        linear = build(fusion="fc_concat", aggregation=aggregation)
        linear = count(linear, "video_projection", "audio_projection")
        assert bilinear == linear == sum((width + 1) * K * O for width in widths)


# --- the arithmetic -----------------------------------------------------------------------------------------


def means(inputs, normalize=True):
    """NumPy: dequantised, normalised over both streams, averaged over each one's real frames."""
    streams = []
    for name in ("rgb", "audio"):
        x = inputs[name].astype("float64") * 4 / 255 + 4 / 512 - 2
        x[np.arange(FRAMES) >= inputs[f"{name}_length"][:, None]] = 0
        streams.append(x)
    if normalize:
        norm = np.sqrt(sum((x**2).sum(-1, keepdims=True) for x in streams))
        streams = [x / np.maximum(norm, 1e-6) for x in streams]
    counts = (np.maximum(inputs[f"{name}_length"], 1)[:, None] for name in ("rgb", "audio"))
    return [x.sum(1) / count for x, count in zip(streams, counts, strict=True)]


@pytest.mark.parametrize("normalize", [True, False])
def test_average_is_the_mean_of_the_real_frames_normalised_over_both_streams(normalize):
    net = build(fusion="concat", normalize=normalize)
    inputs = batch(net)
    inputs["audio_length"] = LENGTHS[::-1].copy()  # each stream ends by its own length
    inputs = silent(inputs, 2)
    assert (inputs["audio_length"] != inputs["rgb_length"]).sum() > 3
    np.testing.assert_allclose(part(net, inputs), np.hstack(means(inputs, normalize)), atol=1e-5)


def passed(side, u):
    """NumPy: what MFB gives where the other side is ones: relu of the summed windows, of unit length."""
    z = np.maximum((side @ u.kernel.numpy() + u.bias.numpy()).reshape(len(side), O, K).sum(-1), 0)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@pytest.mark.parametrize("rows", [FRAME_ROWS, MEAN_ROWS], ids=["frames", "vectors"])
def test_without_sound_mfb_passes_the_picture_alone(rows):
    net = build(rows)
    layer, rng = net.get_layer("mfb"), np.random.default_rng(1)
    for dense in (layer.u, layer.v):
        dense.bias.assign(rng.normal(size=K * O))
    whole = batch(net)
    inputs = silent(whole, 0, 3)
    if rows is FRAME_ROWS:
        seen = means(inputs)[0]
    else:
        joint = np.hstack([inputs["mean_rgb"], inputs["mean_audio"]])
        seen = inputs["mean_rgb"] / np.linalg.norm(joint, axis=1, keepdims=True)
    got = part(net, inputs)
    np.testing.assert_allclose(got[[0, 3]], passed(seen, layer.u)[[0, 3]], atol=1e-5)
    np.testing.assert_allclose(got[[1, 2, 4, 5]], part(net, whole)[[1, 2, 4, 5]], atol=1e-6)
    assert np.abs(got - part(net, whole))[[0, 3]].max() > 0.01


@pytest.mark.parametrize("aggregation", mfb.CHOICES["aggregation"])
@pytest.mark.parametrize("fusion", ["fc_concat", "mfb"])
def test_videos_without_sound_or_without_anything_train_with_finite_gradients(fusion, aggregation):
    net = build(fusion=fusion, aggregation=aggregation)
    inputs = silent(batch(net), 0, 1)
    inputs["rgb_length"][1] = 0
    with tf.GradientTape() as tape:
        out = net(inputs, training=True)
        loss = CrossEntropyLoss()(LABELS, out) + sum(net.losses)
    gradients = tape.gradient(loss, [weight.value for weight in net.trainable_weights])
    assert np.isfinite(out).all() and all(np.isfinite(gradient).all() for gradient in gradients)
    assert [np.any(gradient) for gradient in gradients[-7:]] == [True] * 7  # projections and classifier


def test_without_sound_fc_concat_gives_zeros_not_its_bias():
    net = build(fusion="fc_concat")
    net.get_layer("audio_projection").bias.assign(np.ones(K * O))
    got = part(net, silent(batch(net), 4))
    assert not got[4, K * O :].any() and got[4, : K * O].any() and got[3, K * O :].all()


def test_a_side_whose_sampled_frames_are_all_past_its_end_counts_as_missing():
    net = build(aggregation="netvlad", samples=1)  # outside training: the middle frame of the longer stream
    inputs = batch(net)
    inputs["rgb_length"][:], inputs["audio_length"][:] = FRAMES, 1
    muted = silent(inputs, *range(VIDEOS))
    np.testing.assert_allclose(part(net, inputs), part(net, muted), atol=1e-6)


def test_one_draw_serves_both_streams_and_is_of_real_frames():
    net = build(aggregation="dbof", samples=FRAMES)
    found = [layer for layer in net.layers if layer.name == "sample_frames"]
    assert len(found) == 1 and build(aggregation="dbof").get_layer("sample_frames").num_samples == FRAMES
    inputs = batch(net)
    drawn = keras.Model(net.input, found[0].output)(inputs, training=True).numpy()
    assert drawn.shape == (VIDEOS, FRAMES) and (drawn < LENGTHS[:, None]).all()


def test_clusters_are_the_papers_unless_given():
    rows = [FRAME_ROWS["audio"]]
    for aggregation, clusters in mfb.CLUSTERS.items():
        net = mfb.build_model(rows, 2, aggregation=aggregation, fusion="audio")
        assert net.get_layer(f"audio_{aggregation}").clusters == clusters


# --- what does not fit --------------------------------------------------------------------------------------

_BOTH, _VECTORS = [*FRAME_ROWS.values()], [*MEAN_ROWS.values()]


@pytest.mark.parametrize(
    "rows, args, message",
    [
        (_BOTH, {"fusion": "sum"}, "fusion='sum': expected one of: audio, video"),
        (_BOTH, {"aggregation": "mean"}, "aggregation='mean': expected one of: average"),
        (_BOTH, {"power": None}, "power=None: expected one of: relu, signed_sqrt, none"),
        (_BOTH, {"k": 0}, "k=0: expected a whole number, at least 1"),
        (_BOTH, {"o": 2.5}, "o=2.5"),
        (_BOTH, {"dropout": 1.0}, "dropout=1.0"),
        (_BOTH, {"l2": -1.0}, "l2=-1.0: expected at least 0"),
        (_BOTH, {"clusters": 8}, "clusters=8: aggregation average has no such part"),
        (_BOTH, {"samples": 30}, "samples=30: aggregation average has no such part"),
        (_BOTH, {"fusion": "concat", "o": 20}, "o=20: fusion concat has no such part; leave o out"),
        (_BOTH, {"fusion": "fc_concat", "scale": True}, "scale=True: fusion fc_concat has no such part"),
        (_BOTH[:1], {}, r"features rgb \(5, 10\): fusion mfb reads one of sight and one of sound"),
        (_BOTH, {"fusion": "video"}, r"fusion video reads one of sight"),
        (_BOTH[:1], {"fusion": "audio"}, r"reads one of sound \(audio in its name\)"),
        ([_BOTH[0]] * 2, {}, "one of sight and one of sound"),
        ([], {"fusion": "audio"}, "features none"),
        ([_BOTH[0], _VECTORS[1]], {}, "all of one level"),
        (_VECTORS, {"aggregation": "netvlad"}, "aggregation netvlad reads frames"),
        ([_BOTH[0], Feature("audio", (None, 4), "uint8", True)], {}, "every size known"),
        ([_BOTH[0], Feature("audio", (5, 4), "uint8")], {}, "feature audio of uint8: expected uint8, quanti"),
        ([_BOTH[0], Feature("audio", (5, 4), "float32", True)], {}, "feature audio of float32, quantized"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rows, args, message):
    with pytest.raises(ValueError, match=message):
        mfb.build_model(rows, CLASSES, **args)
    with pytest.raises(ValueError, match="num_classes=0"):
        mfb.build_model(_BOTH, 0)


# --- the recipe ---------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers_model_and_training():
    known = names.keyword_defaults("mfb")
    paper = {"k": 5, "o": 1000, "dropout": 0.1, "power": "relu", "scale": False, "samples": 300}
    assert paper.items() <= known.items() and known["num_mixtures"] == 2 and known["l2"] == 1e-6
    flat = recipe.flatten(recipe.get("mfb"))
    assert flat.items() >= {"train.learning_rate": 2e-4, "train.batch_size": 128, "data.frames": 300}.items()
    assert (flat["train.steps"], flat["train.evaluate_steps"]) == (250_000, 10_000)
    assert (flat["train.loss"], flat["train.monitor"]) == ("cross_entropy", "gap")
    assert recipe.quirks_in_force(recipe.get("mfb")) == []


def test_the_decay_and_the_clipping_are_those_of_the_starter():
    from starter import train

    decided, starter = recipe.get("mfb").train, {name: row[1] for name, row in train.FLAGS.items()}
    assert decided.decay == starter["learning_rate_decay"]
    assert decided.decay_examples == starter["learning_rate_decay_examples"]
    assert decided.clip_norm == starter["clip_gradient_norm"]


def test_corrected_is_refused_for_nothing_differs():
    with pytest.raises(ValueError, match="'corrected' of mfb: nothing differs"):
        recipe.get("mfb", "corrected")


@pytest.mark.parametrize("fusion", mfb.SIDES)
def test_a_fusion_is_a_setting_and_its_sides_are_known_without_keras(fusion):
    assert recipe.get("mfb", overrides=[f"model_args.fusion={fusion}"], demo=True).train.steps == 60
    assert names.literal("mfb", "SIDES")[fusion] == mfb.sides(fusion)
    with pytest.raises(ValueError, match="fusion='sound': expected one of"):
        mfb.sides("sound")
