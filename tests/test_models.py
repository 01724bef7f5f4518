"""Every model in every mode: learns, is saved, comes back; every keyword does something; errors name it."""

import inspect

import fitted
import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfvc import names
from tfvc.data import schema
from tfvc.models import attention_boosted
from tfvc.recipe import Feature

CLASSES = 3
_FRAMES, _STACK = [Feature("frames", (4, 6))], [Feature("frames", (2, 60, 40, 3), "uint8")]
_BYTES = [Feature("rgb", (4, 6), "uint8", True), Feature("audio", (4, 3), "uint8", True)]
_MEANS = [Feature("mean_rgb", (6,)), Feature("mean_audio", (3,))]
_BOTH = [Feature("frames", (4, 6)), Feature("audio", (4, 3, 2, 5))]
_WORDS = [Feature("audio", (3, 5)), Feature("text", (4, 1), "int32")]
_HALVES = [Feature("frames", (4, 6), "float16"), Feature("audio", (4, 5), "float16")]

_WORDED = {"modality": "audio_text", "units": 4, "dense": 16, "blocks": 1, "vocabulary": 9}
_WORDED |= {"dropout": 0.0, "embedding": 6}

# A row a model and mode: (rows, small keywords, learning rate that suits them). One that is missing fails.
SMALL = {
    "attention_boosted": [
        (_FRAMES, {"mode": "cnn_lstm", "units": 5, "dense": 16}, 0.01),
        (_FRAMES, {"mode": "cnn_attention_lstm", "units": 5, "dense": 16}, 0.01),
        (_FRAMES, {"mode": "cnn_lstm_attention", "units": 5, "dense": 16}, 0.01),
        ([Feature("frames", (4, 6), "float16")], {"units": 5, "dense": 16, "standardize": True}, 0.01),
        (_STACK, {"mode": "cnn3d", "dense": 64}, 0.001),
    ],
    "mfb": [  # test_mfb.py has the rest
        (_BYTES, {"k": 2, "o": 16}, 0.1),
        (_BYTES, {"k": 2, "o": 16, "aggregation": "netvlad", "clusters": 2, "samples": 3}, 0.1),
        (_MEANS, {"k": 2, "o": 16, "scale": True}, 0.1),
    ],
    "mafnet": [  # test_mafnet.py has the rest; the published momentum takes thousands of steps to settle
        (_BOTH, {"units": 8, "momentum": 0.5}, 0.02),
        (_HALVES, {"units": 8, "momentum": 0.5, "masked": True, "standardize": True}, 0.02),
        (_FRAMES, {"modality": "visual", "units": 8, "momentum": 0.5}, 0.02),
    ],
    "attention_cluster": [
        (_BOTH, {"clusters": 4}, 0.1),
        (_HALVES, {"clusters": 4, "masked": True, "standardize": True}, 0.1),
    ],
    "dmrn": [
        (_BOTH, {"units": 8}, 0.02),
        (_HALVES, {"units": 8, "masked": True, "standardize": True}, 0.02),
    ],
    "raf": [(_WORDS, {**_WORDED, "fusion": "early"}, 0.03)],  # test_raf.py has the rest
    "resbilstm": [(_WORDS, {**_WORDED, "head_dropout": 0.0}, 0.05)],  # test_resbilstm.py has the rest
}
# The loss that fits the output, where it is not the usual one, and the width of "embedding".
LOSS = dict.fromkeys(("mfb", "raf", "resbilstm"), "binary_crossentropy")
_USUAL = "categorical_crossentropy"
WIDTH = {
    "attention_boosted": lambda args, rows: args["dense"],
    "mfb": lambda args, rows: args["o"],
    "mafnet": lambda args, rows: args["units"] * len(rows),
    "attention_cluster": lambda args, rows: args["clusters"] * sum(row.shape[-1] for row in rows),
    "dmrn": lambda args, rows: 2 * args["units"],
    "raf": lambda args, rows: args["dense"],
    "resbilstm": lambda args, rows: args["dense"] * len(rows),
}

