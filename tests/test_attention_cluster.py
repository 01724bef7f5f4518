"""tfvc/models/attention_cluster.py and its recipe: the equations, errors."""

import numpy as np
import oracles
import pytest
from sight_and_sound import CLASSES, CLIPS, MAPS, T, batch, build, mean_of_maps, moved, weights_of

from tfvc import recipe
from tfvc.models import attention_cluster


@pytest.mark.parametrize("masked", [False, True])
def test_attention_cluster_is_its_equations(masked):
    net = moved(build(module=attention_cluster, clusters=3, masked=masked))
    inputs, w = batch(net), weights_of(net)
    vectors, scores = [], []
    for name, m in (("frames", "visual"), ("audio", "audio")):
        x, part = mean_of_maps(np.float64(inputs[name])), w[f"{m}_clusters"]
        mask = x.any(-1) if masked else np.ones((CLIPS, T), bool)
        vectors.append(oracles.attention_cluster(x, part["kernel"], part["scale"], part["shift"], mask))
        z = np.where(mask[..., None], np.exp(x @ part["kernel"]), 0)
        scores.append((z / np.maximum(z.sum(1, keepdims=True), 1e-30)).mean(-1))
    head = w["probabilities"]
    expected = oracles.softmax(np.concatenate(vectors, axis=-1) @ head["kernel"] + head["bias"])
    out = net(inputs)
    np.testing.assert_allclose(out["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(out["scores"], np.stack(scores, axis=-1), atol=1e-6)
    np.testing.assert_array_equal(attention_cluster.attention_scores(net)(inputs), out["scores"])


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="clusters=0: expected a whole number, at least 1"):
        attention_cluster.build_model(MAPS, CLASSES, clusters=0)
    with pytest.raises(ValueError, match="num_classes=0"):
        attention_cluster.build_model(MAPS, 0)
    with pytest.raises(
        ValueError, match=r"features frames \(4, 7\): attention_cluster reads frames and audio"
    ):
        attention_cluster.build_model(MAPS[:1], CLASSES)


@pytest.mark.parametrize("fidelity", ["original", "corrected"])
def test_the_recipe_is_mafnets_on_the_same_features(fidelity):
    ours, theirs = recipe.get("attention_cluster", fidelity), recipe.get("mafnet", fidelity)
    assert (ours.data, ours.backbone, ours.audio) == (theirs.data, theirs.backbone, theirs.audio)
    assert ours.train.patience == theirs.train.patience and not ours.train.drop_visual
    masked = recipe.flatten(ours)["model_args.masked"]
    assert masked == (fidelity == "corrected") and len(recipe.quirks_in_force(ours)) == (not masked)
