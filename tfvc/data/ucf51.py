"""UCF51: which classes of UCF-101 have sound, worked out from the clips themselves.

    python -m tfvc.data.ucf51 --data=UCF-101 --out=ucf51.txt
    python -m tfvc.train --model=mafnet --data=UCF-101 --set=data.classes=ucf51.txt

The paper of MAFnet counts 51 classes and 6,836 videos: those that came last, whose clips kept their sound.
Only the header of each clip is read. Clips of kept classes that have no sound themselves stay."""

from collections import defaultdict

from absl import flags

from tfvc import cli
from tfvc import recipe as recipes
from tfvc.data import classes, datasets

LEAST = 0.5  # share of a class's clips with sound from which on the class has sound
PAPER = "the paper counts 51 classes, 6836 videos"


def sounding(folder, least=LEAST):
    """Which classes of a folder `<class>/<clip>` have clips with sound.

    Args:
        folder: of the clips.
        least: the share of a class's readable clips that must have an audio stream.

    Returns:
        `(kept, found, notes)`: sorted names; dict, class -> `(clips, clips with sound, unreadable clips)`;
        lines for the user, on classes of which only some clips have sound and clips that cannot be read.

    Raises:
        FileNotFoundError, ValueError: no such folder, no clips, or no class with enough sound.
    """
    from tfvc.data import video

    found, notes = defaultdict(lambda: [0, 0, 0]), []
    clips = datasets.load(recipes.Data(kind="folder"), folder, least_classes=1).clips
    with cli.progress(len(clips), 0, "clip") as bar:
        for clip in clips:
            count = found[clip.labels[0]]
            count[0] += 1
            try:
                count[1] += video.streams(clip.path).has_audio
            except (video.MediaError, FileNotFoundError) as error:
                count[2] += 1
                notes.append(f"cannot be read, and does not count: {error}")
            bar.update()
    found = {name: tuple(found[name]) for name in sorted(found)}
    kept = [name for name, (n, heard, bad) in found.items() if heard and heard >= least * (n - bad)]
    for name, (n, heard, bad) in found.items():
        if 0 < heard < n - bad:
            what = "kept" if name in kept else "left out"
            notes.append(f"only some clips have sound: {name}, {heard} of {n - bad}; {what}")
    if not kept:
        heard = sum(count[1] for count in found.values())
        raise ValueError(
            f"{folder}: no class has sound in {least:g} of its clips or more ({heard} of {len(clips)} clips "
            "have any); expected UCF-101 as published, not re-encoded without sound"
        )
    return kept, found, notes


def main(argv=None):
    def run(arguments):
        if not arguments.data:
            raise cli.Usage("expected --data=UCF-101, the folder of the clips")
        kept, found, notes = sounding(arguments.data, arguments.least)
        print("\n".join(notes), end="\n" * bool(notes))
        classes.write(arguments.out, kept)
        clips, heard, _ = (sum(column) for column in zip(*(found[name] for name in kept), strict=True))
        print(
            f"{len(kept)} of {len(found)} classes have sound, with {clips} clips, {heard} of them with sound "
            f"({PAPER})\nwritten: {arguments.out}; use: --set=data.classes={arguments.out}"
        )

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "folder of UCF-101, <class>/<clip>", values)
    flags.DEFINE_string("out", "ucf51.txt", "file of the names of the classes that have sound", values)
    cli.number("least", LEAST, "share of a class's clips that must have an audio stream", 0.0, 1.0, values)
    cli.launch("tfvc.data.ucf51", values, __doc__, run, argv)


if __name__ == "__main__":
    main()
