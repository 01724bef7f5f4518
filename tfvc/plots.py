"""Pictures of results, drawn without a screen."""

_LARGEST_WITH_NAMES = 40  # classes; more names than that cannot be read


def confusion(matrix, classes, title=""):
    """A confusion matrix as a Matplotlib figure: rows are the truth, each scaled to sum to 1.

    Args:
        matrix: (C, C) counts, truth by row, prediction by column.
        classes: C names.
        title: above the picture.

    Example:
        >>> confusion([[3, 1], [0, 4]], ["run", "walk"]).get_axes()[0].get_xlabel()
        'predicted'
    """
    import numpy as np
    from matplotlib.figure import Figure

    names = [name.replace("$", r"\$") for name in classes]  # else what is between two would be a formula
    counts = np.asarray(matrix, "float64")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(14.0, max(4.0, 1.5 + 0.35 * len(classes)))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(classes) <= _LARGEST_WITH_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= 15:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    return figure


def curves(lines, xlabel, ylabel, title=""):
    """Learning curves as a Matplotlib figure: one colour a name, one thin line a run.

    Args:
        lines: name -> list of `(x, y)`, each a run: two sequences of the same length.
        xlabel, ylabel, title: words of the picture.

    Example:
        >>> figure = curves({"mfb": [([56, 112], [0.2, 0.4]), ([56, 112], [0.1, 0.5])]}, "step", "GAP")
        >>> len(figure.get_axes()[0].lines)
        2
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, runs) in enumerate(lines.items()):
        for run, (x, y) in enumerate(runs):
            text = name.replace("$", r"\$") if run == 0 else None
            axes.plot(x, y, color=f"C{number % 10}", linewidth=1.2, label=text)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend()
    return figure


def pixels(figure):
    """A figure as uint8 (height, width, 4), for TensorBoard."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
