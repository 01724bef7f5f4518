"""Batch predictions, JSON to CSV: `python -m starter.convert_prediction_from_json_to_csv`."""

import glob
import json
import sys
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from starter import flags, submissions
from tfvc import files

_DOC = """Converts batch predictions of an exported model, a JSON object a line with video_id, class_indexes
and predictions, to the CSV of a submission: id,class score class score ..."""

_FLAGS = {
    "json_prediction_files_pattern": ("string", "", "the JSON files, as predictions/prediction.results-*"),
    "csv_output_file": ("string", "", "the CSV file to write"),
}
_LONGEST = 1 << 24  # bytes of a line: a file without line breaks must not eat the machine
_KEYS = ("video_id", "class_indexes", "predictions")


def convert(pattern, csv_output_file):
    """Writes the CSV, whole or not at all: the files in the order of their names, their lines in order.

    **Source** convert_prediction_from_json_to_csv.py of YouTube-8M (`%i %f` a pair).
    **Differs** A broken line is named by file and number; an empty one is passed over.

    Args:
        pattern: of the JSON files.
        csv_output_file: the file to write.

    Returns:
        int, how many videos were written.

    Raises:
        ValueError: no pattern or file name; a broken line.
        FileNotFoundError: no file matches.
    """
    if not pattern or not csv_output_file:
        raise ValueError("expected --json_prediction_files_pattern=FILES and --csv_output_file=FILE")
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise FileNotFoundError(f"--json_prediction_files_pattern={pattern}: no file matches")
    count = 0
    with files.aside(csv_output_file) as temporary, open(temporary, "wb") as out:
        out.write(submissions.VIDEO_HEADER)
        for path in paths:
            with open(path, "rb") as f:
                for number, line in enumerate(iter(lambda f=f: f.readline(_LONGEST), b""), 1):
                    if len(line) == _LONGEST:
                        raise ValueError(
                            f"{path}, line {number}: over {_LONGEST} bytes; expected a video a line"
                        )
                    if line.strip():
                        out.write(_converted(line, f"{path}, line {number}"))
                        count += 1
    return count


def _converted(line, where):
    try:
        tree = json.loads(line.decode("utf-8"))
        video, classes, scores = (tree[key] for key in _KEYS)
        pairs = " ".join(f"{int(c)} {float(p):f}" for c, p in zip(classes, scores, strict=True))
        return f"{video},{pairs}\n".encode()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        why = files.printable(files.first_line(error))
        raise ValueError(
            f"{where}: {why}; expected a JSON object with {', '.join(_KEYS)}, the "
            "last two lists of the same length"
        ) from None


def main(argv=None):
    """The command; see the module."""

    def run(arguments):
        count = convert(arguments.json_prediction_files_pattern, arguments.csv_output_file)
        print(f"written: {arguments.csv_output_file}, {count} videos")

    flags.command("starter.convert_prediction_from_json_to_csv", _DOC, _FLAGS, run, argv)


if __name__ == "__main__":
    main()
