"""Fills the disk under each command at many places, and looks at what is left.

    python -m experiments.full_disk                  every command, each with --places sizes of disk or more
    python -m experiments.full_disk extract train    some of them
    python -m experiments.full_disk --by=limit       instead of a small disk, a limit on the size of a file

The disk is a tmpfs, mounted where only this process sees it. Where even that is forbidden (many containers),
`ulimit -f` stands in for it: no file may grow beyond a size. A command that does not find room must end with
status 1 and one line that names a path and the reason, leave earlier results as they were and nothing
half-written, and end as if nothing had been once there is room."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from absl import flags

from experiments import children, disk_cases
from tfvc import cli

_INSIDE = "TFVC_OWN_MOUNTS"  # set in a process that has mounts of its own
_SPACES = ["unshare", "--mount"], ["unshare", "--mount", "--user", "--map-root-user"]
_MOUNT = "mount", "-t", "tmpfs", "-o", "size=1g", "tfvc"
# The system's reason, or what a command foresees; either names a path.
_LINE = r"error: /.*(: (No space left on device|File too large); .+|GB are needed .* GB are free.*)"
_LEFT = r"\..+\.(part|old)(\.keras)?"  # what `files.aside` makes
_PAGE = 4096  # bytes; no tmpfs is smaller


class Tmpfs:
    """A disk whose size can be changed."""

    least = 4 * _PAGE  # from one size to the next

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def mounted(self):
        """The empty disk, large."""
        self.path.mkdir(exist_ok=True)
        subprocess.run([*_MOUNT, self.path], check=True)
        try:
            yield self.path
        finally:
            subprocess.run(["umount", "--lazy", self.path], check=True)

    def leave(self, room):
        """Leaves so many bytes, None = enough; returns the limit on a file of a child, None = none."""
        size = "1g" if room is None else max(self.used() + room, _PAGE)
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)

    def used(self):
        """Bytes in use."""
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


class Limit:
    """A folder where no file grows beyond a size: for where nothing can be mounted."""

    least = 1

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def mounted(self):
        """The empty folder."""
        self.path.mkdir()
        try:
            yield self.path
        finally:
            shutil.rmtree(self.path)

    def leave(self, room):
        """As of `Tmpfs`; the room is each file's."""
        return room

    def used(self):
        """Bytes of the largest file, and none of the earlier ones: it is they that the limit is for."""
        return max((p.stat().st_size for p in self.path.rglob("*") if p.is_file()), default=0)


def space():
    """The beginning of a command line that may mount: [] where this process may, None where none may."""
    if os.environ.get(_INSIDE):
        return []
    for prefix in _SPACES if shutil.which("unshare") and shutil.which("mount") else ():
        with tempfile.TemporaryDirectory() as folder:
            if not subprocess.run([*prefix, *_MOUNT, folder], capture_output=True).returncode:
                return ["env", f"{_INSIDE}=1", *prefix]
    return None


