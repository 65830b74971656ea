"""Pre- and post-processing as data: the one implementation that device, evaluation and training share. Pure.

    {"pre":  [{"op": "grayscale"}, {"op": "resize", "height": 32, "width": 32, "method": "box"}, {"op": "standardize"},
              {"op": "layout", "order": "NCHW"}],
     "post": [{"op": "softmax"}, {"op": "top1"}]}

pictures.py has the operations before the model, answers.py those after it; docs/reference/processing.md lists them all.
"""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

import numpy as np

from processing import answers, pictures
from processing.answers import Answer, Form
from processing.boxes import WHOLE, View
from processing.pictures import Shape
from processing.rows import Key
from processing.spec import Fields, FrameUnfitError, SpecError

Array = Any
Spec = Mapping[str, Any]

MAX_OPERATIONS = 32
_LAYOUT = {"op": "layout", "order": "NCHW"}


class Processing:
    """A compiled processing.json."""

    def __init__(self, pre: Sequence[pictures.Step], post: Sequence[answers.Step], form: Form) -> None:
        self._pre, self._post, self._form = tuple(pre), tuple(post), form
        self._fits: Any = None  # the last frame shape that was looked at: a camera keeps its size
        self._view = WHOLE

    # -- before the model

    def pre(self, frame: Array) -> Array:
        """uint8 (height, width) or (height, width, channels) -> float32 (1, channels, height, width) or, by `layout`, NHWC.

        Raises FrameUnfitError when a crop lies outside of the frame, or the channels are not those that an operation wants.
        """
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or 0 in frame.shape:
            raise FrameUnfitError(f"a frame is uint8 (height, width[, channels]), not {frame.dtype} {frame.shape}")
        self.view(frame.shape)
        picture = frame.reshape(frame.shape[0], frame.shape[1], -1)
        for operation in self._pre:
            picture = operation(picture if operation.selects else picture.astype(np.float32, copy=False))
        return np.ascontiguousarray(picture, dtype=np.float32)

    __call__ = pre

    def many(self, frames: Sequence[Array]) -> Array:
        """Frames -> one array of (n, channels, height, width)."""
        return np.concatenate([self.pre(frame) for frame in frames])

    def view(self, frame_shape: tuple[int, ...]) -> View:
        """Which part of such a frame the model sees, for `post`. Raises FrameUnfitError."""
        if frame_shape != self._fits:
            shape = Shape(frame_shape[0], frame_shape[1], frame_shape[2] if len(frame_shape) == 3 else 1)
            self._view, self._fits = _seen(self._pre, shape), frame_shape
        return self._view

    # -- after the model

    def post(self, output: Array, view: View = WHOLE) -> Answer:
        """A model's output for one frame (any shape, flattened) -> its answer. Boxes are in pixels of the frame that `view` is of;
        without one their edges are shares of the picture that the model saw."""
        value: Any = np.asarray(output, dtype=np.float64).ravel()
        for operation in self._post:
            value = operation(value, view)
        return dict(value)

    @property
    def keys(self) -> Mapping[str, Key]:
        """What an answer holds, for the columns of a feature schema."""
        return self._form.keys

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a detector, in the order of their numbers; of a classifier ()."""
        return self._form.classes

    def agree(self, one: Answer, other: Answer) -> bool:
        """Whether two answers to one frame are the same; see Form.agree."""
        return self._form.agree(one, other)

    def truth(self, label: Array) -> Answer:
        """One entry of a held-out set's labels as the answer that it wants; see Form.truth."""
        return self._form.truth(label)

    # -- the model between them

    def check(self, input_shape: Sequence[int], output_shape: Sequence[int]) -> None:
        """Raises SpecError when this cannot stand around a model of these tensors, batch 1."""
        request = pictures.layout(self._pre[-1]).request(_shape(self._pre, Shape()))
        if len(request) != len(input_shape) or any(mine not in (None, its) for mine, its in zip(request, input_shape)):
            raise SpecError(f"pre gives {_text(request)}, the model takes {_text(input_shape)}")
        for operation in self._post:
            if operation.takes == "vector":
                operation.check(int(np.prod(output_shape)))


def read(data: bytes) -> Spec:
    """The bytes of a processing.json -> its specification. Raises SpecError."""
    try:
        spec = json.loads(data)
    except (ValueError, RecursionError) as broken:
        raise SpecError(f"processing.json is not JSON: {broken}") from broken
    if not isinstance(spec, dict):
        raise SpecError("processing.json is not an object")
    return spec


def compile(spec: Spec) -> Processing:
    """Raises SpecError, which names operation and field, when the specification is not one."""
    pre, post = (_entries(spec, name) for name in ("pre", "post"))
    if not any(fields.op == "layout" for fields in pre):
        pre.append(Fields(_LAYOUT))
    before = [_picture_step(fields) for fields in pre]
    pictures.layout(before[-1])
    _shape(before, Shape())
    return Processing(before, *_post(post))


def _entries(spec: Spec, name: str) -> list[Fields]:
    entries = spec.get(name) if isinstance(spec, Mapping) else None
    if not isinstance(entries, list) or len(entries) > MAX_OPERATIONS:
        raise SpecError(f"processing.json holds two lists, pre and post, of at most {MAX_OPERATIONS} operations")
    return [Fields(entry) for entry in entries]


def _picture_step(fields: Fields) -> pictures.Step:
    if fields.op not in pictures.OPERATIONS:
        raise SpecError("unknown operation {!r}; known: {}".format(fields.op[:80], ", ".join(sorted(pictures.OPERATIONS))))
    step = pictures.OPERATIONS[fields.op](fields)
    fields.close()
    return step


def _post(entries: Sequence[Fields]) -> tuple[tuple[answers.Step, ...], Form]:
    steps: list[answers.Step] = []
    kind, form = "vector", Form({})
    for fields in entries:
        step = answers.operation(fields, kind)
        fields.close()
        steps.append(step)
        kind, form = step.gives, step.form(form)
    if kind != "answer":
        raise SpecError("post ends with an answer: top1, top_k or boxes must come last")
    return tuple(steps), form


def _shape(steps: Sequence[pictures.Step], shape: Shape) -> Shape:
    """The picture's shape before `layout`, which ends the steps. Raises SpecError."""
    for number, step in enumerate(steps):
        if number + 1 < len(steps) and isinstance(step, pictures.Layout):
            raise SpecError("layout must be the last operation, once")
        shape = step.shape(shape)
    return shape


def _seen(steps: Sequence[pictures.Step], shape: Shape) -> View:
    view = View(0.0, 0.0, float(shape.width or 0), float(shape.height or 0))
    try:
        for step in steps:
            view, shape = step.view(view, shape), step.shape(shape)
    except SpecError as unfit:
        raise FrameUnfitError(str(unfit)) from unfit
    return view


def _text(shape: Sequence[int | None]) -> str:
    return " x ".join("?" if side is None else str(side) for side in shape)
