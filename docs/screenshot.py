"""Photographs a page by Debian's Chromium: as wide as a screen, as high as what is on it, in a palette that keeps the file small.

    python -m docs.screenshot PAGE.html IMAGE.png

The README's picture of the demo is made so: docs/how-to/draw-a-run.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

CHROMIUM = "/usr/bin/chromium"
WIDTH_PX, TALLEST_PX, SCALE, MARGIN_PX, COLOURS = 1280, 3000, 1.5, 20, 256
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


def photograph(page: Path, image: Path) -> None:
    """A tall window is cut to its content."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        argv = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, "--hide-scrollbars", f"--user-data-dir={folder}/profile",
            f"--force-device-scale-factor={SCALE}", f"--window-size={WIDTH_PX},{TALLEST_PX}", f"--screenshot={raw}",
            page.resolve().as_uri(),
        ]  # fmt: skip
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        with Image.open(raw) as taken:
            small = _cut(taken.convert("RGB")).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(image, optimize=True)


def _cut(taken: Image.Image) -> Image.Image:
    """Without what is nothing but background below the content."""
    background = Image.new("RGB", taken.size, taken.getpixel((0, 0)))
    box = ImageChops.difference(taken, background).getbbox() or (0, 0, *taken.size)
    return taken.crop((0, 0, taken.width, min(taken.height, box[3] + round(MARGIN_PX * SCALE))))


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]))
