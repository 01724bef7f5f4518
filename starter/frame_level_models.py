"""Models that read frames: pooled or run through, then classified by a video-level model."""

import keras
import numpy as np
from keras import ops

from starter.model_utils import SampleRandomFrames, SampleRandomSequence
from starter.models import BaseModel, find, setting
from tfvc.layers import (
    ContextGating,
    DBoF,
    MaskedLSTM,
    NetFV,
    NetRVLAD,
    NetVLAD,
    SampleFrames,
    SlimBatchNormalization,
    SoftDBoW,
)


class FrameLevelLogisticModel(BaseModel):
    """A logistic classifier on the mean frame: sum over the rows / num_frames, then as LogisticModel.

    **Source**: YouTube-8M starter, frame_level_models.py. As there, the rows behind the last frame are summed
    too; `build_model` gives zeros there.
    **Differs**: 0 frames give a mean of zeros (the original: NaN).
    """

    frame_level = True

    def create_model(self, model_input, vocab_size, num_frames, **flags):
        """As `BaseModel.create_model`."""
        frames = ops.cast(num_frames, "float32")[:, None]
        total = ops.sum(ops.cast(model_input, "float32"), axis=1)
        mean = ops.where(frames > 0, total / ops.maximum(frames, 1.0), 0.0)
        return find("LogisticModel")().create_model(model_input=mean, vocab_size=vocab_size)


class _SamplingModel(BaseModel):
    """What the models share that look at `iterations` sampled frames; see `tfvc.layers.SampleFrames`.

    **Source**: YouTube-8M starter and WILLOW, frame_level_models.py.
    **Differs**: frames are sampled at random in training only.
    """

    frame_level = True

    def frame_index(self, num_frames, iterations=None, sample_random_frames=None, **flags):
        """The sampled frames, (B, iterations)."""
        return SampleFrames(
            setting(iterations, flags, "iterations"),
            setting(sample_random_frames, flags, "sample_random_frames"),
            name="sample_frames",
        )(num_frames)

    def sample(
        self, model_input, num_frames, sampled=False, iterations=None, sample_random_frames=None, **flags
    ):
        """`model_input` cut down to the sampled frames, unless `build_model` did so."""
        if sampled:
            return model_input
        random_frames = setting(sample_random_frames, flags, "sample_random_frames")
        take = SampleRandomFrames if random_frames else SampleRandomSequence
        return take(model_input, num_frames, setting(iterations, flags, "iterations"))


class DbofModel(_SamplingModel):
    """Deep bag of frames, then `video_level_classifier_model`; see `tfvc.layers.DBoF`.

    **Source**: YouTube-8M starter, frame_level_models.py.
    **Differs**: frames are sampled at random in training only.
    """

    def create_model(
        self,
        model_input,
        vocab_size,
        num_frames,
        add_batch_norm=None,
        cluster_size=None,
        hidden_size=None,
        **flags,
    ):
        """As `BaseModel.create_model`; None: the flag of this name."""
        bag = DBoF(
            setting(cluster_size, flags, "dbof_cluster_size"),
            setting(hidden_size, flags, "dbof_hidden_size"),
            pooling=setting(None, flags, "dbof_pooling_method"),
            activation=setting(None, flags, "dbof_activation"),
            add_batch_norm=setting(add_batch_norm, flags, "dbof_add_batch_norm"),
            name="dbof",
        )
        return classify(bag(self.sample(model_input, num_frames, **flags)), vocab_size, flags)


