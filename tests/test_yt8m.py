"""Real YouTube-8M records through the programs: train, eval, inference; beside the class-prior baseline."""

import csv
import re

import numpy as np
import pytest
from conftest import called

from starter import eval as evaluation
from starter import eval_util, inference, models, train
from tfvc.data import records

FEATURES = ["--feature_names=mean_rgb,mean_audio", "--feature_sizes=1024,128"]
HIT, GAP = 0.65, 0.40  # of the better model; the bar
STEPS = {"LogisticModel": 60, "MoeModel": 20}  # of 56 a pass


def labels_of(pattern):
    source = records.Records(str(pattern), models.rows("mean_rgb", "1024", False), 3862)
    found = [(labels.numpy(), ids.numpy()) for _, labels, ids in records.batches(source, 512)]
    return np.concatenate([labels for labels, _ in found]), np.concatenate([ids for _, ids in found])


@pytest.mark.slow
def test_logistic_and_moe_learn_real_videos_and_name_them(shared, tmp_path, capfd):
    data, scores = shared("data/yt8m"), {}
    for model, steps in STEPS.items():
        called(
            train,
            *FEATURES,
            f"--model={model}",
            f"--train_data_pattern={data}/train/*.tfrecord",
            f"--train_dir={tmp_path}/{model}",
            "--batch_size=128",
            f"--max_steps={steps}",
        )
        said = capfd.readouterr().out
        assert re.search(r"training step 10 \| Loss: [\d.]+ Examples/sec: [\d.]+ \| Hit@1: ", said)
        called(
            evaluation,
            f"--eval_data_pattern={data}/validate/*.tfrecord",
            f"--train_dir={tmp_path}/{model}",
            "--run_once",
        )
        said = capfd.readouterr().out
        line = re.search(r"epoch/eval number \d+ \| Avg_Hit@1: ([\d.]+) .* GAP: ([\d.]+) \|", said)
        scores[model] = float(line[1]), float(line[2])

    learnt, _ = labels_of(data / "train/*.tfrecord")
    labels, ids = labels_of(data / "validate/*.tfrecord")
    prior = np.tile(learnt.mean(0), (len(labels), 1))
    baseline = eval_util.calculate_hit_at_one(prior, labels), eval_util.calculate_gap(prior, labels)
    print(f"Hit@1, GAP: {scores}; class prior {baseline}")
    assert baseline[0] < 0.25
    assert any(hit >= HIT and gap >= GAP for hit, gap in scores.values()), (scores, baseline)

    answers = tmp_path / "answers.csv"
    called(
        inference,
        f"--input_data_pattern={data}/validate/*.tfrecord",
        f"--train_dir={tmp_path}/LogisticModel",
        f"--output_file={answers}",
    )
    header, *lines = answers.read_text().splitlines()
    assert header == "VideoId,LabelConfidencePairs"
    pairs = {line.split(",")[0]: line.split(",")[1].split() for line in lines}
    assert {key.encode() for key in pairs} == set(ids) and all(len(p) == 40 for p in pairs.values())
    # What the file says first is right as often as the evaluation said.
    right = [row[int(pairs[i.decode()][0])] for row, i in zip(labels, ids, strict=True)]
    assert abs(np.mean(right) - scores["LogisticModel"][0]) < 1e-3

    called(
        inference,
        f"--input_data_pattern={data}/validate/validate0100.tfrecord",
        f"--train_dir={tmp_path}/LogisticModel",
        f"--output_file={answers}",
        f"--vocabulary={data}/vocabulary.csv",
    )
    with open(data / "vocabulary.csv", newline="", encoding="utf-8") as f:
        names = {int(row["Index"]): row["Name"] for row in csv.DictReader(f)}
    with open(answers, newline="", encoding="utf-8") as f:
        for video, text in list(csv.reader(f))[1:]:
            best = text.split(";")[0].rsplit(" ", 1)[0]
            assert best == (names[int(pairs[video][0])] or best)
