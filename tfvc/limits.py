"""What a field of a recipe may be: choices and ranges, of every recipe and of a model's own arguments."""

from tfvc import names

_CHOICES = {
    "data.kind": (
        *("auto", "demo", "folder", "ucf101", "manifest", "disaster", "ave", "kinetics_sounds", "yt8m"),
    ),
    "data.pool": ("none", "second"),
    "data.demo_form": ("motion", "multimodal", "disaster"),
    "data.channel_order": ("rgb", "bgr"),
    "data.interpolation": ("area", "bilinear", "bicubic", "nearest"),
    "data.sampling": ("fps", "even"),
    "data.split": ("random", "group", "official", "stratified"),
    "backbone.pooling": ("none", "avg", "max"),
    "backbone.precision": ("float32", "bfloat16"),
    "backbone.dtype": ("float32", "float16"),
    "backbone.standardize": ("auto", "yes", "no"),
    "audio.name": ("vggish", "soundnet"),
    "audio.dtype": ("float32", "float16"),
    "text.embedding": ("glove", "learned"),
    "text.dtype": ("float32", "float16"),
    "second_stage.name": ("none", "svm"),
    "second_stage.weights": ("concepts", "label_set", "none"),
    "second_stage.scores": ("decision", "probability"),
    "second_stage.stop": ("text", "printed"),
    "second_stage.thresholds": ("none", "tuned"),
    "train.drop_rule": ("published", "mended"),
    "train.optimizer": ("adam", "adam_tf1", "rmsprop", "rmsprop_keras2", "sgd"),
    "train.report": ("last", "best"),
    "train.monitor": ("accuracy", "gap", "hit_at_one", "micro_f1", "loss"),
    "train.loss": ("auto", "categorical", "binary", "cross_entropy"),
    "train.precision": ("float32", "bfloat16", "float16"),
}
_AT_LEAST = {
    "data.fps": 1e-6,
    "data.frames": 0,
    "data.clips": 0,
    "data.list_number": 1,
    "data.shard_clips": 1,
    "data.cache_mb": 0,
    "data.max_pixels": 1,
    "data.max_seconds": 1e-6,
    "data.test_fraction": 0.0,
    "data.validation_fraction": 0.0,
    "backbone.batch_size": 1,
    "audio.rows": 0,
    "text.rows": 0,
    "text.words": 0,
    "second_stage.C": 1e-6,
    "second_stage.step": 1,
    "second_stage.patience": 1,
    "second_stage.cv": 0,
    "second_stage.trees": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.epochs": 1,
    "train.steps": 0,
    "train.evaluate_steps": 0,
    "train.learning_rate": 0.0,
    "train.decay": 0.0,
    "train.decay_examples": 1,
    "train.clip_norm": 0.0,
    "train.drop_visual": 0.0,
    "train.drop_audio": 0.0,
    "data.num_classes": 1,
    "train.patience": 0,
    "train.min_delta": 0.0,
    "train.best_from": 1,
    "train.checkpoint_steps": 0,
    "train.keep_checkpoints": 1,
    "predict.top_k": 1,
    "predict.window_step": 0,
}
_OUTPUTS = {  # of a network for sound
    "vggish": ("conv4_2", "pooled", "embedding"),
    "soundnet": ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "conv7"),
}
_ROWS = 1_000_000  # of a clip: a week of seconds
_AT_MOST = {"data.frames": _ROWS, "audio.rows": _ROWS, "text.rows": _ROWS, "second_stage.trees": 10_000}
_AT_MOST |= {"data.fps": 1000.0, "train.drop_visual": 1.0, "train.drop_audio": 1.0}
_LARGEST_SIDE = 8192  # pixels of a frame that a network is fed
_BELOW = {"data.test_fraction": 1.0, "data.validation_fraction": 1.0}


def check(model, flat):
    """Raises ValueError for a choice or a range that a recipe breaks.

    Args:
        model: whose own tables (`CHOICES`, `AT_LEAST`, `BELOW`, `PARTS`) count too.
        flat: field -> value, as `recipe.flatten` gives it.

    Example:
        >>> from tfvc import recipe
        >>> check("attention_boosted", recipe.flatten(recipe.get("attention_boosted")) | {"train.epochs": 0})
        Traceback (most recent call last):
        ValueError: train.epochs=0: expected at least 1
    """
    own = {
        table: {f"model_args.{k}": v for k, v in names.literal(model, table).items()}
        for table in ("CHOICES", "AT_LEAST", "BELOW")
    }
    for key, choices in (_CHOICES | own["CHOICES"]).items():
        if flat[key] not in choices:
            raise ValueError(names.suggest(f"value of {key}", flat[key], choices))
    name, output = flat["audio.name"], flat["audio.output"]
    if output not in _OUTPUTS[name]:
        raise ValueError(
            names.suggest(f"value of audio.output with audio.name={name}", output, _OUTPUTS[name])
        )
    for key, least in (_AT_LEAST | own["AT_LEAST"]).items():
        if not flat[key] >= least:
            raise ValueError(f"{key}={flat[key]}: expected at least {least}")
    for key, most in _AT_MOST.items():
        if flat[key] > most:
            raise ValueError(f"{key}={flat[key]:g}: expected at most {most:g}")
    for key, limit in (_BELOW | own["BELOW"]).items():
        if not flat[key] < limit:
            raise ValueError(f"{key}={flat[key]}: expected less than {limit}")
    usual = names.keyword_defaults(model)
    for name, (decides, values) in names.literal(model, "PARTS").items():
        given, there = flat[f"model_args.{name}"], flat[f"model_args.{decides}"]
        if there not in values and given != usual[name]:
            raise ValueError(f"model_args.{name}={given}: {decides} {there} has no such part; leave it out")
    size = flat["backbone.size"]
    if len(size) != 2 or any(not isinstance(n, int) or not 1 <= n <= _LARGEST_SIDE for n in size):
        raise ValueError(
            f"backbone.size={size}: expected height,width, each up to {_LARGEST_SIDE}, as 224,224"
        )
