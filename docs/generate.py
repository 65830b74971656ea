"""Reference pages made from the code: `python -m docs.generate` writes them, tests/architecture/test_docs.py holds them current."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from contracts.errors import CODES, LocalFaultError, RejectedError, SkerryError, TransientError, TrustError
from docs import symptoms
from edge_agent.core import diagram

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTICE = "<!-- Made by `python -m docs.generate`; edit the source named below. -->"

# -- errors

CLASSES: dict[type[SkerryError], str] = {
    TransientError: "back off and try again",
    RejectedError: "this content never works here: report it, do not retry",
    TrustError: "stop and alarm: somebody lies or a key is wrong",
    LocalFaultError: "this machine is at fault: stay on what runs, and report",
}


def errors_page() -> str:
    return "\n".join([*_errors_head(), *_code_sections(), ""])


def _errors_head() -> Iterator[str]:
    yield from ("# Error codes", "", NOTICE, "")
    yield "Made from `contracts/errors.py`. A code is `AREA_REASON` and never changes its meaning. Logs, reports of devices and"
    yield "problem+json carry it; its anchor here is the code in lower case. Its class says what the caller does next:"
    yield from ("", "| class | what the caller does next |", "|---|---|")
    yield from (f"| `{kind.__name__}` | {meaning} |" for kind, meaning in CLASSES.items())


def _code_sections() -> Iterator[str]:
    area = ""
    for code in sorted(CODES, key=lambda code: (_area_order(code), code)):
        if code.partition("_")[0] != area:
            area = code.partition("_")[0]
            yield from ("", f"## {area}")
        entry = CODES[code]
        yield from ("", f'### <a id="{code.lower()}"></a>{code}', "")
        yield f"{_sentence(entry.meaning)} **Remedy:** {entry.remedy}. *{entry.kind.__name__}*"


def _area_order(code: str) -> int:
    """Areas in the order in which the registry first names them."""
    areas = list(dict.fromkeys(name.partition("_")[0] for name in CODES))
    return areas.index(code.partition("_")[0])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


# -- configuration

PROGRAMS = (
    ("skerry-agent", "/etc/skerry/agent.toml", "edge_agent.config", "AgentConfig"),
    ("skerry-control", "/etc/skerry/control.toml", "control_plane.config", "ControlConfig"),
    ("skerry-build", "/etc/skerry/build.toml", "control_plane.build.config", "BuildConfig"),
    ("skerry-signer", "/etc/skerry/signer.toml", "control_plane.signer.config", "SignerConfig"),
    ("skerry-ingest", "/etc/skerry/ingest.toml", "sync.ingest.config", "IngestConfig"),
)
FRAME_KEYS = {
    "state_dir": "what survives a restart; written by this program alone",
    "run_dir": "sockets and process files; gone after a reboot",
}


@dataclass(frozen=True)
class Key:
    """One line of a program's table. `text` is "" when nobody wrote what the key is."""

    name: str
    kind: str
    default: str
    text: str


def configuration_page() -> str:
    lines = ["# Configuration", "", NOTICE, "", *_CONFIGURATION_HEAD]
    for program, path, module, name in PROGRAMS:
        model = getattr(importlib.import_module(module), name)
        lines += ["", f"## {program}", "", f"`{path}`, model `{name}` in `{module.replace('.', '/')}.py`.", ""]
        lines += ["| key | type | default | what it is |", "|---|---|---|---|"]
        lines += [f"| `{key.name}` | {key.kind} | {key.default} | {key.text} |" for key in keys(model)]
    return "\n".join([*lines, ""])


_CONFIGURATION_HEAD = (
    "Each program reads one TOML file into one frozen model. An unknown key or a wrong value is refused at start with",
    "[`CONFIG_INVALID`](errors.md#config_invalid), which names the key. Order of precedence: command line (`--state-dir`, `--run-dir`),",
    "environment, file, default. The variable of key `b` in table `a` is `SKERRY_A__B`. Secrets are paths, never values. Units stand",
    "in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes.",
)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    comments = _comments(model)
    for name, field in model.model_fields.items():
        text = field.description or comments.get(name, "") or (FRAME_KEYS.get(name, "") if not prefix else "")
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        table = _table(field.annotation)
        yield Key(prefix + name, "table" if table else _kind(field.annotation), default if not table else _table_default(default), text)
        if table:
            yield from keys(table, f"{prefix}{name}.")


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """field -> the comment at the end of its line, for the model and the models that it extends."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found.update(_trailing_comments(inspect.getsource(base)))
    return found


def _trailing_comments(source: str) -> dict[str, str]:
    tokens = list(tokenize.generate_tokens(io.StringIO(inspect.cleandoc("\n" + source)).readline))
    lines: dict[int, str] = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    first: dict[int, str] = {}  # line on which a statement ends -> its first name
    name, at_start = "", True
    for token in tokens:
        if at_start and token.type == tokenize.NAME:
            name, at_start = token.string, False
        elif token.type == tokenize.NEWLINE:
            first[token.start[0]] = name
            name, at_start = "", True
    return {name: _cleaned(lines[line]) for line, name in first.items() if name and line in lines}


def _cleaned(comment: str) -> str:
    text = comment.lstrip("# ").strip()
    if text.startswith("noqa"):
        text = text.partition(" - ")[2] or text.partition("  ")[2]
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _kind(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return {"Path": "path", "str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
            annotation.__name__, annotation.__name__
        )
    if "Literal" in str(annotation):
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    parts = [_kind(part) for part in get_args(annotation) if part is not type(None) and part is not Ellipsis]
    if str(annotation).startswith(("tuple", "list")):
        return "list of " + parts[0]
    if str(annotation).startswith("dict"):
        return f"table of {parts[1]} by name"
    return " or ".join(parts)


def _default(value: Any) -> str:
    if value is None or value == "" or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "a table"
    if isinstance(value, tuple | list):
        return f"`{list(value)}`"
    return "the agent's own interpreter" if value == sys.executable else f"`{value}`"


def _table_default(default: str) -> str:
    return "required" if default == "required" else ("below" if default == "a table" else "absent")


def troubleshoot_page() -> str:
    return symptoms.page(NOTICE)


PAGES = {
    "errors.md": errors_page,
    "configuration.md": configuration_page,
    "update-states.md": diagram.markdown,
    "troubleshoot.md": troubleshoot_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())


if __name__ == "__main__":
    main()
