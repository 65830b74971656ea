"""Frames of a camera over a conveyor belt: bolts, nuts and washers, drawn, on grey frames of 192 x 160 with a rail above and below.

Rules: a frame depends on (seed, number) and on nothing else, so that any frame can be drawn again alone; whoever changes how a frame
looks raises SCENE_VERSION, because data digests name it. The truth is where the drawn pixels are, not where they were meant to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Frame = NDArray[np.uint8]  # (160, 192), grey

SCENE_VERSION = 1
WIDTH, HEIGHT, RAIL = 192, 160, 16  # pixels; the belt lies between the rails
CLASSES = ("bolt", "nut", "washer")
MOST_PARTS = 5
_SHARES = (0.08, 0.22, 0.26, 0.22, 0.14, 0.08)  # of frames with 0 to 5 parts
_SIZE = (32.0, 40.0)  # pixels from end to end
_FINE = 4  # parts are drawn this much larger, so that their edges come out smooth
_BELT, _PART = (50.0, 80.0), (160.0, 220.0)  # grey levels
_NOISE = (3.0, 8.0)  # standard deviation in grey levels
_GAP = 2  # pixels between two parts, at least
_TRIES = 30


@dataclass(frozen=True)
class Scene:
    """`boxes`: (parts, 5) float32, the class's number, then left, top, right, bottom in pixels of the frame."""

    frame: Frame
    boxes: NDArray[np.float32]


def draw(seed: int, number: int) -> Scene:
    random = np.random.default_rng((seed, number))
    light = _belt(random)
    boxes: list[tuple[float, ...]] = []
    for _ in range(int(random.choice(len(_SHARES), p=_SHARES))):
        label, mask = _part(random)
        corner = _free_place(mask, boxes, random)
        if corner is not None:
            boxes.append((label, *_lay(mask, corner, random.uniform(*_PART), light)))
    seen = np.clip(np.rint(light + random.normal(0, random.uniform(*_NOISE), light.shape)), 0, 255)
    return Scene(seen.astype(np.uint8), np.array(boxes, np.float32).reshape(-1, 5))


def _belt(random: np.random.Generator) -> NDArray[np.float64]:
    """Lit from one side, woven across, with dark rails."""
    across = np.linspace(-1, 1, WIDTH) * random.uniform(-12, 12)
    weave = 3 * np.sin(2 * np.pi * (np.arange(WIDTH) / random.uniform(5, 9) + random.uniform()))
    light = np.tile(random.uniform(*_BELT) + across + weave, (HEIGHT, 1))
    light[:RAIL] = light[-RAIL:] = 25
    return light


def _part(random: np.random.Generator) -> tuple[int, NDArray[np.float64]]:
    """A class's number, and how much of each pixel (0 to 1) a part of it covers, cut to what it covers."""
    label, size = int(random.integers(len(CLASSES))), random.uniform(*_SIZE)
    side = math.ceil(size) + 4
    picture = Image.new("L", (side * _FINE, side * _FINE))
    _SHAPES[CLASSES[label]](ImageDraw.Draw(picture), side * _FINE / 2, size * _FINE, random.uniform(0, 2 * math.pi))
    covered = np.asarray(picture.reduce(_FINE), np.float64) / 255
    rows, columns = (np.flatnonzero(covered.max(axis=axis) >= 0.5) for axis in (1, 0))
    return label, covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _bolt(pen: ImageDraw.ImageDraw, middle: float, size: float, turned: float) -> None:
    along = np.array([math.cos(turned), math.sin(turned)])
    head = middle - along * size * 0.3
    pen.polygon(_hexagon(head[0], head[1], size * 0.24, turned), fill=255)
    end = middle + along * size * 0.48
    pen.line([tuple(head), tuple(end)], fill=255, width=round(size * 0.24))


def _nut(pen: ImageDraw.ImageDraw, middle: float, size: float, turned: float) -> None:
    pen.polygon(_hexagon(middle, middle, size * 0.42, turned), fill=255)
    _disc(pen, middle, size * 0.15, 0)


def _washer(pen: ImageDraw.ImageDraw, middle: float, size: float, turned: float) -> None:
    _disc(pen, middle, size * 0.42, 255)
    _disc(pen, middle, size * 0.27, 0)


def _hexagon(across: float, down: float, radius: float, turned: float) -> list[tuple[float, float]]:
    angles = [turned + side * math.pi / 3 for side in range(6)]
    return [(across + radius * math.cos(angle), down + radius * math.sin(angle)) for angle in angles]


def _disc(pen: ImageDraw.ImageDraw, middle: float, radius: float, fill: int) -> None:
    pen.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=fill)


_SHAPES = {"bolt": _bolt, "nut": _nut, "washer": _washer}


def _free_place(mask: NDArray[np.float64], boxes: list[tuple[float, ...]], random: np.random.Generator) -> tuple[int, int] | None:
    """A corner (left, top) on the belt that keeps the gap to all others, or none."""
    height, width = mask.shape
    for _ in range(_TRIES):
        left, top = int(random.integers(0, WIDTH - width + 1)), int(random.integers(RAIL, HEIGHT - RAIL - height + 1))
        if all(
            left + width + _GAP <= box[1] or box[3] + _GAP <= left or top + height + _GAP <= box[2] or box[4] + _GAP <= top for box in boxes
        ):
            return left, top
    return None


def _lay(mask: NDArray[np.float64], corner: tuple[int, int], level: float, light: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Onto the belt; the edges of what was covered."""
    (left, top), (height, width) = corner, mask.shape
    below = light[top : top + height, left : left + width]
    below += mask * (level - below)
    return left, top, left + width, top + height
