"""The pictures of a folder in the order of their names, over and over: frame n is picture n modulo their count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.pipeline.sources.frame_error import FrameError
from edge_agent.pipeline.sources.picture import decoded


class FolderSource:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> FolderSource:
        return cls(Path(values["path"]))

    def close(self) -> None:
        return

    def take(self, frame_no: int) -> Any:
        """A folder without pictures is looked at again for each frame; one that has some keeps those that it had at first."""
        self._paths = self._paths or sorted(self._folder.glob("*.png"))
        if not self._paths:
            raise FrameError(f"{self._folder} holds no *.png frame" if self._folder.is_dir() else f"{self._folder} is no folder")
        path = self._paths[frame_no % len(self._paths)]
        return decoded(path, str(path))
