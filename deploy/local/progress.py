"""What a person sees while the story runs: a line per proof, and never more than two seconds of silence.

With a terminal the waiting line is redrawn in place; without one (CI kills what is silent) it is printed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TextIO

from deploy.local.record import Proof, table
from program.clock import Clock

BEAT_S = 1.5  # below the two seconds that are promised, with room for a busy machine


class Progress:
    """`progress.beat()` runs beside the story."""

    def __init__(self, clock: Clock, out: TextIO = sys.stdout) -> None:
        self._clock, self._out = clock, out
        self._terminal = out.isatty()
        self.silent = False  # when the story is over and only Ctrl-C is awaited
        self._doing, self._since_s, self._spoke_s = "starting", clock.mono(), clock.mono()

    def doing(self, what: str) -> None:
        """What is waited for from now on."""
        self._doing, self._since_s = what, self._clock.mono()
        self._waiting_line()

    def say(self, line: str) -> None:
        self._clear()
        print(line, file=self._out, flush=True)
        self._spoke_s = self._clock.mono()

    def proved(self, proof: Proof) -> None:
        self.say(f"  {'ok    ' if proof.ok else 'FAILED'} {proof.step}  {proof.what}  ({proof.seconds:.1f} s)")

    async def beat(self) -> None:
        """Runs beside the story until it is cancelled."""
        never = asyncio.Event()
        while not await self._clock.wait(never, BEAT_S / 3):
            if not self.silent and (self._terminal or self._clock.mono() - self._spoke_s >= BEAT_S * 2 / 3):
                self._waiting_line()

    def _waiting_line(self) -> None:
        line = f"  ..     {self._doing} ({self._clock.mono() - self._since_s:.0f} s)"
        if self._terminal:
            self._out.write(f"\r\x1b[2K{line[:120]}")
            self._out.flush()
        else:
            print(line, file=self._out, flush=True)
        self._spoke_s = self._clock.mono()

    def _clear(self) -> None:
        if self._terminal:
            self._out.write("\r\x1b[2K")


def render(record: dict[str, Any], out: TextIO = sys.stdout) -> None:
    """The table of the record's JSON form."""
    from rich.console import Console  # noqa: PLC0415  # only people need it
    from rich.table import Table  # noqa: PLC0415

    console = Console(file=out, width=None if out.isatty() else 160, highlight=False, markup=False)
    proofs = Table(title="What was proved", title_justify="left", show_lines=False)
    for name in ("step", "what", "event", "figures", "s", "verdict"):
        proofs.add_column(name, overflow="fold", justify="right" if name == "s" else "left")
    for row in table(record):
        proofs.add_row(*row)
    console.print(proofs)
    if record["programs"]:
        console.print(_programs(record["programs"]))


def _programs(programs: list[dict[str, Any]]) -> Any:
    from rich.table import Table  # noqa: PLC0415

    shown = Table(title="Programs", title_justify="left")
    names = list(dict.fromkeys(name for program in programs for name in program))
    for name in names:
        shown.add_column(name, justify="left" if name == "name" else "right")
    for program in programs:
        shown.add_row(*(str(program.get(name, "")) for name in names))
    return shown
