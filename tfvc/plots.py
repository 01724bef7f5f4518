"""Pictures of results, drawn without a screen."""

_LARGEST_WITH_NAMES = 40  # classes; more names than that cannot be read
_WIDTH, _LEFT, _HIGHEST = 11.0, 0.75, 2.2  # inches of a time axis, of what is left of it, of a thumbnail
_NUMBERED, _LABELLED = 24, 10  # cells whose scores are written, windows whose labels are
_CLASS_LETTERS = 28  # of a class's name below its bars


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

    names = [_plain(name) for name in classes]
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
            text = _plain(name) if run == 0 else None
            axes.plot(x, y, color=f"C{number % 10}", linewidth=1.2, label=text)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend()
    return figure


def f1_bars(rows, classes, title=""):
    """F1 of each class as a Matplotlib figure, a bar a name; of several names, side by side.

    **Source**: Pouyanfar, Wang, Chen 2019 (RAF), figure 3; Pouyanfar et al. 2019 (MIPR), figure 2.
    **Differs**: the number of each bar is written above it where there is room.

    Args:
        rows: name, as of a kind of fusion -> C values, 0 to 1.
        classes: C names.
        title: above the picture.

    Example:
        >>> figure = f1_bars({"late": [0.7, 0.9], "early": [0.6, 0.8]}, ["flood", "storm"])
        >>> len(figure.get_axes()[0].patches)
        4
    """
    from matplotlib.figure import Figure

    count, bars = len(classes), len(classes) * len(rows)
    figure = Figure(figsize=(min(20.0, max(6.0, 1.5 + 0.4 * count + 0.25 * bars)), 4.5), layout="constrained")
    axes = figure.add_subplot()
    wide = 0.8 / max(1, len(rows))
    for number, (name, values) in enumerate(rows.items()):
        places = [k + (number - (len(rows) - 1) / 2) * wide for k in range(count)]
        drawn = axes.bar(places, values, 0.92 * wide, color=f"C{number % 10}", label=_plain(name))
        if bars <= _NUMBERED:
            axes.bar_label(drawn, fmt="%.2f", fontsize=8, padding=2)
    axes.set(ylim=(0, 1.08), ylabel="F1", title=_plain(title), xlim=(-0.6, count - 0.4))
    _name_classes(axes, classes)
    if len(rows) > 1:
        figure.legend(loc="outside lower center", ncols=min(4, len(rows)))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    _frame(axes)
    return figure


