"""A device and an ingest joined by hand: the real outbox, codec, intake, sink and worker; time, wire and lake are the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topics
from contracts.batch import Ack
from contracts.canonical import CONTEXT_ACK, canonical_json, seal
from contracts.features import FRAME_COLUMNS, Column, FeatureSchema
from signatures.ed25519 import SigningKey
from sync.ingest.ports import Lake, Registry
from sync.ingest.sink import Sink
from sync.ingest.status import Status
from sync.ingest.worker import Limits, Worker
from sync.uplink.ack import open_ack
from sync.uplink.outbox import Outbox, Outgoing
from tests.simulators.clock import SimulatedClock
from tests.simulators.mail import SimulatedMail

DEVICE = "dev-" + "a" * 26
OTHER_DEVICE = "dev-" + "b" * 26
DIGEST = "d" * 64
SCHEMA = FeatureSchema(
    family="digits",
    columns=(*FRAME_COLUMNS, Column(name="label", type="i16", min=0, max=9), Column(name="score", type="f32", min=0, max=1)),
)
WIDE_SCHEMA = FeatureSchema(family="wide", columns=(*SCHEMA.columns, Column(name="note", type="utf8", nullable=True)))
BAD = "bad"  # instead of a score: a row that ingest must quarantine


def signing_key(number: int) -> SigningKey:
    """The same key for the same number: failing examples can be repeated."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


DEVICE_KEY, ACK_KEY, STRANGER_KEY = signing_key(1), signing_key(2), signing_key(3)


def row(frame_no: int, bad: bool = False) -> list[Any]:
    return [frame_no, 1_700_000_000_000_000 + frame_no, frame_no, frame_no % 10, 7.5 if bad else 0.5]


def rows(first: int, count: int) -> list[list[Any]]:
    return [row(first + i) for i in range(count)]


def open_outbox(path: Path, budgets: dict[str, int] | None = None, **more: Any) -> Outbox:
    more = {"device": DEVICE, "boot_id": "boot-1", "key": DEVICE_KEY, "clock": SimulatedClock(), **more}
    return Outbox(path, budgets=budgets or {"live": 1 << 20}, **more)


def signed_ack(
    streams: dict[str, tuple[int, str]], key: SigningKey = ACK_KEY, device: str = DEVICE, named: SigningKey | None = None
) -> bytes:
    """stream -> (seq, running hash in hex), sealed by `key`, in the name of `named`."""
    told = {name: {"seq": seq, "running_hash": digest} for name, (seq, digest) in streams.items()}
    ack = Ack(device=device, streams=told, credit_bytes=1 << 20, key_id=(named or key).key_id, issued_utc_us=0)
    payload = canonical_json(ack.model_dump(mode="json"))
    return seal(payload, key.sign(CONTEXT_ACK, payload))


def believe(outbox: Outbox, message: bytes) -> int:
    """What the uplink does with a message on the ack topic."""
    return outbox.acknowledge(open_ack(message, {ACK_KEY.key_id: ACK_KEY.public}, outbox.device))


class Ingest:
    """One ingest process: a new one after each crash, over the same lake."""

    def __init__(
        self, lake: Lake, registry: Registry, folder: Path, limits: Limits | None = None, mail: SimulatedMail | None = None
    ) -> None:
        self.mail, self.clock = mail or SimulatedMail(), SimulatedClock()
        self.sink = Sink(lake, self.clock)
        self.status = Status(folder)
        self.alarms: list[tuple[str, str]] = []  # code, device
        self.worker = Worker(
            self.mail, registry, self.sink, key=ACK_KEY, clock=self.clock, status=self.status, limits=limits or Limits(),
            alarm=lambda refused, device: self.alarms.append((refused.code, device)),
        )  # fmt: skip

    def receive(self, *messages: bytes, lane: str = "live", device: str = DEVICE) -> None:
        """Messages arrive; nothing is committed yet."""
        for message in messages:
            self.mail.put(topics.up(device, lane), message)
        self.worker.step(0)

    def take(self, *records: Outgoing) -> None:
        for record in records:
            self.receive(record.message, lane=record.lane)

    def flush(self, device: str = DEVICE) -> list[bytes]:
        """Commit; the acks that came of it."""
        self.worker.flush()
        return self.mail.take(topics.ack(device))
