"""Where frames come from. A source gives the frame of a number when asked; pacing is the loop's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

Array = Any


class FrameError(Exception):
    """This frame cannot be had; the next one may."""


class Source(Protocol):
    def take(self, frame_no: int) -> Array:
        """uint8 (height, width) or (height, width, 3). Numbers rise, with holes where a frame came too late. Raises FrameError."""


class FolderSource:
    """The pictures of a folder in the order of their names, over and over: frame n is picture n modulo their count."""

    def __init__(self, folder: Path) -> None:
        """Raises SystemExit when the folder holds no PNG."""
        self._paths = sorted(folder.glob("*.png"))
        if not self._paths:
            raise SystemExit(f"{folder} holds no *.png frame")

    def take(self, frame_no: int) -> Array:
        path = self._paths[frame_no % len(self._paths)]
        try:
            with Image.open(path) as picture:
                return np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
        except (OSError, UnidentifiedImageError, SyntaxError) as broken:  # Pillow raises SyntaxError for a broken PNG
            raise FrameError(str(path)) from broken


def open_source(values: Mapping[str, Any]) -> Source:
    """`{"kind": "folder", "path": ...}`. Raises SystemExit for a kind that this version does not know."""
    if values.get("kind") != "folder":
        raise SystemExit(f"unknown source {values.get('kind')!r}; known: folder")
    return FolderSource(Path(values["path"]))
