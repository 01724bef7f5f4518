"""From videos, or records, to a trained run: extract, split, fit, measure."""

import os
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from tfvc import cli, files, names, reopen, second_stage, start, workdir
from tfvc import facts as of_clips
from tfvc import recipe as recipes
from tfvc import strategy as strategies
from tfvc.plan import absolute, check, default_workdir, describe, heading, settled

_DOC = """Trains a model; extracts the features first where that has not been done.

Start the same command again after an interruption: it goes on where it stopped.
Without --data the embedded demo set is used, drawn on first use."""

_FLAGS = (
    "model",
    "fidelity",
    "data",
    "workdir",
    "set",
    "seed",
    "backbone",
    "strategy",
    "init_from",
    "dry_run",
    "on_corrupt",
)


def train(recipe, *, data="", workdir="", seed=0, strategy="default", init_from="", on_corrupt="stop"):
    """Trains a run, goes on with it, or prints the results of one that is complete.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe`.
        data: clips (folder, UCF-101, manifest) or records; a pattern of YouTube-8M's records where
            `data.kind` is yt8m; "" = the embedded demo set.
        workdir: folder of the run; "" = `runs/<model>-<digest of recipe, data and seed>`.
        seed: of the split, the weights and the order.
        strategy: `default`, `mirrored`, `multiworker` or `cpu:N`. The batch size is the global one.
        init_from: folder of a run whose weights are the start, by layer name.
        on_corrupt: `stop` at a damaged record of YouTube-8M, or `skip` it (the same command again then reads
            once more what it has read).

    Returns:
        dict, what `metrics.json` holds: `validation` (of the epoch whose weights are reported), `test`
        (`accuracy`, `loss`, `clips`; where clips have several labels `gap`, `hit_at_one`, `perr`, `micro_f1`
        for accuracy, and what `tfvc.multilabel.measures` gives), `network` (the same measures of the network
        alone, where a second stage decides), epochs, steps, seconds, counts.

    Raises:
        ValueError: the folder holds another run (the differences are named), or another process trains in
            it; another worker is gone, or was started otherwise; anything the data, the recipe or the records
            do not allow.
        FileNotFoundError: no such data, or no such weights.
        KeyboardInterrupt: a signal came; a checkpoint was saved.

    Example:
        >>> from tfvc import recipe, train
        >>> metrics = train.train(recipe.get("attention_boosted", demo=True))  # doctest: +SKIP
    """
    recipe = settled(recipe)
    folder = Path(workdir or default_workdir(recipe, data, seed, init_from))
    if folder.exists() and not folder.is_dir():  # known before the hours of extraction
        raise ValueError(f"--workdir={folder}: a file; expected a folder, which need not exist yet")
    if not strategies.is_chief(strategy):  # which holds the lock, and alone writes
        return _begin(folder, recipe, data, seed, strategy, init_from, on_corrupt)
    with files.locked(folder, "training in"):
        files.sweep(folder, but=("export", "predictions", "metrics.json"))  # they have locks of their own
        return _begin(folder, recipe, data, seed, strategy, init_from, on_corrupt)


def _begin(folder, recipe, data, seed, strategy, init_from, on_corrupt):
    old = reopen.run_in(folder, recipe, data, seed, init_from)
    reopen.check_data(folder, old, recipe, data)
    print("\n".join(heading(recipe, data)))
    done = old.metrics() if old else {}
    staged = not old or old.recipe.second_stage == recipe.second_stage
    over = "epochs" in done and (done["stopped_early"] or done["epochs"] >= recipe.train.epochs) and staged
    broken = reopen.broken(old) if over else ""
    if broken:
        print(f"{broken}: the run was complete; it is finished anew from its last checkpoint")
    if over and not broken:
        print(f"this run is complete ({done['epochs']} epochs; asked for {recipe.train.epochs})")
        if old.recipe.predict != recipe.predict and strategies.is_chief(strategy):
            kept = replace(old.recipe, predict=recipe.predict)
            workdir.save(folder, kept, old.facts, seed, old.split())
            print(f"stored for predictions: {recipe.predict}")
        return _closing(old)
    if not staged:
        print("second stage: settings other than before; it is fitted anew, to the same network")
    if old and old.recipe.train.epochs != recipe.train.epochs:
        print(f"train.epochs={recipe.train.epochs} is in force (was {old.recipe.train.epochs})")
    for made in ("evaluation", "export"):
        if "epochs" in done and (folder / made).exists():
            print(f"{folder / made} is of the weights so far; make it again after this training")
    return _train(folder, old, recipe, data, seed, strategy, init_from, on_corrupt)


