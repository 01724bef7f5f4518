"""The functions of an exported run: from features, from records, from raw clips with the networks inside.

Where clips have several labels, or a second stage decides, each gives final labels besides the probabilities.
"""

from tfvc import encoders, second_stage


def served(run, model, networks):
    """The signatures as `tf.function`s, and under "module" the `tf.Module` that holds their variables."""
    import tensorflow as tf

    from tfvc.data import schema

    rows, facts = {row.name: row for row in run.facts.features}, run.facts
    size = encoders.frames_per_row(run.recipe)

    decided = second_stage.layered(run, model)

    def answer(inputs):
        return decided(inputs) | {"classes": tf.constant(facts.classes)}

    def features(**inputs):
        return answer(inputs)

    def serialized(examples):
        inputs, _, ids, _ = schema.parse_batch(
            examples, list(rows.values()), len(facts.classes), facts.multi_label
        )
        return answer(inputs) | {"ids": ids}

    def seen(frames, row):
        """The rows of pictures (N, T * size, height, width, 3)."""
        flat = networks.pictures.tensor(tf.reshape(frames, (-1, *frames.shape[2:])))
        values = tf.reshape(flat, (-1, size, *row.shape[1:]))
        values = tf.reduce_mean(tf.cast(values, "float32"), 1) if size > 1 else values[:, 0]
        lit = tf.reduce_any(frames != 0, axis=(2, 3, 4))
        lit = tf.reduce_any(tf.reshape(lit, (-1, row.shape[0], size)), 2)
        if run.recipe.data.sampling == "even":  # all T are there, or none: one that fades out is no padding
            return padded(values, tf.repeat(tf.reduce_any(lit, 1, keepdims=True), row.shape[0], 1), row)
        return padded(values, to_last(lit), row)

    def heard(samples, row):
        """The rows of sound: of seconds (N, T, samples), or of whole clips (N, samples)."""
        audio = run.recipe.audio
        if audio.name == "vggish":
            flat = networks.sound.tensor(tf.reshape(samples, (-1, samples.shape[2])))
            return padded(flat[audio.output], to_last(tf.reduce_any(samples != 0, 2)), row)
        from tfvc.backbones import soundnet

        sounding = tf.reduce_sum(tf.cast(to_last(samples != 0), tf.int32), 1)
        values = networks.sound.tensor(samples, sounding, audio.output, audio.after_relu)
        # As `encoders.evenly`: of more rows than T, so many, evenly spaced; a short clip is one row long.
        filled = tf.where(sounding > 0, tf.maximum(sounding, soundnet.shortest(audio.output)), 0)
        count = tf.where(sounding > 0, soundnet.length(filled, audio.output), 0)[:, None]
        places = tf.range(row.shape[0])[None]
        chosen = tf.where(count > row.shape[0], places * count // row.shape[0], places)
        values = tf.gather(values, tf.minimum(chosen, tf.shape(values)[1] - 1), batch_dims=1)
        return padded(values, places < count, row)

    def to_last(real):
        """Boolean (N, T): up to the last one that is real."""
        return tf.math.cumsum(tf.cast(real, tf.int32), axis=1, reverse=True) > 0

    def padded(values, real, row):
        """Rows (N, T, ...) in the stored dtype, zeros where they are not real."""
        values = tf.saturate_cast(values, row.dtype)
        values = tf.ensure_shape(tf.reshape(values, (-1, *row.shape)), (None, *row.shape))
        real = tf.reshape(real, tf.concat([tf.shape(real), [1] * (len(row.shape) - 1)], 0))
        return tf.where(real, values, tf.zeros([], row.dtype))

    def raw(**given):
        inputs = {"frames": seen(given["frames"], rows["frames"])} if "frames" in rows else {}
        if "audio" in rows:
            inputs["audio"] = heard(given["samples"], rows["audio"])
        if "text" in rows:
            inputs["text"] = networks.words.tensor(given["text"], rows["text"].shape[0])
        return answer(inputs)

    def function(body, **signature):
        specs = {
            name: tf.TensorSpec((None, *shape), dtype, name) for name, (shape, dtype) in signature.items()
        }
        # Functions of keywords take no `input_signature`.
        return tf.function(body, autograph=False).get_concrete_function(**specs)

    module = holder(model)
    module.held += [v.value for v in decided.variables]
    if networks and networks.pictures and networks.pictures.model is not None:
        network = networks.pictures.model
        module.held += [v.value for v in network.variables]
        module.loaded = [getattr(layer, "loaded", None) for layer in network.layers]
    found = {
        "module": module,
        "serving_default": function(features, **{row.name: (row.shape, row.dtype) for row in rows.values()}),
        "serialized": function(serialized, examples=((), tf.string)),
    }
    if not takes_clips(networks):
        why = (
            f"{networks.sound.weights} is a SavedModel of its own" if networks else "its features were given"
        )
        print(f"no signature of raw clips: {why}")
        return found
    if networks.words:
        module.words = networks.words.held
    if networks.sound:
        module.held += [v.value for v in networks.sound.model.variables]
    given = raw_shapes(run)
    return found | {next(iter(given)): function(raw, **given)}


def takes_clips(networks):
    """Whether the networks (None: unknown) can be part of an export."""
    return bool(networks) and not (networks.sound and networks.sound.model is None)


def raw_shapes(run):
    """Input of the raw signature -> (shape of one clip, dtype)."""
    from tfvc.backbones import log_mel

    given = {}
    for row in run.facts.features:
        if row.name == "frames":
            count = row.shape[0] * encoders.frames_per_row(run.recipe)
            given["frames"] = ((count, *run.recipe.backbone.size, 3), "uint8")
        elif row.name == "text":
            given["text"] = ((), "string")
        elif run.recipe.audio.name == "soundnet":
            given["samples"] = ((None,), "float32")
        else:
            given["samples"] = ((row.shape[0], log_mel.SAMPLES), "float32")
    return given


def holder(model):
    """A `tf.Module` of a model's variables and nothing else.

    The layers' own code stays out, so that no class is asked for on loading.
    """
    import tensorflow as tf

    module = tf.Module()
    module.held = [v.value for v in model.variables]
    return module
