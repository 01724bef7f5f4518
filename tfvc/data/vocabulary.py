"""Names of YouTube-8M's classes."""

import csv

from tfvc import files


def class_names(path, num_classes):
    """Class names from YouTube-8M's vocabulary.csv (columns Index and Name).

    A class whose name is empty there goes by its KnowledgeGraphId, or else by its number.

    Raises:
        ValueError: no CSV file, other columns, or a class of the model without a row.
        FileNotFoundError: no such file.
    """
    names = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f)
            columns = reader.fieldnames or []
            if {"Index", "Name"} <= set(columns):
                for row in reader:
                    index = (row["Index"] or "").strip()
                    names[index] = (row["Name"] or row.get("KnowledgeGraphId") or index).strip()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected YouTube-8M's vocabulary.csv") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: no CSV file ({error}); expected columns Index and Name") from None
    if not {"Index", "Name"} <= set(columns):
        found = files.printable(", ".join(columns)[:60]) or "none"
        raise ValueError(f"{path}: columns {found}; expected Index and Name among them")
    missing = [i for i in range(num_classes) if str(i) not in names]
    if missing:
        raise ValueError(f"{path}: no row for class {missing[0]}; the model has {num_classes} classes")
    return [names[str(i)] for i in range(num_classes)]
