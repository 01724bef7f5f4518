"""The sound front end of VGGish: samples at 16 kHz -> log-mel patches of 96 frames x 64 bands.

**Source**: Hershey et al. (ICASSP 2017), section 3.1; AudioSet's `mel_features.py` and `vggish_input.py`.
"""

import functools

import numpy as np
from keras import ops

RATE = 16000  # samples a second
WINDOW, HOP, FFT = 400, 160, 512  # samples: frames of 25 ms, one every 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands and their edges in Hz
OFFSET = 0.01  # of the logarithm
FRAMES = 96  # of a patch
SAMPLES = WINDOW + (FRAMES - 1) * HOP  # of a patch: 15600
CUTS = {"second": RATE, "patch": FRAMES * HOP}  # samples from the start of one patch to the next


def hann():
    """The periodic Hann window, float64 (400,): 0.5 - 0.5 cos(2 pi n / 400).

    **Source**: AudioSet's `mel_features.py`. **Differs**: nothing; NumPy's `hanning` is the symmetric one.

    Example:
        >>> hann().shape, float(hann()[200])
        ((400,), 1.0)
    """
    return 0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * np.arange(WINDOW))


def mel_matrix():
    """Triangular mel bands, float64 (257, 64): FFT bins -> bands.

    mel(f) = 1127 ln(1 + f / 700), HTK's. Edges lie evenly in mel, triangles are straight lines in mel, and
    the bin of 0 Hz belongs to none.

    **Source**: AudioSet's `mel_features.py`. **Differs**: nothing.

    Example:
        >>> mel_matrix().shape
        (257, 64)
    """
    bins = _mel(np.linspace(0.0, RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    matrix = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    return matrix


def _mel(hertz):
    return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)


@functools.cache
def _constants():
    """(frame indices (frames, 400) of one patch's samples, cosines and sines (400, 257) under the window)."""
    places = np.arange(FRAMES)[:, None] * HOP + np.arange(WINDOW)
    angles = 2 * np.pi / FFT * np.outer(np.arange(WINDOW), np.arange(FFT // 2 + 1))
    window = hann()[:, None]
    return places, np.cos(angles) * window, np.sin(angles) * window, mel_matrix()


def log_mel(samples, dtype="float64"):
    """log(mel bands of the magnitude spectrum + 0.01), one patch a row of samples.

    Tensor operations only: the same function serves NumPy arrays and an exported graph. The spectrum is a
    product with 400 cosines and sines, which an accelerator likes better than an FFT of 512.

    **Source**: AudioSet's `mel_features.py`, `log_mel_spectrogram`.

    **Differs**: one patch at a time, see `windows`.

    Args:
        samples: (N, 15600) floats in [-1, 1] at 16 kHz.
        dtype: of the arithmetic. `float32` departs by up to 2e-3 where a band holds next to nothing.

    Output:
        Tensor (N, 96, 64) float32.

    Example:
        >>> tuple(log_mel(np.zeros((2, SAMPLES), "float32")).shape)
        (2, 96, 64)
    """
    places, cosines, sines, bands = _constants()
    frames = ops.take(ops.cast(samples, dtype), places, axis=-1)
    real = ops.matmul(frames, ops.cast(cosines, dtype))
    imaginary = ops.matmul(frames, ops.cast(sines, dtype))
    magnitude = ops.sqrt(ops.square(real) + ops.square(imaginary))
    mel = ops.matmul(magnitude, ops.cast(bands, dtype))
    return ops.cast(ops.log(mel + ops.cast(OFFSET, dtype)), "float32")


def windows(waveform, cut="second", count=None):
    """Cuts a waveform into the samples of its patches.

    `second`: a patch for each second, of its first 15600 samples; the last second is filled up with zeros
    (MAFnet's extractor, and YouTube-8M's one feature a second). `patch`: patches follow one another without a
    gap, every 0.96 s, and what is left at the end is dropped (AudioSet's).

    **Source**: AudioSet's `vggish_input.py`; the one-second cut as MAFnet's published extractor makes it.

    **Differs**: under 15600 samples the original gives no patch, and it fails on an empty waveform. Here
    short sound is filled up with zeros to one patch, and absent sound is one patch of zeros under the mask.

    Args:
        waveform: float (samples,) in [-1, 1] at 16 kHz; None or empty: there is no sound.
        cut: `second` or `patch`.
        count: so many patches, whatever the sound's length: cut off, or filled with zeros and masked.

    Returns:
        float32 (N, 15600), N >= 1, and bool (N,): whether the patch holds any sample of the sound. Silence
        that was recorded is sound.

    Raises:
        ValueError: a waveform that is not one row of finite floats, an unknown cut, a count below 1.

    Example:
        >>> pieces, mask = windows(np.ones(16000 + 8000, "float32"), count=3)
        >>> pieces.shape, mask.tolist()
        ((3, 15600), [True, True, False])
    """
    samples = np.zeros(0, "float32") if waveform is None else np.asarray(waveform)
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise ValueError(
            f"waveform {samples.dtype} {samples.shape}: expected finite floats (samples,) in [-1, 1], 16 kHz"
        )
    if cut not in CUTS or (count is not None and count < 1):
        raise ValueError(f"cut={cut!r}, count={count}: expected one of {', '.join(CUTS)}, and at least 1")
    step = CUTS[cut]
    whole = -(-samples.size // step) if cut == "second" else max(0, (samples.size - SAMPLES) // step + 1)
    if count is None:
        count = max(1, whole)
    padded = np.zeros((count - 1) * step + max(step, SAMPLES), "float32")
    kept = min(padded.size, samples.size)
    padded[:kept] = samples[:kept]
    pieces = np.stack([padded[i * step : i * step + SAMPLES] for i in range(count)])
    return pieces, np.arange(count) * step < samples.size
