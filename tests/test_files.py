"""A file or folder appears under its name only when it is whole."""

import errno
import math
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from tfvc import cli, files


class Stop(Exception):
    pass


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.aside(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_on_failure_the_name_holds_what_it_held_and_nothing_is_left(tmp_path, before):
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)
    with pytest.raises(Stop), files.aside(path) as temporary:
        temporary.write_text("half")
        raise Stop
    assert [p.read_text() for p in tmp_path.iterdir()] == [before] * bool(before)


def test_a_folder_is_replaced_whole_and_kept_on_failure(tmp_path):
    folder = tmp_path / "model"
    for text in ("one", "two"):
        with files.aside(folder) as temporary:
            temporary.mkdir()
            (temporary / f"{text}.txt").write_text(text)
        assert [p.name for p in folder.iterdir()] == [f"{text}.txt"]
    with pytest.raises(Stop), files.aside(folder) as temporary:
        temporary.mkdir()
        raise Stop
    assert [p.name for p in folder.iterdir()] == ["two.txt"] and list(tmp_path.iterdir()) == [folder]


def test_a_block_that_writes_nothing_is_an_error_and_leaves_what_was_there(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="model"), files.aside(folder):
        pass
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_is_told_with_the_place_that_is_full_and_not_with_what_was_to_be_made(tmp_path):
    for inner in (files.scratch, lambda: files.aside(tmp_path / "b")):
        with pytest.raises(OSError) as error, files.aside(tmp_path / "a"), inner() as place:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert files.final(error.value.filename) == files.final(place)
    assert not list(tmp_path.iterdir())


def test_sweep_removes_what_killed_runs_left_and_nothing_else(tmp_path):
    for name in (".a.txt.123.part", ".m.1.old", "a.txt", "b.part", "m"):
        (tmp_path / name).touch()
    (tmp_path / ".m.7.part").mkdir()
    files.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.part", "m"]


def test_sweep_leaves_what_others_may_be_writing(tmp_path):
    for name in (".export.7.part", ".predictions.csv.7.part", ".model.keras.7.part.keras"):
        (tmp_path / name).touch()
    files.sweep(tmp_path, but=("export", "predictions"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".export.7.part", ".predictions.csv.7.part"]


def test_json_comes_back_and_what_is_no_json_is_named(tmp_path):
    path = tmp_path / "m.json"
    files.write_json(path, {"a": [1, math.inf], "b": "ü"})
    assert files.read_json(path) == {"a": [1, math.inf], "b": "ü"}
    path.write_bytes(b'{"a": ')
    with pytest.raises(ValueError, match=r"m\.json: not a JSON file .*; train again"):
        files.read_json(path, "train again")
    for content in (b"\xff\xfe\x00", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.json: not a JSON file"):
            files.read_json(path)
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file; train again"):
        files.read_json(tmp_path / "none.json", "train again")
    with pytest.raises(FileNotFoundError, match="a folder, not a file; train again"):
        files.read_json(tmp_path, "train again")


def test_the_checksum_is_sha256_and_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
    monkeypatch.setenv("TFVC_CACHE", str(tmp_path))
    assert files.cache_root() == tmp_path
    monkeypatch.delenv("TFVC_CACHE")
    assert files.cache_root().parts[-2:] == (".cache", "tfvc")


def test_a_folder_that_stepped_aside_gets_its_name_back(tmp_path):
    (tmp_path / ".export.77.old").mkdir()
    (tmp_path / ".other.77.old").mkdir()
    (tmp_path / "other").mkdir()
    files.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "other"]


def test_a_sweep_leaves_a_users_own_files_alone(tmp_path):
    own = {
        ".notes.draft.old",
        ".x.partial.txt",
        ".thesis.partners.md",
        ".bashrc.old",
        ".a.1.part.txt",
        "notes",
    }
    for name in (*own, ".model.keras.77.part.keras", ".a.csv.77.part"):
        (tmp_path / name).touch()
    files.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == own


def test_a_sweep_for_one_name_leaves_the_others_alone(tmp_path):
    for name in (".a[1].csv.77.part", ".b.csv.77.part", ".a[1].csv.78.part.keras"):
        (tmp_path / name).touch()
    files.sweep(tmp_path, "a[1].csv")
    assert [p.name for p in tmp_path.iterdir()] == [".b.csv.77.part"]


def test_a_place_that_cannot_be_written_is_named_and_not_its_lock(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error, files.locked(tmp_path / "file" / "a" / "run", "training in"):
        pass
    told = "/file/a/run: Not a directory; give a place that can be written"
    assert cli.one_line(error.value) == f"{tmp_path}{told}"


def test_a_lock_holds_in_other_processes_and_goes_with_its_holder(tmp_path):
    code = "import sys, time; from tfvc import files\n"
    code += "with files.locked(sys.argv[1], 'busy in'):\n print(1, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout.readline()
    with (
        pytest.raises(ValueError, match=r"run: another process is writing it"),
        files.locked(tmp_path / "run", "writing"),
    ):
        pass
    threading.Timer(0.3, holder.kill).start()
    with files.locked(tmp_path / "run", "writing", wait=True):
        assert holder.wait(5) == -signal.SIGKILL
    holder.stdout.close()


def test_a_csv_keeps_quotes_newlines_and_bytes_that_are_no_text(tmp_path):
    files.write_csv(tmp_path / "t.csv", [["a;b", 'say "x"\ny'], ["\udcff.mp4", 1]], delimiter=";")
    assert (tmp_path / "t.csv").read_bytes() == b'"a;b";"say ""x""\ny"\n\xff.mp4;1\n'


def test_a_fingerprint_tells_size_and_both_ends(tmp_path):
    path = tmp_path / "clip"
    path.write_bytes(bytes(20000))
    before = files.fingerprint(path)
    assert before[0] == 20000 and files.fingerprint(path) == before
    for place in (0, 19999):
        path.write_bytes(bytes(place) + b"x" + bytes(19999 - place))
        assert files.fingerprint(path) != before
    with pytest.raises(FileNotFoundError):
        files.fingerprint(tmp_path / "gone")


def test_the_room_on_a_disk_is_known_before_the_folder_is_there(tmp_path):
    assert files.free_bytes(tmp_path / "not" / "there") > 0
