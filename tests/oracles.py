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


def batch_norm(x, gamma, beta, mean=None, variance=None, epsilon=1e-3, mask=None):
    """Over all axes but the last, by the given statistics or the batch's (biased); rows under the mask are
    zero. Returns y and what tf.slim moves its statistics towards: mean and unbiased variance."""
    mask = np.ones(x.shape[:-1], bool) if mask is None else mask
    rows = x[mask]
    if mean is None:
        mean, variance = rows.mean(axis=0), rows.var(axis=0)
    y = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
    return np.where(mask[..., None], y, 0), (mean, rows.var(axis=0) * len(rows) / max(len(rows) - 1, 1))


def log_mel(samples):
    """(N,) at 16 kHz -> (frames, 64), float64: Hann, |FFT 512|, HTK mel, log(x + 0.01); as AudioSet."""
    frames = np.stack([samples[i : i + 400] for i in range(0, len(samples) - 399, 160)]).astype("float64")
    spectrum = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)), 512))
    edges = 1127 * np.log(1 + np.array([125.0, 7500.0]) / 700)
    edges = np.linspace(*edges, 66)
    matrix = np.zeros((257, 64))
    for k in range(1, 257):  # 0 Hz belongs to no band
        mel = 1127 * np.log(1 + k * 8000 / 256 / 700)
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            matrix[k, band] = max(0, min((mel - low) / (centre - low), (high - mel) / (high - centre)))
    return np.log(spectrum @ matrix + 0.01)


def l2(x, axis=-1):
    return x / np.sqrt(np.maximum((x**2).sum(axis=axis, keepdims=True), 1e-12))


def _norm(x, w, name, mask, training):
    """Batch norm where `w`, weights by their original names, has one of this name, else its biases."""
    if f"{name}_biases" in w:
        return x + w[f"{name}_biases"]
    moving = () if training else (w[f"{name}_bn/moving_mean"], w[f"{name}_bn/moving_variance"])
    return batch_norm(x, w[f"{name}_bn/gamma"], w[f"{name}_bn/beta"], *moving, mask=mask)[0]


def context_gating(x, w, training=False, remove_diag=False):
    """(B, D), the equation of Miech et al.; off the diagonal: no feature gates itself."""
    weights = w["gating_weights"] * (1 - np.eye(x.shape[1])) if remove_diag else w["gating_weights"]
    return x * sigmoid(_norm(x @ weights, w, "gating", None, training))


def learnable_pooling(kind, x, w, mask=None, training=False):
    """LOUPE's layers, frame by frame and cluster by cluster: (assignment, before gating, output)."""
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    x = np.where(mask[..., None], x, 0)
    a = softmax(_norm(x @ w["cluster_weights"], w, "cluster", mask, training)) * mask[..., None]
    frames = x[:, :, :, None]  # (B, T, D, K)
    if kind in ("NetVLAD", "NetFV"):
        frames = frames - w["cluster_weights2"][:, None]
    first = (a[:, :, None] * frames).sum(axis=1)
    flat = (len(x), -1)
    if kind == "NetFV":
        spread = w["covar_weights"] ** 2 + 1e-6
        second = (a[:, :, None] * ((frames / spread) ** 2 - 1)).sum(axis=1)
        parts = [l2(first / spread, axis=1).reshape(flat), second.reshape(flat)]
    else:
        parts = [a.sum(axis=1)] if kind == "SoftDBoW" else [l2(first, axis=1).reshape(flat)]
    y = np.concatenate([l2(part) for part in parts], axis=1) @ w["hidden1_weights"]
    gated = any(name.startswith("gating") for name in w)
    return a, y, context_gating(y, w, training) if gated else y


def pool(x, mask, mode):
    """Clip by clip; a clip without real frames gives zeros."""
    pick = {"mean": np.mean, "max": np.max, "sum": np.sum}[mode]
    clips = [clip[real] for clip, real in zip(x, mask, strict=True)]
    return np.stack([pick(clip, axis=0) if len(clip) else np.zeros(x.shape[-1]) for clip in clips])


