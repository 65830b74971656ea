"""skerry release list | show | approve"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.exits import FAILED
from control_plane.cli.options import Site, command, group

app = group("Releases: what was built, who approved it, whether it is signed.")

ReleaseId = Annotated[str, typer.Argument(metavar="RELEASE", help="<name>-<number>.")]


@command(app, "list")
def list_releases(site: Site) -> None:
    """Every release, newest first.

    \b
    Example:
      $ skerry release list
    """
    from control_plane.cli.tables import releases

    site.show(site.client().get("releases"), releases)


@command(app, "show")
def show(
    site: Site,
    release: ReleaseId,
    wait: Annotated[str | None, typer.Option(help="Wait until it is in this state, or FAILED: BUILT, APPROVED or SIGNED.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Longest time to wait.")] = 600,
) -> None:
    """One release: its state, the manifests to approve, their digest. With --wait, exit code 1 when it FAILED instead.

    \b
    Examples:
      $ skerry release show digits_line-1
      $ skerry release show digits_line-1 --wait SIGNED --timeout-s 5
    """
    from control_plane.cli.tables import release as table
    from control_plane.cli.waiting import wait_for_release

    client = site.client()
    found = wait_for_release(client, release, wait, timeout_s) if wait else client.get("releases", release)
    site.show(found, table)
    if wait and found["state"] == "FAILED":
        raise typer.Exit(FAILED)


@command(app, "approve")
def approve(
    site: Site,
    release: ReleaseId,
    key: Annotated[Path, typer.Option(help="Your approver's key (Ed25519, PEM). It never leaves this machine.")],
    digest: Annotated[str | None, typer.Option(help="Approve only if this is the release's digest, as you checked it.")] = None,
) -> None:
    """Sign the release's digest with your key; the signer then publishes the release.

    \b
    Example:
      $ skerry release approve digits_line-1 --key approver.pem
    """
    from control_plane.cli.approval import approval_for
    from control_plane.cli.tables import release as table

    client = site.client()
    approval = approval_for(client.get("releases", release), key, digest)
    site.show(client.post("releases", release, "approval", body=approval), table)
