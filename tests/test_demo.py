"""tfvc/data/demo.py: what each embedded set claims, proven with plain baselines; and how it is drawn."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from tfvc.data import demo
from tfvc.data.audio import read_audio
from tfvc.data.video import MediaError, read_frames, streams

pytestmark = pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")


def table(folder):
    with open(folder / "manifest.csv", encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def pictures(folder, rows, size):
    return np.stack([read_frames(folder / r["path"], size=size).frames for r in rows]) / 255.0


def spectrum(path):
    """Log energy of 40 bands, mean and deviation over half seconds; zeros where there is no sound."""
    try:
        sound = read_audio(path, rate=16000)
    except MediaError as error:
        assert error.reason == "no sound in it"
        return np.zeros(80)
    frames = sound[: len(sound) // 2000 * 2000].reshape(-1, 2000)
    power = np.abs(np.fft.rfft(frames * np.hanning(2000)))[:, :960].reshape(len(frames), 40, -1).mean(2)
    energy = np.log(power + 1e-2)
    return np.concatenate([energy.mean(0), energy.std(0)])


def words(rows):
    bags = [r["text"].replace(",", " ").split() for r in rows]
    vocabulary = sorted({w for bag in bags for w in bag})
    return np.array([[w in bag for w in vocabulary] for bag in bags], float)


def left_out(features, labels, groups, model, folds=6):
    """Predictions for the clips of each fold of groups by a model of the other folds."""
    got, fold = np.empty_like(labels), np.unique(groups, return_inverse=True)[1] % folds
    for k in range(folds):
        got[fold == k] = model.fit(features[fold != k], labels[fold != k]).predict(features[fold == k])
    return got


def accuracy(features, labels, groups):
    return np.mean(left_out(features, labels, groups, NearestCentroid()) == labels)


def test_motion_only_the_order_of_frames_tells_the_class():
    folder = demo.ensure("motion", clips=56)
    rows = table(folder)
    x = pictures(folder, rows, (14, 28)).mean((2, 4))  # (clips, seconds, places across)
    labels, groups = (np.array([r[k] for r in rows]) for k in ("labels", "group"))
    assert x.shape == (56, 7, 28) and len(set(labels)) == 4
    for second in (0, 3, 6):
        assert accuracy(x[:, second], labels, groups) < 0.45
    assert accuracy(np.sort(x, 1).reshape(56, -1), labels, groups) < 0.45  # the bag of frames
    assert accuracy(np.array([spectrum(folder / r["path"]) for r in rows]), labels, groups) < 0.45
    assert accuracy(words(rows), labels, groups) < 0.45
    turned = np.stack([np.roll(x, -s, 2) for s in range(28)], -1)  # how each frame follows from the last
    match = np.einsum("ntp,ntps->ns", x[:, :-1] - 0.3, turned[:, 1:])
    assert accuracy(match, labels, groups) > 0.95
    assert not read_frames(folder / rows[0]["path"]).warning


def test_multimodal_needs_all_three_streams():
    folder = demo.ensure("multimodal", clips=48)
    rows = table(folder)
    x = pictures(folder, rows, (28, 28)).mean(4)
    down, across = x.mean(3).std(2), x.mean(2).std(2)
    part = {  # no order of frames in them
        "picture": np.stack([down.mean(1), across.mean(1)], 1),
        "sound": np.array(
            [[spectrum(folder / r["path"])[3:40].argmax()] for r in rows]
        ),  # pitch, above the hum
        "text": words(rows),
    }
    part = {k: (v - v.mean(0)) / v.std(0).max() for k, v in part.items()}
    labels, groups = (np.array([r[k] for r in rows]) for k in ("labels", "group"))
    assert len(set(labels)) == 8 and len(set(groups)) == 6

    def score(*streams):
        return accuracy(np.hstack([part[s] for s in streams]), labels, groups)

    assert all(score(s) < 0.4 for s in part)
    assert all(score(a, b) < 0.65 for a, b in itertools.combinations(part, 2))
    assert score(*part) > 0.9


def test_disaster_is_imbalanced_as_table_one_and_its_streams_complement_one_another():
    folder = demo.ensure("disaster", clips=100)
    rows = table(folder)
    sets = [r["labels"].split(";") for r in rows]
    y = np.array([[c in s for c in demo.CONCEPTS] for s in sets], int)
    assert y.any(1).all() and (y.sum(1) > 1).mean() > 0.4
    share = np.array(list(demo.CONCEPTS.values())) / 1540
    assert np.abs(y.mean(0) - share).max() <= 0.01
    silent = [not streams(folder / r["path"]).has_audio for r in rows]
    mute = [r["text"] == "" for r in rows]
    assert 0 < sum(silent) < 30 and 0 < sum(mute) < 30

    x = pictures(folder, rows, (8, 8))
    part = {
        "picture": np.concatenate([x.mean(1), x.std(1)], 1).reshape(len(rows), -1),
        "sound": np.array([spectrum(folder / r["path"]) for r in rows]),
        "text": words(rows),
    }
    part = {k: StandardScaler().fit_transform(v) / np.sqrt(v.shape[1]) for k, v in part.items()}
    groups = np.array([r["group"] for r in rows])

    def micro_f1(*names):
        features = np.hstack([part[n] for n in names])
        return f1_score(y, left_out(features, y, groups, RidgeClassifier(alpha=0.1), 5), average="micro")

    alone = {name: micro_f1(name) for name in part}
    together = micro_f1(*part)
    assert together > max(alone.values()) + 0.05, (alone, together)
    for name in part:  # none is idle
        assert together > micro_f1(*(p for p in part if p != name)), name


def test_the_same_seed_draws_the_same_files_and_a_second_call_draws_nothing(
    after_a_killed_one, tmp_path, capsys
):
    one = demo.ensure("motion", 3, 24, tmp_path / "a")
    two = demo.ensure("motion", 3, 24, tmp_path / "b")
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 25 and one.name == "motion-s3-n24-v1"
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    capsys.readouterr()
    before = {f: (one / f).stat().st_mtime_ns for f in files}
    assert demo.ensure("motion", 3, 24, tmp_path / "a") == one
    assert before == {f: (one / f).stat().st_mtime_ns for f in files} and not capsys.readouterr().out
    other = after_a_killed_one[0]  # of another seed
    assert any((one / f).read_bytes() != (other / f).read_bytes() for f in files[:24])


@pytest.mark.parametrize("form", ["motion", "multimodal", "disaster"])
def test_ids_are_unique_groups_are_six_or_more_and_lines_are_whole(form):
    clips = {"motion": 56, "multimodal": 48, "disaster": 100}[form]
    rows = table(demo.ensure(form, clips=clips))
    assert len({r["id"] for r in rows}) == clips
    assert list(rows[0]) == ["id", "path", "labels", "text", "group"]
    for row in rows:
        name, group = row["path"].split("/")[0], row["group"]
        assert row["path"] == f"{name}/{row['id']}.mp4" and row["id"].startswith(f"v_{name}_{group}_c")
    groups = {label: {r["group"] for r in rows if label in r["labels"].split(";")} for label in _labels(rows)}
    assert min(len(g) for g in groups.values()) >= 6, groups


def _labels(rows):
    return {label for r in rows for label in r["labels"].split(";")}


NEXT = f"motion-s0-n24-v{demo.VERSION}"


@pytest.fixture(scope="module")
def after_a_killed_one(tmp_path_factory):
    """A set of seed 0 where another was being drawn: its folder, and what the killed one had left."""
    root = tmp_path_factory.mktemp("killed")
    code = f"import pathlib; from tfvc.data import demo; demo.ensure(root=pathlib.Path({str(root)!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        limit = time.time() + 30
        while not list(root.glob(".*.part/*/*.mp4")) and time.time() < limit:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    left = sorted(root.iterdir())
    (root / f".{NEXT}.77.part").mkdir()  # of the name of the next one, which clears it
    return demo.ensure("motion", clips=24, root=root), left


def test_a_killed_drawing_leaves_nothing_under_the_final_name(after_a_killed_one):
    folder, left = after_a_killed_one
    assert sorted(path.suffix for path in left) == [".lock", ".part"]
    assert folder.name == NEXT
    kept = [path for path in left if path.suffix == ".part"]  # of another name: left alone
    assert list(folder.parent.glob(".*.part")) == kept


def test_a_failed_drawing_leaves_nothing_at_all(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "write_clip", fail)
    with pytest.raises(OSError, match="No space"):
        demo.ensure("motion", 0, 24, tmp_path)
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_wrong_arguments_are_told(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'motion'"):
        demo.ensure("motoin", root=tmp_path)
    with pytest.raises(ValueError, match="at least 24"):
        demo.ensure("motion", clips=5, root=tmp_path)
