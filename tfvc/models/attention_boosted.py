"""CNN features, biLSTM and attention over frames (You & Korhonen, ICIP 2020), and its 3-D CNN baseline."""

from numbers import Integral

import keras
from keras import layers, ops

from tfvc.layers import FrameAttention, Standardize, hard_sigmoid_keras2

CHOICES = {  # literals: `names.literal` reads them without Keras
    "mode": ("cnn_lstm", "cnn_attention_lstm", "cnn_lstm_attention", "cnn3d"),
    "recurrent_activation": ("sigmoid", "hard_sigmoid_keras2"),
}
AT_LEAST = {"units": 1, "dense": 1, "dropout": 0}
BELOW = {"dropout": 1}
MODES = CHOICES["mode"]

# Ji et al. 2013: (maps, kernel T x H x W, subsampling H x W). 60 x 40 -> 27 x 17 -> 7 x 4 -> 1 x 1.
_CNN3D = ((10, (3, 7, 7), 2), (30, (3, 7, 6), 3), (128, (3, 7, 4), 1))
_CNN3D_LEAST = (60, 40)


def build_model(
    inputs,
    num_classes,
    *,
    mode="cnn_lstm_attention",
    units=256,
    dense=512,
    dropout=0.5,
    recurrent_activation="sigmoid",
    standardize=False,
):
    """A clip's frame features (or its frames) to class probabilities.

        cnn_lstm            biLSTM, last state                -> head
        cnn_attention_lstm  attention -> biLSTM, last state   -> head
        cnn_lstm_attention  biLSTM, sequence -> attention -> flatten -> head      (the one proposed)
        cnn3d               three 3-D convolutions            -> head
        head                Dense ReLU "embedding" -> Dropout -> Dense softmax "probabilities"

    cnn3d, for frames of 60 x 40 (height x width), each convolution followed by ReLU:

        scale to [-1, 1]                              T x 60 x 40 x 3
        convolution 7 x 7 x 3 (H x W x T), 10 maps    T x 54 x 34 x 10
        subsampling 2 x 2, maximum                    T x 27 x 17 x 10
        convolution 7 x 6 x 3, 30 maps                T x 21 x 12 x 30
        subsampling 3 x 3, maximum                    T x 7 x 4 x 30
        convolution 7 x 4 x 3, 128 maps               T x 1 x 1 x 128
        mean over space, flatten                      T * 128

    **Source**: the authors' published Keras 2.2.4 program; cnn3d after Ji, Xu, Yang & Yu, "3D Convolutional
    Neural Networks for Human Action Recognition", 2013.
    **Differs**: no mask anywhere, as published: padding frames are zeros that the network sees. cnn3d leaves
    out Ji's hardwired channels (gray, gradients, optical flow) and reads RGB; its maps see all maps below;
    time is padded with zeros so that any T >= 1 works (Ji: none, T = 7); the last convolution spans 3 frames,
    not all; frames larger than 60 x 40 are averaged over space at the end; ReLU; the head is that of the
    other modes (Ji: a softmax on the 128).

    Args:
        inputs: one `tfvc.recipe.Feature` named `frames`: shape (T, D), float32 or float16; for cnn3d shape
            (T, H, W, 3), uint8.
        num_classes: C.
        mode: one of `MODES`.
        units: of the LSTM, a direction. Not in cnn3d.
        dense: units of the layer "embedding".
        dropout: rate between the embedding and the probabilities.
        recurrent_activation: `sigmoid`, which has the fast cuDNN kernel, or `hard_sigmoid_keras2`, the
            original's, which has not. Not in cnn3d.
        standardize: put a `Standardize` layer named "standardize" first. Not in cnn3d.

    Returns:
        keras.Model of `{"frames": (B, T, D)}` (cnn3d: (B, T, H, W, 3) in 0..255) to (B, C) float32.

    Raises:
        ValueError: a row, mode or argument that does not fit; the message says what was expected.

    Example:
        >>> from tfvc.models.attention_boosted import build_model
        >>> from tfvc.recipe import Feature
        >>> model = build_model([Feature("frames", (7, 12))], 4, units=5)
        >>> model.output_shape
        (None, 4)
    """
    row = _check(inputs, num_classes, mode, dense, dropout)
    given = {"units": units, "recurrent_activation": recurrent_activation, "standardize": standardize}
    frames = keras.Input(row.shape, dtype=row.dtype, name=row.name)
    if mode == "cnn3d":
        x = _cnn3d(frames, given)
    else:
        x = Standardize(name="standardize")(frames) if standardize else frames
        if mode == "cnn_attention_lstm":
            x = FrameAttention(name="attention")(x)
        x = _bilstm(x, units, recurrent_activation, sequence=mode == "cnn_lstm_attention")
        if mode == "cnn_lstm_attention":
            x = layers.Flatten(name="flatten")(FrameAttention(name="attention")(x))
    x = layers.Dense(dense, activation="relu", name="embedding")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model({row.name: frames}, x, name="attention_boosted")


