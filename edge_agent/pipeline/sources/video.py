"""Video files and cameras by PyAV: FFmpeg's readers of files, RTSP, HTTP and V4L2 behind one call. Imported only where one is configured:
it takes 20 MB.

Run on: files, cameras that send MJPEG over HTTP or H.264 over RTSP. Not run on any machine so far: V4L2 (`/dev/video*`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av

from edge_agent.pipeline.sources.frame_error import FrameError
from edge_agent.pipeline.sources.newest import Newest
from edge_agent.pipeline.sources.picture import MAX_PIXELS

Array = Any
OPEN_S = 5.0
_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer"}  # over UDP a busy network tears pictures; an old picture is worth nothing


class VideoFile:
    """The pictures of a file one after the other, over and over. Each frame takes the next one, whatever its number is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pictures: Iterator[Array] = iter(())

    def take(self, frame_no: int) -> Array:
        try:
            picture = next(self._pictures, None)
            if picture is None:
                self._pictures = _pictures(str(self._path))
                picture = next(self._pictures, None)
        except (av.FFmpegError, OSError, ValueError) as broken:
            self._pictures = iter(())  # from the start again
            raise FrameError(f"{self._path}: {broken}") from broken
        if picture is None:
            raise FrameError(f"{self._path} holds no picture")
        return picture

    def close(self) -> None:
        self._pictures = iter(())


def file(values: Mapping[str, Any]) -> VideoFile:
    return VideoFile(Path(values["path"]))


def camera(values: Mapping[str, Any]) -> Newest:
    """`url`: rtsp://..., http://... or /dev/video0; given up and opened again after `silence_s` without a byte."""
    url, silence_s = str(values["url"]), float(values["silence_s"])
    kind = "v4l2" if url.startswith("/dev/") else None
    return Newest(_without_password(url), lambda: _said_without_url(_pictures(url, kind, _OPTIONS, (OPEN_S, silence_s))))


def _pictures(url: str, kind: str | None = None, options: Mapping[str, str] | None = None, timeout: Any = None) -> Iterator[Array]:
    with av.open(url, format=kind, options=dict(options or {}), timeout=timeout) as container:
        if not container.streams.video:
            raise FrameError(f"{_without_password(url)} holds no video")
        video = container.streams.video[0].codec_context
        _check_size(video.width, video.height)
        video.options = {"max_pixels": str(MAX_PIXELS)}  # for what it says later
        for frame in container.decode(video=0):
            _check_size(frame.width, frame.height)
            yield frame.to_ndarray(format="gray" if frame.format.name.startswith("gray") else "rgb24")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FrameError(f"{width} x {height} pixels, more than {MAX_PIXELS}")


def _said_without_url(pictures: Iterator[Array]) -> Iterator[Array]:
    """PyAV's errors quote the URL, password and all."""
    try:
        yield from pictures
    except av.ExitError:  # FFmpeg's own word is "Immediate exit requested"
        raise FrameError("no answer in time") from None
    except (av.FFmpegError, OSError, ValueError) as broken:
        raise FrameError(getattr(broken, "strerror", None) or type(broken).__name__) from None


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if slashes else url