def average_precision(scores, hits, positives=None, n=None, ties="worst"):
    """Place by place; of equal scores the wrong ones first (`worst`) or the right ones (`best`)."""
    turn = 1 if ties == "worst" else -1
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], turn * bool(hits[i])))
    positives = sum(map(bool, hits)) if positives is None else positives
    right, total = 0, 0.0
    for place, i in enumerate(order[:n], 1):
        if hits[i]:
            right += 1
            total += right / place
    return total / (positives if n is None else min(positives, n)) if positives else 0.0


def top_k(predictions, k):
    """Classes of each video, best first; of equals the lower class."""
    return np.argsort(-predictions, axis=1, kind="stable")[:, :k]


def gap(predictions, labels, k, ties="worst"):
    """One ranking of the k best of all videos."""
    best = top_k(predictions, k)
    pairs = (np.take_along_axis(a, best, 1).ravel().tolist() for a in (predictions, labels))
    return average_precision(*pairs, int(labels.sum()), ties=ties)


def class_average_precisions(predictions, labels, k, n=None, ties="worst"):
    """(C,), NaN where a class has no labels; a video stands in the rankings of its k best classes."""
    listed = np.zeros(predictions.shape, bool)
    np.put_along_axis(listed, top_k(predictions, k), True, 1)
    found = []
    for c in range(predictions.shape[1]):
        pairs = (a[listed[:, c], c].tolist() for a in (predictions, labels))
        count = int(labels[:, c].sum())
        found.append(average_precision(*pairs, count, n, ties) if count else np.nan)
    return np.array(found)


def hit_at_one(predictions, labels):
    return np.mean([y[p.argmax()] for p, y in zip(predictions, labels, strict=True)])


def perr(predictions, labels):
    shares = []
    for p, y in zip(predictions, labels, strict=True):
        n = int(y.sum())
        best = np.argsort(-p, kind="stable")[:n]
        shares.append(sum(y[c] for c in best if p[c] > 0) / n if n else 0.0)
    return np.mean(shares)


def cross_entropy(p, y):
    return -(y * np.log(p + 1e-5) + (1 - y) * np.log(1 - p + 1e-5))


def hinge(p, y, b):
    return np.maximum(0, b - (2 * y - 1) * p)


def softmax_cross_entropy(scores, y):
    """The labels of a row share 1; the logarithm of the softmax by its definition, shifted."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -y / np.maximum(y.sum(axis=1, keepdims=True), 1e-7) * log


def dequantize(q):
    return q * (4 / 255) + (4 / 512 - 2)


def moe(x, w):
    """Starter's MoeModel, class by class, and WILLOW's gate on it; `w` by its original names."""
    mixtures = w["experts/weights"].shape[1]
    gates = w["gates/weights"].shape[1]
    classes = gates - mixtures
    m = mixtures // classes
    p = np.zeros((len(x), classes))
    for c in range(classes):
        g = softmax(x @ w["gates/weights"][:, c * (m + 1) : (c + 1) * (m + 1)])
        e = sigmoid((x @ w["experts/weights"] + w["experts/biases"])[:, c * m : (c + 1) * m])
        p[:, c] = (g[:, :m] * e).sum(axis=1)
    if "gating_prob_weights" in w:
        p = p * sigmoid(_norm(p @ w["gating_prob_weights"], w, "gating_prob", None, False))
    return p


def dbof(x, w, pooling, activation, mask=None, training=False):
    """Starter's DbofModel up to the classifier, in its own order; `w` by its original names."""
    top = {"relu6": 6, "relu": np.inf}
    f = sigmoid if activation == "sigmoid" else lambda v: np.clip(v, 0, top[activation])
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    if "input_bn/gamma" in w:
        x = _norm(x, w, "input", mask, training)
    c = f(_norm(x @ w["cluster_weights"], w, "cluster", mask, training))
    pooled = pool(c, mask, {"average": "mean", "max": "max"}[pooling])
    if "hidden1_weights" not in w:
        return pooled
    return f(_norm(pooled @ w["hidden1_weights"], w, "hidden1", None, training))


