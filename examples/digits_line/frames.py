"""What a device's line camera sees: a folder of PNG frames, seeded by the device's number.

Frames are drawn from held-out originals, in renderings that neither training nor evaluation has drawn, so that what a
campaign measures on the devices can be compared with what was measured at packaging.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from examples.digits_line import dataset
from examples.digits_line.renderer import render


def write_frames(folder: Path, count: int, device: int) -> list[int]:
    """Write `count` files `frame-<5 digits>.png` (64x64, 8-bit grey); the labels in the same order.

    Labels are returned, not written: a device has no use for the answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = dataset.originals()
    chosen = np.random.default_rng((dataset.SEED, device)).choice(source.held_out, size=count)
    for number, original in enumerate(map(int, chosen)):
        rendering = dataset.DEVICE_RENDERINGS_FROM + device * 100_000 + number
        frame = render(source.digits[original], dataset.SEED, original, rendering)
        Image.fromarray(frame).save(folder / f"frame-{number:05d}.png")
    return [int(source.labels[original]) for original in chosen]
