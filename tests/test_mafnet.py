"""mafnet and the two models beside it: every variant learns, the equations, masks, errors."""

import functools

import fitted
import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from sight_and_sound import (
    CLASSES,
    CLIPS,
    LABELS,
    MAPS,
    VECTORS,
    T,
    batch,
    build,
    mean_of_maps,
    moved,
    time_mean,
    weights_of,
)

from tfvc import recipe
from tfvc.models import attention_cluster, dmrn, mafnet
from tfvc.recipe import Feature

# Tables 2 to 4 and what else can be chosen.
VARIANTS = [
    {},
    {"modality": "visual", "attention": "temporal"},
    {"modality": "audio", "film": "none"},
    {"modality": "audio", "film": "block", "attention": "none"},
    *({"fusion": fusion, "film": "none"} for fusion in mafnet.CHOICES["fusion"]),
    *({"attention": kind, "film": "none"} for kind in ("none", "temporal", "modality")),
    *({"film": film} for film in ("block", "visual", "both")),
    {"score": "paper", "masked": True},
    {"attention": "modality", "fusion": "mcb", "masked": True},
    {"attention": "none", "fusion": "dmr", "masked": True},
    {"attention": "temporal", "film": "block", "masked": True},
    {"film": "both", "standardize": True, "masked": True},
]


def named(args):
    return "-".join(f"{v}" if isinstance(v, str) else k for k, v in args.items()) or "default"


each_variant = pytest.mark.parametrize("args", VARIANTS, ids=named)


@each_variant
def test_every_variant_learns_one_batch(args):
    net = build(**args)
    inputs = batch(net)

    def loss(training):
        out = net(inputs, training=training)["probabilities"]
        return tf.reduce_mean(keras.losses.categorical_crossentropy(LABELS, out))

    fitted.learns(net, loss, rate=0.02, rounds=8)


# --- the equations ------------------------------------------------------------------------------------------


def oracle(net, inputs, *, modality="both", fusion="concat", attention="both", film="audio", **args):
    """Probabilities and scores of mafnet, from the paper's equations."""
    w = weights_of(net)
    x = {{"frames": "visual", "audio": "audio"}[name]: np.float64(v) for name, v in inputs.items()}
    real = {m: v.reshape(CLIPS, T, -1).any(-1) if args.get("masked") else None for m, v in x.items()}
    if args.get("standardize"):
        for m, name in (("visual", "standardize_frames"), ("audio", "standardize_audio")):
            flat = x[m].reshape(CLIPS, T, -1, x[m].shape[-1])
            flat = (flat - w[name]["mean"]) / np.sqrt(w[name]["variance"] + 1e-3)
            x[m] = np.where((x[m] == 0).all(-1, keepdims=True), 0, flat.reshape(x[m].shape))
    paths = [m for m in ("visual", "audio") if m in x]
    film = "none" if len(paths) == 1 and film == "audio" else film
    features = []
    for m in paths:
        v = x[m]
        if film in (m, "both", "block"):
            maps = v.reshape(CLIPS * T, *(v.shape[2:4] if v.ndim == 5 else (1, 1)), v.shape[-1])
            other = {"visual": "audio", "audio": "visual"}[m]
            condition = None if film == "block" else mean_of_maps(x[other]).reshape(CLIPS * T, -1)
            part = {k.removeprefix("film/"): value for k, value in w[f"{m}_block"].items()}
            rows = None if real[m] is None else real[m].ravel()
            v = oracles.filmed_block(maps, condition, part, mask=rows)[2]
            v = v.reshape(CLIPS, T, *v.shape[1:])
        v = mean_of_maps(v) @ w[f"{m}_dense"]["kernel"] + w[f"{m}_dense"]["bias"]
        bn = w[f"{m}_bn"]
        moving = bn["moving_mean"], bn["moving_variance"]
        v = oracles.batch_norm(v, bn["gamma"], bn["beta"], *moving, mask=real[m])[0]
        features.append(oracles.relu(v))
    masks = None if real[paths[0]] is None else [real[m] for m in paths]
    vectors, scores = attended(features, masks, attention, w.get("attention", {}))
    v = fused(vectors, masks, fusion, w.get("fusion"), net)
    v = v @ w["classifier"]["kernel"] + w["classifier"]["bias"]
    bn = w["logits"]
    v = oracles.batch_norm(v, bn["gamma"], bn["beta"], bn["moving_mean"], bn["moving_variance"])[0]
    return oracles.softmax(v), scores


