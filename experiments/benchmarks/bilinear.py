"""Seconds of `MFB`, forward and backward, against those of its two projections alone.

(a) ours: `tfvc.layers.MFB` in training, dropout and all; (b) its two projections: two Keras Dense of k x o
units with bias, on the same inputs. Each in one tf.function, which returns a number of each output and of
every gradient, so that nothing is pruned: forward, and the gradients of the weights and of both inputs, from
a gradient of the output that is given. The rounds alternate, medians; the first call, which traces, is in
none. The bar is on that, in float32. Beside it, without a promise: the same without the gradients of the
inputs, as where records feed the layer, a third less of the products and all of the rest; and in bfloat16,
which speeds the products alone, for what follows them stays in float32.
"""

from experiments.benchmarks import Result, alternate, has_bfloat16, medians

OPTIONS = {
    "policies": "float32,mixed_bfloat16",
    "rounds": 30,
    "batch": 128,
    "visual": 1024,  # C
    "audio": 128,  # M
    "k": 5,
    "o": 1000,
    "dropout": 0.1,
    "power": "relu",
}
_BAR = 1 / 1.3  # projections / ours: ours takes at most 1.3 times as long


def run(options):
    """Measures each policy in turn; returns the list of results."""
    results = []
    for policy in options["policies"].split(","):
        native = policy == "float32" or has_bfloat16()
        for what, to_inputs in (("", True), (", weights' gradients alone", False)):
            results.append(_compare(policy, what, to_inputs, native, options))
    return results


def _compare(policy, what, to_inputs, native, options):
    import keras
    import tensorflow as tf

    from tfvc.layers import MFB

    units = options["k"] * options["o"]
    inputs = [tf.random.normal((options["batch"], options[side])) for side in ("visual", "audio")]
    power = None if options["power"] == "None" else options["power"]
    ours = MFB(options["k"], options["o"], options["dropout"], power, dtype=policy)
    ours(inputs)  # builds
    sides = [keras.layers.Dense(units, dtype=policy) for _ in inputs]
    for side, x in zip(sides, inputs, strict=True):
        side(x)
    projections = sum((side.trainable_weights for side in sides), [])
    cases = {
        "ours": _step(lambda x: [ours(x, training=True)], ours.trainable_weights, inputs, to_inputs),
        "projections": _step(
            lambda x: [side(part) for side, part in zip(sides, x, strict=True)],
            projections,
            inputs,
            to_inputs,
        ),
    }
    for case in cases.values():  # warm: traced
        case()
    seconds = alternate(cases, options["rounds"])
    median = medians(seconds)
    shown = ", ".join(f"{key} {1000 * value:.1f}" for key, value in median.items())
    note = f"ms: {shown}; {median['ours'] / median['projections']:.2f} times as long"
    return Result(
        f"MFB, {policy}: two projections / ours{what}",
        median["projections"] / median["ours"],
        _BAR if to_inputs and policy == "float32" else None,
        note if native else f"{note}; the processor has no bfloat16",
        {"batch": options["batch"], "seconds": seconds},
    )


def _step(function, weights, inputs, to_inputs):
    """Forward and backward as a function without arguments, which ends when both have ended."""
    import tensorflow as tf

    given = [tf.random.normal(y.shape) for y in function(inputs)]
    sources = [w.value for w in weights]

    @tf.function(jit_compile=False)
    def step(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(list(inputs))
        wanted = sources + (list(inputs) if to_inputs else [])
        upstream = [tf.cast(g, y.dtype) for g, y in zip(given, outputs, strict=True)]
        gradients = tape.gradient(outputs, wanted, output_gradients=upstream)
        return [tf.reshape(tensor, [-1])[0] for tensor in [*outputs, *gradients]]

    return lambda: [value.numpy() for value in step(*inputs)]
