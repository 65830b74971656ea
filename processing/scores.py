"""How well a detector does on a held-out set: precision, recall and F1 of its boxes. Pure; trainer and builder share it."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from processing.answers import SAME_IOU, Answer, edges
from processing.boxes import matched
from processing.wilson import wilson


class Score(NamedTuple):
    """Boxes of answers and of the truth, paired one to one within a frame and a class."""

    found: int  # pairs
    extra: int  # boxes of an answer without a partner
    missed: int  # boxes of the truth without a partner

    @property
    def precision(self) -> float:
        return _share(self.found, self.found + self.extra)

    @property
    def recall(self) -> float:
        return _share(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        return _f1(_share(self.found, sum(self)))

    @property
    def f1_interval(self) -> tuple[float, float]:
        """95 %. F1 rises with found / (found + extra + missed), and that is a share: Wilson's interval of it, carried over.

        Boxes of one frame count as independent, which makes the interval a little too narrow where frames fail as a whole.
        """
        if not sum(self):
            return 0.0, 1.0
        low, high = wilson(self.found, sum(self))
        return _f1(low), _f1(high)


def score(answers: Sequence[Answer], truths: Sequence[Answer], classes: Sequence[str]) -> Score:
    """Over all frames, of the boxes of `classes`."""
    found = extra = missed = 0
    for answer, truth in zip(answers, truths):
        for name in classes:
            seen, there = edges(answer, name), edges(truth, name)
            pairs = matched(seen, there, SAME_IOU)
            found, extra, missed = found + pairs, extra + len(seen) - pairs, missed + len(there) - pairs
    return Score(found, extra, missed)


def _share(part: int, whole: int) -> float:
    """Nothing to find and nothing found is all that could be done."""
    return part / whole if whole else 1.0


def _f1(shared: float) -> float:
    return 2 * shared / (1 + shared)
