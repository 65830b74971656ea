"""Who asked for what: a log line for each bundle or member that a device asks for, so that "it never saw it" can be looked up.

Said before the answer: a request that fails was made all the same. Metadata and polls are left out: every device asks for those.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from control_plane.api.auth import device
from program.log import Log

_log = Log("content")


def note(device_id: str, sha256: str) -> None:
    _log("content_asked", device_id=device_id, sha256=sha256[:64])


def noted(device_id: Annotated[str, Depends(device)], sha256: str) -> None:
    """A dependency of routes that a device asks by `{sha256}`."""
    note(device_id, sha256)
