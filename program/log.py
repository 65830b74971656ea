"""One JSON line on stderr per change of state, first failure and recovery. Attempts are debug."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

_FIELDS = "skerry_fields"


class _JsonLines(logging.Formatter):
    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "utc": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "program": self._program,
            "event": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {"logger": record.name}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(program: str, level: str = "INFO") -> None:
    """Route everything, the libraries' lines too, to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(program))
    logging.basicConfig(handlers=[handler], level=level, force=True)


class Log:
    """`log = Log("update"); log("bundle_staged", bundle_digest=...)`. Field names: docs/explanation/architecture.md."""

    def __init__(self, name: str, **fields: Any) -> None:
        self._logger = logging.getLogger(f"skerry.{name}")
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        bound = Log.__new__(Log)
        bound._logger, bound._fields = self._logger, {**self._fields, **fields}
        return bound

    def __call__(self, event: str, **fields: Any) -> None:
        self._emit(logging.INFO, event, fields)

    def debug(self, event: str, **fields: Any) -> None:
        self._emit(logging.DEBUG, event, fields)

    def alarm(self, event: str, **fields: Any) -> None:
        """Somebody must look: a TrustError, a forged message, a failed promise."""
        self._emit(logging.ERROR, event, fields)

    def _emit(self, level: int, event: str, fields: dict[str, Any]) -> None:
        self._logger.log(level, event, extra={_FIELDS: {**self._fields, **fields}})
