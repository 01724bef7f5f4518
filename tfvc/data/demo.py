"""Embedded demo sets: H.264 clips with AAC sound and a line of text each, drawn from a seed.

Three forms, each made so that a claim about models can be seen in minutes without any download:

- `motion`: a bar slides left or right, slow or fast, over a picture that wraps around, and starts at one of
  seven places, each as often as any other. At one frame a second every clip shows the same seven pictures:
  neither a frame nor the bag of frames says anything, only their order does. Nor do sound and text.
- `multimodal`: 8 classes = 3 bits, one in the picture (disc or stripes), one in the sound (low or high
  pitch), one in the text (a word). Any two streams leave two classes open. The order of frames is random.
- `disaster`: 7 concepts, several a clip, as rare or frequent as in Table I of Pouyanfar et al. 2019 (150 to
  971 of 1,540). A concept always shows in one stream and often in a second; some clips have no sound or text.

A group is a set of colours and a hum, the same for all classes, so that it tells no class.
"""

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from tfvc import files, names
from tfvc.data.disaster import CONCEPT_CLIPS, CONCEPTS

SIZE = 112  # pixels a side
FPS = 8
RATE = 22050  # samples a second
VERSION = 1  # raised when the drawing changes, so that an old cache is not taken for it


@dataclass(frozen=True)
class Plan:
    """One clip before it is drawn. `parts` is what its form draws from."""

    name: str  # the folder: its class, or its first concept
    labels: tuple
    text: str
    group: int
    parts: dict = field(default_factory=dict)


def ensure(form="motion", seed=0, clips=0, root=None):
    """Folder of a demo set, drawn on first use.

    Args:
        form: `motion`, `multimodal` or `disaster`.
        seed: another seed, other clips; the same seed, the same clips.
        clips: how many; 0 = the form's own (168, 144, 154).
        root: folder that holds the sets; None = `demo` in the user's cache.

    Returns:
        Path of the folder: `<class>/<id>.mp4`, and `manifest.csv` with the columns id, path (relative to
        it), labels (joined by `;`), text and group.

    Raises:
        ValueError: an unknown form, or too few clips for six groups of each class.

    Example:
        >>> ensure("motion", clips=24).joinpath("manifest.csv").is_file()
        True
    """
    if form not in _FORMS:
        raise ValueError(names.suggest("form of the demo set", form, _FORMS))
    _, own, least = _FORMS[form]
    count = clips or own
    if count < least:
        raise ValueError(f"clips={clips}: a {form} demo set needs at least {least}, or 0 for its own {own}")
    folder = (root or files.cache_root() / "demo") / f"{form}-s{seed}-n{count}-v{VERSION}"
    if not (folder / "manifest.csv").is_file():
        with files.locked(folder, "drawing into", wait=True):
            if not (folder / "manifest.csv").is_file():  # another process may have drawn it meanwhile
                files.sweep(folder.parent, folder.name)
                _draw_all(folder, form, seed, count)
    return folder


