"""Damage by chance for every reader of the files of others; the real fuzzer is python -m experiments.fuzz."""

import io
import re
import tarfile
import zlib
from dataclasses import replace

import keras
import made
import numpy as np
import pytest
from conftest import ROOT
from made_records import names, shards

from experiments import fuzz, fuzzing
from experiments.fuzzing.common import Fault, allowed
from starter import checkpoints, repack, segment_eval_inference, serving
from tfvc import checkpoints as checkpoint
from tfvc.data import pipeline, salvage

_ODD = [
    b"\0",
    b"\xff",
    b'"',
    b"\n",
    b"\r",
    b"9" * 5000,
    b"1e999",
    b"[" * 3000,
    b"\xed\xa0\x80",
    b"\\ud800",
    b"&,;",
]


def damaged(example, rng):
    """An example with up to four cuts, copies, changed bytes and odd texts."""
    data = bytearray(example)
    for _ in range(rng.integers(1, 5)):
        begin, end = sorted(rng.integers(0, len(data) + 1, 2))
        way = rng.integers(4)
        if way == 0:
            data[begin : begin + rng.integers(1, 9)] = b""
        elif way == 1:
            data[begin:begin] = data[begin : min(end, begin + 64)]
        elif way == 2:
            data[begin : begin + 1] = bytes([rng.integers(256)])
        else:
            data[begin:begin] = _ODD[rng.integers(len(_ODD))]
    return bytes(data)


@pytest.mark.parametrize("make", fuzzing.CHEAP, ids=lambda make: make.__name__)
def test_damage_gives_errors_of_ours(make, tmp_path):
    read, examples = make()
    rng = np.random.default_rng(zlib.crc32(make.__name__.encode()))
    folder = tmp_path / "work"
    folder.mkdir()
    for example in examples:
        read(folder, example)
        for _ in range(60):
            data = damaged(example, rng)
            (tmp_path / "input").write_bytes(data)  # there to look at, where this fails
            read(folder, data)


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("no file"), "decode", "lines", "foreign"])
def test_what_is_no_error_of_ours_is_a_fault(error, tmp_path):
    own = {
        "decode": UnicodeDecodeError("utf-8", b"", 0, 1, str(tmp_path)),
        "lines": ValueError(f"{tmp_path}: two\nlines"),
        "foreign": np.exceptions.AxisError(f"{tmp_path}"),
    }
    error = own.get(error, error)
    with pytest.raises((Fault, KeyError)), allowed(tmp_path):
        raise error


def test_errors_of_ours_pass(tmp_path):
    listing = f"2 faults in a manifest\n{tmp_path}:1: a\n{tmp_path}:2: b"
    for error in (ValueError(f"{tmp_path}/a: no"), FileNotFoundError(f"{tmp_path}"), ValueError(listing)):
        with allowed(tmp_path):
            raise error


def test_the_command_says_what_it_needs(tmp_path, monkeypatch, capsys):
    class Done:
        returncode, stdout = 1, "ModuleNotFoundError: No module named 'atheris'\n"

    monkeypatch.setattr(fuzz.subprocess, "run", lambda *_, **__: Done)
    with pytest.raises(ValueError, match=r"glove: the fuzzer did not start \(.*atheris.*pip install -e"):
        fuzz.fuzz("glove", 10, 0, tmp_path)
    with pytest.raises(SystemExit) as stop:
        fuzz.main(["--parser=glov"])
    assert stop.value.code == 1 and "did you mean 'glove'" in capsys.readouterr().err


def test_a_fault_is_counted_and_its_input_kept(tmp_path, monkeypatch):
    log = "start_mb: 100\nstat::number_of_executed_units: 17\nstat::peak_rss_mb:    130\n"

    def run(line, **_):
        kept = tmp_path / "glove" / "crash-1"
        assert f"-artifact_prefix={kept.parent}/" in line and "-runs=20" in line and "-seed=1" in line
        kept.write_bytes(b"x")
        return type("Done", (), {"returncode": 77, "stdout": log})

    monkeypatch.setattr(fuzz.subprocess, "run", run)
    found = fuzz.fuzz("glove", 20, 0, tmp_path)
    assert (found["executions"], found["growth"], len(found["faults"])) == (17, 30, 1)


# --- a length made to harm ----------------------------------------------------------------------------------


def hostile(path):
    """A record that claims a terabyte under a checksum that fits; TensorFlow would end the process."""
    length = (10**12).to_bytes(8, "little")
    path.write_bytes(length + int(salvage.masked(salvage.crc32c(length))).to_bytes(4, "little") + b"x" * 50)


def test_a_terabyte_that_a_record_claims_is_never_asked_for(tmp_path, capsys):
    path = tmp_path / "s0.tfrecord"
    pattern = shards(tmp_path, 1)
    whole = path.read_bytes()
    hostile(path)
    path.write_bytes(path.read_bytes() + whole)
    assert not salvage.readable(path)
    assert names(pattern, on_corrupt="skip") == [f"s0-{k}" for k in range(5)]
    assert "s0.tfrecord, byte 0: cut short: a record of 1000000000000 bytes" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a record of 1000000000000 bytes"):
        names(pattern)


