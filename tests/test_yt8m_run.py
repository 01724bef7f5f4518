"""Runs on records by pattern: what they are fed, how they train, resume, and are measured."""

import gzip
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from made import command

from tfvc import checkpoints, compare, evaluate, export, plan, predict, recipe, train, workdir
from tfvc.data import demo_records, records
from tfvc.yt8m import facts

SMALL = ("model_args.o=20", "train.steps=10", "train.evaluate_steps=5")
FAR = 1 << 40  # a step


@pytest.fixture(scope="module")
def patterns():
    return demo_records.ensure("video")[0]


def small(*overrides, demo=False):
    return recipe.get(
        "mfb", overrides=[*SMALL, "train.batch_size=32", "train.learning_rate=0.005", *overrides], demo=demo
    )


def on(patterns, *overrides):
    parts = [f"data.{part}={patterns[part]}" for part in ("validation", "test")]
    return small("data.num_classes=12", *parts, *overrides)


@pytest.fixture(scope="module")
def run(patterns, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, train.train(on(patterns), data=patterns["train"], workdir=folder)


# ---- what a run is fed ----


@pytest.mark.parametrize("shuffle", (False, True))
@pytest.mark.parametrize("zipped", (False, True))
def test_batches_from_a_step_on_are_those_of_a_reader_that_began_at_the_first(
    patterns, shuffle, zipped, tmp_path
):
    files = [tmp_path / Path(f).name for f in records.files(patterns["train"])]
    for source, target in zip(records.files(patterns["train"]), files, strict=True):
        data = Path(source).read_bytes()
        target.write_bytes(gzip.compress(data) if zipped else data)
    source = records.Records(list(map(str, files)), demo_records.ROWS["video"], 12)

    def ids(**options):
        dataset = records.batches(source, 50, shuffle=shuffle, seed=3, epochs=None, **options)
        return [batch[2].numpy().tolist() for batch in dataset.take(4)]

    assert ids(first_step=6) == [
        batch[2].numpy().tolist()
        for batch in records.batches(source, 50, shuffle=shuffle, seed=3, epochs=None).skip(6).take(4)
    ]
    if not zipped and not shuffle:  # whole passes are not read: 192 of 1 << 40 times 50
        assert len(ids(first_step=FAR)) == 4


def test_a_run_that_goes_on_ends_where_an_unbroken_one_does(run, patterns, tmp_path):
    for steps in (5, 10):
        train.train(on(patterns, f"train.steps={steps}"), data=patterns["train"], workdir=tmp_path)
    files = [checkpoints.newest(folder / "checkpoints") for folder in (run[0], tmp_path)]
    assert [path.name for path in files] == ["step-00000010.npz"] * 2
    with np.load(files[0]) as whole, np.load(files[1]) as broken:
        weights = [name for name in whole.files if name.startswith("model/")]
        assert weights and whole.files == broken.files
        for name in weights:
            np.testing.assert_allclose(whole[name], broken[name], atol=1e-6, err_msg=name)


# ---- training ----


def test_a_run_tells_gap_and_its_steps(run):
    folder, metrics = run
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert {"gap", "hit_at_one", "perr", "loss", "clips"} <= set(metrics["test"])
    assert (metrics["steps"], metrics["epochs"], metrics["test"]["clips"]) == (10, 2, 64)
    assert metrics["validation"]["step"] in (5, 10) and metrics["files"] == {
        "train": 3,
        "validation": 2,
        "test": 2,
    }
    head, *rows = (folder / "log.csv").read_text().splitlines()
    assert "val_gap" in head.split(";") and len(rows) == 2
    facts_ = workdir.load(folder).facts
    assert facts_.kind == "yt8m" and facts_.classes == [str(n) for n in range(12)]
    assert [row.name for row in facts_.features] == ["mean_rgb", "mean_audio"]


def test_the_same_command_again_prints_what_is_there(run, patterns, capsys):
    folder, metrics = run
    assert train.train(on(patterns), data=patterns["train"], workdir=folder) == metrics
    assert "this run is complete" in capsys.readouterr().out


def test_scores_that_are_no_numbers_are_named_and_nothing_is_written(run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    model = workdir.load(folder).model()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    model.save(folder / "model.keras")
    before = (folder / "metrics.json").read_bytes()
    told = rf"^{folder}: scores of (\d+) of \1 clips are NaN or infinite, first of \S+; expected finite ones"
    for measure in (evaluate.evaluate, lambda broken: compare.compare(run[0], broken)):
        with pytest.raises(ValueError, match=told):
            measure(folder)
    assert (folder / "metrics.json").read_bytes() == before and not (folder / "evaluation").exists()


def test_more_steps_need_the_same_distance_between_looks(run, patterns):
    folder, _ = run
    with pytest.raises(ValueError, match="holds another run .train.evaluate_steps: 5 -> 20"):
        more = on(patterns, "train.steps=20", "train.evaluate_steps=100")
        train.train(more, data=patterns["train"], workdir=folder)


def test_a_complete_run_is_mended_or_told_without_its_records(run, patterns, tmp_path, capsys):
    folder, metrics = tmp_path / "run", run[1]
    shutil.copytree(run[0], folder)
    own = on(patterns)
    (folder / "model.keras").unlink()
    (folder / "split.json").write_text("{")
    again = train.train(own, data=patterns["train"], workdir=folder)
    assert again["test"]["gap"] == pytest.approx(metrics["test"]["gap"], abs=1e-3)
    assert "finished anew" in capsys.readouterr().out
    evaluate.evaluate(folder)
    tree = json.loads((folder / "split.json").read_text())
    (folder / "split.json").write_text(json.dumps({"train": tree["train"]}))
    with pytest.raises(ValueError, match="split.json: not the split of a run"):
        evaluate.evaluate(folder)


def test_a_complete_run_is_told_where_its_records_are_gone(run, patterns, tmp_path, capsys):
    records, away = Path(patterns["train"]).parent, tmp_path / "away"
    shutil.move(records, away)
    try:
        assert train.train(on(patterns), data=patterns["train"], workdir=run[0]) == run[1]
    finally:
        shutil.move(away, records)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize("aggregation", ("netvlad", "dbof"))
def test_frame_level_records_go_through_all_commands(aggregation, tmp_path, capsys, reloaded_here):
    def run(main, *arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        assert not end.value.code, capsys.readouterr().err

    patterns, where = demo_records.ensure()[0], f"--workdir={tmp_path / 'run'}"
    tiny = [f"model_args.{a}" for a in (f"aggregation={aggregation}", "clusters=4", "samples=6", "o=20")]
    own = [f"data.{part}={patterns[part]}" for part in ("validation", "test")]
    own += ["data.num_classes=12", "data.frames=12", "train.batch_size=32"]
    own += ["train.steps=4", "train.evaluate_steps=2", "train.learning_rate=0.005"]
    sets = [f"--set={field}" for field in (*tiny, *own)]
    run(train.main, "--model=mfb", f"--data={patterns['train']}", where, *sets)
    run(evaluate.main, where)
    run(predict.main, where, patterns["test"])
    run(export.main, where)
    shown = capsys.readouterr().out
    assert "test gap" in shown and "test: GAP" in shown and "predicted 64 videos" in shown
    assert "serialized: reloaded without tfvc" in shown
    rows = workdir.load(tmp_path / "run").facts.features
    assert [(row.name, row.shape) for row in rows] == [("rgb", (12, 1024)), ("audio", (12, 128))]


def test_a_fusion_of_one_side_reads_that_stream_alone(patterns, tmp_path):
    own = on(patterns, "model_args.fusion=audio", "model_args.o=1000")  # o's default: this fusion has none
    train.train(own, data=patterns["train"], workdir=tmp_path)
    assert [row.name for row in workdir.load(tmp_path).facts.features] == ["mean_audio"]


@pytest.mark.parametrize("parts", (True, False))
def test_records_are_trained_on_over_http_or_one_line_says_why_not(patterns, tmp_path, serve, parts):
    for file in Path(patterns["train"]).parent.glob("*.tfrecord"):
        shutil.copy(file, tmp_path)
    address = serve(parts)
    named = {part: f"{address}/{part}00.tfrecord,{address}/{part}01.tfrecord" for part in patterns}
    try:
        records.files(named["train"])
    except ValueError as error:  # a TensorFlow that tensorflow-io does not fit
        with pytest.raises(ValueError, match=r"reads http:// only with tensorflow-io.* download the files"):
            train.train(on(named), data=named["train"], workdir=tmp_path / "run")
        assert "\n" not in str(error)
        return
    metrics = train.train(on(named), data=named["train"], workdir=tmp_path / "run")
    assert metrics["steps"] == 10 and metrics["files"]["train"] == 2 and metrics["test"]["clips"] == 64


def test_a_damaged_shard_stops_the_run_or_is_passed_over(patterns, tmp_path, capsys):
    shards = tmp_path / "shards"
    shutil.copytree(Path(patterns["train"]).parent, shards)
    broken = shards / "train00.tfrecord"
    data = bytearray(broken.read_bytes())
    data[5000] ^= 1
    broken.write_bytes(data)
    own = on(patterns)
    with pytest.raises(ValueError, match="train00.tfrecord, byte .*--on_corrupt=skip"):
        train.train(own, data=f"{shards}/train*", workdir=tmp_path / "run")
    train.train(own, data=f"{shards}/train*", workdir=tmp_path / "run", on_corrupt="skip")
    assert "skipped: " in capsys.readouterr().out


# ---- what is refused ----


@pytest.mark.parametrize(
    ("overrides", "what"),
    (
        (["train.epochs=3"], "train.epochs=3: not for records by pattern; give train.steps"),
        (["data.cache_mb=3"], "data.cache_mb=3: not for records by pattern"),
        (["train.monitor=accuracy"], "expected gap, hit_at_one, micro_f1 or loss"),
        (["train.steps=7"], "expected a multiple of train.evaluate_steps=5, as 5 or 10"),
        (["train.steps=0"], "expected at least 1"),
        (["train.loss=categorical"], "expected cross_entropy or binary"),
        (["backbone.size=64,64"], "backbone.size=.*not for records by pattern"),
        (["data.kind=folder"], "data.kind=folder: not for mfb; expected yt8m"),
    ),
)
def test_settings_without_a_use_are_refused(overrides, what):
    with pytest.raises(ValueError, match=what):
        plan.settled(small(*overrides))


def test_parts_that_a_fusion_has_not_are_told_before_anything_is_read():
    with pytest.raises(ValueError, match="model_args.o=20: fusion audio has no such part"):
        small("model_args.fusion=audio")
    with pytest.raises(ValueError, match="model_args.clusters=3: aggregation average"):
        small("model_args.clusters=3")


def test_settings_of_records_are_refused_for_clips():
    for override in ("train.steps=7", "data.streams=rgb", "data.kind=yt8m", "train.monitor=gap"):
        with pytest.raises(ValueError, match=override.split("=")[0]):
            plan.settled(recipe.get("attention_boosted", overrides=[override]))
    with pytest.raises(ValueError, match="only for records by pattern"):
        train.train(recipe.get("attention_boosted"), on_corrupt="skip")


def test_parts_and_streams_that_do_not_fit_are_named(patterns, tmp_path):
    def gather(*overrides, data=patterns["train"]):
        return facts.gather(plan.settled(small("data.num_classes=12", *overrides)), data)

    one = records.files(patterns["train"])[0]
    with pytest.raises(ValueError, match="one file, none is left to validate"):
        gather(data=one)
    with pytest.raises(ValueError, match=f"{one}: named by --data and by data.validation"):
        gather(f"data.validation={one}")
    with pytest.raises(ValueError, match="unknown stream 'mean_rbg'.*did you mean 'mean_rgb'"):
        gather("data.streams=mean_rbg,mean_audio")
    with pytest.raises(ValueError, match="expected one stream of audio"):
        gather("data.streams=mean_rgb")
    with pytest.raises(FileNotFoundError, match="no such file"):
        gather(data=f"{tmp_path}/none*")
    (tmp_path / "a.tfrecord").write_bytes(b"no records at all")
    (tmp_path / "b.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match="no whole record of YouTube-8M"):
        gather(data=f"{tmp_path}/*.tfrecord")


def test_a_stream_asked_for_by_name_may_be_missing_and_is_masked(tmp_path):
    from tfvc.data import schema
    from tfvc.recipe import Feature

    row = Feature("mean_rgb", (1024,))
    for name in ("a", "b"):
        values = {"mean_rgb": np.ones(1024, "float32")}
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            writer.write(schema.serialize(name, [1], values, [row]))

    def rows(*overrides):
        own = plan.settled(small("data.num_classes=12", *overrides))
        return [row.name for row in facts.gather(own, f"{tmp_path}/*")[0].features]

    with pytest.raises(ValueError, match="expected one stream of audio .*data.streams=rgb,audio"):
        rows()
    assert rows("data.streams=mean_rgb,mean_audio") == ["mean_rgb", "mean_audio"]


def test_files_without_a_record_are_passed_over_for_the_streams_of_others(patterns, tmp_path):
    for number in range(5):
        (tmp_path / f"a{number}").touch()
    shutil.copy(records.files(patterns["train"])[0], tmp_path / "b")
    own = plan.settled(small("data.num_classes=12", f"data.validation={patterns['validation']}"))
    assert len(facts.gather(own, f"{tmp_path}/*")[0].features) == 2


def test_parts_are_looked_at_before_the_first_step(patterns, tmp_path):
    frames = demo_records.ensure("frame")[0]["test"]
    with pytest.raises(ValueError, match="test00.tfrecord and 1 more: unknown stream 'mean_rgb'"):
        train.train(on(patterns, f"data.test={frames}"), data=patterns["train"], workdir=tmp_path)
    assert not (tmp_path / "model.keras").exists() and not list(tmp_path.glob("checkpoints/step*"))


def test_a_part_without_labels_is_refused(patterns, tmp_path):
    from tfvc.data import schema

    rows = demo_records.ROWS["video"]
    with tf.io.TFRecordWriter(str(tmp_path / "bare")) as writer:
        for number in range(3):
            values = {row.name: np.ones(row.shape, "float32") for row in rows}
            writer.write(schema.serialize(str(number), [], values, rows))
    with pytest.raises(ValueError, match="no label in the records of the validation"):
        own = on(patterns, f"data.validation={tmp_path / 'bare'}")
        train.train(own, data=patterns["train"], workdir=tmp_path / "run")


def test_without_a_validation_pattern_a_tenth_of_the_shards_is_held_out(patterns, capsys):
    parts = facts.gather(plan.settled(small("data.num_classes=12")), patterns["train"])[1]
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [2, 1, 1]
    out = capsys.readouterr().out
    assert "1 of the 3 files" in out and "the validation part serves" in out


# ---- measuring ----


def test_a_run_is_measured_on_its_parts_and_on_other_records(run, patterns, capsys):
    folder, metrics = run
    result = evaluate.evaluate(folder)
    for name in ("gap", "hit_at_one", "perr"):
        assert result[name] == pytest.approx(metrics["test"][name], abs=1e-3)
    assert result["clips"] == 64 and result["part"] == "test"
    assert (folder / "evaluation" / "classes.csv").read_text().startswith("class,average_precision,clips")
    assert json.loads((folder / "metrics.json").read_text())["evaluation"]["map"] == result["map"]
    other = evaluate.evaluate(folder, patterns["validation"])
    assert other["part"] == "all" and other["gap"] == pytest.approx(metrics["validation"]["gap"], abs=1e-3)
    assert evaluate.evaluate(folder, part="train")["clips"] == 192
    assert "mAP" in capsys.readouterr().out
    with pytest.raises(ValueError, match="fixed since the run was trained"):
        evaluate.evaluate(folder, overrides=["data.max_seconds=3"])
    with pytest.raises(ValueError, match="expected train, validation or test"):
        evaluate.evaluate(folder, part="tset")


def test_classes_have_the_names_of_the_vocabulary_no_two_alike(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("Index,Name\n0,Game\n1,Car\n2,Game\n")
    data = recipe.Data(num_classes=3, vocabulary=str(path))
    assert facts.classes_of(data) == ["Game (0)", "Car", "Game (2)"]
    path.write_text("Index,Name\n0,a\n1,a\n2,a (1)\n")  # the numbered name is another's
    assert facts.classes_of(data) == ["a (0)", "a (1)", "a (1) (2)"]


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    process = command("--model=mfb", f"--data={tmp_path}/none*", "--dry_run")
    out, error = process.communicate(timeout=60)
    assert process.returncode == 1 and error.count("\n") == 1 and "no such file" in error
    process = command("--model=mfb", "--dry_run")
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0 and "train.steps = 60" in out and "cache_mb" not in out


def test_the_model_of_a_run_has_the_lengths_as_inputs(tmp_path):
    train.train(small("train.steps=5", demo=True), workdir=tmp_path)
    model = workdir.load(tmp_path).model()
    assert isinstance(model, keras.Model) and {"rgb_length", "audio_length"} <= set(dict(model.input))