def attended(features, masks, attention, w):
    each = masks or [np.ones((CLIPS, T), bool)] * len(features)
    if attention == "none":
        return [time_mean(x, m) for x, m in zip(features, each, strict=True)], None
    w = [w[k] for k in ("hidden/kernel", "hidden/bias", "logit/kernel", "logit/bias") if k in w]
    if attention == "temporal":
        alone = [oracles.cell_attention([x], w, (0,), [m]) for x, m in zip(features, each, strict=True)]
        scores, cells = (np.concatenate(parts, axis=2) for parts in zip(*alone, strict=True))
    else:
        axes = (0, 1) if attention == "both" else (1,)
        scores, cells = oracles.cell_attention(features, w, axes, masks)
    if attention == "modality":
        some = np.any(each, axis=0)
        return [time_mean(cells[:, :, k], some) for k in range(len(features))], scores
    return [cells[:, :, k].sum(1) for k in range(len(features))], scores


def fused(vectors, masks, fusion, w, net):
    present = [np.ones(CLIPS, bool)] * 2 if masks is None else [m.any(1) for m in masks]
    if len(vectors) == 1:
        return vectors[0]
    if fusion == "concat":
        return np.concatenate(vectors, axis=-1)
    if fusion == "addition":
        return sum(vectors)
    if fusion == "dmr":
        return oracles.residual_fusion(*vectors, w, present)
    hashes = [[h.numpy(), s.numpy()] for h, s in net.get_layer("fusion").hashes]
    z = oracles.outer_sketch(*vectors, hashes, 16)
    for side, other in ((0, 1), (1, 0)):  # the sketch of the one that is there
        alone = ~present[other]
        z[alone] = oracles.count_sketch(vectors[side][alone], *hashes[side], 16)
    return oracles.l2(oracles.signed_sqrt(z))


@functools.cache
def layout(*args):
    """A variant's network, for what does not look at its weights, which any test may move."""
    return build(**dict(args))


@each_variant
def test_mafnet_is_its_equations(args):
    for rows in (MAPS, VECTORS):
        net = moved(layout(*args.items()) if rows is MAPS else build(rows, **args))
        inputs = batch(net)
        probabilities, scores = oracle(net, inputs, **args)
        out = net(inputs)
        atol = 1e-3 if args.get("fusion") == "mcb" else 2e-5  # near 0 a root is steep
        np.testing.assert_allclose(out["probabilities"], probabilities, atol=atol)
        if scores is None:
            assert set(out) == {"probabilities"} and mafnet.attention_scores(net) is None
            continue
        np.testing.assert_allclose(out["scores"], scores, atol=1e-6)
        np.testing.assert_array_equal(mafnet.attention_scores(net)(inputs), out["scores"])
        whole = {"temporal": 1, "modality": 2}.get(args.get("attention"), (1, 2))
        total = scores.sum(axis=whole)[2:]
        np.testing.assert_allclose(total, np.ones_like(total), atol=1e-6)


# --- padding and missing streams ----------------------------------------------------------------------------


def longer(net, inputs, rows, more, module, args):
    """The same weights on clips with `more` seconds of padding behind."""
    rows = [Feature(row.name, (row.shape[0] + more, *row.shape[1:])) for row in rows]
    wide = build(rows, module, **args)
    wide.set_weights(net.get_weights())
    pad = {k: np.pad(x, ((0, 0), (0, more), *[(0, 0)] * (x.ndim - 2))) for k, x in inputs.items()}
    return wide, pad


