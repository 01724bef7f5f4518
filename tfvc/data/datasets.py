"""Where clips come from: the drawn demo set, a folder, a published set as it comes, a manifest, records.

Nothing is decoded here. A clip is a name, a path, and what is known of it.
"""

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from tfvc import files
from tfvc.data import ave, classes, disaster, kinetics_sounds, manifests, shards
from tfvc.recipe import digest

_MEDIA = "avi mp4 mpg mpeg mkv mov webm m4v 3gp wmv flv ogv ts"
MEDIA = frozenset(f".{extension}" for extension in _MEDIA.split())
_SOUND = "wav flac ogg oga mp3 m4a aac opus"
SOUND = frozenset(f".{extension}" for extension in _SOUND.split())  # clips where only sound is asked for
_GROUPED = re.compile(r"(.+_g\d+)_c\d+$")  # v_Punch_g01_c02: clip 02 cut from video (group) 01


@dataclass(frozen=True)
class Clip:
    """One clip.

    Args:
        id: unique in its data set: the path under the root without extension, or the manifest's id.
        path: the media file; "" where only records are left.
        labels: class names; empty where unlabelled.
        text: the text that goes with it.
        group: clips of one group were cut from the same video; "" = unknown.
        part: train, validation or test of an official split; "" = none.
    """

    id: str
    path: str
    labels: tuple = ()
    text: str = ""
    group: str = ""
    part: str = ""


@dataclass(frozen=True)
class Dataset:
    """Clips and their classes. `notes` are lines to print: what was ignored, and what is not known."""

    name: str
    kind: str  # demo | folder | ucf101 | manifest | disaster | ave | kinetics_sounds | records
    root: str
    clips: list = field(repr=False)
    classes: list
    multi_label: bool = False
    notes: list = field(default_factory=list)

    def digest(self, texts=False):
        """Hex digits that name clips, labels, groups, parts and, if asked, texts, whatever their order."""
        return digest(sorted([c.id, list(c.labels), c.group, c.part, *[c.text] * texts] for c in self.clips))


def load(data, source, *, labelled=True, least_classes=2, media=True):
    """The clips that `--data` names.

    Kind `auto` takes: nothing -> the demo set; a `.csv` or `.jsonl` file -> a manifest; a folder of
    extracted records -> its records; AVE's folder -> ave; a folder with official UCF-101 lists in or next to
    it -> ucf101; any other folder -> `<class>/<clip>`. Groups that are not given are read off UCF-101's names
    (`..._g01_c02`). `data.classes` keeps the clips of the classes that a file names. Where only sound is
    asked for (`data.streams` is `audio`), files of sound are clips too; to predict, where sound is asked for.
    Where only text is (`text`), a manifest needs no paths, and no file is looked for. Kind `disaster` is a
    manifest whose labels are the seven concepts of `tfvc.data.disaster`; all seven are its classes.

    Args:
        data: `recipe.Data`.
        source: a path; "" = the demo set.
        labelled: False for clips to predict: labels may be missing, and a folder may be of any depth.
        least_classes: fewer are refused where `labelled`; a finished run can be measured on one.
        media: False where the features are ready: lists are read, and no file that they name is looked for.

    Raises:
        FileNotFoundError: no such path, no official lists where `data.lists` says, or not one video of
            a list.
        ValueError: no clips, one class only, a class in `data.classes` that there is not, or faults in a
            manifest, each named by file and line.

    Example:
        >>> import tempfile
        >>> from tfvc.recipe import Data
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("jump", "run"):
        ...         Path(root, name).mkdir()
        ...         Path(root, name, "clip.mp4").touch()
        ...     [clip.id for clip in load(Data(), root).clips]
        ['jump/clip', 'run/clip']
    """
    streams = data.streams.replace(" ", "").split(",")
    heard = streams == ["audio"] or ("audio" in streams and not labelled)
    kind, suffixes = kind_of(data, source), MEDIA | SOUND if heard else MEDIA
    if kind == "demo":
        if source:
            raise ValueError(f"--data={source}: data.kind=demo takes no --data")
        from tfvc.data import demo  # draws with PyAV, which nothing else here needs

        source = demo.ensure(form=data.demo_form, clips=data.clips) / "manifest.csv"
        found = replace(_manifest(source, labelled), name=f"demo-{data.demo_form}", kind="demo")
    elif kind in ("manifest", "disaster"):
        found = _manifest(source, labelled, media and streams != ["text"], kind)
    elif kind == "records":
        found = _records(source)
    elif not labelled:
        found = _loose(Path(source), suffixes)
    elif kind == "ave":
        found = _annotated(source, kind, *ave.read(source, media and suffixes))
    elif kind == "kinetics_sounds":
        listed = kinetics_sounds.read(source, data.classes, media and suffixes, data.lists)
        found = _annotated(source, kind, *listed)
    else:
        found = _folder(Path(source), suffixes)
        if kind == "ucf101":
            found = _official(found, _lists(data, source), data.list_number)
    if labelled and data.classes and kind != "kinetics_sounds":  # its reader has done so, and says it
        found = only(found, data.classes)
    if labelled and len(found.classes) < least_classes:
        raise ValueError(
            f"{source}: one class only, {found.classes[0]!r}; expected two or more, as folders <class>/<clip>"
        )
    return found


