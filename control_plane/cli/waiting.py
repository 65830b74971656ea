"""Commands that stay: they follow the event log by long poll and look again only when something happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import typer

from control_plane.cli.campaign_picture import campaign as picture
from control_plane.cli.client import EVENTS_WAIT_S, Client, Deadline
from control_plane.cli.exits import NOT_YET
from control_plane.cli.options import Site
from control_plane.cli.tables import console, event

_ORDER = ("BUILDING", "BUILT", "APPROVED", "SIGNED")  # of a release; FAILED ends any wait
_ENDED = frozenset({"SUCCEEDED", "ROLLED_BACK", "ABORTED"})

Json = dict[str, Any]


def _each_change(client: Client, read: Callable[[], Json], timeout_s: float | None, thing: str) -> Iterator[Json]:
    """`read()` now and after each batch of new events. Ends with NOT_YET when `timeout_s` is over.

    The log's end is taken before the first read, so that no change between the two is missed.
    """
    deadline, seq = Deadline(timeout_s), client.last_event()
    while True:
        yield read()
        while not (fresh := client.events(seq, deadline.left_s())):
            if deadline.passed:
                typer.echo(f"skerry: {thing}: not so after {timeout_s:g} s", err=True)
                raise typer.Exit(NOT_YET)
        seq = fresh[-1]["seq"]


def wait_for_release(client: Client, release: str, state: str, timeout_s: float) -> Json:
    """The ReleaseView once it is in `state`, beyond it, or FAILED. What it is in meanwhile is said on stderr: a build takes a while."""
    wanted, said = _ORDER.index(state) if state in _ORDER else len(_ORDER) - 1, ""
    for found in _each_change(client, lambda: client.get("releases", release), timeout_s, f"release {release} {state}"):
        if found["state"] == "FAILED" or _ORDER.index(found["state"]) >= wanted:
            return found
        if found["state"] != said:
            said = found["state"]
            typer.echo(f"{release} is {said}; waiting for {state}", err=True)
    raise AssertionError("the changes of a release never end")


def watch_campaign(site: Site, client: Client, campaign: str, timeout_s: float | None) -> Json:
    """Show the campaign at each change until it ends; its last view."""
    draw = _drawer(site)
    for found in _each_change(client, lambda: client.get("campaigns", campaign), timeout_s, f"campaign {campaign}"):
        draw(found)
        if found["state"] in _ENDED:
            return found
    raise AssertionError("the changes of a campaign never end")


def _drawer(site: Site) -> Callable[[Json], None]:
    """On a terminal one picture over the other; else one after the other, and only when it is another one."""
    last: list[Json] = []
    screen = console()

    def draw(found: Json) -> None:
        if last and last[0] == found:
            return
        last[:] = [found]
        if site.as_json:
            typer.echo(json.dumps(found))
        else:
            if screen.is_terminal:
                screen.clear()
            screen.print(picture(found))

    return draw


def print_events(site: Site, after: int, follow: bool) -> None:
    """Every event after `after`; with `follow` the later ones too, until interrupted."""
    client, screen = site.client(), console()
    while (page := client.events(after, EVENTS_WAIT_S if follow else 0)) or follow:
        for line in page:
            after = line["seq"]
            if site.as_json:
                typer.echo(json.dumps(line))
            else:
                screen.print(event(line), soft_wrap=True)