def attention_scores(model):
    """A model of the same inputs that gives the attention over time.

    Args:
        model: a model of `build_model`, trained or loaded.

    Returns:
        keras.Model to (B, T) float32, the mean of the weights over the channels (it sums to 1 over T), which
        shares the weights; None for a mode without attention.

    Example:
        >>> from tfvc.recipe import Feature
        >>> model = build_model([Feature("frames", (7, 12))], 4, units=5)
        >>> attention_scores(model).output_shape
        (None, 7)
    """
    found = [layer for layer in model.layers if isinstance(layer, FrameAttention)]
    if not found:
        return None
    return keras.Model(model.input, _MeanScores(found[0])(found[0].input), name="attention_scores")


class _MeanScores(keras.layers.Layer):
    """A layer, so that the weights are read at each call and not once, when the graph is drawn."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def call(self, inputs):
        return ops.mean(self.attention.scores(inputs), axis=-1)


def _bilstm(x, units, recurrent_activation, sequence):
    if not _whole(units):
        raise ValueError(f"units={units!r}: expected a whole number, at least 1")
    if recurrent_activation not in CHOICES["recurrent_activation"]:
        known = ", ".join(CHOICES["recurrent_activation"])
        raise ValueError(f"recurrent_activation={recurrent_activation!r}: expected one of: {known}")
    gates = hard_sigmoid_keras2 if recurrent_activation == "hard_sigmoid_keras2" else recurrent_activation
    lstm = layers.LSTM(units, recurrent_activation=gates, return_sequences=sequence, name="lstm")
    return layers.Bidirectional(lstm, name="bilstm")(x)


def _cnn3d(x, given):
    for name, value in given.items():
        if value != build_model.__kwdefaults__[name]:
            raise ValueError(f"{name}={value}: mode cnn3d has no such part; leave {name} out")
    x = ops.cast(x, "float32") * (2 / 255) - 1  # Keras' Rescaling asks for TensorFlow on every backend
    for i, (maps, kernel, pool) in enumerate(_CNN3D, 1):
        edge = ops.zeros_like(x[:, :1])  # a padding layer here would make TensorFlow's remapper complain
        x = ops.concatenate([edge, x, edge], axis=1)
        x = layers.Conv3D(maps, kernel, activation="relu", name=f"conv{i}")(x)
        if pool > 1:
            # Frame by frame: the gradient of TensorFlow's 3-D kernel goes to all that are within 1e-5 of the
            # maximum.
            frames = ops.reshape(x, (-1, *x.shape[2:]))
            frames = layers.MaxPooling2D(pool, name=f"pool{i}")(frames)
            x = ops.reshape(frames, (-1, x.shape[1], *frames.shape[1:]))
    return layers.Flatten(name="flatten")(ops.mean(x, axis=(2, 3)))


def _check(inputs, num_classes, mode, dense, dropout):
    """The one row, or ValueError."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of: {', '.join(MODES)}")
    for name, value in (("num_classes", num_classes), ("dense", dense)):
        if not _whole(value):
            raise ValueError(f"{name}={value!r}: expected a whole number, at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: expected at least 0 and less than 1")
    if [row.name for row in inputs] != ["frames"]:
        raise ValueError(
            f"features {[row.name for row in inputs]}: attention_boosted reads one row, 'frames'"
        )
    row = inputs[0]
    stacked = mode == "cnn3d"
    rank, dtypes, form = (4, ("uint8",), "(T, H, W, 3)") if stacked else (2, ("float32", "float16"), "(T, D)")
    if len(row.shape) != rank or row.dtype not in dtypes or row.quantized or not all(map(_whole, row.shape)):
        raise ValueError(
            f"feature frames of shape {row.shape}, {row.dtype}{', quantized' if row.quantized else ''}: "
            f"mode {mode} reads {form}, {' or '.join(dtypes)}, every size known"
        )
    if stacked and (row.shape[3] != 3 or row.shape[1] < _CNN3D_LEAST[0] or row.shape[2] < _CNN3D_LEAST[1]):
        raise ValueError(
            f"feature frames of shape {row.shape}: mode cnn3d needs 3 channels and at least "
            f"{_CNN3D_LEAST[0]} x {_CNN3D_LEAST[1]} (height x width), as --set=backbone.size=60,40"
        )
    return row


def _whole(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
