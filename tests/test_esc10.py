"""ESC-10: the manifest of folds, and a run for each fold held out."""

import csv
import json

import numpy as np
import pytest
from scipy.io import wavfile
from studied import raised, stopped

from experiments import esc10


def test_the_manifest_has_folders_as_classes_and_folds_as_groups(shared, tmp_path):
    folds = esc10.listing(shared("data/esc10"), tmp_path / "esc10.csv")
    with open(tmp_path / "esc10.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert folds == ["fold1", "fold2"] and len(rows) == 123
    assert len({row["labels"] for row in rows}) == 10 and rows[0]["labels"] == "001 - Dog bark"
    assert {row["group"] for row in rows if "/1-" in row["path"]} == {"fold1"}


def test_wrong_folders_are_told_in_a_line(tmp_path, capsys):
    assert "no such folder" in raised(esc10.listing, tmp_path / "none", tmp_path / "a.csv")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1-a.ogg").touch()
    assert "1 sounds of 1 folds" in raised(esc10.listing, tmp_path, tmp_path / "a.csv")
    assert stopped(esc10.main) == 1 and capsys.readouterr().err.startswith("error: --data")


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_vggish")
def test_each_fold_is_held_out_and_the_bar_decides(tmp_path, monkeypatch, capsys):
    """Two pitches: nothing easier. The real sounds take a minute: `python -m experiments.esc10`."""
    time, rng = np.arange(2 * 16000) / 16000, np.random.default_rng(0)
    for name, pitch in (("high", 2000), ("low", 200)):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for fold in (1, 2):
            for take in range(4):
                wave = 0.3 * np.sin(2 * np.pi * pitch * 2 ** rng.uniform(-0.1, 0.1) * time)
                # The name says ogg, the content tells: FFmpeg looks at the content.
                file = tmp_path / "sounds" / name / f"{fold}-{take}-A.ogg"
                with open(file, "wb") as f:
                    wavfile.write(f, 16000, (wave * 32767).astype("int16"))
    small = ["--set=train.epochs=8", "--set=audio.output=pooled", "--set=train.batch_size=4"]
    where = [f"--data={tmp_path}/sounds", f"--workdir={tmp_path}/runs"]
    assert stopped(esc10.main, *where, *small) == 0
    out = capsys.readouterr().out
    assert "fold1 held out: accuracy" in out and "bar 0.3: met" in out
    result = json.loads((tmp_path / "runs/result.json").read_text())
    assert result["clips"] == {"fold1": 8, "fold2": 8} and result["accuracy"] > 0.6
    for fold in ("fold1", "fold2"):
        split = json.loads((tmp_path / "runs" / fold / "split.json").read_text())
        assert all(f"/{fold[-1]}-" in name for name in split["test"]) and split["validation"] == []
    monkeypatch.setattr(esc10, "_BAR", 1.1)
    assert stopped(esc10.main, *where, *small) == 1  # the runs are there; only the bar is another
