"""Pictures that only studies draw; what tfvc draws too is in tfvc/plots.py."""

_MARKERS = "os^Dv*"  # ten colours, then another marker


def sweep(lines, xlabel, ylabel, title=""):
    """A measure against a setting: a dot for each run, a line through the means.

    Args:
        lines: list of `(x, values)`: a setting and what its runs gave.
        xlabel, ylabel, title: words of the picture.

    Example:
        >>> figure = sweep([(0.0, [80.0, 82.0]), (0.5, [78.0])], "drop rate", "accuracy, %")
        >>> figure.get_axes()[0].lines[0].get_ydata().tolist()
        [81.0, 78.0]
    """
    import numpy as np
    from matplotlib.figure import Figure

    lines = sorted(lines)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([x for x, _ in lines], [np.mean(values) for _, values in lines], color="C0", label="mean")
    dots = [(x, value) for x, values in lines for value in values]
    axes.scatter(*zip(*dots, strict=True), s=16, color="C1", label="a run", zorder=3)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def maps(panels, truth, classes, title=""):
    """Clouds of points side by side, a colour a class.

    Args:
        panels: dict, title -> (N, 2) places.
        truth: (N,) class numbers.
        classes: names.
        title: above them all.

    Example:
        >>> figure = maps({"before": [[0, 0], [1, 1]], "after": [[0, 1], [1, 0]]}, [0, 1], ["run", "walk"])
        >>> [axes.get_title() for axes in figure.get_axes()]
        ['before', 'after']
    """
    import numpy as np
    from matplotlib.figure import Figure

    truth = np.asarray(truth)
    figure = Figure(figsize=(5 * len(panels) + 2, 5), layout="constrained")
    for axes, (name, places) in zip(np.ravel(figure.subplots(1, len(panels))), panels.items(), strict=True):
        places = np.asarray(places)
        for number in np.unique(truth):
            look = {"color": f"C{number % 10}", "marker": _MARKERS[number // 10 % len(_MARKERS)], "s": 18}
            shown = classes[number].replace("$", r"\$")  # else what is between two would be a formula
            axes.scatter(*places[truth == number].T, label=shown, **look)
        axes.set(title=name, xticks=[], yticks=[])  # t-SNE's axes have no unit
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.suptitle(title)
    return figure