def sweep(case, disk, scratch, places):
    """Runs a command with little room, then with more and more until it finds enough.

    Args:
        case: a `disk_cases.Case`.
        disk: a `Tmpfs` or `Limit`.
        scratch: a folder elsewhere, empty.
        places: equal parts of what the command leaves behind when it is done; the first room is half of one,
            each next a whole one more. On the way it may need more than it leaves.

    Yields:
        `(room, ended, faults)`: bytes, the first `children.Ended`, and what was wrong, as sentences.

    Raises:
        ValueError: the command fails where there is room.
    """
    with disk.mounted() as place:
        case.before(place)
        before = 0 if isinstance(disk, Limit) else disk.used()
        ended = _run(case, disk, None)
        if ended.status:
            raise ValueError(f"{case.name}: fails with any room: {ended.out}{ended.err}")
        shutil.copytree(place, scratch / "whole")
        # A command that replaces what is there needs room for a while only: as its largest file, say.
        largest = max((p.stat().st_size for p in place.rglob("*") if p.is_file()), default=0)
        step = max(disk.least, *(-(-size // places) for size in (disk.used() - before, largest)))
    room, status = step // 2, 1
    while status:
        with disk.mounted() as place:
            case.before(place)
            earlier = shutil.copytree(place, scratch / f"before-{room}")
            first = ended = _run(case, disk, room)
            status, faults = first.status, []
            if status:
                faults = [*_ending(first), *_changed(earlier, place, case.replaces), *_damaged(place)]
                ended = _run(case, disk, None)
                if ended.status:
                    faults.append(f"does not go on where there is room: {ended.err}")
            if not ended.status:
                faults += [*_damaged(place), *case.differences(scratch / "whole", place)]
        yield room, first, faults
        room += step


def _run(case, disk, room):
    limit = disk.leave(room)
    work, environment = case.work(disk.path)
    return children.Child(work, environment, limit).wait()


def _ending(ended):
    """What is wrong with how a command said that there is no room."""
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if ended.status != 1:
        yield f"exit status {ended.status}"
    if len(errors) != 1 or errors[0] != lines[-1] or not re.fullmatch(_LINE, errors[0]):
        yield f"said: {ended.err}"
    for word in ("Traceback", "Exception ignored", "Error in"):
        if word in ended.err:
            yield f"{word}: {ended.err}"


def _changed(before, after, replaces):
    """Names earlier files that are gone or changed, and may not be."""
    for path in sorted(p for p in before.rglob("*") if p.is_file()):
        name = path.relative_to(before)
        if str(name).startswith(tuple(replaces)) or disk_cases.passing(name):
            continue
        if not (after / name).is_file() or (after / name).read_bytes() != path.read_bytes():
            yield f"{name} is gone or changed"


def _damaged(folder):
    """Names what is half-written."""
    for path in sorted(folder.rglob("*")):
        if re.fullmatch(_LEFT, path.name):
            yield f"{path} is left"
        elif path.is_file() and not _whole(path):
            yield f"{path} is half-written ({path.stat().st_size} bytes)"


def _whole(path):
    """Whether a file is whole, as far as its form tells."""
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix in (".npz", ".keras"):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
    except (ValueError, zipfile.BadZipFile):
        return False
    ends = {".csv": b"\n", ".png": b"IEND\xaeB`\x82"}
    return content.endswith(ends.get(path.suffix, b""))


def main(argv=None):
    def run(arguments):
        wanted = space() if arguments.by == "auto" else None
        if wanted:  # once more, with mounts of its own
            again = sys.argv[1:] if argv is None else argv
            return subprocess.run([*wanted, sys.executable, "-m", "experiments.full_disk", *again]).returncode
        children.prepare()
        make = Limit if wanted is None else Tmpfs
        bad = 0
        with tempfile.TemporaryDirectory(prefix="tfvc-full-disk-") as folder:
            cases = disk_cases.cases(Path(folder), arguments.paths)
            disk = make(Path(folder) / "disk")
            for case in cases:
                scratch = Path(folder) / "scratch"
                scratch.mkdir()
                for room, ended, faults in sweep(case, disk, scratch, arguments.places):
                    said = ended.err.splitlines()[-1:] if ended.status else ["done"]
                    print(f"{case.name} {room / 1000:.1f} kB: {''.join(said)}", flush=True)
                    for fault in faults:
                        print(f"  FAULT: {fault}", flush=True)
                    bad += bool(faults)
                shutil.rmtree(scratch)
        print(f"{bad} faults" if bad else "no faults")
        return bool(bad)

    values = flags.FlagValues()
    flags.DEFINE_enum("by", "auto", ["auto", "limit"], "auto: a small disk if one may be mounted", values)
    cli.number("places", 8, "equal parts of what a command leaves behind: steps of room", 1, 1000, values)
    cli.launch("experiments.full_disk", values, __doc__, run, argv, paths=True)


if __name__ == "__main__":
    main()
