"""Pre- and post-processing as data: the one implementation that device, evaluation and training share. Pure.

    {"pre":  [{"op": "grayscale"}, {"op": "resize", "height": 32, "width": 32, "method": "box"}, {"op": "standardize"},
              {"op": "layout", "order": "NCHW"}],
     "post": [{"op": "softmax"}, {"op": "top1"}]}

Pre operations take and give float32 pictures of (height, width, channels); `layout` ends them with one request of batch 1 (it is added
when it is missing). Post operations take a vector; `top1` ends them with {"label": int, "score": float}.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np

Array = Any
Picture = Callable[[Array], Array]
Spec = Mapping[str, Any]

ANSWER_KEYS = ("label", "score")  # what `top1`, the last operation, gives
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_SPREAD_FLOOR = 1e-6  # a picture of one colour has no spread to divide by


class Processing:
    """A compiled processing.json."""

    def __init__(self, pre: Sequence[Picture], post: Sequence[Callable[[Any], Any]]) -> None:
        self._pre, self._post = tuple(pre), tuple(post)

    def pre(self, frame: Array) -> Array:
        """uint8 (height, width) or (height, width, channels) -> float32 (1, channels, height, width) or, by `layout`, NHWC."""
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
            raise ValueError(f"a frame is uint8 (height, width[, channels]), not {frame.dtype} {frame.shape}")
        picture = frame.astype(np.float32).reshape(frame.shape[0], frame.shape[1], -1)
        for operation in self._pre:
            picture = operation(picture)
        return np.ascontiguousarray(picture, dtype=np.float32)

    __call__ = pre

    def many(self, frames: Sequence[Array]) -> Array:
        """Frames -> one array of (n, channels, height, width)."""
        return np.concatenate([self.pre(frame) for frame in frames])

    def post(self, vector: Array) -> dict[str, Any]:
        """A model's output for one frame (any shape, flattened) -> {"label": int, "score": float}."""
        value: Any = np.asarray(vector, dtype=np.float64).ravel()
        for operation in self._post:
            value = operation(value)
        return dict(value)


def compile(spec: Spec) -> Processing:
    """Raises ValueError, which names the operation, when the specification is not one."""
    pre, post = spec.get("pre"), spec.get("post")
    if not isinstance(pre, list) or not isinstance(post, list):
        raise ValueError("processing.json holds two lists, pre and post")
    if not any(entry.get("op") == "layout" for entry in pre):
        pre = [*pre, {"op": "layout", "order": "NCHW"}]
    _check_last(pre, "layout")
    _check_last(post, "top1")
    return Processing([_operation(_PRE, entry) for entry in pre], [_operation(_POST, entry) for entry in post])


def _check_last(entries: list[Spec], name: str) -> None:
    names = [entry.get("op") for entry in entries]
    if names.count(name) != 1 or names[-1] != name:
        raise ValueError(f"{name} must be the last operation, once")


def _operation(table: Mapping[str, Callable[[Spec], Any]], entry: Spec) -> Any:
    name = str(entry.get("op"))
    if name not in table:
        raise ValueError("unknown operation {!r}; known: {}".format(name, ", ".join(sorted(table))))
    try:
        return table[name](entry)
    except KeyError as missing:
        raise ValueError(f"{name} lacks {missing}") from missing


# -- pre


def _grayscale(entry: Spec) -> Picture:
    def grey(picture: Array) -> Array:
        if picture.shape[2] == 1:
            return picture
        return (picture[:, :, :3] @ _LUMA)[:, :, None]

    return grey


def _resize(entry: Spec) -> Picture:
    height, width = int(entry["height"]), int(entry["width"])
    if entry.get("method", "box") != "box" or height < 1 or width < 1:
        raise ValueError("resize knows the method box and sizes from 1 on")
    weights: dict[Any, Any] = {}  # of the last frame size only: a camera keeps its size

    def resize(picture: Array) -> Array:
        size = picture.shape[:2]
        if size not in weights:
            weights.clear()
            weights[size] = box_weights(size[0], height), box_weights(size[1], width)
        rows, columns = weights[size]
        return np.einsum("ih,hwc,jw->ijc", rows, picture, columns, optimize=True)

    return resize


def box_weights(source: int, target: int) -> Array:
    """(target, source) float32: how much of each source pixel lies in each target pixel, when both cover the same length. Rows sum to 1."""
    edges = np.arange(target + 1, dtype=np.float64) * source / target
    pixels = np.arange(source, dtype=np.float64)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * target / source).astype(np.float32)


def _scale(entry: Spec) -> Picture:
    factor = np.float32(entry["factor"])
    return lambda picture: picture * factor


def _normalize(entry: Spec) -> Picture:
    mean, spread = np.asarray(entry["mean"], dtype=np.float32), np.asarray(entry["std"], dtype=np.float32)
    if mean.shape != spread.shape or (spread <= 0).any():
        raise ValueError("normalize wants as many std (> 0) as mean")
    return lambda picture: (picture - mean) / spread


def _standardize(entry: Spec) -> Picture:
    def standardize(picture: Array) -> Array:
        return (picture - picture.mean(dtype=np.float64)) / max(float(picture.std(dtype=np.float64)), _SPREAD_FLOOR)

    return standardize


def _layout(entry: Spec) -> Picture:
    axes = {"NCHW": (2, 0, 1), "NHWC": (0, 1, 2)}.get(entry["order"])
    if axes is None:
        raise ValueError("layout knows NCHW and NHWC")
    return lambda picture: picture.transpose(axes)[None]


# -- post


def _softmax(entry: Spec) -> Callable[[Array], Array]:
    def softmax(vector: Array) -> Array:
        raised = np.exp(vector - vector.max())
        return raised / raised.sum()

    return softmax


def _top1(entry: Spec) -> Callable[[Array], dict[str, Any]]:
    def top1(vector: Array) -> dict[str, Any]:
        label = int(vector.argmax())
        return {"label": label, "score": float(vector[label])}

    return top1


_PRE: Mapping[str, Callable[[Spec], Picture]] = {
    "grayscale": _grayscale,
    "resize": _resize,
    "scale": _scale,
    "normalize": _normalize,
    "standardize": _standardize,
    "layout": _layout,
}
_POST: Mapping[str, Callable[[Spec], Callable[[Any], Any]]] = {"softmax": _softmax, "top1": _top1}
