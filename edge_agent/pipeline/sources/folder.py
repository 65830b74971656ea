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
        """A folder without pictures is looked at again for each frame; one that has some keeps those that it had, until one is gone."""
        try:
            path = self._path(frame_no)
        except OSError as closed:
            raise FrameError(f"{self._folder}: {closed.strerror}") from closed
        return decoded(path, str(path))

    def _path(self, frame_no: int) -> Path:
        self._paths = self._paths or self._listed()
        path = self._paths[frame_no % len(self._paths)]
        if not path.is_file():
            self._paths = self._listed()
            path = self._paths[frame_no % len(self._paths)]
        return path

    def _listed(self) -> list[Path]:
        found = sorted(path for path in self._folder.glob("*.png") if path.is_file())  # a pipe would be waited for
        if not found:
            raise FrameError(f"{self._folder} holds no *.png frame" if self._folder.is_dir() else f"{self._folder} is no folder")
        return found
