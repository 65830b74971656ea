"""skerry enrol token; skerry device list | show | approve | revoke"""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.options import Site, command, group

enrol = group("Bringing devices in.")
app = group("Devices: what they are, what they run, whether they may.")

DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="dev-...")]


@command(enrol, "token")
def token(
    site: Site,
    serial: Annotated[str | None, typer.Option(help="Only the machine with this serial number may use it.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value, copied to the device; may be given more than once.")] = None,
    valid_s: Annotated[int, typer.Option(min=1, help="How long it may be used.")] = 86_400,
    approve: Annotated[bool, typer.Option("--approve/--hold", help="Enrol at once, or hold for `skerry device approve`.")] = True,
) -> None:
    """Make a one-time token; hand it to the machine's installer.

    \b
    Examples:
      $ skerry enrol token
      $ skerry enrol token --serial C0FFEE --label line=3 --hold
    """
    from contracts.operator import TokenRequest
    from control_plane.cli.campaign_request import labels

    request = TokenRequest(serial=serial, labels=labels(label or []), valid_s=valid_s, preregistered=approve)
    site.show(site.client().post("enrolment-tokens", body=request.model_dump(mode="json")), lambda answer: answer["token"])


@command(app, "list")
def list_devices(site: Site) -> None:
    """Every device with its state and what it runs.

    \b
    Example:
      $ skerry device list
    """
    from control_plane.cli.tables import devices

    site.show(site.client().get("devices"), devices)


@command(app, "show")
def show(site: Site, device: DeviceId) -> None:
    """One device.

    \b
    Example:
      $ skerry device show dev-abcdefghijklmnopqrstuvwxyz
    """
    from control_plane.cli.tables import device as table

    site.show(site.client().get("devices", device), table)


@command(app, "approve")
def approve(site: Site, device: DeviceId) -> None:
    """Let a device in whose token was made with --hold.

    \b
    Example:
      $ skerry device approve dev-abcdefghijklmnopqrstuvwxyz
    """
    from control_plane.cli.tables import device as table

    site.show(site.client().post("devices", device, "approve"), table)


@command(app, "revoke")
def revoke(site: Site, device: DeviceId) -> None:
    """Shut a device out: its certificate is refused within a second.

    \b
    Example:
      $ skerry device revoke dev-abcdefghijklmnopqrstuvwxyz
    """
    from control_plane.cli.tables import device as table

    site.show(site.client().post("devices", device, "revoke"), table)
