"""The published weight files that the backbones read, and which of them are here.

A file is looked for in the folder TFVC_WEIGHTS, then in Keras' own cache, else downloaded to the latter.
On a machine without internet, copy the files below from elsewhere into one of these folders.
"""

from tfvc import cli
from tfvc.backbones import weights


def listing():
    """Lines of text: per backbone its file, checksum, origin, and where it lies or `missing`."""
    lines = ["looked for in: " + ", then ".join(str(f) for f in weights.folders())]
    for name, row in (weights.FILES | weights.SOUND_FILES).items():
        try:
            state = weights.find(row) or "missing"
        except ValueError as error:
            state = f"damaged: {error}"
        lines += [f"{name}", f"  file  {row.name}", f"  md5   {row.md5 or '(none published)'}"]
        lines += [f"  from  {row.url}", f"  here  {state}"]
    return lines


def main(argv=None):
    cli.command("tfvc.backbones", __doc__, [], lambda _: print("\n".join(listing())), argv)


if __name__ == "__main__":
    main()
