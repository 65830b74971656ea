"""Operations before the model: float32 pictures (height, width, channels) in and out; `layout` ends them. Pure.

Arithmetic is written out, element by element in a fixed order, so that a device computes the bytes that training computed.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

import numpy as np

from processing import resample
from processing.boxes import View
from processing.spec import Fields, SpecError

Array = Any

MAX_RESIZED, MAX_SIDE = 4096, 16384  # pixels
MAX_AREA = 2**22  # pixels of a resized picture: 2048 x 2048
_LUMA = tuple(np.float32(share) for share in (0.299, 0.587, 0.114))  # ITU-R BT.601
_SPREAD_FLOOR = 1e-6  # a picture of one colour has no spread to divide by
_LARGEST = 1e6


class Shape(NamedTuple):
    """Of a picture; None where only a frame can tell."""

    height: int | None = None
    width: int | None = None
    channels: int | None = None


class Step:
    """One operation. `shape` and `view` say what it does to the size and to the part of the frame that the picture shows.

    `selects`: it only chooses pixels, so it may do so before they become floats.
    """

    selects = False

    def __call__(self, picture: Array) -> Array:
        raise TypeError("each operation computes something of its own")

    def shape(self, before: Shape) -> Shape:
        """Raises SpecError when the operation cannot work on a picture of this shape."""
        return before

    def view(self, before: View, shape: Shape) -> View:
        """`before`: what the picture, of a known `shape`, showed of the frame."""
        return before


class _Grayscale(Step):
    def __call__(self, picture: Array) -> Array:
        if picture.shape[2] == 1:
            return picture
        red, green, blue = (picture[:, :, channel] * _LUMA[channel] for channel in range(3))
        return (red + green + blue)[:, :, None]

    def shape(self, before: Shape) -> Shape:
        if before.channels == 2:
            raise SpecError("grayscale: a picture has 1 channel, or red, green and blue first")
        return before._replace(channels=1)


class _Crop(Step):
    selects = True

    def __init__(self, fields: Fields) -> None:
        self._top, self._left = (fields.whole(name, 0, MAX_SIDE) for name in ("top", "left"))
        self._height, self._width = (fields.whole(name, 1, MAX_SIDE) for name in ("height", "width"))

    def __call__(self, picture: Array) -> Array:
        return picture[self._top : self._top + self._height, self._left : self._left + self._width]

    def shape(self, before: Shape) -> Shape:
        bottom, right = self._top + self._height, self._left + self._width
        if (before.height is not None and bottom > before.height) or (before.width is not None and right > before.width):
            raise SpecError(f"crop: down to row {bottom} and column {right} of a picture of {before.height} x {before.width}")
        return before._replace(height=self._height, width=self._width)

    def view(self, before: View, shape: Shape) -> View:
        rows, columns = float(shape.height or 1), float(shape.width or 1)
        return View(
            before.left + before.width * self._left / columns,
            before.top + before.height * self._top / rows,
            before.width * self._width / columns,
            before.height * self._height / rows,
        )


class _Resize(Step):
    def __init__(self, fields: Fields) -> None:
        self._height, self._width = (fields.whole(name, 1, MAX_RESIZED) for name in ("height", "width"))
        if self._height * self._width > MAX_AREA:
            raise SpecError(f"resize: at most {MAX_AREA} pixels")
        self._taps = {"box": resample.box, "bilinear": resample.bilinear}[fields.one_of("method", ("box", "bilinear"), "box")]
        self._known: dict[Any, tuple[resample.Taps, resample.Taps]] = {}  # of the last size only: a camera keeps its size

    def __call__(self, picture: Array) -> Array:
        size = picture.shape[:2]
        if size not in self._known:
            self._known = {size: (self._taps(size[0], self._height), self._taps(size[1], self._width))}
        rows, columns = self._known[size]
        return resample.apply(columns, resample.apply(rows, picture, 0), 1)

    def shape(self, before: Shape) -> Shape:
        return before._replace(height=self._height, width=self._width)


class _Scale(Step):
    def __init__(self, fields: Fields) -> None:
        self._factor = np.float32(fields.number("factor", -_LARGEST, _LARGEST))

    def __call__(self, picture: Array) -> Array:
        return picture * self._factor


class _Normalize(Step):
    def __init__(self, fields: Fields) -> None:
        mean, spread = fields.numbers("mean", -_LARGEST, _LARGEST, 4), fields.numbers("std", 1e-6, _LARGEST, 4)
        if len(mean) != len(spread):
            raise SpecError("normalize: as many std as mean")
        self._mean, self._spread = np.asarray(mean, np.float32), np.asarray(spread, np.float32)

    def __call__(self, picture: Array) -> Array:
        return (picture - self._mean) / self._spread

    def shape(self, before: Shape) -> Shape:
        count = len(self._mean)
        if count > 1 and before.channels not in (None, count):
            raise SpecError(f"normalize: mean and std of {count} channels, the picture has {before.channels}")
        return before


class _Standardize(Step):
    def __call__(self, picture: Array) -> Array:
        values = picture.astype(np.float64)
        centred = values - _total(values) / values.size
        spread = np.sqrt(_total(centred * centred) / values.size)
        return (centred / max(float(spread), _SPREAD_FLOOR)).astype(np.float32)


def _total(values: Array) -> float:
    """A running sum has one order; `sum` adds in an order that depends on numpy's build."""
    return float(np.cumsum(values.ravel())[-1])


class Layout(Step):
    def __init__(self, fields: Fields) -> None:
        self._axes = {"NCHW": (2, 0, 1), "NHWC": (0, 1, 2)}[fields.one_of("order", ("NCHW", "NHWC"))]

    def __call__(self, picture: Array) -> Array:
        return picture.transpose(self._axes)[None]

    def request(self, picture: Shape) -> tuple[int | None, ...]:
        return (1, *(tuple(picture)[axis] for axis in self._axes))


def layout(step: Step) -> Layout:
    """Raises SpecError when `step` is another operation."""
    if not isinstance(step, Layout):
        raise SpecError("layout must be the last operation, once")
    return step


OPERATIONS: Mapping[str, Callable[[Fields], Step]] = {
    "grayscale": lambda fields: _Grayscale(),
    "crop": _Crop,
    "resize": _Resize,
    "scale": _Scale,
    "normalize": _Normalize,
    "standardize": lambda fields: _Standardize(),
    "layout": Layout,
}
