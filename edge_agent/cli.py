"""`skerry-agent`: the daemon, enrolment, and what a person at the device may ask. Exit codes: docs/reference/exit-codes.md."""

from __future__ import annotations

import argparse
import json
import platform
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.enrolment import Token
from contracts.errors import SkerryError, error
from edge_agent import AGENT_VERSION
from edge_agent.config import DEFAULT_CONFIG, AgentConfig
from program import failure, log
from program.config import load
from program.disk import writing
from program.files import write_durably
from program.memory import limit_arenas
from program.run import EXIT_FAILED, EXIT_OK, add_arguments, overrides, run

ROW_COUNTS = ("accepted_rows", "acked_rows", "shed_rows")

EXAMPLES = """examples:
  skerry-agent enrol --token skt1.SECRET.CA --server control.example:8444
  skerry-agent run --config /etc/skerry/agent.toml
  skerry-agent status
  skerry-agent status --json
  skerry-agent ledger --json
  skerry-agent client-library > skerry_client.py
"""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except SkerryError as failed:
        failure.tell("skerry-agent", failed, getattr(options, "json", False))
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_OK  # the reader of our output hung up


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skerry-agent",
        description="The daemon on the device, and what a person at the device may ask it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {AGENT_VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _command(commands, "run", "run the daemon until SIGTERM", _run)
    enrol = _command(commands, "enrol", "get an identity by a one-time token", _enrol)
    enrol.add_argument("--token", required=True, help="the token (skt1...), or - to read it from standard input")
    enrol.add_argument("--server", required=True, help="HOST:PORT of the enrolment listener")
    enrol.add_argument("--serial", help="serial number, where the token is bound to one (default: the board's, if it shows one)")
    status = _command(commands, "status", "what the running agent does", _status)
    status.add_argument("--json", action="store_true", help="one JSON object")
    status.add_argument("--follow", action="store_true", help="with --json: a line at each change, at most five a second")
    ledger = _command(commands, "ledger", "what the outbox accepted, per stream", _ledger)
    ledger.add_argument("--json", action="store_true", help="one JSON object")
    _command(commands, "client-library", "print the Python client of arena.sock as one file", _client_library)
    return parser