def _draw_all(folder, form, seed, count):
    planner = _FORMS[form][0]
    print(f"drawing {count} demo clips ({form}, seed {seed}) into {folder}", flush=True)
    rng = np.random.default_rng([seed, *form.encode()])
    plans = planner(rng, count)
    with files.aside(folder) as temporary:
        rows = [_row(plan, plans[:i]) for i, plan in enumerate(plans)]
        for name in sorted({plan.name for plan in plans}):
            (temporary / name).mkdir(parents=True)
        streams, coded = rng.spawn(count), {}  # a clip's own numbers, whatever thread draws it
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda p, r, g: _draw(temporary / r["path"], p, g, coded), plans, rows, streams))
        with open(temporary / "manifest.csv", "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, ["id", "path", "labels", "text", "group"])
            writer.writeheader()
            writer.writerows(rows)


def write_clip(path, frames, fps=FPS, sound=None, rate=RATE, coded=None):
    """Writes uint8 frames (N, h, w, 3) and float sound (samples,) as H.264 and AAC.

    The same input gives the same bytes in every run: one encoder thread, no clock in the file. Clips that
    sound the same can share a dict `coded`: a sound takes far longer to encode than the pictures.
    """
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        # x264's lookahead thread makes the bytes differ from run to run; a demo clip needs none
        options = {"preset": "veryfast", "crf": "16", "x264-params": "rc-lookahead=0:sync-lookahead=0"}
        video = container.add_stream("libx264", rate=Fraction(fps), options=options)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        if sound is not None:
            audio = container.add_stream("aac", rate=rate, layout="mono", options={"flags": "+bitexact"})
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            sound, coded = np.float32(sound)[None], {} if coded is None else coded
            key = rate, hashlib.sha256(sound).digest()
            if key not in coded:
                frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = rate, 0
                packets = [*audio.encode(frame), *audio.encode(None)]
                coded[key] = [(bytes(p), p.pts, p.duration, p.time_base) for p in packets]
            for data, *when in coded[key]:
                packet = av.Packet(data)
                packet.stream, (packet.pts, packet.duration, packet.time_base) = audio, when
                packet.dts = packet.pts
                container.mux(packet)


def _row(plan, before):
    number = 1 + sum(p.name == plan.name and p.group == plan.group for p in before)
    group = f"g{plan.group + 1:02d}"
    clip = f"v_{plan.name}_{group}_c{number:02d}"
    path, labels = f"{plan.name}/{clip}.mp4", ";".join(plan.labels)
    return {"id": clip, "path": path, "labels": labels, "text": plan.text, "group": group}


def _draw(path, plan, rng, coded):
    frames, sound = plan.parts["draw"](plan, rng)
    write_clip(path, frames, FPS, sound, RATE, coded)


# ---- motion ------------------------------------------------------------------------------------------

_WAYS = {"LeftFast": -2 / 7, "LeftSlow": -1 / 7, "RightFast": 2 / 7, "RightSlow": 1 / 7}  # sides a second
_MOTION_SECONDS = 7  # once or twice around


def _plan_motion(rng, count):
    plans, starts = [], {way: [] for way in _WAYS}
    for way, group in _classes_and_groups(list(_WAYS), count):
        starts[way] = starts[way] or list(rng.permutation(_MOTION_SECONDS))  # each place equally often
        start = starts[way].pop() / _MOTION_SECONDS
        text = f"a {_PALETTES[group][2]} bar on a {_PALETTES[group][3]} ground"
        plans.append(Plan(way, (way,), text, group, {"draw": _motion, "start": start}))
    return plans


def _motion(plan, rng):
    colour, ground = _PALETTES[plan.group][0], _ground(plan.group)
    frames = []
    for i in range(_MOTION_SECONDS * FPS):
        centre = plan.parts["start"] + _WAYS[plan.name] * i / FPS
        frames.append(_paint(ground, _bar(centre, 0.3), colour))
    return frames, _hum(plan.group, _MOTION_SECONDS)


# ---- multimodal --------------------------------------------------------------------------------------

_PICTURES, _PITCHES, _WORDS = ("Disc", "Stripes"), {"Low": 220.0, "High": 1760.0}, ("farmer", "pilot")
_OTHERS = ("boy", "girl", "uncle", "aunt", "king", "queen", "teacher", "soldier")
_MULTIMODAL_SECONDS = 6


def _plan_multimodal(rng, count):
    classes = [f"{p}{s}{w.title()}" for p in _PICTURES for s in _PITCHES for w in _WORDS]
    bits = {c: (p, s, w) for c, (p, s, w) in zip(classes, _product(_PICTURES, _PITCHES, _WORDS), strict=True)}
    plans = []
    for name, group in _classes_and_groups(classes, count):
        text = f"the {bits[name][2]} and the {rng.choice(_OTHERS)}"
        plans.append(Plan(name, (name,), text, group, {"draw": _multimodal, "bits": bits[name]}))
    return plans


def _multimodal(plan, rng):
    picture, pitch, _ = plan.parts["bits"]
    frames = []
    for _ in range(_MULTIMODAL_SECONDS):  # a new place each second: the order of frames is noise
        mask = _disc(rng.random(2), 0.25) if picture == "Disc" else _stripes(rng.random(), 4)
        frames += [_paint(_ground(plan.group), mask, _PALETTES[plan.group][0])] * FPS
    tone = _tone(_PITCHES[pitch] * 2 ** rng.uniform(-0.2, 0.2), _MULTIMODAL_SECONDS)
    return frames, _hum(plan.group, _MULTIMODAL_SECONDS) + 0.3 * tone


# ---- disaster ----------------------------------------------------------------------------------------

_DISASTER_SECONDS = 6
_SHOWN = {  # concept -> where it always shows, where it often shows too
    "Demonstration": ("sound", "picture"),
    "EmergencyResponse": ("sound", "picture"),
    "FloodStorm": ("picture", "text"),
    "HumanRelief": ("text", "picture"),
    "Damage": ("picture", "text"),
    "Victim": ("text", "sound"),
    "Speak": ("sound", "text"),
}
_OFTEN, _NO_SOUND, _NO_TEXT = 0.5, 0.08, 0.12
_LINES = {
    "FloodStorm": ("water is rising fast", "the storm took the river over its banks"),
    "HumanRelief": ("volunteers hand out food and blankets", "a shelter with beds has opened"),
    "Damage": ("roofs are gone and walls are broken", "the bridge collapsed"),
    "Victim": ("people are missing", "a family was trapped and is injured"),
    "Speak": ("the mayor said so in an interview", "an officer gave a statement"),
}
_IDLE_LINES = ("video of today", "seen this morning", "from the town", "more to come")


def _plan_disaster(rng, count):
    concepts, plans = list(CONCEPTS), []
    for i, row in enumerate(_imbalanced(rng, count)):
        labels = tuple(c for c, on in zip(concepts, row, strict=True) if on)
        shown = {"picture": [], "sound": [], "text": []}
        for concept in labels:
            always, often = _SHOWN[concept]
            shown[always].append(concept)
            if rng.random() < _OFTEN:
                shown[often].append(concept)
        silent, mute = rng.random() < _NO_SOUND, rng.random() < _NO_TEXT
        lines = [rng.choice(_IDLE_LINES), *(rng.choice(_LINES[c]) for c in shown["text"])]
        text = "" if mute else ", ".join(str(line) for line in rng.permutation(lines))
        parts = {"draw": _disaster, "shown": shown, "silent": silent}
        plans.append(Plan(labels[0], labels, text, i % 10, parts))
    return plans


def _imbalanced(rng, count):
    """Booleans (clips, concepts): each concept in its share of Table I, no clip without one."""
    share = np.array(list(CONCEPTS.values())) / CONCEPT_CLIPS
    wanted = np.maximum(1, np.rint(share * count).astype(int))
    table = np.zeros((count, len(wanted)), bool)
    for j, n in enumerate(wanted):
        table[rng.permutation(count)[:n], j] = True
    for i in np.flatnonzero(~table.any(1)):  # an empty clip takes a label from the fullest
        full = table.sum(1).argmax()
        j = rng.choice(np.flatnonzero(table[full]))
        table[i, j], table[full, j] = True, False
    return table


def _disaster(plan, rng):
    seen, heard = plan.parts["shown"]["picture"], plan.parts["shown"]["sound"]
    height, siren_x, crowd, crack = rng.uniform(0.35, 0.5), rng.random(), rng.random(6), rng.random(3)
    relief = rng.random(2) * 0.5 + 0.2
    y, x = _GRID
    frames = []
    for i in range(_DISASTER_SECONDS * FPS):
        t, picture = i / FPS, _ground(plan.group)
        if "FloodStorm" in seen:  # waves over the lower part
            water = _soft(y - (1 - height) - 0.04 * np.sin(2 * np.pi * (2 * x + 0.5 * t)))
            picture = _paint(picture, water, (40, 110, 230))
        if "Damage" in seen:  # jagged rubble
            jag = np.abs((5 * x + crack[0]) % 1 - 0.5) * 0.3 + 0.12
            picture = _paint(picture, _soft(jag - np.abs(y - 0.6 - 0.1 * crack[1])), (150, 95, 40))
        if "Demonstration" in seen:  # a crowd of heads that hop
            for k, place in enumerate(crowd):
                hop = 0.8 + 0.05 * np.sin(2 * np.pi * (t + place))
                picture = _paint(picture, _disc((hop, (k + 0.5) / 6), 0.07), (240, 210, 180))
        if "HumanRelief" in seen:  # a white box with a red cross
            cy, cx = np.abs(y - relief[0]), np.abs(x - relief[1])
            picture = _paint(picture, _soft(0.17 - np.maximum(cy, cx)), (250, 250, 250))
            arm = np.maximum(0.04 - np.minimum(cy, cx), -1) * (np.maximum(cy, cx) < 0.13)
            picture = _paint(picture, _soft(arm) * (arm > 0), (220, 20, 20))
        if "EmergencyResponse" in seen:  # a lamp, red and blue in turn
            colour = (255, 40, 40) if (i // 5) % 2 else (60, 60, 255)
            picture = _paint(picture, _disc((0.15, siren_x), 0.13), colour)
        frames.append(picture)
    return frames, None if plan.parts["silent"] else _disaster_sound(plan.group, heard, rng)


def _disaster_sound(group, heard, rng):
    n = _DISASTER_SECONDS * RATE
    t = np.arange(n) / RATE
    sound = _hum(group, _DISASTER_SECONDS)
    if "EmergencyResponse" in heard:  # a siren: a sweep between 900 and 1,500 Hz
        sound += 0.2 * np.sin(2 * np.pi * (1200 * t - 300 / (2 * np.pi * 0.5) * np.cos(2 * np.pi * 0.5 * t)))
    if "Speak" in heard:  # a voice: harmonics of 130 Hz in syllables, four a second
        pitch = 130 * 2 ** rng.uniform(-0.2, 0.2)
        voice = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 6))
        sound += 0.15 * voice * np.maximum(0, np.sin(2 * np.pi * 4 * t + rng.uniform(0, 6)))
    if "Demonstration" in heard:  # a drum of noise, twice a second
        beat = np.exp(-((2 * t + rng.random()) % 1) * 8)
        sound += 0.25 * beat * rng.uniform(-1, 1, n)
    if "Victim" in heard:  # a thin high cry that falls
        sound += 0.12 * np.sin(2 * np.pi * (3000 * t - 150 * (t % 1.5) ** 2))
    return sound


