"""ETag and If-Match of things that carry a revision: who acts on what he saw can say so."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Response

from contracts.errors import error

_ETAG = re.compile(r'"(\d{1,18})"')


def put_etag(response: Response, revision: int) -> None:
    response.headers["ETag"] = f'"{revision}"'


def if_match(if_match: Annotated[str, Header()] = "") -> int | None:
    """The revision that `If-Match` names; None when any will do. Raises API_INVALID."""
    if if_match in ("", "*"):
        return None
    named = _ETAG.fullmatch(if_match)
    if not named:
        raise error("API_INVALID", "If-Match", "it must be one ETag as it was sent")
    return int(named[1])
