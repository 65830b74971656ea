"""Where frames come from. A source gives the frame of a number when asked; pacing is the loop's.

A source that has nothing to give is a normal state: each frame is then refused as FRAME_SOURCE and counted, and the first one that
comes is answered. So opening one never fails, and never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edge_agent.pipeline.sources.folder import FolderSource
from edge_agent.pipeline.sources.frame_error import FrameError

__all__ = ["FrameError", "Source", "open_source"]


class Source(Protocol):
    def take(self, frame_no: int) -> Any:
        """uint8 (height, width) or (height, width, 3). Numbers rise, with holes where a frame came too late. Raises FrameError."""


class _Unknown:
    """A kind that only another version of the pipeline has."""

    def __init__(self, kind: str) -> None:
        self._why = f"unknown kind of source {kind}; known: {', '.join(KINDS)}"

    def take(self, frame_no: int) -> Any:
        raise FrameError(self._why)


KINDS: Mapping[str, Callable[[Mapping[str, Any]], Source]] = {"folder": FolderSource.of}


def open_source(values: Mapping[str, Any]) -> Source:
    """`values`: the table [source] of agent.toml (edge_agent/config.py)."""
    kind = str(values.get("kind"))
    return KINDS[kind](values) if kind in KINDS else _Unknown(kind)
