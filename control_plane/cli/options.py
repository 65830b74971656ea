"""The three options that every command has, and the decorator that gives them to it."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from control_plane.cli.client import Client

DEFAULT_URL = "http://127.0.0.1:8484"
DEFAULT_TOKEN_FILE = Path("~/.config/skerry/token")

Url = Annotated[str, typer.Option("--url", envvar="SKERRY_URL", help="The operators' API.")]
TokenFile = Annotated[Path, typer.Option("--token-file", envvar="SKERRY_TOKEN_FILE", help="File that holds the operator's token.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON instead of a table.")]


@dataclass(frozen=True)
class Site:
    """The site that a command talks to, and how its answer is shown."""

    url: str
    token_file: Path
    as_json: bool

    def client(self) -> Client:
        from control_plane.cli.client import Client, read_token

        return Client(self.url, read_token(self.token_file.expanduser()))

    def show(self, value: Any, render: Callable[[Any], RenderableType]) -> None:
        """`value` is the API's JSON: printed as it is, or as `render` draws it."""
        if self.as_json:
            typer.echo(json.dumps(value, indent=2))
        else:
            from control_plane.cli.tables import console

            console().print(render(value))


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register `function(site, ...)` as a command that has --url, --token-file and --json besides its own options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, url: str, token_file: Path, as_json: bool, **own: Any) -> None:
            function(Site(url, token_file, as_json), **own)

        hints = get_type_hints(function, include_extras=True)
        _site, *rest = inspect.signature(function).parameters.values()
        parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in rest]
        parameters += _common()
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        app.command(name)(run)
        return function

    return register


def _common() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("url", keyword, default=DEFAULT_URL, annotation=Url),
        inspect.Parameter("token_file", keyword, default=DEFAULT_TOKEN_FILE, annotation=TokenFile),
        inspect.Parameter("as_json", keyword, default=False, annotation=AsJson),
    ]


def group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
