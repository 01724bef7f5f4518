"""Every public layer: the conformance checks, its oracle, its errors; and each check is seen to fail."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from conformance import CHECKS, Case, check_layer
from keras import ops

import tfvc.layers
from tfvc.layers import (
    MFB,
    MLB,
    AttentionCluster,
    CompactBilinear,
    ContextGating,
    DBoF,
    Dequantize,
    DualMultimodalResidual,
    FeatureAttention,
    FiLM,
    FiLMedResidualBlock,
    FrameAttention,
    MaskedLSTM,
    MaskedPooling,
    MixtureOfExperts,
    ModalityAttention,
    ModalityDropout,
    ModalityTemporalAttention,
    NetFV,
    NetRVLAD,
    NetVLAD,
    PowersetVotes,
    ResidualAttentionBiLSTM,
    ResidualBidirectionalLSTM,
    SampleFrames,
    SlimBatchNormalization,
    SoftDBoW,
    Standardize,
    TemporalAttention,
    hard_sigmoid_keras2,
)

POOLINGS = (NetVLAD, NetRVLAD, NetFV, SoftDBoW)
ATTENTIONS = {
    TemporalAttention: (5, 6),
    ModalityAttention: ((5, 6), (5, 6)),
    ModalityTemporalAttention: ((5, 6), (5, 6), (5, 6)),
}

FILMED = {"precision_atol": 0.15, "large": 10.0}  # outputs of about 5, which a product gave

# One row a layer and set of arguments. A layer without a row fails `test_every_public_layer_has_a_case`.
CASES = {
    "FrameAttention": Case(FrameAttention, (5, 6)),
    **{f"{pool.__name__}": Case(lambda pool=pool: pool(4, 7), (5, 6)) for pool in POOLINGS},
    **{
        f"{pool.__name__} of biases": Case(lambda pool=pool: pool(4, 7, True, False), (5, 6))
        for pool in POOLINGS
    },
    "NetVLAD without gates": Case(lambda: NetVLAD(4, 7, gating=False), (5, 6)),
    "NetVLAD's descriptor": Case(lambda: NetVLAD(4, None, gating=False), (5, 6)),
    "NetFV's descriptor, gated": Case(lambda: NetFV(2, None, gating_remove_diag=True), (5, 6)),
    "ContextGating": Case(ContextGating, (6,)),
    "ContextGating of frames": Case(lambda: ContextGating(remove_diag=True), (5, 6)),
    "ContextGating of biases": Case(lambda: ContextGating(add_batch_norm=False), (6,)),
    "DBoF": Case(lambda: DBoF(7, 4), (5, 6), no_gradient=("input_bn/beta",)),
    "DBoF, average": Case(lambda: DBoF(7, 4, "average", "relu6"), (5, 6), no_gradient=("input_bn/beta",)),
    "DBoF of biases": Case(lambda: DBoF(7, 4, activation="relu6", add_batch_norm=False), (5, 6)),
    "DBoF of biases, average": Case(lambda: DBoF(7, 4, "average", add_batch_norm=False), (5, 6)),
    "DBoF of clusters": Case(lambda: DBoF(7, activation="relu"), (5, 6), no_gradient=("input_bn/beta",)),
    "DBoF of clusters and biases": Case(
        lambda: DBoF(7, None, "average", "relu", add_batch_norm=False), (5, 6)
    ),
    "AttentionCluster": Case(lambda: AttentionCluster(3), (5, 6)),
    "AttentionCluster of one": Case(lambda: AttentionCluster(1), (5, 6)),
    # A softmax does not see the bias of the score.
    **{
        f"{a.__name__}": Case(lambda a=a: a(4), shapes, no_gradient=("logit/bias",))
        for a, shapes in ATTENTIONS.items()
    },
    **{
        f"{a.__name__} of the paper": Case(lambda a=a: a(score="paper"), shapes)
        for a, shapes in ATTENTIONS.items()
    },
    "DualMultimodalResidual": Case(DualMultimodalResidual, ((6,), (6,))),
    "DualMultimodalResidual of sequences": Case(DualMultimodalResidual, ((5, 6), (5, 6))),
    "FiLM": Case(FiLM, ((6,), (3,)), large=30.0),
    "FiLM of maps": Case(FiLM, ((5, 2, 3, 6), (5, 4)), large=30.0),
    "FiLMedResidualBlock": Case(lambda: FiLMedResidualBlock(4), ((5, 2, 3, 6), (5, 4)), **FILMED),
    "FiLMedResidualBlock of vectors": Case(lambda: FiLMedResidualBlock(4), ((5, 6), (5, 4)), **FILMED),
    "FiLMedResidualBlock without FiLM": Case(lambda: FiLMedResidualBlock(4, film=False), (5, 2, 3, 6)),
    "CompactBilinear": Case(lambda: CompactBilinear(8), ((6,), (3,))),
    "CompactBilinear without root": Case(lambda: CompactBilinear(7, power=None), ((6,), (3,))),
    "MFB": Case(lambda: MFB(3, 4, dropout=0.1), ((6,), (3,))),
    "MFB of roots": Case(lambda: MFB(3, 4, power="signed_sqrt"), ((6,), (3,))),
    "MFB, scaled": Case(lambda: MFB(3, 4, power=None, scale=True), ((6,), (3,))),
    "MLB": Case(lambda: MLB(5, 4), ((6,), (3,))),
    "Dequantize": Case(Dequantize, (5, 6), dtype="uint8"),
    "Dequantize of streams": Case(lambda: Dequantize(normalize=True), ((5, 6), (5, 3)), dtype="uint8"),
    "Dequantize of floats": Case(lambda: Dequantize(normalize=True), (5, 6)),
    "Dequantize of vectors": Case(lambda: Dequantize(normalize=True), ((6,), (3,))),
    "MixtureOfExperts": Case(lambda: MixtureOfExperts(4), (6,)),
    "MixtureOfExperts, gated": Case(lambda: MixtureOfExperts(4, 3, prob_gating=True), (6,)),
    "PowersetVotes": Case(lambda: PowersetVotes(4, 3), (6,)),
    "PowersetVotes of one set": Case(lambda: PowersetVotes(1, 2), (6,)),
    "SampleFrames": Case(lambda: SampleFrames(4), (), dtype="uint8"),
    "SampleFrames, a run": Case(lambda: SampleFrames(4, random_frames=False), (), dtype="uint8"),
    "MaskedLSTM": Case(lambda: MaskedLSTM(4), (5, 6)),
    "MaskedLSTM, all frames": Case(lambda: MaskedLSTM(4, return_sequences=True), (5, 6)),
    "FeatureAttention": Case(FeatureAttention, (5, 6)),
    "ResidualBidirectionalLSTM": Case(lambda: ResidualBidirectionalLSTM(3, 0.2), (5, 6)),
    "ResidualBidirectionalLSTM, projected": Case(
        lambda: ResidualBidirectionalLSTM(3, project="always"), (5, 6)
    ),
    "ResidualAttentionBiLSTM": Case(lambda: ResidualAttentionBiLSTM(4), (5, 6)),
    "ResidualAttentionBiLSTM, plain": Case(lambda: ResidualAttentionBiLSTM(3, "plain"), (5, 6)),
    "MaskedPooling": Case(MaskedPooling, (5, 6)),
    "MaskedPooling max": Case(lambda: MaskedPooling("max"), (5, 6)),
    "MaskedPooling sum": Case(lambda: MaskedPooling("sum"), (5, 6)),
    "SlimBatchNormalization": Case(SlimBatchNormalization, (5, 6)),
    "SlimBatchNormalization, biased": Case(lambda: SlimBatchNormalization(unbiased=False), (5, 6)),
    "SlimBatchNormalization without gamma": Case(lambda: SlimBatchNormalization(scale=False), (6,)),
    "SlimBatchNormalization without beta": Case(lambda: SlimBatchNormalization(center=False), (6,)),
    "Standardize": Case(lambda: Standardize(epsilon=1e-2), (5, 6)),
    "ModalityDropout": Case(lambda: ModalityDropout(0.5), (3,)),
    "Standardize of vectors": Case(Standardize, (6,)),
    "Standardize of maps": Case(Standardize, (5, 2, 3, 6)),
}


def public_layers():
    found = set()
    for module in pkgutil.iter_modules(tfvc.layers.__path__, "tfvc.layers."):
        for name, value in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_")
            if own and issubclass(value, keras.layers.Layer):
                found.add(value)
    return found


def test_every_public_layer_has_a_case():
    assert public_layers(), "no layers were found: the walk is broken"
    missing = public_layers() - {type(case.make()) for case in CASES.values()}
    assert not missing, f"add a row to CASES for {sorted(c.__name__ for c in missing)}"


@pytest.mark.parametrize("layer", sorted(public_layers(), key=lambda c: c.__name__))
def test_importing_the_package_registers_the_layer_and_its_docstring_is_whole(layer):
    assert getattr(tfvc.layers, layer.__name__, None) is layer, "tfvc/layers/__init__.py does not import it"
    assert keras.saving.get_registered_name(layer) == f"tfvc>{layer.__name__}"
    for part in ("**Source**", "**Differs**", "Args:", "Input: ", "Raises:", "Example:"):
        assert part in layer.__doc__, f"docstring without {part}"


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", CASES)
def test_layer_conforms(name, check):
    CHECKS[check](CASES[name])


# --- a fault for each check ---------------------------------------------------------------------------------


class Sound(keras.layers.Layer):
    """A scaled mean over time. The faults below each break one thing in it."""

    def __init__(self, power=1.0, **kwargs):
        super().__init__(**kwargs)
        self.power = power
        self.supports_masking = True

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale", initializer="ones")

    def weighing(self, inputs, mask):
        mask = ops.ones_like(inputs[..., :1]) if mask is None else ops.cast(mask[..., None], inputs.dtype)
        return mask / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)

    def call(self, inputs, mask=None):
        return self.power * self.scale * ops.sum(inputs * self.weighing(inputs, mask), axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class ForgetsAnArgument(Sound):
    def get_config(self):
        return keras.layers.Layer.get_config(self)


class DeclaresAnotherShape(Sound):
    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] + 1)


class DiffersInAGraph(Sound):
    def call(self, inputs, mask=None):
        return super().call(inputs, mask) * (1.0 if tf.executing_eagerly() else 1.1)


class KeepsAWeightOutside(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.outside = np.random.default_rng().normal(size=input_shape[-1]).astype("float32")

    def call(self, inputs, mask=None):
        return super().call(inputs, mask) + self.outside


class NeverUsesAWeight(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.add_weight(shape=(2,), name="unused")


class OverflowsInHalf(Sound):
    def call(self, inputs, mask=None):
        return super().call(ops.sqrt(ops.square(inputs) + 1e-3), mask)


class AveragesUnderTheMask(Sound):
    def weighing(self, inputs, mask):
        return super().weighing(inputs, None)


class DividesByAnEmptyRow(Sound):
    def weighing(self, inputs, mask):
        mask = ops.ones_like(inputs[..., :1]) if mask is None else ops.cast(mask[..., None], inputs.dtype)
        return mask / ops.sum(mask, axis=1, keepdims=True)


class TakesNoMaskAndDoesNotSaySo(Sound):
    def call(self, inputs):
        return super().call(inputs)


FAULTS = [
    ("config", ForgetsAnArgument, "power is missing"),
    ("shape", DeclaresAnotherShape, "declared"),
    ("graph", DiffersInAGraph, "Mismatched"),
    ("reload", KeepsAWeightOutside, "Mismatched"),
    ("gradient", NeverUsesAWeight, "gets no gradient"),
    ("precision", OverflowsInHalf, "not finite on large"),
    ("mask", AveragesUnderTheMask, "under the mask"),
    ("mask", DividesByAnEmptyRow, "empty row"),
    ("mask", TakesNoMaskAndDoesNotSaySo, "takes no mask"),
]


def _case(layer):
    keras.saving.register_keras_serializable("tests")(layer)
    return Case(lambda: layer(power=1.5), (5, 6))


def test_the_sound_layer_passes_every_check():
    check_layer(_case(Sound))


@pytest.mark.parametrize("check, layer, message", FAULTS, ids=lambda v: getattr(v, "__name__", None))
def test_the_check_fails_on_a_seeded_fault(check, layer, message):
    with pytest.raises(AssertionError, match=message):
        CHECKS[check](_case(layer))


def test_each_check_has_a_seeded_fault():
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


# --- oracles and errors -------------------------------------------------------------------------------------


def test_hard_sigmoid_is_keras_2s():
    x = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(hard_sigmoid_keras2(x), oracles.hard_sigmoid_keras2(x), atol=1e-6)
    assert keras.saving.get_registered_name(hard_sigmoid_keras2) == "tfvc>hard_sigmoid_keras2"


def test_frame_attention_is_the_equation():
    layer, x = CASES["FrameAttention"].layer(), CASES["FrameAttention"].inputs()
    scores, out = oracles.frame_attention(x, *[w.numpy().astype("float64") for w in layer.weights])
    np.testing.assert_allclose(layer.scores(x), scores, atol=1e-6)
    np.testing.assert_allclose(layer(x), out, atol=1e-6)


def test_frame_attention_refuses_an_unknown_length():
    with pytest.raises(ValueError, match="T known"):
        FrameAttention()(keras.Input((None, 6)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_standardize_is_the_equation_and_padding_stays_zero(dtype):
    layer, x = Standardize(epsilon=1e-2), CASES["Standardize"].inputs().astype(dtype)
    x[1, 3:] = 0
    layer.build(x.shape)
    mean, variance = np.arange(6.0), np.arange(6.0) ** 2
    layer.set_statistics(mean, variance)
    mask = np.arange(5) < np.array([[5], [4], [2]])
    for m in (None, mask):
        expected = oracles.standardize(x.astype("float64"), mean, variance, 1e-2, m)
        np.testing.assert_allclose(layer(x, mask=m), expected, atol=1e-4)
    assert not np.any(layer(x)[1, 3:]) and layer(x).dtype == "float32"


def test_standardize_under_mixed_precision_subtracts_in_float32():
    layer = Standardize(dtype="mixed_bfloat16")
    layer.build((None, 1))
    layer.set_statistics([1000.0], [1.0])
    # bfloat16 holds 1000, 1004, 1008: cast first, 1002 would come out as 0 or 4.
    assert abs(float(layer(np.array([[1002.0]], "float32"))[0, 0]) - 2) < 0.02


def test_standardize_names_what_it_refuses():
    layer = Standardize()
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"mean of shape \(2,\); expected \(3,\)"):
        layer.set_statistics([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="epsilon=0"):
        Standardize(epsilon=0)