# What each keyword changes against the first row of SMALL: weights, output, the penalty, the moving
# statistics after a step; in training the output (draw), or that it is another than outside (training); and
# what else that row is given, where it has no such part.
_POOL = {"aggregation": "netvlad", "clusters": 2}
_THREE = {  # of raf and resbilstm
    "units": (5, "weights"),
    "blocks": (2, "weights"),
    "dense": (9, "weights"),
    "pool": ("last", "output"),
    "dropout": (0.0, "training", {"dropout": 0.5}),
    "multi_label": (False, "output"),
    "vocabulary": (10, "weights"),
    "embedding": (9, "weights"),
    "standardize": (True, "weights"),
}
SWITCHES = {
    "attention_boosted": {
        "mode": ("cnn_attention_lstm", "weights"),
        "units": (6, "weights"),
        "dense": (17, "weights"),
        "dropout": (0.0, "training"),
        "recurrent_activation": ("hard_sigmoid_keras2", "output"),
        "standardize": (True, "weights"),
    },
    "mfb": {
        "aggregation": ("netvlad", "weights"),
        "fusion": ("fc_concat", "weights"),
        "k": (3, "weights"),
        "o": (17, "weights"),
        "power": ("signed_sqrt", "output"),
        "scale": (True, "output"),
        "dropout": (0.0, "training"),
        "clusters": (3, "weights", _POOL),
        "samples": (2, "output", _POOL),
        "num_mixtures": (3, "weights"),
        "l2": (1.0, "penalty"),
        "normalize": (False, "output"),
    },
    "mafnet": {
        "modality": ("visual", "weights"),
        "fusion": ("dmr", "weights"),
        "attention": ("none", "weights"),
        "score": ("paper", "weights"),
        "film": ("none", "weights"),
        "units": (9, "weights"),
        "mcb_dim": (9, "weights", {"fusion": "mcb"}),
        "momentum": (0.9, "statistics"),
        "modality_dropout": (0.9, "draw"),
        "masked": (True, "output"),
        "standardize": (True, "weights"),
    },
    "attention_cluster": {
        "clusters": (5, "weights"),
        "masked": (True, "output"),
        "standardize": (True, "weights"),
    },
    "dmrn": {
        "units": (9, "weights"),
        "masked": (True, "output"),
        "standardize": (True, "weights"),
    },
    "raf": {
        **_THREE,
        "modality": ("text", "weights", {"fusion": "late"}),
        "fusion": ("late", "weights"),
        "attention": ("late", "output"),
    },
    "resbilstm": {
        **_THREE,
        "modality": ("text", "weights"),
        "fusion": ("late", "weights"),
        "temporal": (False, "weights", {"units": 64, "blocks": 2, "dropout": 0.1}),
        "head_dropout": (0.0, "training", {"head_dropout": 0.5}),
    },
}

ROWS = [(model, *case) for model, cases in SMALL.items() for case in cases]
each_row = pytest.mark.parametrize(
    "model, rows, args, rate",
    ROWS,
    ids=[f"{m}-{a.get('mode', a.get('aggregation', 'default'))}-{r[0].dtype}" for m, r, a, _ in ROWS],
)


def build(model, rows, args):
    keras.utils.set_random_seed(0)
    module = names.load("models", model)
    modality = (names.keyword_defaults(model) | args).get("modality", "")
    read = names.literal(model, "STREAMS").get(modality) or [row.name for row in rows]
    return module.build_model([row for row in rows if row.name in read], CLASSES, **args)


@pytest.fixture(scope="module")
def networks():
    """What `build` gives for a row: built once, for tests that leave the weights as they are."""
    known = {}

    def once(model, rows, args):
        key = repr((model, rows, args))
        if key not in known:
            known[key] = build(model, rows, args)
        return known[key]

    return once


def classifier(net):
    """The model of the probabilities alone."""
    if not isinstance(net.output, dict):
        return net
    return keras.Model(net.input, net.output["probabilities"])


def batch(rows, count=6, seed=0):
    """A batch of records made by the real writer and read by the real parser. The first clip is shorter."""
    rng = np.random.default_rng(seed)
    draw = {"uint8": lambda s: rng.integers(0, 256, s), "int32": lambda s: rng.integers(1, 10, s)}

    def value(row, k):
        drawn = draw.get(row.dtype, lambda s: rng.normal(size=s))(row.shape).astype(row.dtype)
        return drawn[: row.shape[0] - (k == 0)] if len(row.shape) > 1 else drawn

    records = [
        schema.serialize(f"clip{k}", [k % CLASSES], {r.name: value(r, k) for r in rows}, rows)
        for k in range(count)
    ]
    inputs, labels, _, lengths = schema.parse_batch(tf.constant(records), rows, CLASSES, False)
    if rows[0].quantized:  # YouTube-8M's: their models read the lengths too
        inputs |= {f"{name}_length": length for name, length in lengths.items()}
    return inputs, labels


def test_every_model_and_mode_has_a_small_row():
    assert set(SMALL) == set(names.available("models"))
    for model, cases in SMALL.items():
        module = names.load("models", model)
        default = names.keyword_defaults(model).get("mode")
        assert {args.get("mode", default) for _, args, _ in cases} >= set(getattr(module, "MODES", [default]))


