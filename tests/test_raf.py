"""raf: every variant learns and is its equations; padding, missing streams, errors."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from sight_and_sound import moved, weights_of
from three_streams import (
    CLASSES,
    HALVES,
    LABELS,
    NUMBERS,
    VECTORS,
    WORDS,
    batch,
    build,
    learns,
    longer,
    oracle,
)

from tfvc import recipe
from tfvc.models import raf
from tfvc.recipe import Feature

# Each value of each choice, as small as may be: an LSTM takes half a second to be traced for training.
VARIANTS = [
    {"blocks": 1},
    {"modality": "text", "attention": "late"},
    {"modality": "audio", "attention": "full"},
    {"modality": "visual", "attention": "none", "pool": "last", "blocks": 1},
    {"modality": "visual_audio", "blocks": 1, "standardize": True},
    {"modality": "visual_text", "fusion": "early", "attention": "none", "blocks": 1},
    {"modality": "audio_text", "fusion": "early", "vocabulary": WORDS, "blocks": 1, "multi_label": False},
]
BLOCKS = {
    "none": lambda n: ["none"] * n,
    "late": lambda n: ["none"] * (n - 1) + ["plain"],
    "full": lambda n: ["residual"] * n,
    "late_residual": lambda n: ["none"] * (n - 1) + ["residual"],
}


def named(args):
    return "-".join(v if isinstance(v, str) else k for k, v in args.items()) or "default"


each_variant = pytest.mark.parametrize("args", VARIANTS, ids=named)


def test_the_variants_have_every_choice():
    usual = raf.build_model.__kwdefaults__
    for name, known in raf.CHOICES.items():
        assert {args.get(name, usual[name]) for args in VARIANTS} == set(known), name


@each_variant
def test_every_variant_learns_one_batch(args):
    several = args.get("multi_label", True)
    learns(build(raf, **args), LABELS if several else np.eye(3)[[0, 1, 2, 0, 1, 2]], several=several)


@pytest.mark.parametrize("args", [{}, {"blocks": 3, "attention": "full"}, *VARIANTS], ids=named)
def test_raf_is_its_equations(args):
    net = moved(build(raf, **args))
    inputs, w = batch(net), weights_of(net)
    attentions = BLOCKS[args.get("attention", "late_residual")](args.get("blocks", 2))
    vectors = oracle(net, inputs, attentions, args.get("pool", "mean"), args.get("fusion") == "early")
    joint = np.concatenate(list(vectors.values()), axis=-1)
    found = keras.Model(net.input, [net.get_layer("embedding").output, net.output])(inputs)
    np.testing.assert_allclose(found[0], joint, atol=1e-5)
    logits = joint @ w["classifier"]["kernel"] + w["classifier"]["bias"]
    squashed = oracles.sigmoid if args.get("multi_label", True) else oracles.softmax
    np.testing.assert_allclose(found[1], squashed(logits), atol=1e-5)
    order = [p for p in ("visual", "audio", "text", "early") if p in vectors]
    assert list(vectors) == order
    for path in order:
        named_layer = keras.Model(net.input, net.get_layer(f"{path}_dense").output)
        np.testing.assert_allclose(named_layer(inputs), vectors[path], atol=1e-5)


@pytest.mark.parametrize("fusion", raf.CHOICES["fusion"])
def test_padding_is_never_seen(fusion):
    args = {"fusion": fusion, "vocabulary": WORDS, "pool": "last", "blocks": 1}
    net = moved(build(raf, **args))
    inputs = batch(net)
    wide, padded = longer(raf, net, inputs, 2, **args)
    np.testing.assert_allclose(wide(padded), net(inputs), atol=1e-6)


def test_clips_without_sound_or_anything_train_with_finite_gradients():
    net = build(raf, attention="full", blocks=1, dropout=0.3)
    inputs = batch(net)
    inputs["audio"][:] = 0
    with tf.GradientTape() as tape:
        out = net(inputs, training=True)
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(LABELS, out))
    gradients = tape.gradient(loss, [w.value for w in net.trainable_weights])
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)
    pooled = keras.Model(net.input, [net.get_layer(f"{m}_mean").output for m in ("visual", "audio")])(inputs)
    assert np.any(pooled[0][0]) and not np.any(pooled[0][2]) and not np.any(pooled[1])


def test_half_precision_features_are_read():
    net = build(raf, HALVES, blocks=1, standardize=True)
    full = build(raf, blocks=1, standardize=True)
    full.set_weights(net.get_weights())
    inputs = batch(net)
    again = {name: x.astype("float32") for name, x in inputs.items()}
    np.testing.assert_allclose(net(inputs), full(again), atol=1e-5)
    assert {f"standardize_{name}" for name in inputs} <= {layer.name for layer in net.layers}


@pytest.mark.parametrize(
    "rows, args, message",
    [
        (VECTORS, {"modality": "both"}, "modality='both': expected one of: all, visual, audio, text"),
        (VECTORS, {"attention": "early"}, "attention='early': expected one of: late_residual, late"),
        (VECTORS, {"blocks": 0}, "blocks=0: expected a whole number, at least 1"),
        (VECTORS, {"dense": 2.5}, "dense=2.5: expected a whole number"),
        (VECTORS, {"dropout": 1.0}, "dropout=1.0: expected at least 0 and less than 1"),
        (VECTORS[:1], {"modality": "visual", "fusion": "early"}, "modality visual has no such part"),
        (
            VECTORS[:2],
            {"modality": "visual_audio", "vocabulary": 5},
            "modality visual_audio has no such part",
        ),
        (VECTORS, {"embedding": 5}, r"embedding=5: words come as vectors \(vocabulary 0\)"),
        (VECTORS, {"vocabulary": 5}, r"expected \(L, 1\), int32 \(with vocabulary 5\)"),
        (
            NUMBERS,
            {},
            r"text of shape \(5, 1\), int32: expected \(T, D\), float32 or float16 \(with vocabulary 0",
        ),
        (VECTORS[:2], {}, "raf with modality all reads frames and audio and text"),
        ([Feature("frames", (None, 7))], {"modality": "visual"}, "every size known"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rows, args, message):
    with pytest.raises(ValueError, match=message):
        raf.build_model(rows, CLASSES, **args)


def test_the_recipe_is_the_papers_and_its_baselines_have_no_svm():
    usual = recipe.get("raf")
    assert usual.data.streams == "frames,audio,text" and usual.data.frames == 40
    assert (usual.second_stage.name, usual.second_stage.eliminate) == ("svm", False)
    for proposed in ("attention=late", "attention=full", "units=32"):
        assert recipe.get("raf", overrides=[f"model_args.{proposed}"]).second_stage.name == "svm"
    for baseline in ("modality=audio", "modality=visual_text", "fusion=early", "attention=none"):
        args = [f"model_args.{baseline}"]
        assert recipe.get("raf", overrides=args).second_stage.name == "none"
        assert recipe.get("raf", overrides=[*args, "second_stage.name=svm"]).second_stage.name == "svm"
    assert recipe.get("raf", overrides=["model_args.modality=audio_text"]).data.streams == "audio,text"
    with pytest.raises(ValueError, match="'corrected' of raf: nothing differs"):
        recipe.get("raf", "corrected")
