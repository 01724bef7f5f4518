"""The published weight files that the backbones read, and which of them are here.

A file is looked for in the folder TFVC_WEIGHTS, then in Keras' own cache, else downloaded to the latter.
On a machine without internet, copy the files below from elsewhere into one of these folders. Those of
soundnet and glove are never downloaded: their owner makes them of what is published.

SoundNet's weights are published as a pickle, sound8.npy. `python -m tfvc.backbones sound8.npy` says how its
owner makes a file of plain arrays of it, `python -m tfvc.backbones sound8.npz` what that file holds.
"""

from tfvc import cli
from tfvc.backbones import weights


def listing():
    """Lines of text: per backbone its file, checksum, origin, and where it lies or `missing`."""
    lines = ["looked for in: " + ", then ".join(str(f) for f in weights.folders())]
    sound = weights.SOUND_FILES | {"soundnet": weights.SOUNDNET}
    for name, row in (weights.FILES | sound | weights.TEXT_FILES).items():
        try:
            state = weights.find(row) or "missing"
        except ValueError as error:
            state = f"damaged: {error}"
        lines += [f"{name}", f"  file  {row.name}", f"  md5   {row.md5 or '(none published)'}"]
        lines += [f"  from  {row.url}", f"  here  {state}"]
    return lines


def _run(arguments):
    from tfvc.backbones import soundnet_weights  # imports NumPy

    found = [line for path in arguments.paths for line in soundnet_weights.advice(path)]
    print("\n".join(found or listing()))


def main(argv=None):
    cli.command("tfvc.backbones", __doc__, [], _run, argv, paths=True)


if __name__ == "__main__":
    main()