def only(dataset, path):
    """The clips of the classes that a file names, one a line; of several labels those that it names stay.

    Of records, whose labels are written already, a clip with a label that is not named goes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a name that is no class of the data, by its line, or no clip left.
    """
    wanted = classes.chosen(path, dataset.classes)
    fits = wanted.issuperset if dataset.kind == "records" else lambda labels: not wanted.isdisjoint(labels)
    kept = [
        replace(clip, labels=tuple(name for name in clip.labels if name in wanted))
        for clip in dataset.clips
        if clip.labels and fits(clip.labels)
    ]
    if not kept:
        raise ValueError(f"{path}: names {len(wanted)} classes, of which {dataset.root} has no clip")
    note = (
        f"{path}: {len(wanted)} of {len(dataset.classes)} classes, {len(kept)} of {len(dataset.clips)} clips"
    )
    several = dataset.multi_label and any(len(clip.labels) > 1 for clip in kept)
    left = [name for name in dataset.classes if name in wanted]
    return replace(dataset, clips=kept, classes=left, multi_label=several, notes=[*dataset.notes, note])


def kind_of(data, source):
    """The kind of `--data`, as `load` takes it; raises what it raises where nothing fits."""
    path = Path(source)
    if data.kind == "demo" or (data.kind == "auto" and not source):
        return "demo"
    if not source:
        raise ValueError(f"data.kind={data.kind} needs --data")
    if not path.exists():
        raise FileNotFoundError(
            f"{source}: no such file or folder; --data expects a folder of clips, a manifest or records"
        )
    if path.is_file():
        wanted = {kind: ("a folder", ()) for kind in ("folder", "ucf101", "ave")}
        wanted["kinetics_sounds"] = ("a folder, or a .csv file of Kinetics", (".csv",))
        lists = ("a folder, or a .csv or .jsonl manifest", (".csv", ".jsonl"))
        expected, suffixes = wanted.get(data.kind, lists)
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"{source}: a file; expected {expected}")
        return data.kind if data.kind in (*wanted, "disaster") else "manifest"
    if data.kind in ("manifest", "disaster"):
        raise ValueError(f"{source}: a folder; data.kind={data.kind} expects a .csv or .jsonl file")
    if data.kind == "auto" and shards.is_records(path):
        return "records"
    if data.kind == "auto" and ave.is_ave(path):
        return "ave"
    if data.kind == "auto":
        return "ucf101" if _lists(data, source) else "folder"
    return data.kind


def _dataset(path, kind, clips, notes=()):
    """Counts the classes; refuses what holds none."""
    classes = sorted({label for clip in clips for label in clip.labels})
    if strange := [label for label in classes if files.printable(label) != label]:
        raise ValueError(
            f"{files.shown(path)}: class {strange[0]!r} holds a line break or another control character; "
            "rename it"
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem if path.is_file() else path.resolve().name) or "data"
    several = any(len(clip.labels) > 1 for clip in clips)
    return Dataset(name, kind, str(path), clips, classes, several, list(notes))


def _annotated(source, kind, rows, notes):
    return _dataset(Path(source), kind, [Clip(**row) for row in rows], notes)


def _manifest(source, labelled, media=True, kind="manifest"):
    rows = manifests.read(source, labelled, media, concepts=kind == "disaster")
    shown, notes = defaultdict(list), []
    for row in rows:
        shown[row["path"]].append(row["id"])
    shared = {path: min(ids) for path, ids in shown.items() if path and len(ids) > 1}
    if shared:
        count = sum(len(shown[path]) for path in shared)
        first = next(iter(shared))
        notes.append(
            f"{source}: {count} clips share their video with another ({first} the first); those of one video "
            "are one group, where the manifest names none"
        )
    clips = []
    for row in rows:
        one = f"video of {shared[row['path']]}" if row["path"] in shared else ""
        clips.append(Clip(**row | {"group": row["group"] or _group(Path(row["path"])) or one}))
    found = _dataset(Path(source), kind, clips, notes)
    if kind == "disaster" and labelled:
        return replace(found, classes=list(disaster.CONCEPTS), multi_label=True)
    return replace(found, classes=manifests.in_order(found.classes))


def _records(source):
    manifest = shards.read_manifest(source)
    clips = [
        Clip(r["id"], "", tuple(manifest.classes[i] for i in r["labels"]), group=r["group"], part=r["part"])
        for r in manifest.records
    ]
    if not clips:
        raise ValueError(f"{source}: records of no clip; see skipped.csv there")
    return Dataset(
        manifest.dataset, "records", str(source), clips, list(manifest.classes), manifest.multi_label, []
    )