def _train(folder, old, recipe, data, seed, strategy, init_from, on_corrupt):
    from tfvc.workers import Crew

    started = time.perf_counter()
    devices = strategies.scope(strategy)  # before anything else touches a device
    crew = Crew(devices)
    with crew.standing(
        f"start all workers again by the same command, to go on from the newest checkpoint in {folder}"
    ):
        run = (folder, old, recipe, data, seed, strategy, init_from, on_corrupt)
        fitted = _fitted(*run, devices, crew)
        if crew.chief:
            _results(folder, recipe, *fitted, seed, started)
        crew.wait()
    return _closing(workdir.load(folder))


def _fitted(folder, old, recipe, data, seed, strategy, init_from, on_corrupt, devices, crew):
    from tfvc import training
    from tfvc.layers.batch_norm import shared_by

    if strategy != "default":
        count = devices.num_replicas_in_sync
        print(f"strategy {strategy}: {count} replica{'s' if count > 1 else ''}")
        if recipe.train.jit:
            raise ValueError(
                f"train.jit=true: XLA compiles no step that replicas share (--strategy={strategy}); "
                "leave one of them out"
            )
    other = workdir.load(init_from).model() if init_from else None
    told = {"--model": recipe.model, "--fidelity": recipe.fidelity, "--seed": seed, "--init_from": init_from}
    told |= recipes.flatten(recipe) | {"--workdir": os.path.abspath(folder)}
    crew.agree(told, "start all by the same command")  # before hours of extraction
    facts, split, feed_of = crew.in_turn(lambda: _gathered(recipe, data, seed, on_corrupt))
    facts.init_from = absolute(init_from)
    borrowed = bool(other) and facts.standardized and of_clips.has_statistics(other, facts)
    if borrowed:  # its weights were fitted to what they made of the features
        facts.say(f"features are standardised as in {init_from}: the statistics come with its weights")
    elif facts.standardized:
        facts.say("features are standardised on the training clips")
    reopen.check_split(folder, old, facts, split)
    told = {"clips or labels": facts.listing, "classes": facts.classes, "split": split}
    crew.agree(told, "start all by the same command, with the same data")
    feed = feed_of(devices.num_replicas_in_sync, crew.share)
    held_out = feed.test()  # what is wrong with it is told before the training, not after

    training.start(seed, recipe.train.deterministic)
    shared = shared_by(devices.num_replicas_in_sync if recipe.train.sync_batch_norm else 1)
    with training.precision(recipe.train.precision), devices.scope(), shared:
        model = of_clips.build(recipe, facts)
        if recipe.train.sync_batch_norm and not any("moving_mean" in v.path for v in model.variables):
            raise ValueError(
                f"train.sync_batch_norm=True: this {recipe.model} has no batch norm; leave it out"
            )
        if facts.standardized and not borrowed:
            for row, layer in of_clips.standardizers(model, facts.features):
                layer.set_statistics(*feed.statistics(row.name))
        if other:
            print("\n".join([f"weights from {init_from}", *training.transfer(model, other)]))
    if crew.chief:
        if old and old.recipe.second_stage != recipe.second_stage:
            with workdir.results(folder):
                (folder / "metrics.json").unlink(missing_ok=True)  # they are of the other one
        workdir.save(folder, recipe, facts, seed, split)  # not before: what cannot be built holds no folder
    crew.see("--workdir", folder / "recipe.json")
    judge = training.Judge(model, recipe.train, facts.multi_label)
    with feed.readable():
        network, progress = training.fit(
            model,
            recipe.train,
            feed.training,
            feed.steps,
            feed.validation(),
            folder,
            multi_label=facts.multi_label,
            paths=names.literal(recipe.model, "PATHS").get(recipe.train.drop_rule) or None,
            seed=seed,
            judge=judge,
        )
    return facts, split, feed, held_out, judge, network, progress


def _results(folder, recipe, facts, split, feed, held_out, judge, network, progress, seed, started):
    """What comes after the last step: the model that is reported, its second stage, `metrics.json`."""
    from tfvc import training

    with workdir.results(folder):  # of the weights so far; killed between here and the end, a run is not over
        (folder / "metrics.json").unlink(missing_ok=True)
        second_stage.clear(folder)
    with feed.readable():
        training.keep(network, folder, progress, recipe.train.report)
        # From the file, as evaluate will: what is reported is what was saved.
        run = workdir.load(folder)
        saved = run.model()
        network.set_weights(saved.get_weights())
        test = judge.measure(held_out)
        alone = {}
        if facts.kind != "yt8m" and second_stage.decides(run):
            second_stage.fit(run, saved, feed.once("train"), feed.once("validation"), facts.say)
            decided, alone = second_stage.measures(run, saved, held_out)
            test |= decided
            workdir.save(folder, recipe, facts, seed, split)  # with what the second stage said
    reported = progress.best_epoch if recipe.train.report == "best" else progress.epoch
    row = progress.history[reported - 1]
    validation = {name.removeprefix("val_"): row[name] for name in row if name.startswith("val_")}
    metrics = {
        "validation": {**validation, "epoch": reported, "step": reported * feed.steps},
        "test": test,
        **({"network": alone} if alone and recipe.second_stage.name != "none" else {}),
        "epochs": progress.epoch,
        "stopped_early": progress.epoch < recipe.train.epochs,
        "steps": progress.step,
        "batch_size": feed.batch,
        "classes": len(facts.classes),
        "files" if facts.kind == "yt8m" else "clips": {part: len(ids) for part, ids in split.items()},
        "parameters": network.count_params(),
        "training_seconds": round(progress.seconds, 3),
        "seconds": round(time.perf_counter() - started, 3),
    }
    _picture(folder, recipe, progress)
    with workdir.results(folder):
        files.write_json(folder / "metrics.json", metrics)


