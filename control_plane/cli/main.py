"""Entry of `skerry`. Modules of commands import nothing slow: what a command needs is imported when it runs."""

from __future__ import annotations

import sys

import typer

from control_plane.cli.commands import campaigns, devices, models, releases, site_wide
from control_plane.cli.exits import FAILED, NOT_YET

app = typer.Typer(
    name="skerry",
    help="Models down to the fleet, features up from it: the operator's commands.\n\n"
    "Every command takes --url, --token-file and --json; tables are renderings of that JSON.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)
for group, name in (
    (devices.enrol, "enrol"), (models.app, "model"), (releases.app, "release"), (campaigns.app, "campaign"),
    (devices.app, "device"), (site_wide.keys, "keys"),
):  # fmt: skip
    app.add_typer(group, name=name)
site_wide.add_to(app)


def main() -> None:
    """Run one command. Raises SystemExit with a code of exits.py."""
    from contracts.errors import SkerryError, TransientError

    try:
        app()
    except SkerryError as failed:
        print(f"skerry: {failed}\n  remedy: {failed.remedy}", file=sys.stderr)
        raise SystemExit(NOT_YET if isinstance(failed, TransientError) else FAILED) from None


if __name__ == "__main__":
    main()