def _folder(root, suffixes):
    """`<class>/<clip>`: classes are the folders, and nothing deeper is read."""
    found, ignored = [], []
    for folder in _entries(root):
        if not folder.is_dir():
            ignored.append(folder)
            continue
        for file in _entries(folder):
            (found if _is_media(file, suffixes) else ignored).append(file)
    if not found:
        deeper = _deeper(root, ignored, suffixes)
        raise ValueError(f"{root}: no clips; {deeper}expected <class>/<clip> with {_listed(suffixes)}")
    deep = next((d for d in ignored if d.is_dir() and any(_is_media(p, suffixes) for p in _entries(d))), None)
    if deep:
        raise ValueError(
            f"{deep}: clips below the class folders of {root}; expected <class>/<clip>, or a manifest"
        )
    clips = _clips(root, found, [(files.shown(file.parent.name),) for file in found])
    notes = [f"ignored, as no clips: {len(ignored)} ({ignored[0]} the first)"] if ignored else []
    with_clips = {clip.labels[0] for clip in clips}
    empty = [d.name for d in _entries(root) if d.is_dir() and files.shown(d.name) not in with_clips]
    if empty:
        notes.append(f"folders without a clip are no classes: {len(empty)} ({empty[0]!r} the first)")
    return _dataset(root, "folder", clips, notes)


def _loose(root, suffixes):
    """Every media file below a folder, linked folders too, unlabelled."""
    found, seen = [], set()
    for folder, below, names in os.walk(root, followlinks=True):
        fresh = os.path.realpath(folder) not in seen  # a link may lead back up
        seen.add(os.path.realpath(folder))
        below[:] = sorted(name for name in below if fresh and not name.startswith("."))
        found += [Path(folder, name) for name in names if fresh and not name.startswith(".")]
    found = sorted(p for p in found if _is_media(p, suffixes))
    if not found:
        raise ValueError(f"{root}: no clips; expected files with {_listed(suffixes)}")
    return _dataset(root, "folder", _clips(root, found, [()] * len(found)))


def _clips(root, found, labels):
    """Clips of files. Where two differ in nothing but the extension, their ids keep it."""
    names = [files.shown(file.relative_to(root).with_suffix("").as_posix()) for file in found]
    count = Counter(names)
    whole = [files.shown(file.relative_to(root).as_posix()) for file in found]
    ids = [name if count[name] == 1 else path for name, path in zip(names, whole, strict=True)]
    twice = [name for name, n in Counter(ids).items() if n > 1]
    if twice:
        raise ValueError(f"{root}: two clips would both be called {twice[0]!r}; rename one")
    return [
        Clip(id, str(file), label, group=_group(file))
        for id, file, label in zip(ids, found, labels, strict=True)
    ]


def _official(dataset, lists, number):
    """Marks each clip with the part that the official lists put it in."""
    if lists is None:
        return replace(dataset, kind="ucf101")
    parts = {}
    for part in ("train", "test"):
        file = lists / f"{part}list{number:02d}.txt"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file; expected the official lists, data.list_number 1 to 3"
            )
        try:
            lines = files.read_whole(file).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"{file}: not UTF-8; expected an official list of UCF-101") from None
        for line in lines:
            if line.strip():  # "Class/v_Class_g01_c01.avi 1"; the number is left to the folder's name
                parts[_key(line.split()[0])] = part
    # By name without extension or case: clips are often converted, and HandstandPushups is spelt two ways.
    clips = [replace(clip, part=parts.get(_key(Path(clip.path).name), "")) for clip in dataset.clips]
    return replace(dataset, kind="ucf101", clips=clips)


def _key(path):
    return Path(path).stem.lower()


def _lists(data, source):
    """The folder of the official lists, or None."""
    if data.lists:
        if not (Path(data.lists) / "trainlist01.txt").is_file():
            raise FileNotFoundError(f"{data.lists}: no trainlist01.txt; expected data.lists=ucfTrainTestlist")
        return Path(data.lists)
    root = Path(source).absolute()
    for folder in (root / "ucfTrainTestlist", root.parent / "ucfTrainTestlist"):
        if (folder / "trainlist01.txt").is_file():
            return folder
    return None


def _entries(folder):
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _is_media(path, suffixes=MEDIA):
    return path.suffix.lower() in suffixes and not path.is_dir()


def _group(file):
    match = _GROUPED.match(files.shown(file.stem))
    return match[1] if match else ""


def _listed(suffixes):
    return ", ".join(sorted(suffixes))


def _deeper(root, ignored, suffixes):
    loose = [p for p in ignored if _is_media(p, suffixes)]
    if loose:
        return f"{len(loose)} lie outside a class folder ({loose[0].name}); "
    deep = next((p for p in root.rglob("*") if _is_media(p, suffixes)), None)
    return f"they lie deeper ({deep.relative_to(root)}): give {deep.parent.parent}; " if deep else ""