def decisions(counts, classes, title=""):
    """What was decided on each label as a Matplotlib figure: clips found, missed and wrongly given it.

    Args:
        counts: (C, 2, 2), truth by row, decision by column, as scikit-learn's `multilabel_confusion_matrix`.
        classes: C names.
        title: above the picture.

    Example:
        >>> figure = decisions([[[5, 1], [2, 4]]], ["flood"])
        >>> [int(bar.get_height()) for bar in figure.get_axes()[0].patches]
        [4, 2, -1]
    """
    import numpy as np
    from matplotlib.figure import Figure

    counts, places = np.asarray(counts), np.arange(len(classes))
    found, missed, wrong = counts[:, 1, 1], counts[:, 1, 0], counts[:, 0, 1]
    figure = Figure(figsize=(min(20.0, max(6.0, 1.5 + 0.65 * len(classes))), 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, values, bottom, colour in (
        ("has the label, given it", found, 0, "C0"),
        ("has it, not given", missed, found, "0.75"),
        ("given it, has it not", -wrong, 0, "C3"),
    ):
        drawn = axes.bar(places, values, 0.75, bottom=bottom, color=colour, label=name)
        if len(classes) <= _NUMBERED:
            words = [f"{abs(value)}" if value else "" for value in values]
            axes.bar_label(drawn, words, label_type="center", fontsize=8)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set(ylabel="clips (below 0: wrongly given)", title=_plain(title), xlim=(-0.6, len(classes) - 0.4))
    _name_classes(axes, classes)
    figure.legend(loc="outside lower center", ncols=3)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    _frame(axes)
    return figure


def elimination(scores, chosen, title=""):
    """The score of a classifier over the number of features left to it, as a Matplotlib figure.

    Args:
        scores: list of `(features left, score)`, as `RankedElimination.scores_` has them.
        chosen: the number of features that was kept; drawn as a line.
        title: above the picture.

    Example:
        >>> elimination([(384, 0.80), (383, 0.82), (382, 0.81)], 383).get_axes()[0].get_xlabel()
        'features left'
    """
    from matplotlib.figure import Figure

    left, values = zip(*scores, strict=True) if len(scores) else ((), ())
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(left, values, color="C0", linewidth=1.2, marker="o" if len(left) <= _NUMBERED else "")
    axes.axvline(chosen, color="0.35", linewidth=1, linestyle=":", label=f"kept: {chosen} features")
    axes.invert_xaxis()  # time goes from all features to few
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="features left", ylabel="score", title=_plain(title))
    axes.legend()
    axes.grid(alpha=0.3)
    _frame(axes)
    return figure


def importances(values, modality, kept):
    """Importances of features as a Matplotlib figure: ranked, and their sum in each modality.

    Args:
        values: (D,), not negative: mean decrease of Gini impurity.
        modality: D names, of which modality's vector each feature is a part.
        kept: (D,), bool; those that were dropped are drawn pale.

    Example:
        >>> figure = importances([0.5, 0.3, 0.2], ["visual", "text", "text"], [True, True, False])
        >>> [axes.get_title() for axes in figure.get_axes()]
        ['features by rank', 'by modality']
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    values, modality, kept = np.asarray(values, "float64"), np.asarray(modality), np.asarray(kept, bool)
    names = list(dict.fromkeys(modality.tolist()))
    colours = {name: f"C{number % 10}" for number, name in enumerate(names)}
    order = np.argsort(-values, kind="stable")
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    ranks, sums = figure.subplots(1, 2, width_ratios=(2.2, 1))
    for name in names:
        for is_kept, alpha in ((True, 1.0), (False, 0.3)):
            places = np.flatnonzero((modality[order] == name) & (kept[order] == is_kept))
            ranks.bar(places + 1, values[order[places]], 1.0, color=colours[name], alpha=alpha)
    ranks.set(xlabel="rank", ylabel="importance", title="features by rank", xlim=(0.4, len(values) + 0.6))
    ranks.legend(handles=[Patch(color=colours[name], label=_plain(name)) for name in names])
    bottom = np.zeros(len(names))
    for is_kept, alpha in ((True, 1.0), (False, 0.3)):
        part = np.array([values[(modality == name) & (kept == is_kept)].sum() for name in names])
        sums.bar(range(len(names)), part, 0.7, bottom=bottom, color=list(colours.values()), alpha=alpha)
        bottom += part
    words = [
        f"{_plain(name)}\n{kept[modality == name].sum()} of {(modality == name).sum()} kept" for name in names
    ]
    sums.set_xticks(range(len(names)), words)
    sums.set(ylabel="sum of importances", title="by modality")
    for axes in (ranks, sums):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        _frame(axes)
    return figure


def scores_over_time(windows, title="", pictures=(), sound=None, note=""):
    """A model's scores over the time of one video as a Matplotlib figure, a panel a stream.

    Args:
        windows: list of `(edges, scores, label)`: T + 1 seconds, stream -> T scores, and words. The label of
            each of several windows lies above it. Without streams there are pictures and sound alone.
        title: above the picture.
        pictures: list of `(start, end, uint8 (h, w, 3))`: thumbnails of one size, each amid its seconds.
        sound: `(samples float (N,), rate)` from second 0 on, drawn as a waveform; None: none.
        note: words in the place of the pictures where there are none.

    Example:
        >>> figure = scores_over_time([([0, 1, 2], {"frames": [0.1, 0.3], "audio": [0.4, 0.2]}, "run 0.9")])
        >>> [axes.get_ylabel() for axes in figure.get_axes()]
        ['frames', 'audio']
    """
    from matplotlib.figure import Figure

    streams = list(windows[0][1])
    end = max(edges[-1] for edges, _, _ in windows)
    strip = _strip_height(pictures, end) if len(pictures) else 0.3 * bool(note)
    heights = [strip] * bool(strip) + [0.6] * (sound is not None) + [1.3] * len(streams)
    labelled = 1 < len(windows) <= _LABELLED
    gap, above, below = 0.12, 0.45 + 0.2 * labelled, 0.5
    height = above + sum(heights) + gap * (len(heights) - 1) + below
    width = _LEFT + _WIDTH + 0.3
    figure = Figure(figsize=(width, height), dpi=120)
    figure.suptitle(_short(title, 110), y=1 - 0.14 / height, va="top", fontsize=12)
    panels, bottom = [], height - above + gap
    for one in heights:
        bottom -= gap + one
        axes = figure.add_axes([_LEFT / width, bottom / height, _WIDTH / width, one / height])
        axes.set_xlim(0, end)
        axes.tick_params(labelbottom=False, length=0)
        panels.append(axes)
    rest = iter(panels)
    if strip:
        _draw_strip(next(rest), pictures, end, note)
    if sound is not None:
        _draw_sound(next(rest), *sound, end)
    most = max((max(scores[name]) for _, scores, _ in windows for name in streams), default=0)
    for number, (name, axes) in enumerate(zip(streams, rest, strict=True)):
        _draw_scores(axes, windows, name, f"C{number % 10}", 1.2 * most or 1)
    for axes in panels[bool(strip) :]:
        for edges, _, _ in windows[1:]:
            axes.axvline(edges[0], color="0.35", linewidth=1 if len(windows) <= 20 else 0.3)
    if labelled:
        _label_windows(panels[0], windows, end)
    panels[-1].tick_params(labelbottom=True, length=3)
    panels[-1].set_xlabel("seconds (dotted: the mean of all scores)" if streams else "seconds")
    if end <= 20:
        panels[-1].set_xticks(range(int(end) + 1))
    return figure


def _plain(text):
    return text.replace("$", r"\$")  # else what is between two would be a formula


def _short(text, letters):
    return _plain(
        text if len(text) <= letters else f"{text[: max(0, int(letters) - 1)]}\N{HORIZONTAL ELLIPSIS}"
    )


def _name_classes(axes, classes):
    """Below bars at 0, 1, ...; more names than can be read are left to the table."""
    if len(classes) > _LARGEST_WITH_NAMES:
        axes.set_xlabel("class, in the order of classes.csv")
        return
    words, slanted = [_short(name, _CLASS_LETTERS) for name in classes], len(classes) <= 12
    turn = {"rotation": 30, "ha": "right"} if slanted else {"rotation": 90, "ha": "center"}
    axes.set_xticks(range(len(words)), words, **turn)


def _strip_height(pictures, end):
    """Inches: the thumbnails' own shape in the narrowest of their times."""
    height, width = pictures[0][2].shape[:2]
    room = min(stop - start for start, stop, _ in pictures) / end * _WIDTH
    return min(_HIGHEST, 0.97 * room * height / width)


def _label_windows(axes, windows, end):
    place = {"ha": "center", "va": "bottom", "xytext": (0, 3), "textcoords": "offset points", "fontsize": 8}
    place["xycoords"] = axes.get_xaxis_transform()
    for edges, _, label in windows:
        text = _short(label, (edges[-1] - edges[0]) / end * _WIDTH * 13)
        axes.annotate(text, ((edges[0] + edges[-1]) / 2, 1), **place)


def _draw_strip(axes, pictures, end, note):
    if not len(pictures):
        axes.text(end / 2, 0.5, _plain(note), ha="center", va="center", fontsize=9, color="0.4")
    inches = axes.get_position().height * axes.get_figure().get_figheight()
    for start, stop, picture in pictures:
        half = inches * picture.shape[1] / picture.shape[0] / _WIDTH * end / 2  # seconds
        middle = (start + stop) / 2
        axes.imshow(picture, extent=(middle - half, middle + half, 0, 1), aspect="auto")
    axes.set(xlim=(0, end), ylim=(0, 1))
    axes.axis("off")


def _draw_sound(axes, samples, rate, end):
    """The lowest and highest sample of each small piece of time."""
    import numpy as np

    samples = np.asarray(samples)[: int(np.ceil(end * rate))]
    piece = max(1, int(end * rate / 1500))
    envelope = np.pad(samples, (0, -samples.size % piece)).reshape(-1, piece)
    times = (np.arange(len(envelope)) + 0.5) * piece / rate
    axes.fill_between(times, envelope.min(1), envelope.max(1), color="0.45", linewidth=0.4)
    most = max(float(np.abs(envelope).max(initial=0)), 1e-3)
    axes.set(ylim=(-most, most), yticks=[], ylabel="sound")
    _frame(axes)


def _draw_scores(axes, windows, name, colour, most):
    cells = sum(len(edges) - 1 for edges, _, _ in windows)
    for number, (edges, scores, _) in enumerate(windows):
        values, faint = scores[name], 0.45 - 0.15 * (number % 2)  # windows may overlap
        axes.stairs(values, edges, fill=True, color=colour, alpha=faint, linewidth=0)
        axes.stairs(values, edges, color=colour, linewidth=1.3 if cells <= 200 else 0.5)
        mean = sum(map(sum, scores.values())) / (len(values) * len(scores))
        axes.hlines(mean, edges[0], edges[-1], color="0.3", linewidth=0.8, linestyle=":")
        if cells <= _NUMBERED:
            for left, right, value in zip(edges, edges[1:], values, strict=False):
                place = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
                place["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
                axes.annotate(f"{value:.2f}", ((left + right) / 2, value), fontsize=8, **place)
    axes.set(ylim=(0, most), ylabel=name)
    axes.grid(axis="y", alpha=0.25)
    _frame(axes)


def _frame(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def pixels(figure):
    """A figure as uint8 (height, width, 4), for TensorBoard."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