@each_row
def test_one_batch_is_learnt_to_under_a_tenth_of_the_first_loss(model, rows, args, rate, networks):
    net = classifier(networks(model, rows, args))
    before = [v.numpy() for v in net.variables]
    inputs, labels = batch(rows)
    entropy = keras.losses.get(LOSS.get(model, _USUAL))

    def loss(training):
        return tf.add_n([tf.reduce_mean(entropy(labels, net(inputs, training=training))), *net.losses])

    try:
        fitted.learns(net, loss, rate, rounds=4)
    finally:
        for variable, value in zip(net.variables, before, strict=True):
            variable.assign(value)


@each_row
def test_a_saved_model_comes_back_with_equal_outputs_and_the_two_contract_layers(
    model, rows, args, rate, tmp_path, networks
):
    net = networks(model, rows, args)
    inputs, _ = batch(rows)
    net.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False, safe_mode=True)
    tf.nest.map_structure(np.testing.assert_array_equal, loaded(inputs), net(inputs))
    if model not in LOSS:
        np.testing.assert_allclose(np.sum(classifier(net)(inputs), axis=1), 1, atol=1e-6)
    assert loaded.get_layer("probabilities").output.dtype == "float32"
    embedding = keras.Model(loaded.input, loaded.get_layer("embedding").output)(inputs)
    assert embedding.shape == (6, WIDTH[model](args, rows))


@each_row
def test_mixed_precision_keeps_probabilities_in_float32_and_near(model, rows, args, rate, networks):
    full = networks(model, rows, args)
    inputs, _ = batch(rows)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build(model, rows, args)
    finally:
        keras.config.set_dtype_policy(before)
    half.set_weights(full.get_weights())
    for out, exact in zip(*(tf.nest.flatten(net(inputs)) for net in (half, full)), strict=True):
        assert out.dtype == "float32"
        np.testing.assert_allclose(out, exact, atol=0.03)


@pytest.mark.parametrize("model", names.available("models"))
def test_every_keyword_changes_weights_or_output(model, networks):
    assert set(SWITCHES[model]) == set(names.keyword_defaults(model)), (
        "a keyword without a row, or a row too many"
    )
    rows, args, _ = SMALL[model][0]
    inputs, _ = batch(rows)
    usual = networks(model, rows, args)
    for name, (value, what, *more) in SWITCHES[model].items():
        given = {**args, **dict(*more)}
        trained = what in ("draw", "statistics", "training")  # it draws, or moves statistics
        base = build(model, rows, given) if more or trained else usual
        other = build(model, rows, {**given, name: value})
        same_weights = [w.shape for w in base.weights] == [w.shape for w in other.weights]
        assert same_weights == (what != "weights"), name
        if same_weights:
            other.set_weights(base.get_weights())
            pairs = zip(tf.nest.flatten(base(inputs)), tf.nest.flatten(other(inputs)), strict=True)
            assert any(not np.allclose(a, b, atol=1e-5) for a, b in pairs) == (what == "output"), name
        base, other = classifier(base), classifier(other)
        if what == "penalty":
            assert not np.isclose(sum(base.losses), sum(other.losses)), name
        if what in ("draw", "statistics"):
            drawn = np.allclose(base(inputs, training=True), other(inputs, training=True), atol=1e-5)
            moved = [a for a, b in zip(base.weights, other.weights, strict=True) if not np.allclose(a, b)]
            assert (drawn, bool(moved)) == ((False, True) if what == "draw" else (True, True)), name
        if what == "training":
            assert not np.allclose(base(inputs, training=True), base(inputs), atol=1e-5), name
            np.testing.assert_allclose(other(inputs, training=True), other(inputs), atol=1e-6, err_msg=name)


# --- attention_boosted --------------------------------------------------------------------------------------


def test_the_defaults_are_the_published_architecture():
    assert names.keyword_defaults("attention_boosted") == {
        "mode": "cnn_lstm_attention",
        "units": 256,
        "dense": 512,
        "dropout": 0.5,
        "recurrent_activation": "sigmoid",
        "standardize": False,
    }
    defaults = {k: p.default for k, p in inspect.signature(attention_boosted.build_model).parameters.items()}
    assert names.keyword_defaults("attention_boosted").items() <= defaults.items()


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid_keras2"])
@pytest.mark.parametrize("mode", ["cnn_lstm", "cnn_attention_lstm", "cnn_lstm_attention"])
def test_the_three_nets_are_the_equations(mode, gate):
    net = build(
        "attention_boosted", _FRAMES, {"mode": mode, "units": 5, "dense": 9, "recurrent_activation": gate}
    )
    rng = np.random.default_rng(0)
    net.set_weights([rng.normal(scale=0.5, size=w.shape) for w in net.weights])
    x = rng.normal(size=(3, 4, 6)).astype("float32")
    expected = oracles.attention_boosted(x, oracles.roles(net), mode, getattr(oracles, gate))
    np.testing.assert_allclose(net({"frames": x}), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 60, 40, 3), (1, 61, 43, 3), (3, 72, 52, 3)])