@pytest.mark.parametrize(
    "module, args",
    [
        *((mafnet, {"attention": kind, "film": "both"}) for kind in mafnet.CHOICES["attention"]),
        *((mafnet, {"fusion": fusion}) for fusion in mafnet.CHOICES["fusion"]),
        (attention_cluster, {"clusters": 3}),
        (dmrn, {"units": 5}),
    ],
    ids=lambda v: named(v) if isinstance(v, dict) else v.__name__.rpartition(".")[2],
)
def test_masked_padding_is_never_seen_and_unmasked_padding_is(module, args):
    for masked in (True, False):
        net = moved(build(module=module, masked=masked, **args))
        inputs = batch(net)
        wide, padded = longer(net, inputs, MAPS, 3, module, {"masked": masked, **args})
        for training in (False, True):
            out = net(inputs, training=training)["probabilities"]
            same = np.allclose(wide(padded, training=training)["probabilities"], out, atol=1e-5)
            assert same == masked, training
        moving = zip(net.non_trainable_weights, wide.non_trainable_weights, strict=True)
        assert not masked or all(np.allclose(a, b, atol=1e-5) for a, b in moving)


@pytest.mark.parametrize(
    "module, args", [(mafnet, {}), (attention_cluster, {"clusters": 3}), (dmrn, {"units": 5})]
)
def test_clips_without_sound_or_anything_train_with_finite_gradients(module, args):
    net = build(module=module, masked=True, **args)
    inputs = batch(net)
    inputs["frames"][2] = inputs["audio"][2] = 0
    for silent in (False, True):
        if silent:
            inputs["audio"][:] = 0
        with tf.GradientTape() as tape:
            out = net(inputs, training=True)
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(LABELS, out["probabilities"]))
        gradients = tape.gradient(loss, [w.value for w in net.trainable_weights])
        assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients if g is not None)
        for weight in net.weights:
            assert np.isfinite(weight).all(), weight.path
        if "scores" in out:
            assert not np.any(out["scores"][1, :, 1]) and not np.any(out["scores"][2])


def test_the_network_sees_the_dropped_stream_as_missing():
    net = build(masked=True, modality_dropout=0.9, attention="both")
    plain = build(masked=True)
    plain.set_weights(net.get_weights())
    inputs = {name: np.repeat(x[2:3], 40, axis=0) for name, x in batch(net).items()}
    np.testing.assert_allclose(net(inputs)["scores"], plain(inputs)["scores"], atol=1e-6)
    shares = net(inputs, training=True)["scores"].numpy().sum(1)  # of the sight, of the sound
    dropped = shares < 1e-9
    assert not dropped.all(1).any() and dropped[:, 0].any() and dropped[:, 1].any()
    assert 20 < dropped.any(1).sum() < 40
    again = net(inputs, training=True)["scores"].numpy().sum(1)
    assert not np.array_equal(again, shares)


# --- layers that are contract, and errors -------------------------------------------------------------------


@each_variant
def test_paths_name_layers_that_are_there_and_leave_what_both_share(args):
    net = layout(*args.items())
    there = {layer.name for layer in net.layers if layer.trainable_weights}
    known = {name for rule in mafnet.PATHS.values() for path in rule.values() for name in path}
    shared = {"attention", "fusion", "classifier", "logits"}
    assert there <= known | shared
    mended = mafnet.PATHS["mended"]
    assert not set(mended["visual"]) & set(mended["audio"])
    assert {name.split("_")[0] for name in there - shared} == {
        m for m in ("visual", "audio") if args.get("modality", "both") in (m, "both")
    }
    assert {"embedding", "classifier", "logits", "probabilities"} <= {layer.name for layer in net.layers}


