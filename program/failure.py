"""How an error reads: one form for people, one for scripts, the same in every program."""

from __future__ import annotations

import json
import sys

from contracts.errors import SkerryError


def tell(program: str, failed: SkerryError, as_json: bool = False) -> None:
    """On stderr: what and where, what to do, where it is explained; with `as_json` the same as one JSON object."""
    print(_as_json(program, failed) if as_json else f"{program}: {text(failed)}", file=sys.stderr)


def text(failed: SkerryError) -> str:
    return f"{failed}\n  remedy: {failed.remedy}\n  see: {failed.see}"


def _as_json(program: str, failed: SkerryError) -> str:
    detail = str(failed).removeprefix(f"{failed.code}: ")
    return json.dumps({"program": program, "code": failed.code, "detail": detail, "remedy": failed.remedy, "see": failed.see})
