"""The operators' API over HTTP: JSON in, JSON out, problems as SkerryErrors."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from contracts.errors import CODES, SkerryError, error
from contracts.operator import Problem

TIMEOUT_S = 60.0  # longer than the server holds a long poll
EVENTS_WAIT_S = 20.0
EVENTS_PAGE = 500
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")  # RFC 6750


def read_token(path: Path) -> str:
    """The token in `path`. Raises CONFIG_MISSING, or CONFIG_INVALID, which never repeats what the file holds."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as unreadable:
        reason = getattr(unreadable, "strerror", None) or "not text"
        raise error("CONFIG_MISSING", str(path), f"the operator's token: {reason} (--token-file, SKERRY_TOKEN_FILE)") from unreadable
    if not _TOKEN.fullmatch(token):
        raise error("CONFIG_INVALID", str(path), "it does not hold one token and nothing else")
    return token


class Client:
    """Raises API_UNREACHABLE when nobody answers, else the error that the answer names."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=TIMEOUT_S), retries=False)

    def get(self, *path: str, **query: object) -> Any:
        return self._call("GET", path, query=query)

    def post(self, *path: str, body: object = None, revision: int | None = None) -> Any:
        """`revision`: refused with API_PRECONDITION when the thing is at another one."""
        return self._call("POST", path, body, headers={} if revision is None else {"If-Match": f'"{revision}"'})

    def put(self, *path: str, body: object = None) -> Any:
        return self._call("PUT", path, body)

    def events(self, after: int, wait_s: float) -> list[dict[str, Any]]:
        """Events after `after`, oldest first; waits up to `wait_s` for the first one."""
        found: list[dict[str, Any]] = self.get("events", after=after, limit=EVENTS_PAGE, wait_s=wait_s)
        return found

    def last_event(self) -> int:
        """seq of the newest event."""
        seq = 0
        while page := self.events(seq, 0):
            seq = page[-1]["seq"]
        return seq

    def _call(
        self, method: str, path: tuple[str, ...], body: object = None, query: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:  # fmt: skip
        address = "/v1/" + "/".join(quote(part, safe="") for part in path) + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body).encode()
        sent = self._headers | (headers or {}) | ({"Content-Type": "application/json"} if content is not None else {})
        try:
            answer = self._http.request(method, self._url + address, body=content, headers=sent)
        except urllib3.exceptions.HTTPError as failed:
            raise error("API_UNREACHABLE", self._url, _cause(failed)) from failed
        if answer.status >= 400:
            raise _problem(answer.data, address, answer.status)
        return _parsed(answer.data, self._url)


def _cause(failed: urllib3.exceptions.HTTPError) -> str:
    """urllib3 puts the system's own words last: `...: [Errno 111] Connection refused`."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(failed).rpartition(": ")[2])


def _parsed(content: bytes, url: str) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError as broken:
        raise error("API_UNREACHABLE", url, "the answer is not JSON: is this the operators' API?") from broken


def _problem(content: bytes, address: str, status: int) -> SkerryError:
    try:
        problem = Problem.model_validate_json(content)
    except ValueError:
        return error("API_UNREACHABLE", address, f"HTTP {status} without a problem document: is this the operators' API?")
    return error(problem.code if problem.code in CODES else "API_INVALID", "", problem.detail or problem.title)


class Deadline:
    """How long a command still waits; None waits for ever."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds until the end, never more than one long poll."""
        return EVENTS_WAIT_S if self._end is None else max(0.0, min(EVENTS_WAIT_S, self._end - time.monotonic()))

    @property
    def passed(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end