def test_cnn3d_is_the_table_of_its_docstring_for_any_length_and_larger_frames(shape):
    net = build("attention_boosted", [Feature("frames", shape, "uint8")], {"mode": "cnn3d", "dense": 8})
    x = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("uint8")
    weights = {layer.name: [w.astype("float64") for w in layer.get_weights()] for layer in net.layers}
    np.testing.assert_allclose(net({"frames": x}), oracles.cnn3d(x.astype("float64"), weights), atol=1e-5)


def test_cnn3d_shapes_at_ji_s_frame_size_are_those_of_the_docstring():
    net = build("attention_boosted", [Feature("frames", (7, 60, 40, 3), "uint8")], {"mode": "cnn3d"})
    shapes = {layer.name: layer.output.shape[1:] for layer in net.layers}
    assert shapes["conv1"] == (7, 54, 34, 10) and shapes["pool1"] == (27, 17, 10)
    assert shapes["conv2"] == (7, 21, 12, 30) and shapes["pool2"] == (7, 4, 30)
    assert shapes["conv3"] == (7, 1, 1, 128) and shapes["flatten"] == (7 * 128,)
    assert shapes["embedding"] == (512,)


@pytest.mark.parametrize("mode", attention_boosted.MODES)
def test_attention_over_time_sums_to_one_and_follows_the_loaded_weights(mode, tmp_path):
    rows = _STACK if mode == "cnn3d" else _FRAMES
    net = build("attention_boosted", rows, {"mode": mode, "dense": 8})
    if "attention" not in mode:
        assert attention_boosted.attention_scores(net) is None
        return
    net.get_layer("attention").set_weights([np.random.default_rng(0).normal(size=s) for s in ((4, 4), (4,))])
    net.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False, safe_mode=True)
    scores_model = attention_boosted.attention_scores(loaded)
    inputs, _ = batch(rows)
    scores = scores_model.predict(inputs, verbose=0)
    assert scores.shape == (6, 4) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    seen = keras.Model(net.input, net.get_layer("attention").input)(inputs)
    expected = oracles.frame_attention(seen.numpy(), *net.get_layer("attention").get_weights())[0].mean(
        axis=-1
    )
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    loaded.get_layer("attention").set_weights([np.zeros((4, 4)), np.zeros(4)])
    np.testing.assert_allclose(scores_model(inputs), 0.25, atol=1e-6)  # shares the weights


@pytest.mark.parametrize(
    "rows, args, message",
    [
        (_FRAMES, {"mode": "cnn_lstm_atention"}, "expected one of: cnn_lstm, cnn_attention_lstm"),
        (_FRAMES, {"recurrent_activation": "relu"}, "expected one of: sigmoid, hard_sigmoid_keras2"),
        (_FRAMES, {"units": 0}, "units=0"),
        (_FRAMES, {"dense": 2.5}, "dense=2.5"),
        (_FRAMES, {"dropout": 1.0}, "dropout=1.0"),
        ([], {}, "reads one row, 'frames'"),
        ([*_FRAMES, Feature("audio", (4, 8))], {}, "reads one row, 'frames'"),
        ([Feature("rgb", (4, 6))], {}, "reads one row, 'frames'"),
        ([Feature("frames", (None, 6))], {}, "every size known"),
        ([Feature("frames", (4, 6), "uint8", True)], {}, r"\(T, D\), float32 or float16"),
        (_STACK, {}, r"mode cnn_lstm_attention reads \(T, D\)"),
        (_FRAMES, {"mode": "cnn3d"}, r"mode cnn3d reads \(T, H, W, 3\), uint8"),
        (
            [Feature("frames", (2, 59, 40, 3), "uint8")],
            {"mode": "cnn3d"},
            r"at least 60 x 40 \(height x width\)",
        ),
        (_STACK, {"mode": "cnn3d", "standardize": True}, "standardize=True: mode cnn3d has no such part"),
        (_STACK, {"mode": "cnn3d", "units": 128}, "units=128: mode cnn3d has no such part"),
        (
            _STACK,
            {"mode": "cnn3d", "recurrent_activation": "hard_sigmoid_keras2"},
            "mode cnn3d has no such part",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rows, args, message):
    with pytest.raises(ValueError, match=message):
        attention_boosted.build_model(rows, CLASSES, **args)
