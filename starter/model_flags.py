"""The flags of the models and their defaults, for whoever must not import Keras: a program's `--help`.

`FLAGS`: name -> (kind, default, help); a kind is "string", "boolean", a row of `BOUNDS`, or a tuple of words.
"""

# The numbers that a kind of flag takes, ends included. No one means the upper ones: they turn a slip of the
# hand into a line that names the flag.
BOUNDS = {
    "positive": (1, 2**31 - 1),
    "natural": (0, 2**31 - 1),
    "size": (1, 10**6),  # of a batch, a layer, a stream, a vocabulary
    "few": (1, 1024),  # threads, layers
    "seed": (0, 2**32 - 1),  # NumPy's
    "amount": (1.0, 1e38),  # of float32
    "share": (0.0, 1e38),  # any number that is not below 0
}

FLAGS = {
    "iterations": ("size", 30, "frames sampled from a video by the models that sample"),
    "sample_random_frames": (
        "boolean",
        True,
        "training samples frames at random, with replacement; False: a run of frames that starts at random",
    ),
    "dbof_add_batch_norm": (
        "boolean",
        True,
        "DBoF: batch norm on the input, the clusters and the hidden layer",
    ),
    "dbof_cluster_size": ("size", 8192, "DBoF: units of the cluster layer"),
    "dbof_hidden_size": ("size", 1024, "DBoF: units of the hidden layer"),
    "dbof_pooling_method": (("average", "max"), "max", "DBoF: how the clusters are pooled over the frames"),
    "dbof_activation": (("relu6", "sigmoid"), "sigmoid", "DBoF: of the cluster and the hidden layer"),
    "dbof_relu": ("boolean", True, "SoftDbofModelLF: relu6 (and batch norm, where on) on the hidden layer"),
    "netvlad_cluster_size": ("size", 64, "NetVLAD: clusters of the first stream; the others get half"),
    "netvlad_hidden_size": ("size", 1024, "NetVLAD: units of the hidden layer"),
    "netvlad_add_batch_norm": ("boolean", True, "NetVLAD, NetFV: batch norm"),
    "netvlad_relu": ("boolean", True, "NetVLAD: relu6 (and batch norm, where on) on the hidden layer"),
    "lightvlad": ("boolean", False, "NetVLADModelLF is NetRVLADModelLF: no residuals, no second centres"),
    "fv_cluster_size": ("size", 64, "NetFV: clusters of the first stream; the others get half"),
    "fv_hidden_size": ("size", 2048, "NetFV: units of the hidden layer"),
    "fv_relu": ("boolean", True, "NetFV: relu6 (and batch norm, where on) on the hidden layer"),
    "gating": ("boolean", False, "context gating after the hidden layer of NetVLAD, NetFV and SoftDbof"),
    "gating_remove_diag": ("boolean", False, "context gating: no feature gates itself"),
    "video_level_classifier_model": ("string", "MoeModel", "the classifier behind a frame-level model"),
    "lstm_cells": ("size", 1024, "units of each LSTM"),
    "lstm_layers": ("few", 2, "how many LSTMs stand on one another"),
    "moe_num_mixtures": ("size", 2, "experts a class, without the one that always says no"),
    "moe_l2": ("share", 1e-8, "MoeModel: penalty moe_l2 * sum(w^2) / 2"),
    "moe_prob_gating": ("boolean", False, "MoeModel: gate the probabilities by one another (WILLOW)"),
}


def fault(kind, default, value):
    """What a value of a flag should have been; "" where it is right.

    Example:
        >>> fault("size", 30, 0), fault("size", 30, 7)
        ('a whole number above 0, as 30, at most 1000000', '')
    """
    if isinstance(kind, tuple):
        return "" if value in kind else f"one of: {', '.join(kind)}"
    if kind == "boolean":
        return "" if type(value) is bool else "true or false"
    if kind == "string":
        return "" if type(value) is str else f"a text, as {default!r}"
    low, high = BOUNDS[kind]
    whole = type(low) is int
    if type(value) in ((int,) if whole else (int, float)) and low <= value <= high:  # not so a NaN
        return ""
    floor = "above 0" if low == 1 and whole else f"that is not below {low:g}"
    return f"a {'whole ' * whole}number {floor}, as {default}, at most {high}"
