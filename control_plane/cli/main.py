"""Entry of `skerry`. Modules of commands import nothing slow: what a command needs is imported when it runs."""

from __future__ import annotations

import sys

import typer

from control_plane.cli.commands import campaigns, devices, models, releases, site_wide
from control_plane.cli.exits import FAILED, NOT_YET, OK

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


def run(arguments: list[str]) -> int:
    """Run one command; its exit code, of exits.py. Typer itself prints usage errors and gives them 2."""
    from contracts.errors import SkerryError, TransientError
    from program.failure import tell

    try:
        app(args=arguments, prog_name="skerry")
    except SkerryError as failed:
        tell("skerry", failed, as_json="--json" in arguments)
        return NOT_YET if isinstance(failed, TransientError) else FAILED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else OK
    return OK


def main() -> None:
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