def _command(commands: Any, name: str, text: str, call: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    add_arguments(parser, DEFAULT_CONFIG)
    parser.set_defaults(command=call)
    return parser


# -- run


def _run(options: argparse.Namespace) -> int:
    _stay_small()
    from edge_agent import agent  # noqa: PLC0415  status and --help shall not wait for what the daemon needs

    return run("skerry-agent", AgentConfig, options, agent.main)


def _stay_small() -> None:
    """The agent has 60 MB. All of it must come before anything is imported or started that they are about."""
    # loaded where they are installed: dnspython by paho, for SRV look-ups, 3 MB; brotli by urllib3, for bodies that no agent asks for
    for unused in ("dns", "brotli"):
        sys.modules.setdefault(unused, None)  # type: ignore[arg-type]
    limit_arenas(1)  # our threads hold little and wait for disk and network


# -- enrol


def _enrol(options: argparse.Namespace) -> int:
    from edge_agent.adapters.enrolment import enrol  # noqa: PLC0415

    log.configure("skerry-agent", "WARNING")
    config = _config(options)
    text = sys.stdin.readline() if options.token == "-" else options.token
    token = _token(text)
    identity = enrol(
        options.server,
        token,
        config.state_dir / "keys",
        _inventory(config, options.serial),
        network=config.network,
        wait=threading.Event().wait,
    )
    print(json.dumps({"device": identity.device, "certificate_not_after": identity.not_after.isoformat()}))
    _write_starter(options.config, config)
    return EXIT_OK


def _token(text: str) -> Token:
    """What is wrong with it is not said in its own words: it is a secret."""
    try:
        return Token.parse(text)
    except ValueError:
        raise error("ENROL_TOKEN_UNKNOWN", "--token", "it is not of the form skt1.<secret>.<sha256>") from None


def _config(options: argparse.Namespace) -> AgentConfig:
    """Enrolment and status do with the defaults where no file was written yet."""
    if options.config.exists():
        return load(AgentConfig, options.config, overrides(options))
    given = {key: value for key, value in overrides(options).items() if value is not None}
    return AgentConfig(**given)


def _write_starter(path: Path, config: AgentConfig) -> None:
    if path.exists() or not path.parent.is_dir():
        return
    import tomli_w  # noqa: PLC0415

    with writing("SETUP_STATE_DISK", path, "writing a first configuration"):
        write_durably(path, tomli_w.dumps({"state_dir": str(config.state_dir), "run_dir": str(config.run_dir)}).encode())


def _inventory(config: AgentConfig, serial: str | None) -> dict[str, Any]:
    from firmware_profiles.detect import detect  # noqa: PLC0415

    return {
        "profile": detect(config.profile_root).name,
        "serial": serial or _board_serial(config.profile_root),
        "hostname": socket.gethostname(),
        "agent_version": AGENT_VERSION,
        "machine": platform.machine(),
        "kernel": platform.release(),
    }


def _board_serial(root: Path) -> str:
    for name in ("proc/device-tree/serial-number", "sys/class/dmi/id/product_serial"):
        try:
            return (root / name).read_text(errors="replace").strip("\0\n ")
        except OSError:
            continue
    return ""


# -- status, ledger


def _status(options: argparse.Namespace) -> int:
    from edge_agent.adapters.control_socket import ask  # noqa: PLC0415

    for answer in ask(_config(options).run_dir, "follow" if options.follow else "status"):
        if options.json or options.follow:
            print(json.dumps(answer), flush=True)
        else:
            _print_status(answer)
    return EXIT_OK


def _print_status(status: dict[str, Any]) -> None:
    streams = status["outbox"]["streams"].values()
    lines = {
        "device": f"{status['device']} ({status['profile']})",
        "state": " ".join(part for part in (status["state"], status["execution"], status["code"]) if part),
        "running": status["running_digest"] or "no model",
        "frames": f"{status['pipeline']['frames']} ({status['pipeline']['refused']} refused{_codes(status['pipeline']['refusals'])})",
        "rows": ", ".join(f"{sum(one[name] for one in streams)} {name.removesuffix('_rows')}" for name in ROW_COUNTS),
        **_windows(status),
        "broker": "connected" if status["connected"] else "not connected",
        "control": status["poll_trouble"] or "in contact",
        "disk": status["disk_trouble"] or "takes writes",
    }
    for name, text in lines.items():
        print(f"{name:<9} {text}")


def _codes(refusals: dict[str, int]) -> str:
    """The most frequent first."""
    most = sorted((code for code, frames in refusals.items() if frames), key=lambda code: -refusals[code])
    return f"; since the agent started: {', '.join(f'{code} {refusals[code]}' for code in most)}" if most else ""


def _windows(status: dict[str, Any]) -> dict[str, str]:
    """A line of its own where this device has feature windows; the rows above count theirs, too."""
    accepted = sum(one["accepted_rows"] for one in status["outbox"]["streams"].values() if one["lane"] == "windows")
    refused, kept = status["pipeline"]["window_rows_refused"], status["pipeline"]["kept"]
    if not (accepted or refused or kept):
        return {}
    stay = f"; rows of {kept} frames stay here" if kept else ""
    return {"windows": f"{accepted} rows accepted, {refused} refused{stay}"}


def _client_library(options: argparse.Namespace) -> int:
    from edge_agent.inference import client_file  # noqa: PLC0415

    print(client_file.text(), end="")
    return EXIT_OK


def _ledger(options: argparse.Namespace) -> int:
    """From the running agent, or straight from the outbox's file when none runs."""
    config = _config(options)
    answer = _ledger_of(config)
    if options.json:
        print(json.dumps(answer))
    else:
        for stream, entry in answer["streams"].items():
            print(
                f"{stream}  {entry['accepted_rows']} rows to {entry['accepted_seq']}  {entry['acked_rows']} acked  {entry['running_hash']}"
            )
    return EXIT_OK


def _ledger_of(config: AgentConfig) -> dict[str, Any]:
    from edge_agent.adapters.control_socket import ask  # noqa: PLC0415

    try:
        return next(ask(config.run_dir, "ledger"))
    except SkerryError:
        return _ledger_from_file(config.state_dir / "outbox.db")


def _ledger_from_file(path: Path) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    from sync.uplink.outbox import read_ledger  # noqa: PLC0415

    if not path.exists():
        raise error("ENROL_MISSING", str(path), "no agent ever ran here")
    return {"streams": {stream: asdict(entry) for stream, entry in read_ledger(path).items()}}