# ---- what the forms share ----------------------------------------------------------------------------

_PALETTES = (  # object, ground, and their names: tints only, so that a place outweighs a colour
    ((255, 255, 215), (0, 0, 30), "cream", "blue"),
    ((255, 255, 255), (14, 14, 14), "white", "grey"),
    ((255, 240, 220), (0, 24, 8), "sand", "green"),
    ((225, 255, 255), (30, 6, 6), "pale", "red"),
    ((255, 232, 255), (0, 20, 24), "pink", "teal"),
    ((235, 255, 225), (22, 4, 26), "lime", "purple"),
    ((255, 245, 235), (4, 4, 4), "ivory", "black"),
    ((255, 236, 205), (10, 14, 28), "peach", "slate"),
    ((238, 238, 255), (24, 16, 4), "silver", "brown"),
    ((245, 255, 205), (26, 4, 14), "lemon", "wine"),
)
_GRID = np.meshgrid(*[(np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE] * 2, indexing="ij")


def _classes_and_groups(classes, count):
    """(class, group) of each clip: balanced, with six to ten groups a class, about three clips each."""
    groups = min(len(_PALETTES), max(6, count // len(classes) // 3))
    return [(classes[i % len(classes)], i // len(classes) % groups) for i in range(count)]


def _product(*streams):
    return [(a, b, c) for a in streams[0] for b in streams[1] for c in streams[2]]


def _ground(group):
    return np.full((SIZE, SIZE, 3), _PALETTES[group][1], np.uint8)


def _soft(distance):
    """Signed distance, in sides of the picture, to a mask with an edge one pixel wide."""
    return np.clip(distance * SIZE + 0.5, 0, 1)


def _disc(centre, radius):
    """Mask of a disc on a picture that wraps around."""
    y, x = (np.abs((axis - c + 0.5) % 1 - 0.5) for axis, c in zip(_GRID, centre, strict=True))
    return _soft(radius - np.hypot(y, x))


def _bar(centre, width):
    """Mask of an upright bar on a picture that wraps around."""
    return _soft(width / 2 - np.abs((_GRID[1] - centre + 0.5) % 1 - 0.5))


def _stripes(phase, count):
    return _soft(0.5 / count - np.abs((_GRID[0] * count + phase) % 1 - 0.5) * 2 / count)


def _paint(picture, mask, colour):
    painted, bare = np.empty_like(picture), 1 - mask
    for k in range(3):  # a channel at once: numpy is four times as slow along a last axis of three
        painted[..., k] = np.rint(picture[..., k] * bare + np.float32(colour[k]) * mask)
    return painted


def _tone(pitch, seconds):
    return np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)


def _hum(group, seconds):
    return 0.03 * _tone(60 + 3 * group, seconds)


_FORMS = {  # how it is planned, its own number of clips, the least
    "motion": (_plan_motion, 168, 24),  # each way and place six times: with fewer, a split may miss one
    "multimodal": (_plan_multimodal, 144, 48),
    "disaster": (_plan_disaster, 154, 40),
}
