"""Average precision of one list, under the starter code's names; the arithmetic is tfvc.ranking's."""

import numpy as np

from tfvc import ranking


class AveragePrecisionCalculator:
    """Collects (prediction, label) pairs and gives the average precision of their ranking.

        AP@n = sum over hits at places i <= n (hits up to i / i) / min(positives, n)

    **Source**: AveragePrecisionCalculator of YouTube-8M's average_precision_calculator.py.
    **Differs**: of equal predictions the wrong ones come first, so the value does not depend on the order in
    which pairs came; the original shuffles with a fixed seed. All pairs are kept until `clear`, sorted when a
    value is asked for, in place of a heap of the n best. float64 predictions are ranked as float64.

    Args:
        top_n: look at the n best pairs only; None = all.

    Raises:
        ValueError: top_n is neither None nor a whole number above 0.

    Example:
        >>> calculator = AveragePrecisionCalculator()
        >>> calculator.accumulate([0.9, 0.8, 0.7], [1, 0, 1])
        >>> calculator.peek_ap_at_n(), calculator.heap_size, calculator.num_accumulated_positives
        (0.8333333333333333, 3, 2)
    """

    def __init__(self, top_n=None):
        if top_n is not None:
            _check_n(top_n, "top_n")
        self._top_n = top_n
        self.clear()

    @property
    def heap_size(self):
        """How many pairs count: those collected, at most top_n."""
        size = sum(map(len, self._predictions))
        return size if self._top_n is None else min(size, self._top_n)

    @property
    def num_accumulated_positives(self):
        """How many positives there are altogether."""
        return self._positives

    def accumulate(self, predictions, actuals, num_positives=None):
        """Takes in pairs.

        Args:
            predictions: list or array (N,), higher is earlier.
            actuals: (N,), above 0 = right.
            num_positives: positives that these pairs stand for, found or not; None = those in `actuals`.

        Raises:
            ValueError: lists of different lengths; num_positives below 0.
        """
        predictions, actuals = np.ravel(predictions), np.ravel(actuals) > 0
        if len(predictions) != len(actuals):
            raise ValueError(
                f"{len(predictions)} predictions and {len(actuals)} actuals; expected as many of each"
            )
        if num_positives is None:
            num_positives = int(actuals.sum())
        elif num_positives < 0:
            raise ValueError(f"num_positives={num_positives}: expected a number that is not below 0")
        self._positives += num_positives
        self._predictions.append(predictions)
        self._actuals.append(actuals)

    def clear(self):
        """Forgets all pairs."""
        self._predictions, self._actuals, self._positives = [], [], 0

    def peek_ap_at_n(self):
        """The average precision of what was collected; 0 without pairs or positives."""
        if not self.heap_size:
            return 0.0
        pairs = np.concatenate(self._predictions), np.concatenate(self._actuals)
        return ranking.average_precision(*pairs, positives=self._positives, n=self._top_n)

    @staticmethod
    def ap(predictions, actuals):
        """The average precision of one list."""
        return AveragePrecisionCalculator.ap_at_n(predictions, actuals, n=None)

    @staticmethod
    def ap_at_n(predictions, actuals, n=20, total_num_positives=None):
        """The average precision at n of one list.

        Args:
            predictions: (N,), higher is earlier.
            actuals: (N,), above 0 = right.
            n: how many places to look at; None = all.
            total_num_positives: positives altogether; None = those in `actuals`.

        Returns:
            float; 0 without positives.

        Raises:
            ValueError: lists of different lengths; n is neither None nor a whole number above 0.

        Example:
            >>> AveragePrecisionCalculator.ap_at_n([0.9, 0.8, 0.7], [1, 0, 1], n=1)
            1.0
        """
        if n is not None:
            _check_n(n, "n")
        return ranking.average_precision(predictions, actuals, positives=total_num_positives, n=n)


def _check_n(n, name):
    if not isinstance(n, (int, np.integer)) or n <= 0:
        raise ValueError(f"{name}={n!r}: expected a whole number above 0, or None")