@pytest.mark.parametrize(
    "rows, args, message",
    [
        (MAPS, {"fusion": "sum"}, "fusion='sum': expected one of: concat, addition, mcb, dmr"),
        (MAPS, {"units": 0}, "units=0: expected a whole number, at least 1"),
        (MAPS, {"momentum": 1.0}, "momentum=1.0: expected at least 0 and less than 1"),
        (MAPS, {"modality_dropout": 1.0}, "modality_dropout=1.0: expected at least 0"),
        (MAPS, {"mcb_dim": 100}, "mcb_dim=100: fusion concat has no such part"),
        (MAPS, {"attention": "none", "score": "paper"}, "score=paper: attention none has no such part"),
        (MAPS[:1], {"modality": "visual", "fusion": "dmr"}, "fusion=dmr: modality visual has no such part"),
        (MAPS[:1], {"modality": "visual", "modality_dropout": 0.1}, "modality_dropout=0.1: modality visual"),
        (
            MAPS[:1],
            {"modality": "visual", "attention": "modality"},
            "attention=modality: modality visual has",
        ),
        (MAPS[1:], {"modality": "audio", "film": "both"}, "film=both: modality audio has none to be"),
        (MAPS[:1], {}, r"features frames \(4, 7\): mafnet with modality both reads frames and audio"),
        (MAPS, {"modality": "audio"}, "mafnet with modality audio reads audio"),
        ([], {}, "features none"),
        ([MAPS[0], Feature("audio", (T, 3, 5))], {}, r"\(T, D\) or \(T, H, W, C\), float32 or float16"),
        ([Feature("frames", (T, 3, 2, 5)), MAPS[1]], {}, r"feature frames of shape .* expected \(T, D\), f"),
        ([MAPS[0], Feature("audio", (None, 5))], {}, "every size known"),
        ([MAPS[0], Feature("audio", (T, 5), "uint8", True)], {}, "uint8, quantized: expected"),
        ([MAPS[0], Feature("audio", (T + 1, 5))], {}, "expected the same number of rows T of each"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rows, args, message):
    with pytest.raises(ValueError, match=message):
        mafnet.build_model(rows, CLASSES, **args)


# --- the recipe ---------------------------------------------------------------------------------------------


def test_original_is_the_authors_program():
    flat = recipe.flatten(recipe.get("mafnet"))
    program = {
        "model_args.units": 512,
        "model_args.momentum": 0.999,
        "model_args.masked": False,
        "data.fps": 16.0,
        "data.pool": "second",
        "data.frames": 10,
        "data.interpolation": "nearest",
        "data.channel_order": "rgb",
        "backbone.name": "densenet201",
        "backbone.size": (224, 224),
        "backbone.pooling": "avg",
        "audio.output": "conv4_2",
        "train.optimizer": "adam_tf1",
        "train.learning_rate": 1e-4,
        "train.batch_size": 32,
        "train.epochs": 300,
        "train.patience": 51,  # more than 50
        "train.min_delta": 1e-4,
        "train.best_from": 2,
        "train.drop_visual": 0.1,
        "train.drop_audio": 0.0,
        "train.drop_rule": "published",
        "train.drop_remainder": True,
        "train.report": "best",
    }
    assert flat.items() >= program.items()
    assert len(recipe.quirks_in_force(recipe.get("mafnet"))) == 6


def test_corrected_masks_validates_and_keeps_no_quirk():
    mended = recipe.get("mafnet", "corrected")
    flat = recipe.flatten(mended)
    wanted = {"model_args.masked": True, "train.drop_rule": "mended", "train.best_from": 1}
    wanted |= {"train.drop_remainder": False, "data.split": "official", "data.validation_fraction": 0.1}
    assert flat.items() >= wanted.items() and recipe.quirks_in_force(mended) == []


@pytest.mark.parametrize("modality", mafnet.STREAMS)
def test_a_single_modality_has_no_path_to_drop_and_no_film(modality):
    def get(*more):
        return recipe.get("mafnet", overrides=[f"model_args.modality={modality}", *more])

    assert recipe.streams(get()) == mafnet.STREAMS[modality]
    both = modality == "both"
    assert get().train.drop_visual == (0.1 if both else 0)
    assert get().model_args.get("film", "audio") == ("audio" if both else "none")
    given = get("train.drop_visual=0.3", "model_args.film=block")
    assert (given.train.drop_visual, given.model_args["film"]) == (0.3, "block")
    assert get("train.epochs=1").train.best_from == 1
