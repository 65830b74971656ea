"""What a device's camera sees: a folder of PNG frames, seeded by the device's number, that neither training nor evaluation has drawn."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from examples.belt_parts import dataset
from examples.belt_parts.scene import Scene


def write_frames(folder: Path, count: int, device: int) -> list[Scene]:
    """Write `count` files `frame-<5 digits>.png` (192x160, 8-bit grey); the scenes, with their boxes, in the same order.

    Boxes are returned, not written: a device has no use for the answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [dataset.device_scene(device, number) for number in range(count)]
    for number, scene in enumerate(scenes):
        Image.fromarray(scene.frame).save(folder / f"frame-{number:05d}.png")
    return scenes
