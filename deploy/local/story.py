"""The frame of the story: each step waits for a named event with a deadline, never for a sleep, and leaves a Proof.

The first thing that is not true ends the story: later steps would stand on nothing. The tail of the logs that matter is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import LocalFaultError, SkerryError, error
from contracts.operator import EventView
from deploy.local.following import Following, following
from deploy.local.operators_api import EventFeed, OperatorsApi
from deploy.local.processes import Done, command, environment
from deploy.local.progress import Progress
from deploy.local.record import Proof, Record
from deploy.local.site import LocalSite
from deploy.local.supervisor import Event, Supervisor, tail
from program.clock import Clock


@dataclass
class Story:
    site: LocalSite
    supervisor: Supervisor
    clock: Clock
    progress: Progress
    record: Record
    seed: int
    picture: Path  # the page that is drawn at the end
    example: str = "digits_line"  # of examples/: who trains, what the cameras see, and the model's name
    devices: dict[str, str] = field(default_factory=dict)  # program (agent-1) -> device id
    recipes: dict[int, int] = field(default_factory=lambda: {1: 1, 2: 2, 3: 3})  # model version -> what it is trained by
    releases: dict[int, str] = field(default_factory=dict)  # model version -> release id
    digests: dict[int, str] = field(default_factory=dict)  # model version -> bundle digest
    api: OperatorsApi = field(init=False)
    feed: EventFeed = field(init=False)
    training: asyncio.Task[Any] = field(init=False)  # of the version that is needed next, beside the story
    cloud_down: dict[str, tuple[float, float]] = field(default_factory=dict)  # program -> from, to (monotonic seconds)
    _never: asyncio.Event = field(default_factory=asyncio.Event)
    _beside: list[asyncio.Task[Any]] = field(default_factory=list)

    async def __aenter__(self) -> Story:
        self.beside(self.progress.beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)

    def beside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs while the story goes on; cancelled when it ends."""
        self._beside.append(task := asyncio.create_task(work))
        return task

    def connect(self) -> None:
        """Follow the operators' log from now on."""
        self.api = OperatorsApi(self.site.ports.operators, self.site.token("operator").read_text().strip())
        self.feed = EventFeed(self.api, self.clock)
        self.beside(self.feed.run())

    # -- proving

    @contextlib.asynccontextmanager
    async def proving(self, step: str, what: str, deadline_s: float, logs: Sequence[str] = ()) -> AsyncIterator[Proof]:
        """Everything in the block within `deadline_s`. A failure is recorded with the ends of `logs`, and raised."""
        proof = Proof(step, what, ok=False)
        self.progress.doing(what)
        began_s = self.clock.mono()
        try:
            async with asyncio.timeout(deadline_s):
                yield proof
            proof.ok = True
        except TimeoutError as late:
            failed = error("SETUP_STEP_FAILED", what, f"not within {deadline_s:g} s{self._ends(logs)}")
            proof.code, proof.detail = failed.code, failed.detail
            raise failed from late
        except SkerryError as failed:
            proof.code, proof.detail = failed.code, f"{failed}{self._ends(logs)}"
            if _has_a_remedy_of_its_own(failed) and not logs:
                raise
            raise error("SETUP_STEP_FAILED", what, proof.detail) from failed
        finally:
            proof.seconds = round(self.clock.mono() - began_s, 3)
            self.record.proofs.append(proof)
            self.progress.proved(proof)

    def _ends(self, logs: Sequence[str]) -> str:
        paths = [self.supervisor.log_path(name) for name in logs]
        return "".join(f"\n  end of {path}:\n{tail(path)}" for path in paths)

    async def operators_event(self, proof: Proof, wanted: Callable[[EventView], bool], after: int = 0) -> EventView:
        event = await self.feed.wait(wanted, after)
        proof.source, proof.event_no = "operators' log", event.seq
        return event

    async def supervisors_event(self, proof: Proof, wanted: Callable[[Event], bool], deadline_s: float, after: int = 0) -> Event:
        event = await self.supervisor.wait(wanted, deadline_s, after)
        proof.source, proof.event_no = "supervisor", event.no
        return event

    # -- acting: the real programs, as the people who would use them

    async def act(self, person: str, *argv: str, given: str = "") -> Done:
        """Run a command as `person`; SETUP_STEP_FAILED with its own words when it fails."""
        done = await command(argv, self.site.owner(person), self.environment_of(person), given)
        if done.returncode != 0:
            raise error(
                "SETUP_STEP_FAILED",
                " ".join(_short(part) for part in argv),
                f"exit {done.returncode}: {(done.stderr or done.stdout)[-1500:]}",
            )
        return done

    async def skerry(self, person: str, *arguments: str) -> Any:
        """`skerry ARGUMENTS --json` as `person`: what it printed, parsed."""
        done = await self.act(person, self.site.bin("skerry"), *arguments, "--json")
        return json.loads(done.stdout)

    async def trainer(self, *arguments: str) -> Done:
        return await self.act("trainer", self.site.bin("python"), "-m", f"examples.{self.example}", *arguments)

    async def agent(self, name: str, *arguments: str) -> Any:
        """`skerry-agent ARGUMENTS --json` on a device: what it printed, parsed."""
        done = await self.act(name, self.site.bin("skerry-agent"), *arguments, "--config", str(self.site.config(name)), "--json")
        return json.loads(done.stdout)

    def follow(self, name: str) -> contextlib.AbstractAsyncContextManager[Following]:
        """A device's status, line by line."""
        argv = (self.site.bin("skerry-agent"), "status", "--config", str(self.site.config(name)), "--json", "--follow")
        return following(name, argv, self.site.owner(name), self.environment_of(name))

    async def audit(self) -> Any:
        done = await self.act("ingest", self.site.bin("skerry-ingest"), "audit", "--config", str(self.site.config("ingest")), "--json")
        return json.loads(done.stdout)

    def environment_of(self, person: str) -> dict[str, str]:
        home = self.site.person(person) if self.site.person(person).exists() else self.site.state(person)
        token = str(self.site.token(person)) if self.site.token(person).exists() else ""
        return environment(home, person, {"SKERRY_URL": self.site.url, "SKERRY_TOKEN_FILE": token} if token else {})

    async def until(self, read: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], pace_s: float = 0.1) -> Any:
        """Read until it is as wanted, at most every `pace_s`; for what has no event to wait on. The proof has the deadline."""
        while not wanted(seen := await read()):
            await self.clock.wait(self._never, pace_s)
        return seen

    async def until_mono(self, mono_s: float) -> None:
        """For figures that are defined by a time ("after a minute"), never to wait for something to have happened."""
        await self.clock.wait(self._never, max(0.0, mono_s - self.clock.mono()))


def _has_a_remedy_of_its_own(failed: SkerryError) -> bool:
    """What this machine lacks: a port, a package, room. Of what did not come true only the logs tell."""
    return isinstance(failed, LocalFaultError) and failed.code != "SETUP_STEP_FAILED"


def want(true: bool, what: str, seen: Any = "") -> None:
    """SETUP_STEP_FAILED unless `true`."""
    if not true:
        raise error("SETUP_STEP_FAILED", what, f"seen: {seen}")


def _short(part: str) -> str:
    return Path(part).name if part.startswith("/") else part
