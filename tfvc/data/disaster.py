"""Disaster videos (Pouyanfar et al. 2019): seven concepts, several a clip, by name or by number."""

CONCEPTS = {  # instances in Table I, of 1,540 clips
    "Demonstration": 150,
    "EmergencyResponse": 338,
    "FloodStorm": 971,
    "HumanRelief": 273,
    "Damage": 371,
    "Victim": 311,
    "Speak": 811,
}
CONCEPT_CLIPS = 1540
_PRINTED = {
    "demo": "Demonstration",
    "speakbriefinginterview": "Speak",
}  # the two that the table spells otherwise


def concept(label):
    """The concept that a label of a manifest means; None if it means none.

    A name is read whatever its case, spaces and signs, as it is spelt here or in Table I. Numbers are 0 to 6,
    in the order of the table (which itself counts from 1).

    Example:
        >>> [concept(label) for label in ("flood/storm", "6", "Human Relief", "7", "Fire")]
        ['FloodStorm', 'Speak', 'HumanRelief', None, None]
    """
    if label.isascii() and label.isdecimal():
        number = label.lstrip("0") or "0"
        return dict(zip(map(str, range(len(CONCEPTS))), CONCEPTS, strict=True)).get(number)
    return _NAMED.get(_letters(label))


def _letters(label):
    return "".join(filter(str.isalnum, label.casefold()))


_NAMED = {_letters(name): name for name in CONCEPTS} | _PRINTED
EXPECTED = f"expected {', '.join(CONCEPTS)}, or 0 to {len(CONCEPTS) - 1} in that order"
