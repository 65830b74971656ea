"""The models that the front serves, as the agent lists them, and a seat of each that was asked for.

The list is asked for again when it is older than `FRESH_S` and somebody wants something, or when a seat has ended: so nothing runs while
nobody asks, and what was swapped is found by the next request. No version means the live one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from contracts.errors import RejectedError, SkerryError, error
from edge_agent.inference.oip.classes import labels_of
from edge_agent.inference.oip.ports import Arenas, SeatClient
from edge_agent.inference.oip.request import Signature
from edge_agent.inference.oip.seat import Seat

FRESH_S = 1.0
NEW_S = 0.05


@dataclass(frozen=True)
class Model:
    """One loaded version."""

    name: str
    version: str
    digest: str
    state: str
    live: bool
    input: Signature
    output: Signature
    backend: str = ""
    candidate: bool = False  # an update tries it beside the live one

    @classmethod
    def of(cls, listed: Mapping[str, Any]) -> Model:
        return cls(
            name=listed["name"],
            version=str(listed["number"]),
            digest=listed["digest"],
            state=listed["state"],
            live=bool(listed["live"]),
            input=Signature.of(listed["input"]),
            output=Signature.of(listed["output"]),
            backend=str(listed.get("backend", "")),
            candidate=bool(listed.get("candidate", False)),
        )

    @property
    def ready(self) -> bool:
        """Its worker runs, and has passed its golden vectors since it was started."""
        return self.state == "ready"


def find(models: Iterable[Model], name: str, version: str) -> Model:
    """The version that is meant; without one the live one, else the only one. Raises RejectedError ARENA_MODEL."""
    named = [model for model in models if model.name == name]
    meant = [model for model in named if model.version == version] if version else [model for model in named if model.live] or named
    if len(meant) != 1:
        raise error("ARENA_MODEL", "/".join(part for part in (name, version) if part)[:80], _why(meant))
    return meant[0]


def _why(meant: Sequence[Model]) -> str:
    return "several versions, none of them live: name one" if meant else ""


class Pair(NamedTuple):
    """Whose answers are compared."""

    live: Model | None = None
    candidate: Model | None = None  # only one that is ready: it has passed its golden vectors


def pair_of(models: Sequence[Model]) -> Pair:
    live = next((model for model in models if model.live), None)
    return Pair(live, next((model for model in models if model.candidate and model.ready), None) if live else None)


class Models:
    def __init__(
        self,
        arenas: Arenas,
        line_limit: int,
        monotonic: Callable[[], float] = time.monotonic,
        spare: Callable[[str], SeatClient | None] = lambda _: None,
    ) -> None:
        """`line_limit`: requests of one model that may wait for a cell. `spare` hands over a seat that this process has for another use;
        it may block.
        """
        self._arenas, self._line_limit, self._monotonic, self._spare = arenas, line_limit, monotonic, spare
        self.pair = Pair()  # of the last list
        self._listed: tuple[Model, ...] = ()
        self._listed_s = float("-inf")
        self._found: dict[tuple[str, str], Model] = {}  # what was asked for -> what it meant in this list
        self._asking: asyncio.Future[None] | None = None
        self._seats: dict[str, Seat] = {}
        self._ended: list[Seat] = []  # detached, with requests that are still to be answered or given up
        self._attaching: dict[str, asyncio.Future[Seat]] = {}

    async def all(self) -> tuple[Model, ...]:
        """Raises LocalFaultError SETUP_NOT_RUNNING."""
        if not self._fresh():
            await self._ask()
        return self._listed

    async def find(self, name: str, version: str) -> Model:
        """What is not known is asked for once more before it is refused, unless the list is quite new: a flood of unknown names is the
        front's to bear and not the agent's. Raises RejectedError ARENA_MODEL, and as `all`.
        """
        known = self._found.get((name, version))
        if known is not None and self._fresh():
            return known
        try:
            model = find(await self.all(), name, version)
        except RejectedError:
            if self._age_s() <= NEW_S:
                raise
            self.forget()
            model = find(await self.all(), name, version)
        self._found[name, version] = model
        return model

    def announce(self, model: Model) -> None:
        """A request of it is about to come."""
        seat = self._seats.get(model.digest)
        if seat is not None and not seat.detached:
            seat.announce()

    async def seat(self, model: Model) -> Seat:
        """Raises as `Arenas.attach`."""
        seat = self._seats.get(model.digest)
        if seat is not None and not seat.detached:
            return seat
        attaching = self._attaching.get(model.digest)
        if attaching is None:
            attaching = self._attaching[model.digest] = asyncio.ensure_future(self._attach(model.digest))
        return await asyncio.shield(attaching)

    def forget(self) -> None:
        """What was listed is out of date; no candidate is tried by it any more."""
        self.pair = self.pair._replace(candidate=None)
        self._listed_s = float("-inf")

    def pending(self) -> dict[str, int]:
        """Digest -> requests that wait."""
        return {digest: seat.pending for digest, seat in self._seats.items()}

    def close(self) -> None:
        for seat in (*self._seats.values(), *self._ended):
            seat.close()
        self._seats.clear()
        self._ended.clear()

    # -- inside

    def _fresh(self) -> bool:
        return self._age_s() <= FRESH_S

    def _age_s(self) -> float:
        return self._monotonic() - self._listed_s

    async def _ask(self) -> None:
        """All who ask at once share one question."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._list())
        await asyncio.shield(self._asking)

    async def _list(self) -> None:
        try:
            listed = await asyncio.to_thread(self._arenas.models)
            self._listed, self._listed_s = tuple(Model.of(one) for one in listed), self._monotonic()
            self.pair = pair_of(self._listed)
            self._found.clear()
            self._close_ended()
        finally:
            self._asking = None

    def _close_ended(self) -> None:
        for digest in [digest for digest, seat in self._seats.items() if seat.detached]:
            self._ended.append(self._seats.pop(digest))
        for seat in [seat for seat in self._ended if not seat.pending]:
            self._ended.remove(seat)
            seat.close()

    async def _attach(self, digest: str) -> Seat:
        try:
            client, labels = await asyncio.to_thread(self._attached, digest)
            self._close_ended()
            seat = self._seats[digest] = Seat(client, self._line_limit, labels)
            return seat
        finally:
            del self._attaching[digest]

    def _attached(self, digest: str) -> tuple[SeatClient, tuple[str, ...]]:
        """Blocks. The classes' labels are read here and not listed: they may be long."""
        client = self._client(digest)
        return client, labels_of(client.route.get("slot", ""))

    def _client(self, digest: str) -> SeatClient:
        """Where every seat is taken, the one by which this model was tried, unless it still is."""
        try:
            return self._arenas.attach(digest)
        except SkerryError as refused:
            tried = self.pair.candidate is not None and self.pair.candidate.digest == digest
            client = self._spare(digest) if refused.code == "ARENA_SEATS" and not tried else None
            if client is None:
                raise
            return client
