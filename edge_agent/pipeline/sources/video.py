"""Video files and cameras by PyAV: FFmpeg's readers of files, RTSP, HTTP and V4L2 behind one call. Imported only where one is configured:
it takes 20 MB.

Run on: files, cameras that send MJPEG over HTTP or H.264 over RTSP. Not run on any machine so far: V4L2 (`/dev/video*`).
"""

from __future__ import annotations

import re
import time
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
_PLACE = re.compile(r"(?:[^/?#]*@)?([^/?#@]+[^?#;&=@]*)[^@]*")  # user and password, host and path, parameters


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
    """`url`: rtsp://..., http://... or /dev/video0; given up and opened again after `silence_s` without a picture."""
    url, silence_s = str(values["url"]), float(values["silence_s"])
    kind = "v4l2" if url.startswith("/dev/") else None
    return Newest(_shown(url), lambda: _said_without_url(_pictures(url, kind, _OPTIONS, silence_s)))


def _pictures(url: str, kind: str | None = None, options: Mapping[str, str] | None = None, silence_s: float = 0) -> Iterator[Array]:
    """`silence_s`: 0 for a file, which may take its time."""
    timeout = (OPEN_S, silence_s) if silence_s else None
    with av.open(url, format=kind, options=dict(options or {}), timeout=timeout) as container:
        if not container.streams.video:
            raise FrameError(f"{_shown(url)} holds no video")
        video = container.streams.video[0]
        _check_size(video.codec_context.width, video.codec_context.height)
        video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # for what it says later
        for packet in _packets(container, video, silence_s):
            for frame in packet.decode():
                _check_size(frame.width, frame.height)
                yield frame.to_ndarray(format="gray" if frame.format.name.startswith("gray") else "rgb24")


def _packets(container: Any, video: Any, silence_s: float) -> Iterator[Any]:
    """Of `video`. Raises FrameError when none has come for `silence_s`."""
    seen_s = time.monotonic()
    for packet in container.demux():  # all: PyAV's clock begins anew with each packet, also with sound that nobody asked for
        if packet.stream is video:
            yield packet
            seen_s = time.monotonic()
        elif silence_s and time.monotonic() - seen_s > silence_s:
            raise FrameError(f"no picture for {silence_s:g} s")


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


def _shown(url: str) -> str:
    """The address without user, password and parameters: cameras take a password in the query, too, or in the path as `/user=a&pwd=b`.

    Of one with an @ elsewhere nobody can say what is the password: nothing of it is shown.
    """
    scheme, slashes, rest = url.partition("://")
    place = _PLACE.fullmatch(rest)
    return f"{scheme}://{place[1] if place else '...'}" if slashes else url
