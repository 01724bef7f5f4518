"""The equations in NumPy, float64, written from the papers and the spec, not from tfvc."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid_keras2(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def relu(x):
    return np.maximum(x, 0)


def frame_attention(x, kernel, bias):
    """(B, T, D) -> weights and output: swap axes, dense softmax over time, swap back, multiply."""
    scores = softmax(np.swapaxes(x, 1, 2) @ kernel + bias).swapaxes(1, 2)
    return scores, scores * x


def standardize(x, mean, variance, epsilon, mask=None):
    """Zero rows, and rows under the mask, are padding and stay zero."""
    y = (x - mean) / np.sqrt(variance + epsilon)
    y[(x == 0).all(axis=-1)] = 0
    if mask is not None:
        y[~mask] = 0
    return y


def lstm(x, kernel, recurrent, bias, gate):
    """Every state (B, T, U). Gate order i, f, c, o."""
    batch, frames, _ = x.shape
    units = recurrent.shape[0]
    h, c, states = np.zeros((batch, units)), np.zeros((batch, units)), []
    for t in range(frames):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def bilstm(x, forward, backward, gate, sequence):
    """The backward half of a sequence is turned back into the order of time."""
    f, b = lstm(x, *forward, gate), lstm(x[:, ::-1], *backward, gate)
    return np.concatenate([f, b[:, ::-1]] if sequence else [f[:, -1], b[:, -1]], axis=-1)


def attention_boosted(x, weights, mode, gate):
    """The three nets, dropout off. `weights`: role -> list of arrays, as `roles` gives them."""
    if mode == "cnn_attention_lstm":
        x = frame_attention(x, *weights["attention"])[1]
    x = bilstm(x, weights["forward"], weights["backward"], gate, sequence=mode == "cnn_lstm_attention")
    if mode == "cnn_lstm_attention":
        x = frame_attention(x, *weights["attention"])[1].reshape(len(x), -1)
    kernel, bias = weights["embedding"]
    x = relu(x @ kernel + bias)
    kernel, bias = weights["probabilities"]
    return softmax(x @ kernel + bias)


def roles(model):
    """The weights of a tfvc model of attention_boosted, by role."""
    layer = {layer.name: layer for layer in model.layers}
    found = {"forward": layer["bilstm"].forward_layer, "backward": layer["bilstm"].backward_layer}
    found |= {k: layer[k] for k in ("attention", "embedding", "probabilities") if k in layer}
    return {role: [w.astype("float64") for w in part.get_weights()] for role, part in found.items()}


def conv3d(x, kernel, bias):
    """(B, T, H, W, C): zeros around time so that T stays; space shrinks."""
    half = kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:3], axis=(1, 2, 3))
    return np.einsum("bthwcijk,ijkcm->bthwm", windows, kernel, optimize=True) + bias


def max_pool_space(x, n):
    b, t, h, w, c = x.shape
    x = x[:, :, : h // n * n, : w // n * n]
    return x.reshape(b, t, h // n, n, w // n, n, c).max(axis=(3, 5))


def cnn3d(frames, weights):
    """`weights`: layer name -> [kernel, bias]."""
    x = frames / 127.5 - 1
    for i, pool in enumerate((2, 3, 1), 1):
        x = max_pool_space(relu(conv3d(x, *weights[f"conv{i}"])), pool)
    x = x.mean(axis=(2, 3)).reshape(len(x), -1)
    kernel, bias = weights["embedding"]
    x = relu(x @ kernel + bias)
    kernel, bias = weights["probabilities"]
    return softmax(x @ kernel + bias)
