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


def pixels(figure):
    """A figure as uint8 (height, width, 4), for TensorBoard."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
