"""A made-up training and made-up data for the tests of studies."""

import dataclasses

import numpy as np
import pytest

from experiments import results, run, study
from tfvc import files, workdir
from tfvc.data import datasets, splits

TABLE = study.load("mfb_table1")
# GAP of the validation part by fusion and rate: another rate is the best for mfb.
PEAK = {"audio": 0.003, "video": 0.003, "concat": 0.001, "fc_concat": 0.003, "mfb": 0.01}
RATES = TABLE.grid["train.learning_rate"]
RUNS = len(RATES) + 2  # of a row, with three seeds
LINE = {key: kind() if callable(kind) else 0 for key, kind in results._KEYS.items()}
LINE |= {"data": {"digest": "d"}}
ROW, RARE = study.recipe.Feature("frames", (3, 2)), "rare"
TINY = dataclasses.replace(TABLE, baseline=lambda parts, recipe: {"gap": 0.05, "hit_at_one": 0.2})


class Trainer:
    """Stands in for `tfvc.train.train`: writes and returns what it would, in no time."""

    def __init__(self):
        self.calls, self.fail_at = [], None

    def __call__(self, resolved, *, data, workdir, seed):
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        if resolved.model in ("raf", "resbilstm"):
            return self._labels(resolved, data, workdir, seed)
        of_records = resolved.data.kind == "yt8m"
        return (self._records if of_records else self._clips)(resolved, data, workdir, seed)

    def _records(self, resolved, data, folder, seed):
        fusion, rate = resolved.model_args["fusion"], resolved.train.learning_rate
        self.calls.append((fusion, rate, seed))
        gap = 0.6 - abs(np.log10(rate / PEAK[fusion])) / 10 + 0.02 * seed
        self._write(
            folder, resolved, seed, f"epoch;loss;val_gap\n1;2.0;{gap / 2}\n2;1.0;{gap}\n3;0.5;{gap - 0.1}\n"
        )
        assert resolved.data.validation.count("validate") == resolved.data.test.count("validate") == 2 * 3
        assert data.endswith("train/*.tfrecord")
        return {
            "validation": {"gap": gap, "hit_at_one": gap + 0.1, "step": 112, "epoch": 2},
            "test": {"gap": gap - 0.01, "hit_at_one": gap + 0.05, "clips": 9},
            "steps": 150,
            "parameters": 12345,
            "training_seconds": 60.0,
        }

    def _clips(self, resolved, data, folder, seed):
        """Each drop rate costs a tenth of itself; a single modality costs 0.3, another model 0.2."""
        args = resolved.model_args
        self.calls.append((resolved.model, args, resolved.train.drop_visual, data, seed))
        cost = 0.1 * resolved.train.drop_visual + 0.2 * (resolved.model != "mafnet")
        score = 0.8 - cost - 0.3 * (args.get("modality", "both") != "both") + 0.01 * seed
        self._write(folder, resolved, seed, f"epoch;val_accuracy\n1;{score / 2}\n2;{score}\n")
        return {
            "validation": {"accuracy": score, "step": 12, "epoch": 2},
            "test": {"accuracy": score - 0.1, "clips": 5},
            "steps": 12,
            "parameters": 678,
            "training_seconds": 30.0,
        }

    def _labels(self, resolved, data, folder, seed):
        """The second stage gains 0.3 at the rarest label and 0.02 at the others; the network has 0.5."""
        self.calls.append((resolved.model, resolved.model_args, resolved.second_stage.name, seed))
        dataset = datasets.load(resolved.data, data)
        split = splits.split(dataset, resolved.data, seed)
        second = resolved.second_stage.name != "none"
        base = 0.5 + 0.01 * seed
        f1 = [base + second * (0.3 if name == RARE else 0.02) for name in dataset.classes]
        classes = [
            {"class": c, "f1": f, "ap": f, "clips": 3} for c, f in zip(dataset.classes, f1, strict=True)
        ]
        test = {"micro_f1": base + 0.1 * second, "hamming_loss": 0.3 - 0.1 * second, "map": base, "clips": 9}
        facts = workdir.Facts(
            "made-up", data, "", dataset.classes, [ROW], True, text_weights="learned (9 words)"
        )
        self._write(folder, resolved, seed, f"epoch;val_micro_f1\n1;0.1\n2;{base}\n", facts, split.parts())
        metrics = {
            "validation": {"micro_f1": base, "step": 12, "epoch": 2},
            "test": test | {"classes": classes, "loss": 0.1},
            "steps": 12,
            "epochs": 2,
            "stopped_early": False,
            "parameters": 678,
            "training_seconds": 30.0,
        }
        metrics |= {"network": {"micro_f1": base}} if second else {}
        files.write_json(folder / "metrics.json", metrics)
        return metrics

    def _write(self, folder, resolved, seed, log, facts=None, split=None):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "model.keras").touch()
        (folder / "log.csv").write_text(log)
        made = {"weights": "random (seed 0)", "audio_weights": "audioset (x, digest 1)"}
        facts = facts or workdir.Facts("made-up", "", "", ["a", "b"], [ROW], **made)
        workdir.save(folder, resolved, facts, seed, split or {"train": [], "validation": [], "test": []})


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(run.train, "train", trainer)
    return trainer


@pytest.fixture
def data(tmp_path):
    """Six validate shards and two of train; the trainer above does not read them."""
    for part, count in (("train", 2), ("validate", 6)):
        (tmp_path / "data" / part).mkdir(parents=True)
        for k in range(count):
            (tmp_path / "data" / part / f"{part}{k:04}.tfrecord").write_bytes(b"x" * (k + 1))
    return str(tmp_path / "data")


@pytest.fixture
def go(tmp_path, data, trainer):
    """Runs a study, else Table 1 of mfb with a made-up baseline; returns all lines."""

    def go(a_study=TINY, **options):
        given = {"data": data, "workdir": tmp_path / "runs", "path": tmp_path / "results.jsonl"} | options
        run.run(a_study, **given)
        return results.read(tmp_path / "results.jsonl")

    return go


@pytest.fixture
def clips(tmp_path):
    """A manifest of made-up clips: three classes, eight groups each; nothing decodes them."""
    rows = []
    for number, label in enumerate(("dog", "rain", "train")):
        for group in range(8):
            for take in range(2 + number):
                file = tmp_path / "media" / f"{label}{group}_{take}.mp4"
                file.parent.mkdir(exist_ok=True)
                file.touch()
                rows.append(f"{file.stem},{file},{label},g{group}")
    path = tmp_path / "clips.csv"
    path.write_text("\n".join(["id,path,labels,group", *rows]) + "\n")
    return str(path)


def raised(function, *arguments, **options):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        function(*arguments, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


def stopped(main, *argv):
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    return stop.value.code
