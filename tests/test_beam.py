"""Extraction by Apache Beam: the local path's bytes, whichever way the workers run, and however they end."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from tfvc import beam, extract, recipe
from tfvc.data import datasets, demo, shards

GRAPPLER = True  # see conftest
HERE = importlib.util.find_spec("apache_beam") is not None
NO_BEAM = (
    "--runner=DirectRunner: Apache Beam is not installed; pip install 'tfvc[beam]' (it goes with "
    "constraints.txt; Beam takes no protobuf 7, which constraints-newest.txt has)"
)
TWO = "--direct_num_workers=2 --direct_running_mode=multi_processing"
SMALL = ["backbone.name=mobilenet_v2", "backbone.weights=random", "backbone.size=32,32"]
SMALL += ["backbone.pooling=avg", "backbone.batch_size=4", "data.shard_clips=2", "data.channel_order=rgb"]
ALL = ["data.streams=frames,audio,text", "audio.name=soundnet", "audio.weights=random"]
ALL += ["audio.output=conv7", "text.embedding=learned"]


def refused(text, *arguments):
    """The command ends with one line of error."""
    with pytest.raises(SystemExit) as stop:
        extract.main(list(arguments))
    return stop.value.code, text.readouterr().err.splitlines()


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six clips with sound and words, one without sound, one that is no film, one whose name is no text."""
    root = tmp_path_factory.mktemp("clips")
    rng, rows = np.random.default_rng(0), ["id,path,labels,text"]
    for k in range(7):
        frames = rng.integers(0, 256, (8 * (2 + k % 3), 32, 48, 3), "uint8")
        sound = rng.normal(0, 0.1, 22050 * 2) if k else None
        demo.write_clip(root / f"{k}.mp4", frames, fps=8, sound=sound, rate=22050)
        rows.append(f"c{k},{k}.mp4,{'ab'[k % 2]},storm number {['one', 'two'][k % 2]}")
    (root / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (root / "all.csv").write_text("\n".join([*rows, "bad,noise.mp4,a,flood"]) + "\n")
    return root / "all.csv"


def read(clips, *more):
    r = recipe.get("attention_boosted", overrides=[*SMALL, *more])
    return datasets.load(r.data, str(clips)), r


def test_a_wrong_command_line_is_one_line(capsys):
    code, (line,) = refused(capsys, "--runner=DirectRuner")
    assert code == 2 and "unknown runner 'DirectRuner' (did you mean 'DirectRunner'?); expected" in line
    code, (line,) = refused(capsys, "--pipeline_options=--direct_num_workers=2")
    assert (code, line) == (2, "error: --pipeline_options: only with --runner; expected both, or neither")


def test_without_beam_one_line_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as if it were not installed
    assert refused(capsys, "--runner=DirectRunner") == (1, [f"error: {NO_BEAM}"])


def test_beam_is_absent_only_where_it_cannot_be_had(capsys):
    """Else the rest of this file would be left out without anybody seeing it."""
    protobuf = int(importlib.metadata.version("protobuf").split(".")[0])
    assert (protobuf < 7) == HERE
    if not HERE:
        assert refused(capsys, "--runner=DirectRunner") == (1, [f"error: {NO_BEAM}"])


class TestWithBeam:
    """Where Beam cannot be had, the lines above are all there is to test."""

    __test__ = HERE

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            (
                "--direct_num_worker=2",
                "unknown option of Beam 'direct_num_worker' (did you mean 'direct_nu",
            ),
            ("--direct_num_workers=x", "argument --direct_num_workers: invalid int value: 'x'"),
            ("--direct_running_mode=both", "invalid choice: 'both'"),
            ("--runner=FlinkRunner", "--runner=FlinkRunner is given twice"),
            ("two", "unknown option of Beam 'two'"),
            ("'", "No closing quotation"),
        ],
    )
    def test_a_wrong_option_is_one_line(self, options, line, capsys):
        code, (error,) = refused(capsys, "--runner=DirectRunner", f"--pipeline_options={options}")
        assert code == 2 and line in error

    def test_all_streams_and_what_is_missing_are_the_same_bytes(self, clips, tmp_path, capsys, networks_once):
        dataset, r = read(clips, *ALL)
        local = extract.extract(dataset, r, out=tmp_path / "local")
        words = [line for line in capsys.readouterr().out.splitlines() if line.startswith("text: ")]
        options = beam.options("DirectRunner", TWO.replace("processing", "threading"))
        folder = extract.extract(dataset, r, out=tmp_path / "beam", pipeline=options)
        assert content(folder) == content(local)
        manifest = shards.read_manifest(folder)
        assert len(manifest.records) == 7 and manifest.shard_count == 4 and manifest.vocabulary
        assert "noise.mp4" in (folder / "skipped.csv").read_text()
        assert "its sound is absent" in (folder / "warnings.csv").read_text()
        said = capsys.readouterr()
        assert "DirectRunner: 4 shards to write" in said.out and said.err.count("warning: ") == 1
        assert [line for line in said.out.splitlines() if line.startswith("text: ")] == words

    def test_it_goes_on_where_the_local_path_stopped_and_random_weights_of_the_demo_set_will_do(
        self, clips, tmp_path, capsys
    ):
        dataset, r = read(clips)
        dataset = dataclasses.replace(dataset, kind="demo")
        local = extract.extract(dataset, r, out=tmp_path / "out")
        whole = content(local)
        (local / "shard-00001.tfrecord").unlink()
        extract.extract(dataset, r, out=local, pipeline=beam.options("DirectRunner"))
        assert content(local) == whole and "DirectRunner: 1 shards to write" in capsys.readouterr().out

    def test_a_file_name_that_is_no_text_reaches_the_worker(self, clips, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        for name in (b"a/odd\xff.mp4", b"b/x.mp4"):
            (tmp_path / os.fsdecode(name)).write_bytes((clips.parent / "1.mp4").read_bytes())
        (tmp_path / "b" / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"")
        dataset, r = read(tmp_path, "backbone.name=frames", "backbone.weights=none", "backbone.pooling=none")
        found = [
            content(extract.extract(dataset, r, out=tmp_path.parent / name, pipeline=options))
            for name, options in (("local", None), ("beam", beam.options("DirectRunner")))
        ]
        assert found[0] == found[1] and b"odd" in found[0]["manifest.json"]

    def test_a_worker_with_other_networks_or_files_is_refused(self, clips, tmp_path, monkeypatch, capsys):
        dataset, r = read(clips, "backbone.name=frames", "backbone.weights=none", "backbone.pooling=none")
        with monkeypatch.context() as patch:
            patch.setattr(beam, "_made_by", lambda found: {"encoder": id(found)})
            with pytest.raises(
                ValueError, match=r"DirectRunner: shard 0: a worker has other networks .*encoder"
            ):
                extract.extract(dataset, r, out=tmp_path / "out", pipeline=beam.options("DirectRunner"))
        seen = iter(range(1000))
        monkeypatch.setattr(extract, "fingerprint", lambda path: next(seen))
        with pytest.raises(ValueError, match=r"mp4: here it is not the file .*start the same command again"):
            extract.extract(dataset, r, out=tmp_path / "two", pipeline=beam.options("DirectRunner"))
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.slow
    def test_a_killed_worker_is_told_and_two_processes_go_on_to_the_same_bytes(
        self, clips, tmp_path, monkeypatch
    ):
        dataset, r = read(clips)
        # In a process of its own: TensorFlow is tuned otherwise in this one (`light` of conftest.py).
        line = [sys.executable, "-m", "tfvc.extract", f"--data={clips}", f"--workdir={tmp_path / 'local'}"]
        subprocess.run([*line, *(f"--set={s}" for s in SMALL)], check=True, cwd=ROOT, capture_output=True)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("TFVC_TEST", str(tmp_path))  # which processes are ours
        killed = threading.Thread(target=_kill_one_worker, args=[tmp_path])
        killed.start()
        with pytest.raises(ValueError, match="DirectRunner: Worker subprocess exited .*start the same"):
            extract.extract(dataset, r, out=tmp_path / "out", pipeline=beam.options("DirectRunner", TWO))
        killed.join()
        extract.extract(dataset, r, out=tmp_path / "out", pipeline=beam.options("DirectRunner", TWO))
        assert content(tmp_path / "out") == content(tmp_path / "local")


def _kill_one_worker(mark):
    """Once it is Python: Beam starts it by a shell."""
    while True:
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended, or not ours
                words = (path / "cmdline").read_bytes().split(b"\0")
                ours = f"TFVC_TEST={mark}".encode() in (path / "environ").read_bytes()
                if ours and words[0] == os.fsencode(sys.executable) and words[2].endswith(b"sdk_worker_main"):
                    return os.kill(int(path.name), signal.SIGKILL)
        time.sleep(0.1)