def _picture(folder, recipe, progress):
    """`learning_curve.png`: the monitored measure of the validation part against the step."""
    from tfvc import plots

    measure, every = f"val_{recipe.train.monitor}", progress.steps_per_epoch
    rows = progress.history
    line = ([row["epoch"] * every for row in rows], [row[measure] for row in rows])
    figure = plots.curves({recipe.model: [line]}, "step", measure)
    with files.aside(folder / "learning_curve.png") as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _gathered(recipe, data, seed, on_corrupt):
    """Facts, split, and a function: number of replicas, the worker's share -> what the run is fed."""
    if recipe.data.kind == "yt8m":
        from tfvc.yt8m import facts as of_records
        from tfvc.yt8m.feed import Feed

        facts, split = of_records.gather(recipe, data)
        return facts, split, lambda *whose: Feed(recipe, facts, split, seed, *whose, on_corrupt=on_corrupt)
    if on_corrupt != "stop":
        raise ValueError(
            f"--on_corrupt={on_corrupt}: only for records by pattern (data.kind=yt8m); damaged clips are "
            "skipped when they are extracted"
        )
    from tfvc.feed import Feed

    facts, split = of_clips.gather(recipe, data, seed)
    return facts, split, lambda *whose: Feed(recipe, facts, split, seed, *whose)


def _three(found):
    return (
        f"micro F1 {found['micro_f1']:.4f}, Hamming loss {found['hamming_loss']:.4f}, MAP {found['map']:.4f}"
    )


def _closing(run):
    """Prints what a finished run reached, and what can be done with it; returns its metrics."""
    folder, metrics = run.path, run.metrics()
    where = shlex.quote(str(folder))
    words = " [--text=WORDS]" if "text" in recipes.read_by(run.recipe) else ""
    test, validation = metrics["test"], metrics["validation"]
    score = next(name for name in ("accuracy", "hamming_loss", "gap") if name in test)
    shown = f"{score} {test[score]:.4f}" + (f", hit@1 {test['hit_at_one']:.4f}" if score == "gap" else "")
    if score == "hamming_loss":
        score, shown = "micro_f1", _three(test)
    chosen = f"the network's {score} on validation" if "network" in metrics else "validation"
    if "network" in metrics:
        alone = metrics["network"]
        shown += f" (the network alone: {_three(alone) if 'map' in alone else f'{alone[score]:.4f}'})"
    print(
        f"test {shown} on {test['clips']} clips "
        f"({chosen} {validation[score]:.4f}, weights of epoch {validation['epoch']})\n"
        f"the run lies in {folder}\n"
        f"  evaluate: python -m tfvc.evaluate --workdir={where}\n"
        f"  predict:  python -m tfvc.predict --workdir={where} PATH...{words}\n"
        f"  export:   python -m tfvc.export --workdir={where}\n"
        f"  watch:    tensorboard --logdir={shlex.quote(str(folder / 'logs'))}"
    )
    return metrics


def main(argv=None):
    def run(arguments):
        recipe = settled(cli.recipe_of(arguments))
        given = (arguments.data, arguments.seed)
        if arguments.dry_run:
            check(recipe, arguments.data, arguments.strategy, arguments.init_from)
            folder = arguments.workdir or default_workdir(recipe, *given, arguments.init_from)
            print("\n".join(describe(recipe, arguments.data, folder)))
            print(f"--strategy = {arguments.strategy}")
            return 0
        start.keep_memory()
        try:
            train(
                recipe,
                data=arguments.data,
                workdir=arguments.workdir,
                seed=arguments.seed,
                strategy=arguments.strategy,
                init_from=arguments.init_from,
                on_corrupt=arguments.on_corrupt,
            )
        except KeyboardInterrupt as error:
            again = shlex.join(sys.argv[1:] if argv is None else argv)
            several = " (on all workers)" if arguments.strategy == "multiworker" else ""
            print(f"stopped; to go on{several}: python -m tfvc.train {again}".rstrip(), file=sys.stderr)
            return 128 + getattr(error, "number", signal.SIGINT)

    cli.command("tfvc.train", _DOC, _FLAGS, run, argv)


if __name__ == "__main__":
    main()
