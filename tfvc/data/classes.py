"""The file of class names to keep, one a line: `data.classes`."""

import difflib
from pathlib import Path

from tfvc import files


def read(path):
    """The names in a file, each with the line that it stands in first; empty lines are passed over.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8, or no name in it.

    Example:
        >>> _ = Path("keep.txt").write_text("tap dancing\\n\\nsinging\\n")
        >>> read("keep.txt")
        {'tap dancing': 1, 'singing': 3}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; data.classes expects a text file, one class a line")
    try:
        lines = files.read_whole(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8; expected a text file, one class a line") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.setdefault(line.strip(), number)
    if not found:
        raise ValueError(f"{path}: names no class; expected one a line")
    return found


def chosen(path, known):
    """The names in a file, all of which must be known.

    Args:
        path: the file.
        known: the classes of the data.

    Raises:
        FileNotFoundError, ValueError: as `read`; a name that is no class of the data, by its line.
    """
    names = read(path)
    for name, line in names.items():
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
            example = f"the data has, for example, {min(known)!r}" if known else "the data has no class"
            hint = f"did you mean {near[0]!r}?" if near else example
            raise ValueError(
                f"{path}:{line}: {name!r} is none of the {len(known)} classes of the data; {hint}"
            )
    return set(names)


def write(path, names):
    """Writes class names, sorted, as `read` reads them."""
    with files.aside(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
