"""Parts of a data set in which every label keeps its share: iterative stratification."""

from collections import Counter, defaultdict

import numpy as np

_EVEN = 1e-9  # wishes that lie no further apart are equal: their fractions are rounded


def stratify(labels, fractions, rng):
    """Deals clips out to parts, the clips of the rarest label first, to the part that wants it most.

    A part j of the fraction r_j wants r_j n_l clips of a label l that n_l clips hold, and r_j n clips in all.
    While clips are left: take the label with the fewest of them; give each of its clips to the part that
    wants most of that label, of equals to the one that wants most clips, of equals to one at random; the
    part then wants one less of every label of the clip, and one clip less.

    **Source**: Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data (ECML PKDD 2011),
    algorithm 1.

    **Differs**: a label is to be in every part if it has as many clips as there are parts: its last clips go
    to the parts that still lack it, and a clip changes its part where that fills a gap and makes none. At the
    end single clips change their part as long as that makes the sum of squares of what is wanted, or too
    much, smaller: clips of many labels leave the algorithm several clips off. Clips without a label are dealt
    last.

    Args:
        labels: of each clip, names that can be sorted; one counts once.
        fractions: of the parts, each at least 0, their sum 1; a part of fraction 0 stays empty.
        rng: `numpy.random.Generator`.

    Returns:
        int array (clips,): the part of each.

    Raises:
        ValueError: fractions that are none.

    Example:
        >>> part = stratify([("a",)] * 6 + [("b",)] * 3, (2 / 3, 1 / 3), np.random.default_rng(0))
        >>> sorted(part[:6].tolist()), sorted(part[6:].tolist())
        ([0, 0, 0, 0, 1, 1], [0, 0, 1])
    """
    fractions = np.asarray(fractions, float)
    if not (fractions >= 0).all() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"fractions={fractions.tolist()}: expected numbers of at least 0 that sum to 1")
    deal = _Deal([sorted(set(names)) for names in labels], fractions, rng)
    while deal.waiting:
        label = min(deal.waiting, key=lambda name: (deal.waiting[name], deal.rank[name]))
        for clip in deal.holders[label]:
            if deal.part[clip] < 0:
                deal.give(clip, deal.choose(deal.wants[label], deal.must(label)))
    for clip in np.flatnonzero(deal.part < 0):
        deal.give(clip, deal.choose(deal.wants_clips, []))
    while deal.fill_a_gap():
        pass
    while deal.come_nearer():
        pass
    return deal.part


class _Deal:
    """What has been dealt out, and what each part still wants."""

    def __init__(self, labels, fractions, rng):
        self.labels, self.rng = labels, rng
        self.open = np.flatnonzero(fractions)  # parts that want anything
        self.part = np.full(len(labels), -1)
        self.holders = defaultdict(list)
        for clip in rng.permutation(len(labels)):
            for label in labels[clip]:
                self.holders[label].append(clip)
        names = sorted(self.holders)
        self.rank = dict(zip(names, rng.permutation(len(names)).tolist(), strict=True))
        self.waiting = Counter({label: len(self.holders[label]) for label in names})
        self.wants = {label: fractions * len(self.holders[label]) for label in names}
        self.wants_clips = fractions * len(labels)
        self.held = {label: np.zeros(len(fractions), int) for label in names}

    def gaps(self, label):
        """The parts that are to have a label and lack it."""
        enough = len(self.holders[label]) >= len(self.open)
        return [j for j in self.open if not self.held[label][j]] if enough else []

    def must(self, label):
        """The gaps of a label, where no more clips of it wait than it has gaps."""
        gaps = self.gaps(label)
        return gaps if self.waiting[label] <= len(gaps) else []

    def choose(self, wishes, only):
        """The part that wishes most; `only` are the parts to choose from, if any."""
        parts = np.asarray(only if len(only) else self.open)
        for wish in (wishes, self.wants_clips):
            parts = parts[wish[parts] > wish[parts].max() - _EVEN]
        return parts[0] if len(parts) == 1 else self.rng.choice(parts)

    def give(self, clip, part):
        for label in self.labels[clip]:
            self.waiting[label] -= 1
            if not self.waiting[label]:
                del self.waiting[label]
        self._count(clip, part, 1)
        self.part[clip] = part

    def _count(self, clip, part, sign):
        self.wants_clips[part] -= sign
        for label in self.labels[clip]:
            self.wants[label][part] -= sign
            self.held[label][part] += sign

    def fill_a_gap(self):
        """Moves the clip that does least harm to a part that lacks a label of it; False where none can."""
        for label in sorted(self.holders, key=lambda name: (len(self.holders[name]), name)):
            able = [clip for clip in self.holders[label] if self._can_spare(clip)]
            moves = [(clip, j) for j in self.gaps(label) for clip in able]
            if moves:
                self._move(*min(moves, key=lambda move: self._harm(*move)))
                return True
        return False

    def come_nearer(self):
        """Moves each clip that brings the parts nearer to what they want elsewhere; False where none does."""
        moved = False
        for clip in range(len(self.part)):
            harm, part = min((self._harm(clip, j), j) for j in self.open)
            if harm < -_EVEN and self._can_spare(clip):
                self._move(clip, part)
                moved = True
        return moved

    def _move(self, clip, part):
        self._count(clip, self.part[clip], -1)
        self._count(clip, part, 1)
        self.part[clip] = part

    def _can_spare(self, clip):
        """Whether a clip can leave its part without a gap."""
        few = len(self.open)
        return all(self.held[k][self.part[clip]] > 1 or len(self.holders[k]) < few for k in self.labels[clip])

    def _harm(self, clip, part):
        """Half of what a move adds to the sum of squares of what the parts still want, or have too much."""
        if part == self.part[clip]:
            return 0.0
        wishes = [self.wants_clips, *(self.wants[label] for label in self.labels[clip])]
        return sum(wish[self.part[clip]] - wish[part] + 1 for wish in wishes)
