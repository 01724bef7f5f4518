"""tfvc/models/dmrn.py and its recipe: the equations, errors."""

import numpy as np
import oracles
import pytest
from sight_and_sound import CLASSES, CLIPS, MAPS, T, batch, build, mean_of_maps, moved, time_mean, weights_of

from tfvc import recipe
from tfvc.models import dmrn


@pytest.mark.parametrize("masked", [False, True])
def test_dmrn_is_its_equations(masked):
    net = moved(build(module=dmrn, units=5, masked=masked))
    inputs, w = batch(net), weights_of(net)
    fused, states, masks = np.zeros((CLIPS, T, 10)), [], []
    for name, m in (("frames", "visual"), ("audio", "audio")):
        x, part = mean_of_maps(np.float64(inputs[name])), list(w[f"{m}_bilstm"].values())
        masks.append(x.any(-1) if masked else np.ones((CLIPS, T), bool))
        h = np.zeros((CLIPS, T, 10))
        for i, n in enumerate(masks[-1].sum(1)):  # each clip as long as it is
            if n:
                h[i, :n] = oracles.bilstm(x[i : i + 1, :n], part[:3], part[3:], oracles.sigmoid, True)[0]
        states.append(h)
    for t in range(T):
        there = [m[:, t] for m in masks]
        fused[:, t] = oracles.residual_fusion(*(h[:, t] for h in states), w["fusion"], there)
    head = w["probabilities"]
    pooled = time_mean(fused, masks[0] | masks[1])
    expected = oracles.softmax(pooled @ head["kernel"] + head["bias"])
    np.testing.assert_allclose(net(inputs)["probabilities"], expected, atol=1e-5)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="units=0: expected a whole number, at least 1"):
        dmrn.build_model(MAPS, CLASSES, units=0)
    with pytest.raises(ValueError, match="num_classes=0"):
        dmrn.build_model(MAPS, 0)
    with pytest.raises(ValueError, match=r"features frames \(4, 7\): dmrn reads frames and audio"):
        dmrn.build_model(MAPS[:1], CLASSES)


@pytest.mark.parametrize("fidelity", ["original", "corrected"])
def test_the_recipe_is_mafnets_on_the_same_features(fidelity):
    ours, theirs = recipe.get("dmrn", fidelity), recipe.get("mafnet", fidelity)
    assert (ours.data, ours.backbone, ours.audio) == (theirs.data, theirs.backbone, theirs.audio)
    assert ours.train.patience == theirs.train.patience and not ours.train.drop_visual
    masked = recipe.flatten(ours)["model_args.masked"]
    assert masked == (fidelity == "corrected") and len(recipe.quirks_in_force(ours)) == (not masked)
