"""skerry keys status; skerry status | trace | events"""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.exits import FAILED
from control_plane.cli.options import Site, command, group

keys = group("Keys, certificates and signed metadata.")


@command(keys, "status")
def keys_status(site: Site) -> None:
    """When each role and certificate expires; exit code 1 when something is past half its life or expired.

    \b
    Example:
      $ skerry keys status
    """
    from control_plane.cli.tables import keys as table
    from control_plane.cli.tables import needs_renewal

    found = site.client().get("keys")
    site.show(found, table)
    if needs_renewal(found):
        raise typer.Exit(FAILED)


def status(site: Site) -> None:
    """Counts, versions, and what waits for what.

    \b
    Example:
      $ skerry status
    """
    from control_plane.cli.tables import status as table

    site.show(site.client().get("status"), table)


def trace(site: Site, bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Bundle digest, from a row or a device.")]) -> None:
    """From a bundle to model version, run and data, each hop read from its own store; exit code 1 when one does not fit.

    \b
    Example:
      $ skerry trace 4c1f9d6b0c6a4a2c8c6f1d0e9b7a5f3e2d1c0b9a8f7e6d5c4b3a291807f6e5d4
    """
    from control_plane.cli.tables import trace as table

    found = site.client().get("trace", bundle)
    site.show(found, table)
    if not found["complete"]:
        raise typer.Exit(FAILED)


def events(
    site: Site,
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher number.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new events until interrupted.")] = False,
) -> None:
    """The log of everything that happened, which cannot be shortened unseen. With --json one event per line.

    \b
    Examples:
      $ skerry events
      $ skerry events --after 1
    """
    from control_plane.cli.waiting import print_events

    print_events(site, after, follow)


def add_to(app: typer.Typer) -> None:
    for function in (status, trace, events):
        command(app, function.__name__)(function)
