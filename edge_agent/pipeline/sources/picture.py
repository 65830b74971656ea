"""One JPEG or PNG, of a file or of a message, as a frame."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from edge_agent.pipeline.sources.frame_error import FrameError

Array = Any
MAX_PIXELS = 32 * 1024 * 1024  # an 8K frame; 300 MB while it is unpacked, a gigabyte as a tensor
MAX_SCANS = 100  # of a JPEG: each is a pass over all of its pixels; a progressive one has ten
_SCAN = b"\xff\xda"
# Pillow has readers of forty formats; those of pictures that nobody sends are only ways in.
_FORMATS = ("PNG", "JPEG")
_EIGHT_BITS = ("L", "RGB", "1", "P", "LA", "RGBA", "CMYK", "YCbCr")  # Pillow would make nearly all of a 16 bit picture white


def decoded(source: Path | IO[bytes], name: str) -> Array:
    """uint8 (height, width) or (height, width, 3). Raises FrameError, which names `name`."""
    try:
        with Image.open(source, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise FrameError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS}")
            if picture.format == "JPEG" and (scans := _scans(source)) > MAX_SCANS:
                raise FrameError(f"{name}: {scans} scans, more than {MAX_SCANS}")
            if picture.mode not in _EIGHT_BITS:
                raise FrameError(f"{name}: pixels of kind {picture.mode}; 8 bits a value are read")
            return np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    except FrameError:
        raise
    except Exception as broken:  # chunks that end early are errors of all kinds in Pillow; for some pictures there is no memory
        raise FrameError(f"{name} is no picture: {broken or type(broken).__name__}") from broken


def _scans(source: Path | IO[bytes]) -> int:
    if isinstance(source, Path):
        return source.read_bytes().count(_SCAN)
    at = source.tell()
    source.seek(0)
    scans = source.read().count(_SCAN)
    source.seek(at)
    return scans
