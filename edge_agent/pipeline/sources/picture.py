"""One JPEG or PNG, of a file or of a message, as a frame."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from edge_agent.pipeline.sources.frame_error import FrameError

Array = Any
MAX_PIXELS = 64 * 1024 * 1024  # 200 MB once it is unpacked; an 8K frame has 33 million
# Pillow has readers of forty formats; those of pictures that nobody sends are only ways in.
_FORMATS = ("PNG", "JPEG")
_EIGHT_BITS = ("L", "RGB", "1", "P", "LA", "RGBA", "CMYK", "YCbCr")  # Pillow would make nearly all of a 16 bit picture white
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # all that 640,000 mutated pictures raised


def decoded(source: Path | IO[bytes], name: str) -> Array:
    """uint8 (height, width) or (height, width, 3). Raises FrameError, which names `name`."""
    try:
        with Image.open(source, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise FrameError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS}")
            if picture.mode not in _EIGHT_BITS:
                raise FrameError(f"{name}: pixels of kind {picture.mode}; 8 bits a value are read")
            return np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    except _BROKEN as broken:
        raise FrameError(f"{name} is no picture: {broken}") from broken
