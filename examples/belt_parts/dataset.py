"""Which frames train, which calibrate, which judge and which a device sees: ranges of numbers that never meet. Each frame is drawn anew.

Labels are (n, MOST_PARTS, 5) float32: the class's number, or -1 for none, then left, top, right, bottom as shares of the belt, which is
what the model sees.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.belt_parts.scene import HEIGHT, MOST_PARTS, RAIL, SCENE_VERSION, WIDTH, Frame, Scene, draw

SEED = 20250
HELD_OUT_FROM, DEVICES_FROM = 1_000_000, 2_000_000  # numbers below train
FRAMES_OF_A_DEVICE = 100_000  # at the most
HELD_OUT = 400
CALIBRATION = 64
_BELT = np.array([0, 0, RAIL, 0, RAIL], np.float32), np.array([1, WIDTH, HEIGHT - 2 * RAIL, WIDTH, HEIGHT - 2 * RAIL], np.float32)

Labels = NDArray[np.float32]


@dataclass(frozen=True)
class Frames:
    pixels: Frame  # (n, 160, 192)
    labels: Labels  # (n, MOST_PARTS, 5)


def training_frames(count: int) -> Frames:
    return _frames(range(count))


def held_out_frames(count: int = HELD_OUT) -> Frames:
    return _frames(range(HELD_OUT_FROM, HELD_OUT_FROM + count))


def device_scene(device: int, number: int) -> Scene:
    """What the camera of `device` sees as its frame `number`."""
    return draw(SEED, DEVICES_FROM + device * FRAMES_OF_A_DEVICE + number)


def calibration_frames(training: Frames) -> Frame:
    """Spread evenly over the training set: quantization never sees what evaluates it."""
    picks = np.linspace(0, len(training.pixels) - 1, CALIBRATION).astype(int)
    return np.ascontiguousarray(training.pixels[picks])


def _frames(numbers: Sequence[int]) -> Frames:
    scenes = [draw(SEED, number) for number in numbers]
    labels = np.full((len(scenes), MOST_PARTS, 5), -1, np.float32)
    for label, scene in zip(labels, scenes, strict=True):
        label[: len(scene.boxes)] = (scene.boxes - _BELT[0]) / _BELT[1]
    return Frames(np.stack([scene.frame for scene in scenes]), labels)


def digest(*parts: Frames) -> str:
    """`dataset:sha256:<digest>` over seed, version of the drawing, labels and pixels."""
    running = hashlib.sha256(struct.pack("<qq", SEED, SCENE_VERSION))
    for part in parts:
        running.update(struct.pack("<q", len(part.labels)))
        running.update(part.labels.astype("<f4").tobytes())
        running.update(part.pixels.tobytes())
    return f"dataset:sha256:{running.hexdigest()}"