class _LateFusionModel(_SamplingModel):
    """Streams pooled apart, joined, a hidden layer, context gating, `video_level_classifier_model`.

    A subclass names its pooling layer, the scope of its weights, the flags that set it, and how many times
    fewer clusters the streams behind the first get.
    """

    pooling, scope, sizes, batch_norm, fewer = None, "", "", "netvlad_add_batch_norm", 2

    def create_model(
        self,
        model_input,
        vocab_size,
        num_frames,
        add_batch_norm=None,
        cluster_size=None,
        hidden_size=None,
        stream_sizes=None,
        **flags,
    ):
        """As `BaseModel.create_model`; `stream_sizes`: widths of the streams, None: one stream."""
        add_batch_norm = setting(add_batch_norm, flags, self.batch_norm)
        clusters = setting(cluster_size, flags, f"{self.sizes}_cluster_size")
        relu = setting(None, flags, f"{self.sizes}_relu")
        x = self.sample(model_input, num_frames, **flags)
        if add_batch_norm:
            x = SlimBatchNormalization(name="input_bn")(x)
        pooled, start = [], 0
        for i, size in enumerate(stream_sizes or [x.shape[-1]]):
            layer = self.pooling_layer(flags)(
                clusters if i == 0 else max(1, clusters // self.fewer),
                output_dim=None,
                gating=False,
                add_batch_norm=add_batch_norm,
                name=f"{('video', 'audio')[i] if i < 2 else f'stream{i}'}_{self.scope}",
            )
            pooled.append(layer(x[..., start : start + size]))
            start += size
        hidden = keras.layers.Dense(
            setting(hidden_size, flags, f"{self.sizes}_hidden_size"),
            use_bias=not (add_batch_norm and relu),
            kernel_initializer=keras.initializers.RandomNormal(stddev=clusters**-0.5),
            bias_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="hidden1",
        )
        state = hidden(ops.concatenate(pooled, axis=-1))
        if add_batch_norm and relu:
            state = SlimBatchNormalization(name="hidden1_bn")(state)
        if relu:
            state = ops.relu6(state)
        if setting(None, flags, "gating"):
            remove_diag = setting(None, flags, "gating_remove_diag")
            state = ContextGating(add_batch_norm, remove_diag, name="gating")(state)
        return classify(state, vocab_size, flags)

    def pooling_layer(self, flags):
        """The layer class that pools a stream."""
        return self.pooling


class NetVLADModelLF(_LateFusionModel):
    """NetVLAD of each stream, joined, hidden layer, gating, classifier; `lightvlad`: NetRVLAD.

    **Source**: WILLOW, frame_level_models.py (arXiv 1706.06905). The pooling layers are LOUPE's.
    **Differs**: any number of streams, of any width (WILLOW: 1024 and 128); `vlagd`, `netvlad_dimred` are not
    offered; the gates' bias without batch norm can be built.
    """

    pooling, scope, sizes = NetVLAD, "VLAD", "netvlad"

    def pooling_layer(self, flags):
        """NetVLAD, or NetRVLAD by the flag."""
        return NetRVLAD if setting(None, flags, "lightvlad") else self.pooling


class NetRVLADModelLF(_LateFusionModel):
    """NetVLADModelLF with `lightvlad`, under a name of its own.

    **Source**: WILLOW's LightVLAD. **Differs**: as NetVLADModelLF.
    """

    pooling, scope, sizes = NetRVLAD, "VLAD", "netvlad"


class NetFVModelLF(_LateFusionModel):
    """Fisher vectors of each stream, joined, hidden layer, gating, classifier.

    **Source**: WILLOW, frame_level_models.py. **Differs**: as NetVLADModelLF; the centres are not coupled to
    the assignment (WILLOW's `fv_couple_weights=False`, as in LOUPE).
    """

    pooling, scope, sizes = NetFV, "FV", "fv"


class SoftDbofModelLF(_LateFusionModel):
    """Soft bags of words of each stream, joined, hidden layer, gating, classifier.

    **Source**: WILLOW, frame_level_models.py. **Differs**: as NetVLADModelLF; no `softdbof_maxpool`; `gating`
    is heeded (WILLOW's has none).
    """

    pooling, scope, sizes, batch_norm, fewer = SoftDBoW, "DBOF", "dbof", "dbof_add_batch_norm", 8


class LstmModel(BaseModel):
    """A stack of LSTMs, the last one's state at the last frame, then `video_level_classifier_model`.

    **Source**: YouTube-8M starter, frame_level_models.py: BasicLSTMCell, forget bias 1; 0 frames give zeros.
    **Differs**: the forget bias is the initial value of a weight, as Keras has it, not added at run time;
    `lstm_weights` turns the original's weights into Keras'. See `tfvc.layers.MaskedLSTM`.
    """

    frame_level = True

    def create_model(self, model_input, vocab_size, num_frames, **flags):
        """As `BaseModel.create_model`."""
        layers, cells = setting(None, flags, "lstm_layers"), setting(None, flags, "lstm_cells")
        mask = FrameMask(name="frame_mask")(model_input, num_frames)
        state = model_input
        for i in range(layers):
            state = MaskedLSTM(cells, return_sequences=i < layers - 1, name=f"cell_{i}")(state, mask=mask)
        return classify(state, vocab_size, flags)


@keras.saving.register_keras_serializable(package="starter")
class FrameMask(keras.layers.Layer):
    """Which of (B, T) frames are real, from their number (B,)."""

    def call(self, frames, num_frames):
        number = ops.arange(ops.shape(frames)[1], dtype="int32")[None]
        return number < ops.cast(num_frames, "int32")[:, None]

    def compute_output_spec(self, frames, num_frames):
        return keras.KerasTensor(frames.shape[:2], "bool")


def lstm_weights(kernel, bias):
    """TensorFlow 1's BasicLSTMCell -> the weights of `keras.layers.LSTM`.

    The original stacks the input's rows on the state's, orders the gates i, j, f, o and adds 1 to f as it
    runs; Keras has two kernels, the order i, f, c (= j), o, and the 1 in the bias.

    Args:
        kernel: (inputs + cells, 4 cells).
        bias: (4 cells,).

    Returns:
        list of kernel (inputs, 4 cells), recurrent kernel (cells, 4 cells), bias (4 cells,).

    Example:
        >>> lstm_weights(np.zeros((5, 8)), np.arange(8.0))[2].tolist()
        [0.0, 1.0, 5.0, 6.0, 2.0, 3.0, 6.0, 7.0]
    """
    cells = bias.shape[0] // 4
    i, j, f, o = np.split(np.asarray(kernel), 4, axis=1)
    kernel = np.concatenate([i, f, j, o], axis=1)
    i, j, f, o = np.split(np.asarray(bias), 4)
    return [kernel[:-cells], kernel[-cells:], np.concatenate([i, f + 1.0, j, o])]


def classify(state, vocab_size, flags):
    """`{"predictions": ...}` of the classifier that `video_level_classifier_model` names."""
    model = find(setting(None, flags, "video_level_classifier_model"))()
    if model.frame_level:
        raise ValueError(
            f"video_level_classifier_model={type(model).__name__!r} reads frames; "
            "expected one that reads vectors, as MoeModel"
        )
    return model.create_model(model_input=state, vocab_size=vocab_size, **flags)