def signed_sqrt(z):
    return np.sign(z) * np.sqrt(np.abs(z))


def mfb(x, y, w, k, power=None):
    """Liu et al. 2018, equation 1, one form after the other: (before power and norm, after)."""
    p = (x @ w["u/kernel"] + w["u/bias"]) * (y @ w["v/kernel"] + w["v/bias"])
    z = np.stack([p[:, i : i + k].sum(axis=1) for i in range(0, p.shape[1], k)], axis=1)
    f = {None: z, "relu": np.maximum(z, 0), "signed_sqrt": signed_sqrt(z)}[power]
    return z, l2(f)


def count_sketch(x, h, s, d):
    """Charikar et al. 2002: each value, with its sign, to its place."""
    sketch = np.zeros((len(x), d))
    for i in range(x.shape[1]):
        sketch[:, h[i]] += s[i] * x[:, i]
    return sketch


def outer_sketch(x, y, hashes, d):
    """The count sketch of the outer product itself, which the convolution of two sketches equals."""
    (h, s), (g, t) = hashes
    z = np.zeros((len(x), d))
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            z[:, (h[i] + g[j]) % d] += s[i] * t[j] * x[:, i] * y[:, j]
    return z


def mlb(x, y, w, activation=np.tanh):
    u, v = (activation(a @ w[f"{n}/kernel"] + w[f"{n}/bias"]) for n, a in (("u", x), ("v", y)))
    return (u * v) @ w["p/kernel"] + w["p/bias"]


def cell_attention(xs, weights, axes, masks=None):
    """MAFnet's attentions: scores (B, T, K), then the weighted cells (B, T, K, D). `axes` of the softmax, of
    (T, K); `weights`: [W1, b1, W2, b2], the program's, or [w, b], the paper's."""
    x = np.stack(xs, axis=2)
    real = np.ones(x.shape[:3], bool) if masks is None else np.stack(masks, axis=2)
    if len(weights) == 4:
        z = relu(x @ weights[0] + weights[1]) @ weights[2] + weights[3]
    else:
        z = relu(x @ weights[0] + weights[1])
    e = np.where(real, np.exp(z[..., 0]), 0)
    total = e.sum(axis=tuple(a + 1 for a in axes), keepdims=True)
    scores = e / np.where(total == 0, 1, total)
    return scores, scores[..., None] * np.where(real[..., None], x, 0)


def attention_cluster(x, kernel, scale, shift, mask=None):
    """Long et al. 2018, clip by clip and unit by unit: (B, N D)."""
    rows = []
    for clip, real in zip(x, np.ones(x.shape[:2], bool) if mask is None else mask, strict=True):
        units = []
        for w, alpha, beta in zip(kernel.T, scale, shift, strict=True):
            v = alpha * softmax(clip[real] @ w) @ clip[real] + beta if real.any() else np.zeros(x.shape[2])
            units.append(l2(v) / np.sqrt(len(scale)))
        rows.append(np.concatenate(units))
    return np.stack(rows)


def film(x, condition, kernel, bias):
    """x (N, ..., C), condition (N, D), row by row."""
    gamma, beta = np.split(condition @ kernel + bias, 2, axis=-1)
    return np.stack([(g + 1) * row + b for row, g, b in zip(x, gamma, beta, strict=True)])


