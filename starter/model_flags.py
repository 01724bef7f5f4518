"""The flags of the models and their defaults, for whoever must not import Keras: a program's `--help`.

`FLAGS`: name -> (kind, default, help); a kind is a row of starter/flags.py, or a tuple of words.
"""

FLAGS = {
    "iterations": ("positive", 30, "frames sampled from a video by the models that sample"),
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
    "dbof_cluster_size": ("positive", 8192, "DBoF: units of the cluster layer"),
    "dbof_hidden_size": ("positive", 1024, "DBoF: units of the hidden layer"),
    "dbof_pooling_method": (("average", "max"), "max", "DBoF: how the clusters are pooled over the frames"),
    "dbof_activation": (("relu6", "sigmoid"), "sigmoid", "DBoF: of the cluster and the hidden layer"),
    "dbof_relu": ("boolean", True, "SoftDbofModelLF: relu6 (and batch norm, where on) on the hidden layer"),
    "netvlad_cluster_size": ("positive", 64, "NetVLAD: clusters of the first stream; the others get half"),
    "netvlad_hidden_size": ("positive", 1024, "NetVLAD: units of the hidden layer"),
    "netvlad_add_batch_norm": ("boolean", True, "NetVLAD, NetFV: batch norm"),
    "netvlad_relu": ("boolean", True, "NetVLAD: relu6 (and batch norm, where on) on the hidden layer"),
    "lightvlad": ("boolean", False, "NetVLADModelLF is NetRVLADModelLF: no residuals, no second centres"),
    "fv_cluster_size": ("positive", 64, "NetFV: clusters of the first stream; the others get half"),
    "fv_hidden_size": ("positive", 2048, "NetFV: units of the hidden layer"),
    "fv_relu": ("boolean", True, "NetFV: relu6 (and batch norm, where on) on the hidden layer"),
    "gating": ("boolean", False, "context gating after the hidden layer of NetVLAD, NetFV and SoftDbof"),
    "gating_remove_diag": ("boolean", False, "context gating: no feature gates itself"),
    "video_level_classifier_model": ("string", "MoeModel", "the classifier behind a frame-level model"),
    "lstm_cells": ("positive", 1024, "units of each LSTM"),
    "lstm_layers": ("positive", 2, "how many LSTMs stand on one another"),
    "moe_num_mixtures": ("positive", 2, "experts a class, without the one that always says no"),
    "moe_l2": ("share", 1e-8, "MoeModel: penalty moe_l2 * sum(w^2) / 2"),
    "moe_prob_gating": ("boolean", False, "MoeModel: gate the probabilities by one another (WILLOW)"),
}
