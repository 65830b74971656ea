"""The list of routes in contracts/operator.py is the API: what is listed is served, what is served is listed."""

from __future__ import annotations

import re

import pytest
from fastapi import APIRouter

from contracts import operator
from control_plane.api import poll, routers

METHODS = r"(?:GET|POST|PUT|HEAD|DELETE)"
_LISTED = re.compile(rf"({METHODS}(?:/{METHODS})*)((?: +/[\w/{{}}-]+)+)")
# In the list `/v1/events?after=...` ends at its query; names in braces are for the reader.
_BRACES = re.compile(r"\{[^}]*\}")
BY_DEVICE_POLL = {("GET", f"{poll.PREFIX}{{}}")}  # answered before the framework


def listed() -> set[tuple[str, str]]:
    """(method, path with nameless braces) of every line of the docstring."""
    found = set()
    for line in (operator.__doc__ or "").splitlines():
        for methods, paths in _LISTED.findall(line):
            found |= {(method, _BRACES.sub("{}", path)) for path in paths.split() for method in methods.split("/")}
    return found


def served(*some: APIRouter) -> set[tuple[str, str]]:
    return {(method, _BRACES.sub("{}", route.path)) for router in some for route in router.routes for method in route.methods}  # type: ignore[attr-defined]


ALL = (*routers.OPERATORS, *routers.INTERNAL, *routers.DEVICES, *routers.ENROLMENT)


def test_every_route_is_listed_and_nothing_else() -> None:
    assert served(*ALL) | BY_DEVICE_POLL == listed()


def test_the_list_was_read() -> None:
    assert len(listed()) > 30
    assert ("POST", "/v1/campaigns/{}/resume") in listed()


@pytest.mark.parametrize(
    ("some", "prefix"),
    [(routers.OPERATORS, "/v1/"), (routers.INTERNAL, "/internal/v1/"), (routers.DEVICES, "/device/v1/"), (routers.ENROLMENT, "/enrol/v1/")],
)
def test_each_listener_keeps_to_its_prefix(some: tuple[APIRouter, ...], prefix: str) -> None:
    assert {path for _, path in served(*some) if not path.startswith(prefix)} == set()
