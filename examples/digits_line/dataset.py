"""Which frames train, which calibrate and which judge. Split by *original* digit before anything is drawn.

Two renderings of one digit are nearly the same picture: a split by rendering would let the model be judged by what it has learnt.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from examples.digits_line.renderer import RENDERER_VERSION, Frame, render_many

SEED = 20240
HELD_OUT_SHARE = 0.3
HELD_OUT_RENDERINGS = range(1000, 1002)  # numbers that training never draws
DEVICE_RENDERINGS_FROM = 2000  # ... and that neither training nor evaluation draws
CALIBRATION_IMAGES = 64

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Originals:
    """All digits of the bundled set, and the numbers of those that train and of those that are held out."""

    digits: NDArray[np.float64]  # (1797, 8, 8), 0..16
    labels: Labels
    training: tuple[int, ...]
    held_out: tuple[int, ...]


@dataclass(frozen=True)
class Frames:
    pixels: Frame  # (n, 64, 64)
    labels: Labels  # (n,)


@cache
def originals() -> Originals:
    """scikit-learn's 1,797 digits, 30 % of each class held out."""
    bundled = load_digits()
    labels = bundled.target.astype(np.int64)
    training, held_out = train_test_split(np.arange(len(labels)), test_size=HELD_OUT_SHARE, random_state=SEED, stratify=labels)
    return Originals(bundled.images, labels, tuple(sorted(map(int, training))), tuple(sorted(map(int, held_out))))


def training_frames(renderings: int) -> Frames:
    """`renderings` frames of each original that trains."""
    return _frames(originals().training, range(renderings))


def held_out_frames(every: int = 1) -> Frames:
    """Two frames of each held-out original; with `every` = 3 a third of them, spread over all classes."""
    whole = _frames(originals().held_out, HELD_OUT_RENDERINGS)
    return Frames(whole.pixels[::every], whole.labels[::every])


def _frames(chosen: tuple[int, ...], renderings: range) -> Frames:
    source = originals()
    pixels = render_many(source.digits, chosen, renderings, SEED)
    return Frames(pixels, np.repeat(source.labels[list(chosen)], len(renderings)))


def calibration_frames(training: Frames) -> Frame:
    """64 frames spread evenly over the training set: quantization never sees what evaluates it."""
    picks = np.linspace(0, len(training.pixels) - 1, CALIBRATION_IMAGES).astype(int)
    return np.ascontiguousarray(training.pixels[picks])


def digest(*parts: Frames) -> str:
    """`dataset:sha256:<digest>` over split seed, renderer version, labels and pixels.

    Over arrays, not over PNG files: a PNG's bytes change with the build of the library that wrote it.
    """
    running = hashlib.sha256(struct.pack("<qq", SEED, RENDERER_VERSION))
    for part in parts:
        running.update(struct.pack("<q", len(part.labels)))
        running.update(part.labels.astype("<i8").tobytes())
        running.update(part.pixels.tobytes())
    return f"dataset:sha256:{running.hexdigest()}"
