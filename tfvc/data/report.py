"""What is wrong with the files that are read: told once, counted, or an error."""

import threading

from tfvc import files

_SHOWN = 20  # faults printed; the others are counted
_REMEDY = "mend or remove the file, or read on with --on_corrupt=skip"


class Report:
    """What could not be read: `faults` holds `(file, offset in bytes, reason)`, each place once.

    Example:
        >>> report = Report()
        >>> report.add("a.tfrecord", 12, "cut short")
        skipped: a.tfrecord, byte 12: cut short
        >>> report.summary()
        'skipped 1 place or record in 1 file: a.tfrecord (1)'
    """

    def __init__(self):
        self.faults = []
        self._seen, self._lock = set(), threading.Lock()

    def add(self, file, offset, reason, stop=False):
        """Keeps and prints a fault, unless it is known, from another epoch say.

        Raises:
            ValueError: the fault, if told to `stop`.
        """
        said = f"{files.shown(file)}, byte {offset}: {reason}"
        if stop:
            raise ValueError(f"{said}; {_REMEDY}")
        with self._lock:
            if (file, offset) in self._seen:
                return
            self._seen.add((file, offset))
            self.faults.append((file, offset, reason))
            count = len(self.faults)
        if count <= _SHOWN:
            print(f"skipped: {said}", flush=True)
        elif count == _SHOWN + 1:
            print("skipped: more; from here on they are only counted", flush=True)

    def summary(self):
        """One closing line; "" where nothing was wrong."""
        if not self.faults:
            return ""
        count = {}
        for file, _, _ in self.faults:
            count[file] = count.get(file, 0) + 1
        total = len(self.faults)
        worst = sorted(count, key=lambda file: (-count[file], file))
        named = ", ".join(f"{files.shown(file)} ({count[file]})" for file in worst[:5])
        rest = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
        places = "place or record" if total == 1 else "places or records"
        return f"skipped {total} {places} in {len(worst)} file{'s'[: len(worst) > 1]}: {named}{rest}"
