"""resbilstm: every variant learns and is its equations; heads trained apart, padding, errors."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from sight_and_sound import moved, weights_of
from three_streams import CLASSES, LABELS, VECTORS, WORDS, batch, build, learns, longer, oracle

from tfvc import recipe
from tfvc.models import resbilstm

# As small as may be: an LSTM takes half a second to be traced for training. test_models.py has a pair apart.
STATIC = [{"temporal": False, "fusion": fusion} for fusion in resbilstm.CHOICES["fusion"]]
VARIANTS = [
    {"modality": "audio"},
    {"modality": "visual_text", "blocks": 1},
    {"modality": "visual", "pool": "last", "blocks": 1, "standardize": True},
    {"modality": "text", "vocabulary": WORDS, "embedding": 6, "blocks": 1},
    {"modality": "visual_audio", "fusion": "late", "blocks": 1, "multi_label": False},
    {"modality": "audio_text", "fusion": "early", "blocks": 1},
    {"modality": "visual_text", "temporal": False},
    *STATIC,
]


def named(args):
    return "-".join(v if isinstance(v, str) else k for k, v in args.items()) or "default"


each_variant = pytest.mark.parametrize("args", VARIANTS, ids=named)


def test_the_variants_have_every_choice():
    usual = resbilstm.build_model.__kwdefaults__
    for name, known in resbilstm.CHOICES.items():
        assert {args.get(name, usual[name]) for args in VARIANTS} == set(known), name


@each_variant
def test_every_variant_learns_one_batch(args):
    several = args.get("multi_label", True)
    net = build(resbilstm, dropout=0.1 if args.get("temporal") is False else 0.0, head_dropout=0.0, **args)
    learns(net, LABELS if several else np.eye(3)[[0, 1, 2, 0, 1, 2]], several=several)


@pytest.mark.parametrize("args", [{}, *VARIANTS], ids=named)
def test_resbilstm_is_its_equations(args):
    net = moved(build(resbilstm, **args))
    inputs, w = batch(net), weights_of(net)
    blocks = args.get("blocks", 2) if args.get("temporal", True) else 0
    vectors = oracle(net, inputs, ["none"] * blocks, args.get("pool", "mean"), args.get("fusion") == "early")
    joint = np.concatenate(list(vectors.values()), axis=-1)
    found = keras.Model(net.input, net.get_layer("embedding").output)(inputs)
    np.testing.assert_allclose(found, joint, atol=1e-5)
    squashed = oracles.sigmoid if args.get("multi_label", True) else oracles.softmax

    def classified(x, part):
        return squashed(x @ w[part]["kernel"] + w[part]["bias"])

    out = net(inputs)
    if len(vectors) > 1 and args.get("fusion", "separate") == "separate":
        heads = np.stack([classified(x, f"{path}_classifier") for path, x in vectors.items()], axis=1)
        np.testing.assert_allclose(out["heads"], heads, atol=1e-5)
        np.testing.assert_allclose(out["probabilities"], heads.mean(axis=1), atol=1e-5)
        for k, path in enumerate(vectors):
            head = keras.Model(net.input, net.get_layer(f"{path}_probabilities").output)(inputs)
            np.testing.assert_allclose(head, heads[:, k], atol=1e-5)
    else:
        np.testing.assert_allclose(out, classified(joint, "classifier"), atol=1e-5)


def test_a_head_s_loss_moves_its_own_modality_only():
    net = build(resbilstm, blocks=1, dropout=0.0, head_dropout=0.0)
    for k, path in enumerate(("visual", "audio", "text")):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(net(batch(net))["heads"][:, k])
        gradients = tape.gradient(loss, [w.value for w in net.trainable_weights])
        for weight, gradient in zip(net.trainable_weights, gradients, strict=True):
            moves = gradient is not None and np.any(gradient)
            assert moves == weight.path.startswith(path), weight.path


@pytest.mark.parametrize("args", [{"fusion": "early", "blocks": 1}, {"temporal": False}], ids=named)
def test_padding_is_never_seen_and_missing_streams_give_zeros(args):
    net = moved(build(resbilstm, vocabulary=WORDS, **args))
    inputs = batch(net)
    wide, padded = longer(resbilstm, net, inputs, 2, vocabulary=WORDS, **args)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), wide(padded), net(inputs))
    pooled = [layer for layer in net.layers if layer.name.endswith("_mean")]
    for layer in pooled:
        assert not np.any(keras.Model(net.input, layer.output)(inputs)[2])
    assert len(pooled) == (1 if args.get("fusion") else 3)


def test_clips_without_anything_train_with_finite_gradients():
    net = build(resbilstm, fusion="late", blocks=1)
    inputs = {name: x * (np.arange(len(x)) != 5)[:, None, None] for name, x in batch(net).items()}
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(LABELS, net(inputs, training=True)))
    gradients = tape.gradient(loss, [w.value for w in net.trainable_weights])
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(
    "args, message",
    [
        ({"fusion": "apart"}, "fusion='apart': expected one of: separate, late, early"),
        ({"head_dropout": 1.0}, "head_dropout=1.0: expected at least 0 and less than 1"),
        ({"modality": "text", "fusion": "late"}, "fusion=late: modality text has no such part"),
        ({"temporal": False, "blocks": 3}, "blocks=3: temporal False has no such part"),
        ({"temporal": False, "pool": "last"}, "pool=last: temporal False has no such part"),
        ({"modality": "audio"}, "resbilstm with modality audio reads audio"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(args, message):
    with pytest.raises(ValueError, match=message):
        resbilstm.build_model(VECTORS, CLASSES, **args)


def test_the_recipe_is_the_papers_and_its_baselines_have_no_svm():
    usual = recipe.get("resbilstm")
    assert (usual.second_stage.name, usual.second_stage.eliminate, usual.second_stage.C) == ("svm", True, 0.9)
    assert usual.data.split == "stratified" and usual.train.monitor == "loss"
    for baseline in ("modality=audio", "modality=visual_text", "fusion=early", "fusion=late"):
        args = [f"model_args.{baseline}"]
        assert recipe.get("resbilstm", overrides=args).second_stage.name == "none"
        assert recipe.get("resbilstm", overrides=[*args, "second_stage.name=svm"]).second_stage.name == "svm"
    with pytest.raises(ValueError, match="temporal False has no such part"):
        recipe.get("resbilstm", overrides=["model_args.temporal=false", "model_args.units=8"])
    with pytest.raises(ValueError, match="'corrected' of resbilstm: nothing differs"):
        recipe.get("resbilstm", "corrected")
