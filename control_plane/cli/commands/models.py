"""skerry model list | show | alias"""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.cli.options import Site, command, group

app = group("Registered models, their versions and aliases.")

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the registered model.")]


@command(app, "list")
def list_models(site: Site) -> None:
    """Every model with its versions and aliases.

    \b
    Example:
      $ skerry model list
    """
    from control_plane.cli.tables import models

    site.show(site.client().get("models"), models)


@command(app, "show")
def show(site: Site, name: ModelName) -> None:
    """The versions of one model: metrics, data, run.

    \b
    Example:
      $ skerry model show digits_line
    """
    from control_plane.cli.tables import model

    site.show(site.client().get("models", name), model)


@command(app, "alias")
def alias(
    site: Site,
    name: ModelName,
    alias: Annotated[str, typer.Argument(help="candidate, champion, or one of your own.")],
    version: Annotated[int, typer.Argument(min=1, help="The version it shall name.")],
) -> None:
    """Point an alias at a version. Moving `candidate` starts the build of a release.

    \b
    Example:
      $ skerry model alias digits_line candidate 2
    """
    from control_plane.cli.tables import model_version

    site.show(site.client().put("models", name, "aliases", alias, body={"version": version}), model_version)
