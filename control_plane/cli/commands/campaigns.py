"""skerry campaign create | show | list | pause | resume | abort"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from control_plane.cli.exits import FAILED
from control_plane.cli.options import Site, command, group

app = group("Campaigns: a release, wave by wave, judged by what the devices report.")

Revision = Annotated[int | None, typer.Option(help="Only if it is still at this revision, as `show` prints it.")]
CampaignId = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Id, as `campaign list` shows it.")]


@command(app, "create")
def create(
    site: Site,
    name: Annotated[str | None, typer.Argument(help="Name of the campaign; may come from the file.")] = None,
    file: Annotated[Path | None, typer.Option(help="TOML with the fields of the request; the options below win over it.")] = None,
    release: Annotated[str | None, typer.Option(help="<name>-<number>, signed.")] = None,
    wave: Annotated[list[str] | None, typer.Option(help="How many devices, or `all` that are left; `2:600` soaks 600 s. In order.")] = None,
    gate: Annotated[list[str] | None, typer.Option(help="metric=limit[@samples], in every wave: latency_p95_us=20000@100.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value: only devices that carry it.")] = None,
    probation_s: Annotated[float | None, typer.Option(help="Shortest probation.")] = None,
    probation_frames: Annotated[int | None, typer.Option(help="Fewest frames in the probation.")] = None,
    shadow_pairs: Annotated[int | None, typer.Option(help="Frames that both models answer before activation.")] = None,
    on_failure: Annotated[str | None, typer.Option(help="rollback or pause.")] = None,
) -> None:
    """Start a campaign.

    \b
    Examples:
      $ skerry campaign create first --release digits_line-1 --wave 1 --wave all --gate install_success=1
      $ skerry campaign create --file campaign.toml
    """
    from control_plane.cli import campaign_request as request
    from control_plane.cli.campaign_picture import campaign

    options = {
        "name": name, "release": release, "waves": request.waves(wave or [], gate or []), "labels": request.labels(label or []),
        "probation_s": probation_s, "probation_frames": probation_frames, "shadow_pairs": shadow_pairs, "on_failure": on_failure,
    }  # fmt: skip
    site.show(site.client().post("campaigns", body=request.build(file, options)), campaign)


@command(app, "list")
def list_campaigns(site: Site) -> None:
    """Every campaign with its state and what it waits for.

    \b
    Example:
      $ skerry campaign list
    """
    from control_plane.cli.tables import campaigns

    site.show(site.client().get("campaigns"), campaigns)


@command(app, "show")
def show(
    site: Site,
    campaign: CampaignId,
    watch: Annotated[
        bool, typer.Option("--watch", help="Draw it anew at each change until it ends; exit code 1 unless it succeeded.")
    ] = False,
    timeout_s: Annotated[float | None, typer.Option(help="With --watch: give up after this long (exit code 4).")] = None,
) -> None:
    """Waves, gates with value against limit, and each device's state.

    \b
    Examples:
      $ skerry campaign show first-1
      $ skerry campaign show first-1 --watch --timeout-s 300
    """
    from control_plane.cli import campaign_picture, waiting

    client = site.client()
    if not watch:
        site.show(client.get("campaigns", campaign), campaign_picture.campaign)
    elif waiting.watch_campaign(site, client, campaign, timeout_s)["state"] != "SUCCEEDED":
        raise typer.Exit(FAILED)


@command(app, "pause")
def pause(site: Site, campaign: CampaignId, revision: Revision = None) -> None:
    """Begin nothing new. What no device has activated yet is taken back; what has been activated finishes.

    \b
    Examples:
      $ skerry campaign pause first-1
      $ skerry campaign pause first-1 --revision 4
    """
    _steer(site, campaign, "pause", revision)


@command(app, "resume")
def resume(site: Site, campaign: CampaignId, revision: Revision = None) -> None:
    """Go on where a person paused it. A campaign that a gate has stopped stays stopped.

    \b
    Example:
      $ skerry campaign resume first-1
    """
    _steer(site, campaign, "resume", revision)


@command(app, "abort")
def abort(site: Site, campaign: CampaignId, revision: Revision = None) -> None:
    """Stop it for good: devices that have not begun stay as they are.

    \b
    Example:
      $ skerry campaign abort first-1
    """
    _steer(site, campaign, "abort", revision)


def _steer(site: Site, campaign: str, act: Literal["pause", "resume", "abort"], revision: int | None) -> None:
    from control_plane.cli.campaign_picture import campaign as picture

    site.show(site.client().post("campaigns", campaign, act, revision=revision), picture)