def filmed_block(maps, condition, w, training=False, mask=None):
    """MAFnet's block on maps (N, H, W, C): before the FiLM, after it, output; `mask` (N,). Without
    a condition no FiLM. One place of the map after the other."""
    n, height, width, _ = maps.shape
    mask = np.ones(n, bool) if mask is None else mask
    r = relu(maps @ w["conv1/kernel"][0, 0] + w["conv1/bias"])
    padded = np.pad(r, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros_like(r) + w["conv2/bias"]
    for i in range(height):
        for j in range(width):
            y[:, i, j] += np.einsum("nijc,ijcd->nd", padded[:, i : i + 3, j : j + 3], w["conv2/kernel"])
    moving = () if training else (w["bn/moving_mean"], w["bn/moving_variance"])
    places = np.broadcast_to(mask[:, None, None], y.shape[:3])
    before = after = batch_norm(y, w["bn/gamma"], w["bn/beta"], *moving, mask=places)[0]
    if condition is not None:
        after = film(before, condition, w["generator/kernel"], w["generator/bias"])
    return [np.where(mask[:, None, None, None], v, 0) for v in (before, after, r + relu(after))]


def residual_fusion(x, y, w, present=None):
    """Tian et al. 2018, additive, example by example."""
    rows = []
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        sides = [(v, w[k]) for k, v in (("u/kernel", a), ("v/kernel", b))]
        sides = [s for k, s in enumerate(sides) if present is None or present[k][i]]
        update = np.tanh(sum(v @ kernel for v, kernel in sides) + w["u/bias"])
        rows.append(np.mean([v + update for v, _ in sides], axis=0) if sides else np.zeros_like(a))
    return np.stack(rows)


def feature_attention(x, kernel, bias, scale):
    """The weights of each step's features, and what they weigh (RAF, equations 1 to 3)."""
    scores = softmax(scale * np.tanh(x @ kernel + bias))
    return scores, scores * x


def residual_bilstm(x, forward, backward, shortcut, lengths):
    """F(x) + x of each clip alone, cut to its real steps; zeros behind them."""
    y = np.zeros((*x.shape[:2], 2 * forward[1].shape[0]))
    for clip, (row, n) in enumerate(zip(x, lengths, strict=True)):
        if n:
            real = row[None, :n]
            around = real @ shortcut[0] + shortcut[1] if shortcut else real
            y[clip, :n] = (bilstm(real, forward, backward, sigmoid, True) + around)[0]
    return y


def rabl(x, w, attention, lengths):
    """The block of RAF; `w`: path of a weight below it -> value."""
    of = ("kernel", "recurrent_kernel", "bias")
    lstms = [[w[f"bilstm/{d}/lstm/lstm_cell/{k}"] for k in of] for d in ("forward", "backward")]
    shortcut = [w[f"bilstm/shortcut/{k}"] for k in ("kernel", "bias") if f"bilstm/shortcut/{k}" in w]
    c = residual_bilstm(x, *lstms, shortcut, lengths)
    if attention == "none":
        return c
    weighed = feature_attention(c, *[w[f"attention/{k}"] for k in ("kernel", "bias", "scale")])[1]
    return weighed + c if attention == "residual" else weighed


def powerset_votes(x, coef, intercept, sets):
    """Label sets (N, C) by votes of the pairs, of equal ones the lower, and scores of labels (N, C)."""
    labels, scores = [], []
    for row in x:
        votes, shown, sums = (np.zeros(len(sets)) for _ in range(3))
        pair = 0
        for i in range(len(sets)):
            for j in range(i + 1, len(sets)):
                d = coef[pair] @ row + intercept[pair]
                votes[i if d > 0 else j] += 1
                shown[i if d >= 0 else j] += 1
                sums[i] += d
                sums[j] -= d
                pair += 1
        labels.append(sets[np.argmax(votes)])
        scores.append(softmax(shown + sums / (3 * (abs(sums) + 1))) @ sets)
    return np.array(labels), np.array(scores)


def set_weights(y):
    """Weight of each sample: the mean of 1 / n over its concepts ("none" is one), their mean scaled to 1."""
    whole = np.column_stack([y, y.sum(axis=1) == 0])
    each = np.array([np.mean([1 / whole[:, j].sum() for j in np.flatnonzero(row)]) for row in whole])
    return each / each.mean()
