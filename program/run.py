"""One signal handler, one stop event, one way to start: `raise SystemExit(run("skerry-x", XConfig, main))`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from contracts.errors import SkerryError
from program import failure, log, notify
from program.config import Config, load
from program.disk import require_writable

C = TypeVar("C", bound=Config)
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_SETUP = 0, 1, 2, 3  # docs/reference/exit-codes.md


def arguments(program: str, description: str, default_config: str) -> argparse.ArgumentParser:
    """The options that every daemon has."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    add_arguments(parser, default_config)
    return parser


def add_arguments(parser: argparse.ArgumentParser, default_config: str) -> None:
    parser.add_argument("--config", type=Path, default=Path(default_config), help="TOML file (default %(default)s)")
    parser.add_argument("--state-dir", type=Path, help="overrides state_dir of the file")
    parser.add_argument("--run-dir", type=Path, help="overrides run_dir of the file")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"state_dir": options.state_dir, "run_dir": options.run_dir}


def run(program: str, model: type[C], options: argparse.Namespace, main: Callable[[C, asyncio.Event], Awaitable[None]]) -> int:
    """Load the configuration and run `main(config, stop)` until it returns; SIGTERM and SIGINT set `stop`.

    `main` calls notify.ready() once it serves. A SkerryError at start is printed with its remedy; any other
    exception ends the process with a traceback, and the supervisor restarts it.
    """
    log.configure(program)
    try:
        config = load(model, options.config, overrides(options))
        require_writable(config.state_dir, config.run_dir)
        asyncio.run(_until_stopped(config, main))
    except SkerryError as failed:
        log.Log(program).alarm(
            "program_failed", code=failed.code, thing=failed.thing, detail=str(failed), remedy=failed.remedy, see=failed.see
        )
        failure.tell(program, failed)
        return EXIT_FAILED
    return EXIT_OK


async def _until_stopped(config: C, main: Callable[[C, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await main(config, stop)
    finally:
        notify.stopping()
