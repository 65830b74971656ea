"""Frames of a line camera that reads stamped digits: the 8x8 digits that scikit-learn brings, drawn on 64x64 grey frames.

Rules: a frame depends on (seed, number of the original image, number of the rendering) and on nothing else, so that any
frame can be drawn again alone; whoever changes how a frame looks raises RENDERER_VERSION, because data digests name it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Frame = NDArray[np.uint8]  # (64, 64), grey

RENDERER_VERSION = 1
SIDE = 64  # pixels of a frame
_SIZE = (44, 52)  # pixels of the stamp, inclusive
_SHIFT = 4  # pixels off the centre, either way
_ROTATION_DEGREES = 5.0  # standard deviation
_BACKGROUND = (20.0, 70.0)
_GAIN = (0.6, 1.0)
_NOISE = (4.0, 12.0)  # standard deviation in grey levels
_BLUR = 0.8  # largest radius in pixels
_FULL_INK = 16.0  # the largest value in scikit-learn's digits


def render(digit: NDArray[np.float64], seed: int, original: int, rendering: int) -> Frame:
    """One frame of the 8x8 `digit` (values 0..16): stamped, turned, shifted, lit, blurred and noisy."""
    random = np.random.default_rng((seed, original, rendering))
    stamp = _stamp(digit, random)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(stamp, _corner(stamp, random))
    return _as_seen(canvas, random)


def _stamp(digit: NDArray[np.float64], random: np.random.Generator) -> Image.Image:
    size = int(random.integers(_SIZE[0], _SIZE[1] + 1))
    ink = Image.fromarray((digit * (255 / _FULL_INK)).astype(np.uint8))
    large = ink.resize((size, size), Image.Resampling.BICUBIC)
    return large.rotate(float(random.normal(0, _ROTATION_DEGREES)), Image.Resampling.BICUBIC)


def _corner(stamp: Image.Image, random: np.random.Generator) -> tuple[int, int]:
    shift = random.integers(-_SHIFT, _SHIFT + 1, size=2)
    margin = (SIDE - stamp.width) // 2
    return margin + int(shift[0]), margin + int(shift[1])


def _as_seen(canvas: Image.Image, random: np.random.Generator) -> Frame:
    background, gain = random.uniform(*_BACKGROUND), random.uniform(*_GAIN)
    blurred = canvas.filter(ImageFilter.GaussianBlur(random.uniform(0, _BLUR)))
    lit = background + gain * (255 - background) * (np.asarray(blurred, np.float64) / 255)
    noisy = lit + random.normal(0, random.uniform(*_NOISE), size=lit.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def render_many(digits: NDArray[np.float64], originals: Sequence[int], renderings: range, seed: int) -> Frame:
    """Frames (n, 64, 64) of every original in every rendering; the renderings of one original lie side by side."""
    return np.stack([render(digits[original], seed, original, number) for original in originals for number in renderings])
