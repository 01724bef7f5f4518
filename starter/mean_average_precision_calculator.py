"""Average precision of each class, under the starter code's names."""

from starter.average_precision_calculator import AveragePrecisionCalculator


class MeanAveragePrecisionCalculator:
    """One `AveragePrecisionCalculator` a class.

    **Source**: MeanAveragePrecisionCalculator of YouTube-8M's mean_average_precision_calculator.py.
    **Differs**: one class alone is taken; the original refuses it. Ties as AveragePrecisionCalculator.

    Args:
        num_class: how many classes.
        filter_empty_classes: leave classes without positives out of `peek_map_at_n`.
        top_n: of AveragePrecisionCalculator.

    Raises:
        ValueError: num_class or top_n is no whole number above 0.

    Example:
        >>> calculator = MeanAveragePrecisionCalculator(2)
        >>> calculator.accumulate([[0.9, 0.8], [0.7]], [[1, 0], [0]])
        >>> calculator.peek_map_at_n()
        [1.0]
    """

    def __init__(self, num_class, filter_empty_classes=True, top_n=None):
        if not isinstance(num_class, int) or num_class < 1:
            raise ValueError(f"num_class={num_class!r}: expected a whole number above 0")
        self._filter_empty_classes = filter_empty_classes
        self._calculators = [AveragePrecisionCalculator(top_n) for _ in range(num_class)]

    def accumulate(self, predictions, actuals, num_positives=None):
        """Takes in pairs.

        Args:
            predictions: a list of predictions for each class; the lists may differ in length.
            actuals: a list of labels for each class, above 0 = right.
            num_positives: positives of each class, found or not; None = those in `actuals`.

        Raises:
            ValueError: not one list for each class, or what AveragePrecisionCalculator refuses.
        """
        classes = len(self._calculators)
        if num_positives is None:
            num_positives = [None] * classes
        if not len(predictions) == len(actuals) == len(num_positives) == classes:
            found = f"{len(predictions)} of predictions, {len(actuals)} of actuals"
            raise ValueError(
                f"{found}, {len(num_positives)} of num_positives; expected {classes}, one a class"
            )
        for part in zip(self._calculators, predictions, actuals, num_positives, strict=True):
            calculator, *pairs = part
            calculator.accumulate(*pairs)

    def clear(self):
        """Forgets all pairs."""
        for calculator in self._calculators:
            calculator.clear()

    def is_empty(self):
        """Whether no class has pairs."""
        return not any(calculator.heap_size for calculator in self._calculators)

    def peek_map_at_n(self):
        """List of the average precisions, in the order of the classes; classes without positives are left
        out, or 0 where `filter_empty_classes` is False."""
        kept = (
            c for c in self._calculators if c.num_accumulated_positives > 0 or not self._filter_empty_classes
        )
        return [calculator.peek_ap_at_n() for calculator in kept]
