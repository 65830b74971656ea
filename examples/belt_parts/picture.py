"""python -m examples.belt_parts.picture --folder V2 --out boxes.jpg: what a trained detector finds on frames of a device's camera."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from examples.belt_parts import dataset
from examples.belt_parts.scene import HEIGHT, WIDTH
from examples.command_line import count, read, told
from examples.graph import run
from processing import pipeline
from processing.answers import Answer
from program.disk import writing

_LARGER, _GAP = 2, 6
_COLOURS = {"bolt": "#ff9f1c", "nut": "#2ec4b6", "washer": "#e0479e"}


def draw(folder: Path, device: int, count: int) -> Image.Image:
    """Frames side by side, larger, with the boxes of the model in `folder` (what --out of `train` was)."""
    processing = pipeline.compile(pipeline.read(read(folder / "processing.json")))
    frames = [dataset.device_scene(device, number).frame for number in range(count)]
    grids = run(read(folder / "model.onnx"), np.asarray(processing.many(frames), np.float32))
    page = Image.new("RGB", (count * (WIDTH * _LARGER + _GAP) - _GAP, HEIGHT * _LARGER), "white")
    for number, (frame, grid) in enumerate(zip(frames, grids, strict=True)):
        answer = processing.post(grid, processing.view(frame.shape))
        page.paste(_boxed(Image.fromarray(frame), answer), (number * (WIDTH * _LARGER + _GAP), 0))
    return page


def _boxed(frame: Image.Image, answer: Answer) -> Image.Image:
    large = frame.resize((WIDTH * _LARGER, HEIGHT * _LARGER), Image.Resampling.BICUBIC).convert("RGB")
    pen = ImageDraw.Draw(large)
    for name, score, *edges in answer["boxes"]:
        left, top, right, bottom = (edge * _LARGER for edge in edges)
        pen.rectangle([left, top, right, bottom], outline=_COLOURS[name], width=2)
        pen.text((left, top - 16), f"{name} {score:.2f}", fill=_COLOURS[name], font=ImageFont.load_default(13))
    return large


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.belt_parts.picture", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="what --out of `train` was")
    parser.add_argument("--out", type=Path, required=True, help="the picture: .png or .jpg")
    parser.add_argument("--device", type=int, default=1, help="whose camera (default %(default)s)")
    parser.add_argument("--count", type=count, default=3, help="how many frames (default %(default)s)")
    options = parser.parse_args(arguments)
    return told("belt_parts.picture", lambda: _save(options))


def _save(options: argparse.Namespace) -> None:
    with writing("SETUP_STATE_DISK", options.out, "writing the picture"):
        draw(options.folder, options.device, options.count).save(options.out, quality=88)
    print(f"written to {options.out}")


if __name__ == "__main__":
    sys.exit(main())
