"""How the API's JSON looks to a person. Every function takes that JSON and returns something that Rich draws; nothing is fetched here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts.canonical import canonical_json, sha256_hex

PIPE_WIDTH = 160  # columns where there is no terminal to ask
DIGEST_SHOWN = 12  # characters; the whole digest is in --json
_COLOURS = {
    "ACTIVE": "green", "SIGNED": "green", "CONFIRMED": "green", "SUCCEEDED": "green", "PASSED": "green", "passed": "green",
    "FAILED": "red", "failed": "red", "REVERTED": "red", "REJECTED": "red", "TIMED_OUT": "red", "QUARANTINED": "red", "ROLLED_BACK": "red",
    "DECOMMISSIONED": "dim", "not_applicable": "dim", "PENDING": "dim", "QUEUED": "dim",
}  # fmt: skip
_STATE_DEFAULT = "yellow"


def console() -> Console:
    """A terminal's own width; where there is none, one that does not cut ids."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


def state(text: str) -> Text:
    return Text(text, style=_COLOURS.get(text, _STATE_DEFAULT))


def digest(text: str) -> str:
    return text[:DIGEST_SHOWN] if text else "-"


def grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _listing(rows: Iterable[tuple[RenderableType, ...]], nothing: str, *columns: str) -> RenderableType:
    table = grid(*columns)
    for row in rows:
        table.add_row(*row)
    return table if table.row_count else Text(nothing, style="dim")


def _facts(pairs: Iterable[tuple[str, RenderableType]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value)
    return table


# -- models and releases


def models(found: list[dict[str, Any]]) -> RenderableType:
    rows = ((view["name"], str(len(view["versions"])), _aliases(view["aliases"])) for view in found)
    return _listing(rows, "No model is registered.", "model", "versions", "aliases")


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} -> {version}" for alias, version in sorted(aliases.items())) or "-"


def model(view: dict[str, Any]) -> RenderableType:
    rows = ((str(version["version"]), ", ".join(version["aliases"]) or "-", *_registered(version)) for version in view["versions"])
    return _listing(rows, "No version.", "version", "aliases", "accuracy", "run", "data")


def _registered(version: dict[str, Any]) -> tuple[str, str, str]:
    registration = version["registration"]
    return _accuracy(registration["metrics"]), version["run"], registration["data_digest"]


def _accuracy(metrics: dict[str, float]) -> str:
    if "accuracy" not in metrics:
        return "-"
    share = f"{metrics['accuracy']:.1%}"
    low, high = metrics.get("accuracy_low"), metrics.get("accuracy_high")
    return share if low is None or high is None else f"{share} ({low:.1%} to {high:.1%})"


def model_version(version: dict[str, Any]) -> RenderableType:
    accuracy, run, data = _registered(version)
    identity = f"model:{version['name']}/{version['version']}"
    return _facts(
        [
            ("model version", identity),
            ("aliases", ", ".join(version["aliases"]) or "-"),
            ("accuracy", accuracy),
            ("run", run),
            ("data", data),
        ]
    )


def releases(found: list[dict[str, Any]]) -> RenderableType:
    rows = ((view["id"], state(view["state"]), view["model_version"], _profiles(view), _why(view)) for view in found)
    return _listing(
        rows, "There is no release. Moving the alias `candidate` makes one.", "release", "state", "model version", "profiles", "why"
    )


def _profiles(view: dict[str, Any]) -> str:
    return ", ".join(sorted(view["release"]["manifests"])) if view["release"] else "-"


def _why(view: dict[str, Any]) -> str:
    return view["detail"] or view["code"] or ""


def release(view: dict[str, Any]) -> RenderableType:
    facts: list[tuple[str, RenderableType]] = [
        ("release", view["id"]),
        ("state", state(view["state"])),
        ("model version", view["model_version"]),
    ]
    if view["release"]:
        facts.append(("digest to approve", sha256_hex(canonical_json(view["release"]))))
        facts += [(f"bundle {profile}", bundle) for profile, bundle in sorted(view["release"]["manifests"].items())]
    if view["code"]:
        facts.append(("why", _why(view)))
    return _facts(facts)


# -- devices


def devices(found: list[dict[str, Any]]) -> RenderableType:
    rows = (
        (
            view["id"],
            state(view["state"]),
            view["profile"] or "-",
            digest(view["running_digest"]),
            view["last_seen_utc"] or "never",
            _labels(view),
        )
        for view in found
    )
    return _listing(rows, "No device is enrolled.", "device", "state", "profile", "runs", "last seen (UTC)", "labels")


def _labels(view: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(view["labels"].items()))


def device(view: dict[str, Any]) -> RenderableType:
    return _facts(
        [
            ("device", view["id"]),
            ("state", state(view["state"])),
            ("profile", view["profile"] or "-"),
            ("labels", _labels(view) or "-"),
            ("runs", view["running_digest"] or "-"),
            ("confirmed", view["confirmed_digest"] or "-"),
            ("desired generation", str(view["desired_generation"])),
            ("last seen (UTC)", view["last_seen_utc"] or "never"),
            ("certificate until (UTC)", view["certificate_not_after"] or "-"),
            *((f"rows of {stream}", str(rows)) for stream, rows in sorted(view["ledger"].items())),
        ]
    )


# -- campaigns, in a list; one campaign is drawn by campaign_picture.py


def campaigns(found: list[dict[str, Any]]) -> RenderableType:
    rows = ((view["id"], state(view["state"]), view["release"], _waves(view), view["waits_for"]) for view in found)
    return _listing(rows, "There is no campaign.", "campaign", "state", "release", "waves passed", "waits for")


def _waves(view: dict[str, Any]) -> str:
    return f"{sum(wave['state'] == 'PASSED' for wave in view['waves'])} of {len(view['waves'])}"


# -- the site


def trace(found: dict[str, Any]) -> RenderableType:
    table = grid("hop", "store", "id", "holds", "detail")
    for hop in found["hops"]:
        table.add_row(hop["hop"], hop["store"], hop["id"] or "-", state("passed") if hop["ok"] else state("failed"), hop["detail"])
    verdict = Text("complete: every hop names the next", "green") if found["complete"] else Text("NOT complete", "bold red")
    return Group(f"bundle:{found['bundle']}", table, f"data {found['data'] or '-'}", verdict)


def keys(found: list[dict[str, Any]]) -> RenderableType:
    rows = (
        (
            view["name"],
            str(view["version"] or "-"),
            view["expires_utc"],
            state("failed") if view["overdue"] else state("passed"),
            view["detail"],
        )
        for view in found
    )
    return _listing(rows, "Nothing is signed yet.", "what", "version", "expires (UTC)", "in time", "detail")


def needs_renewal(found: list[dict[str, Any]]) -> bool:
    return any(view["overdue"] for view in found)


def status(found: dict[str, Any]) -> RenderableType:
    return _facts(_flat(found))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, RenderableType]]:
    facts: list[tuple[str, RenderableType]] = []
    for key, value in values.items():
        facts += _flat(value, f"{prefix}{key} ") if isinstance(value, dict) else [(prefix + key.replace("_", " "), str(value))]
    return facts


def event(line: dict[str, Any]) -> Text:
    facts = " ".join(f"{key}={_short(value)}" for key, value in line["data"].items())
    return Text.assemble(
        (f"{line['seq']:>6} ", "dim"), (line["utc"][:23] + " ", "dim"), (f"{line['event']:<24} ", "bold"), f"{line['subject']} ",
        (f"by {line['actor']} ", "dim"), facts,
    )  # fmt: skip


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
