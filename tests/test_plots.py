"""Pictures of results: what is drawn is what was given."""

import numpy as np
import pytest

from tfvc import plots

CLASSES = ["demo", "flood/storm", "$victim$"]
ROWS = {"late": [0.5, 0.75, 1.0], "early": [0.25, 0.5, 0.0]}


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_f1_bars_stand_side_by_side_at_their_class():
    figure = plots.f1_bars(ROWS, CLASSES, "test")
    (axes,) = figure.get_axes()
    assert heights(axes) == [*ROWS["late"], *ROWS["early"]]
    middles = np.array([bar.get_x() + bar.get_width() / 2 for bar in axes.patches]).reshape(2, 3)
    assert middles.mean(0) == pytest.approx([0, 1, 2]) and (middles[0] < middles[1]).all()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["demo", "flood/storm", r"\$victim\$"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["late", "early"]
    assert len(np.unique(plots.pixels(figure))) > 20


def test_many_classes_are_drawn_without_names():
    figure = plots.f1_bars({"raf": np.linspace(0, 1, 60)}, [f"class {k}" for k in range(60)])
    (axes,) = figure.get_axes()
    assert len(axes.patches) == 60 and "classes.csv" in axes.get_xlabel() and not figure.legends


def test_elimination_goes_from_all_features_to_few():
    (axes,) = plots.elimination([(384, 0.8), (383, 0.82), (382, 0.81)], 383, "x").get_axes()
    curve, chosen = axes.lines
    assert curve.get_xdata().tolist() == [384, 383, 382] and curve.get_ydata().tolist() == [0.8, 0.82, 0.81]
    assert list(chosen.get_xdata()) == [383, 383] and axes.xaxis_inverted()


def test_elimination_of_one_round_can_be_drawn():
    assert plots.pixels(plots.elimination([(3, 0.5)], 3)).ndim == 3


def test_importances_add_up_by_modality():
    values, kept = [0.1, 0.4, 0.2, 0.3], [False, True, True, True]
    figure = plots.importances(values, ["visual", "visual", "text", "text"], kept)
    ranks, sums = figure.get_axes()
    ranked = sorted((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in ranks.patches)
    assert [height for _, height in ranked] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert heights(sums) == pytest.approx([0.4, 0.5, 0.1, 0.0])  # kept, then dropped above it
    assert sums.get_xticklabels()[0].get_text() == "visual\n1 of 2 kept"
