"""Operations after the model: its output, flattened to a vector, becomes an answer. Pure.

    vector  --softmax-->  vector  --top1, top_k-->  answer  --threshold-->  answer
    vector  --grid_boxes-->  boxes  --threshold, nms-->  boxes  --boxes-->  answer

An answer is a dictionary whose keys can be columns of a feature schema. Its form also says when two answers are the same: that is what the
agreement gate counts, what evaluation counts against the truth, and what a shadow is compared by.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

import numpy as np

from processing.boxes import Boxes, View, best_first, matched, suppress
from processing.rows import Key
from processing.spec import Fields, SpecError

Array = Any
Answer = Mapping[str, Any]

SAME_IOU = 0.5  # two boxes of a class that overlap this much are the same part
SMALLEST = 1e-3  # side of a box, as a share of the picture's; a thinner one would overlap nothing, not even itself
MAX_LISTED, MAX_RANKS, MAX_CELLS = 100, 16, 65536
_DIGITS = 4  # behind the point, of what is listed: a tenth of a thousandth of a pixel or of a picture


class Form(NamedTuple):
    """`keys`: what an answer holds. `classes`: of a detector; of a classifier ()."""

    keys: Mapping[str, Key]
    classes: tuple[str, ...] = ()

    def agree(self, one: Answer, other: Answer) -> bool:
        """Classifier: the same label. Detector: the same boxes, paired one to one, of the same class, with IoU >= SAME_IOU.

        `other` may be of another form, a candidate's: then they do not agree.
        """
        if not self.classes:
            return "label" in other and bool(one["label"] == other["label"])
        if "boxes" not in other or len(one["boxes"]) != len(other["boxes"]):
            return False
        pairs = (matched(edges(one, name), edges(other, name), SAME_IOU) for name in self.classes)
        return sum(pairs) == len(one["boxes"])

    def truth(self, label: Array) -> Answer:
        """One entry of a held-out set's y as the answer that it wants: a class's number, or (m, 5) of [class or -1 for none, edges]."""
        if not self.classes:
            return {"label": int(label)}
        return {"boxes": [[self.classes[int(row[0])], 1.0, *map(float, row[1:])] for row in label if row[0] >= 0]}


def shift(one: Answer, other: Answer) -> float | None:
    """By how much the other answer is surer, of its label or of its best box; None where one of them has neither."""
    before, after = (answer.get("score", answer.get("best_score")) for answer in (one, other))
    return None if before is None or after is None else float(after) - float(before)


def edges(answer: Answer, name: str) -> Array:
    """(n, 4) of the boxes of one class."""
    found = [box[2:] for box in answer["boxes"] if box[0] == name]
    return np.asarray(found, np.float64).reshape(-1, 4)


class Step:
    """One operation. `takes` and `gives`: vector, boxes or answer."""

    takes = gives = "vector"

    def __call__(self, value: Any, view: View) -> Any:
        raise TypeError("each operation computes something of its own")

    def form(self, before: Form) -> Form:
        return before

    def check(self, length: int) -> None:
        """Raises SpecError when the operation cannot take a vector of this length."""


class _Softmax(Step):
    def __call__(self, value: Any, view: View) -> Any:
        raised = np.exp(value - value.max())
        return raised / raised.sum()


class _Sigmoid(Step):
    def __call__(self, value: Any, view: View) -> Any:
        return 1 / (1 + np.exp(-np.clip(value, -500, 500)))


class _Top(Step):
    gives = "answer"

    def __init__(self, count: int) -> None:
        self._names = [("label", "score"), *((f"label_{rank}", f"score_{rank}") for rank in range(2, count + 1))]

    def __call__(self, value: Any, view: View) -> Any:
        answer: dict[str, Any] = {}
        for (label, score), index in zip(self._names, np.argsort(-value, kind="stable")):
            answer[label], answer[score] = int(index), float(value[index])
        return answer

    def form(self, before: Form) -> Form:
        return Form({name: Key(kind) for pair in self._names for name, kind in zip(pair, ("int", "float"))})

    def check(self, length: int) -> None:
        if length < len(self._names):
            raise SpecError(f"top_k: the {len(self._names)} best of a vector of {length}")


class _Sure(Step):
    """`threshold` on an answer: a label below it is none."""

    takes = gives = "answer"

    def __init__(self, fields: Fields) -> None:
        self._least = fields.number("score", 0, 1)

    def __call__(self, value: Any, view: View) -> Any:
        return value if value["score"] >= self._least else {**value, "label": None}

    def form(self, before: Form) -> Form:
        if before.classes:
            raise SpecError("threshold: boxes are sifted before they are counted")
        return before._replace(keys={**before.keys, "label": Key("int", nullable=True)})


class _GridBoxes(Step):
    gives = "boxes"

    def __init__(self, fields: Fields) -> None:
        self._classes = fields.classes("classes")
        self._rows, self._columns = (fields.whole(name, 1, 1024) for name in ("rows", "columns"))
        if self._rows * self._columns > MAX_CELLS:
            raise SpecError(f"grid_boxes: at most {MAX_CELLS} cells")

    def __call__(self, value: Any, view: View) -> Any:
        grid = value.reshape(-1, self._rows * self._columns)
        raised = np.exp(grid[:-4] - grid[:-4].max(axis=0))
        share = (raised / raised.sum(axis=0))[1:]
        edges = self._edges(grid[-4:])
        boxes = Boxes(self._classes, share.argmax(axis=0), share.max(axis=0), edges)
        return boxes.only((edges[:, 2:] - edges[:, :2] >= SMALLEST).all(axis=1))

    def _edges(self, sizes: Array) -> Array:
        """(4, cells) of [right and down of the cell's centre, width, height] in cells -> (cells, 4) within the picture."""
        row, column = np.divmod(np.arange(self._rows * self._columns), self._columns)
        across, down, width, height = sizes
        middle = np.stack([(column + 0.5 + across) / self._columns, (row + 0.5 + down) / self._rows], axis=1)
        half = np.clip(np.stack([width / self._columns, height / self._rows], axis=1), 0, None) / 2
        return np.clip(np.concatenate([middle - half, middle + half], axis=1), 0, 1)

    def form(self, before: Form) -> Form:
        return Form({}, self._classes)

    def check(self, length: int) -> None:
        wanted = (1 + len(self._classes) + 4) * self._rows * self._columns
        if length != wanted:
            raise SpecError(f"grid_boxes: the model gives {length} values, the grid has {wanted}")


class _Likely(Step):
    """`threshold` on boxes."""

    takes = gives = "boxes"

    def __init__(self, fields: Fields) -> None:
        self._least = fields.number("score", 0, 1)

    def __call__(self, value: Any, view: View) -> Any:
        return value.only(value.score >= self._least)


class _Nms(Step):
    takes = gives = "boxes"

    def __init__(self, fields: Fields) -> None:
        self._limit = fields.number("iou", 0, 1)

    def __call__(self, value: Any, view: View) -> Any:
        return suppress(value, self._limit)


class _Listed(Step):
    """`boxes`: counts, the best box, and the list."""

    takes, gives = "boxes", "answer"
    _BEST = ("best_class", "best_score", "best_left", "best_top", "best_right", "best_bottom")  # in the order of a listed box

    def __init__(self, fields: Fields) -> None:
        self._most = fields.whole("most", 1, MAX_LISTED, 32)

    def __call__(self, value: Any, view: View) -> Any:
        kept = best_first(value).only(slice(0, self._most))
        places = zip(kept.label, kept.score, view.pixels(kept.edges))
        boxes = [[kept.classes[label], *(round(float(value), _DIGITS) for value in (score, *box))] for label, score, box in places]
        counts = {f"count_{name}": int((kept.label == number).sum()) for number, name in enumerate(kept.classes)}
        best = boxes[0] if boxes else [None] * len(self._BEST)
        return {"count": len(boxes), **counts, **dict(zip(self._BEST, best)), "boxes": boxes}

    def form(self, before: Form) -> Form:
        counts = ("count", *(f"count_{name}" for name in before.classes))
        best = {name: Key("text" if name == "best_class" else "float", nullable=True) for name in self._BEST}
        return before._replace(keys={**dict.fromkeys(counts, Key("int")), **best, "boxes": Key("list")})


# (what it takes, its name) -> the operation
OPERATIONS: Mapping[tuple[str, str], Callable[[Fields], Step]] = {
    ("vector", "softmax"): lambda fields: _Softmax(),
    ("vector", "sigmoid"): lambda fields: _Sigmoid(),
    ("vector", "top1"): lambda fields: _Top(1),
    ("vector", "top_k"): lambda fields: _Top(fields.whole("k", 1, MAX_RANKS)),
    ("answer", "threshold"): _Sure,
    ("vector", "grid_boxes"): _GridBoxes,
    ("boxes", "threshold"): _Likely,
    ("boxes", "nms"): _Nms,
    ("boxes", "boxes"): _Listed,
}
NAMES = sorted({name for _, name in OPERATIONS})


def operation(fields: Fields, takes: str) -> Step:
    """Raises SpecError for an unknown operation, or one that does not take what the one before it gives."""
    if fields.op not in NAMES:
        raise SpecError("unknown operation {!r}; known: {}".format(fields.op[:80], ", ".join(NAMES)))
    if (takes, fields.op) not in OPERATIONS:
        wanted = " or ".join(kind for kind, name in OPERATIONS if name == fields.op)
        raise SpecError(f"{fields.op} takes {wanted}, not {takes}: the order is wrong")
    return OPERATIONS[takes, fields.op](fields)
