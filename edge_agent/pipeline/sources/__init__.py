"""Where frames come from. A source gives the frame of a number when asked; pacing is the loop's.

A source that has nothing to give is a normal state: each frame is then refused as FRAME_SOURCE and counted, and the first one that
comes is answered. So opening one never fails, and never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from edge_agent.pipeline.sources.folder import FolderSource
from edge_agent.pipeline.sources.frame_error import FrameError

__all__ = ["FrameError", "Source", "open_source"]


class Source(Protocol):
    def take(self, frame_no: int) -> Any:
        """uint8 (height, width) or (height, width, 3). Numbers rise, with holes where a frame came too late. Raises FrameError."""

    def close(self) -> None: ...


class _Nothing:
    """In place of a source that this pipeline cannot have."""

    def __init__(self, why: str) -> None:
        self._why = why

    def take(self, frame_no: int) -> Any:
        raise FrameError(self._why)

    def close(self) -> None:
        return


def _of(module: str, make: str) -> Callable[[Mapping[str, Any]], Source]:
    """Imported when one is wanted: PyAV and paho weigh 20 MB and 4 MB, and a device need not have the first."""

    def opened(values: Mapping[str, Any]) -> Source:
        try:
            source: Source = getattr(import_module(f"{__name__}.{module}"), make)(values)
        except ImportError as missing:
            return _Nothing(f"{values['kind']} needs a package that is not installed (pip install 'skerry[video]'): {missing}")
        return source

    return opened


KINDS: Mapping[str, Callable[[Mapping[str, Any]], Source]] = {
    "folder": FolderSource.of,
    "video": _of("video", "file"),
    "camera": _of("video", "camera"),
    "topic": _of("topic", "topic"),
}


def open_source(values: Mapping[str, Any]) -> Source:
    """`values`: the table [source] of agent.toml (edge_agent/config.py)."""
    kind = str(values.get("kind"))
    return KINDS[kind](values) if kind in KINDS else _Nothing(f"unknown kind of source {kind}; known: {', '.join(KINDS)}")