def test_the_starter_does_not_ask_for_it_either(tmp_path, capsys):
    hostile(tmp_path / "a.tfrecord")
    with pytest.raises(ValueError, match="a.tfrecord: no whole record in 1 shards"):
        repack.repack(str(tmp_path / "a.tfrecord"), output_dir=str(tmp_path / "out"))
    assert "a record of 1000000000000 bytes" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a.tfrecord: damaged .the length of a record."):
        segment_eval_inference._rated(str(tmp_path / "a.tfrecord"))


def test_nor_is_a_shard_of_ours_with_such_a_length_read(tmp_path):
    folder = made.make_records(tmp_path / "records")
    path = tmp_path / "records" / "shard-00000.tfrecord"
    size = path.stat().st_size
    hostile(path)
    path.write_bytes(path.read_bytes().ljust(size, b"x"))  # check_sizes sees nothing
    source = pipeline.Source(folder, [replace(made.ROW, shape=(3, 6))], ["left", "right"])
    with pytest.raises(ValueError, match="shard-00000.tfrecord: damaged .the length of a record."):
        pipeline.batches(source, 4)


# --- archives -----------------------------------------------------------------------------------------------


def packed(*members, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, target, 2 * (kind == tarfile.REGTYPE)
            archive.addfile(entry, io.BytesIO(b"{}"))
    return out.getvalue()


CLIMBS = [
    [("../out", tarfile.REGTYPE, "")],
    [("/tmp/tfvc-out", tarfile.REGTYPE, "")],
    [("a/../../out", tarfile.REGTYPE, "")],
    [("link", tarfile.SYMTYPE, ".."), ("link/out", tarfile.REGTYPE, "")],
    [("model_flags.json", tarfile.LNKTYPE, "../../secret")],
    [("model_flags.json", tarfile.SYMTYPE, "/etc/passwd")],
    [("model_flags.json", tarfile.FIFOTYPE, "")],
]


@pytest.mark.parametrize("members", CLIMBS, ids=lambda members: members[-1][0] + members[-1][1].decode())
def test_members_that_climb_out_of_a_packed_model_are_refused(members, tmp_path):
    (tmp_path / "secret").write_text("s", encoding="utf-8")
    path = tmp_path / "in" / "model.tgz"
    path.parent.mkdir()
    path.write_bytes(packed((checkpoints.FLAGS_FILE, tarfile.REGTYPE, ""), *members))
    with pytest.raises(ValueError, match="model.tgz: holds "):
        serving.unpack(path, tmp_path / "in" / "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "secret"]
    assert [p.name for p in path.parent.iterdir() if not p.name.startswith(".")] == ["model.tgz"]


def test_members_that_climb_out_of_a_module_of_tensorflow_hub_are_refused(tmp_path):
    """tensorflow_hub unpacks what `backbone.name=hub:https://...` fetches."""
    from tensorflow_hub import resolver

    folder = tmp_path / "module"
    folder.mkdir()
    archive = io.BytesIO(packed(("../out", tarfile.REGTYPE, "")))
    with pytest.raises(ValueError, match="[.][.]/out"):
        resolver.DownloadManager("https://example.org/m").download_and_uncompress(archive, str(folder))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["module"] and not list(folder.iterdir())


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "step-00000001.npz"
    np.savez_compressed(path, **{"model/0": np.zeros(64 << 20, "uint8"), "progress": np.array("{}")})
    with pytest.raises(ValueError, match="step-00000001.npz: damaged .*would unpack to 0.0671 GB"):
        checkpoint.load(path, keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))


# --- nothing that runs code -----------------------------------------------------------------------------


_RUNS = re.compile(
    r"^\s*(?:import|from) (?:pickle|dill|cloudpickle|joblib|shelve|marshal|yaml)\b"
    r"|(?<![\w.])(?:eval|exec|__import__)\(|\.(?:unsafe_load|extractall)\(|os\.system\(|shell=True"
    r"|safe_mode=False|enable_unsafe_deserialization|trust_remote_code",
    re.MULTILINE,
)
_SOURCES = sorted(p for room in ("tfvc", "starter", "experiments") for p in (ROOT / room).rglob("*.py"))


def test_nothing_is_unpickled_or_run():
    found = {str(path): _RUNS.findall(path.read_text(encoding="utf-8")) for path in _SOURCES}
    assert len(found) > 90 and not {name: lines for name, lines in found.items() if lines}


def test_allow_pickle_is_said_and_false():
    """But where a message tells the owner of a trusted pickle how to turn it into arrays."""
    texts = {path: path.read_text(encoding="utf-8") for path in _SOURCES}
    assert [path.stem for path, text in texts.items() if "allow_pickle=True" in text] == ["soundnet_weights"]
    loads = [line for text in texts.values() for line in re.findall(r"\bnp\.load\(.*", text)]
    assert len(loads) > 5 and all("allow_pickle" in line for line in loads)
