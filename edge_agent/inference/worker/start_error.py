"""What a worker can say before it is ready."""

from __future__ import annotations

from typing import Any


class StartError(Exception):
    """The worker will not serve. `code` is one of contracts/errors.py; `figures` is what was measured so far."""

    def __init__(self, code: str, detail: str, figures: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.figures = code, detail, figures or {}
