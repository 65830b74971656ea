"""The ingest loop: receive, judge, gather, commit, acknowledge. One thread; `step` is one pass and holds no state of its own.

The order is the promise: rows are committed and on disk (Sink.commit has returned) before the signed ack is published, and
the broker's copy is let go last. A lake whose disk takes no writes holds everything: no ack goes out, and the broker, whose copies are
not let go, sends no more than its window; the flush is tried again until it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from contracts import topics
from contracts.batch import INGEST_WINDOW, Ack, AckedStream, Nack
from contracts.canonical import CONTEXT_ACK, CONTEXT_NACK, canonical_json, seal
from contracts.errors import LocalFaultError, SkerryError, TransientError, error
from contracts.features import bronze
from contracts.ids import DEVICE_ID
from program.clock import Clock
from program.log import Log
from signatures.ed25519 import SigningKey
from sync import mqtt
from sync.ingest.gathered import Gathered
from sync.ingest.intake import Batch, admit
from sync.ingest.ports import Registry
from sync.ingest.sink import Sink
from sync.ingest.status import Status


class Mail(Protocol):
    """sync.ingest.mailbox.Mailbox, or a simulator."""

    connected: bool
    connection_no: int

    def receive(self, timeout_s: float) -> mqtt.Message | mqtt.Connected | None: ...
    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None: ...
    def acknowledge(self, message: mqtt.Message) -> None: ...


@dataclass(frozen=True)
class Limits:
    """A flush happens at the first of these, or when a device has used half of its credit: soon it would have to wait for the ack.

    `messages`: the same for the broker, which sends no more than its window. `parked_bytes`: batches kept that came too early.
    """

    rows: int = 100_000
    bytes: int = 32 * 1024 * 1024
    seconds: float = 1.0
    parked_bytes: int = 8 * 1024 * 1024
    credit_bytes: int = 8 * 1024 * 1024  # granted to each device
    messages: int = INGEST_WINDOW // 2
    retry_s: float = 1.0  # a lake whose disk takes no writes is tried again


class Worker:
    def __init__(
        self,
        mail: Mail,
        registry: Registry,
        sink: Sink,
        *,
        key: SigningKey,
        clock: Clock,
        status: Status,
        limits: Limits,
        alarm: Callable[[SkerryError, str], None],
    ) -> None:
        """`alarm(refusal, device)` is told of each refusal, and must not block."""
        self._mail, self._registry, self._sink, self._key, self._alarm = mail, registry, sink, key, alarm
        self._clock, self._status, self._limits = clock, status, limits
        self._log = Log("ingest")
        self._gathered = Gathered(clock.mono())
        self.parked: list[Batch] = []  # too early; tried again with each flush
        self._prepared: set[str] = set()  # ids of schemas whose table is there
        self._retry_at: float | None = None  # when the lake's disk is tried again; None while it takes writes

    def step(self, wait_s: float) -> None:
        """Wait at most `wait_s` for a message, take what has come, flush when it is time."""
        event = self._mail.receive(min(wait_s, self._until_flush_s(wait_s)))
        while event is not None:
            if isinstance(event, mqtt.Connected):
                self._forget_held()
                self._acknowledge(self._sink.devices())
            else:
                self._take(event)
            event = self._mail.receive(0) if not self._full() else None
        self._status.link(self._mail.connected, self._mail.connection_no)
        self._status.write()
        if self._gathered.messages and self._is_due(wait_s):
            self.flush()

    def flush(self) -> None:
        """Commit what was gathered, then acknowledge: devices first, the broker last. On a full disk nothing of it happens."""
        try:
            outcome = self._sink.commit([*self.parked, *self._gathered.batches])
        except LocalFaultError as full:
            self._hold(full)
            return
        done, self._gathered = self._gathered, Gathered(self._clock.mono())
        self._go_on()
        self._status.committed(outcome.committed)
        self._status.duplicates += len(outcome.duplicates)
        self._park(outcome.ahead)
        for overlap in outcome.overlaps:
            self._refuse(overlap, error("INGEST_LEDGER", overlap.stream, "numbers that were committed come again in a gap"))
        self._status.dropped([*outcome.duplicates, *outcome.overlaps])
        self._acknowledge({batch.header.device for batch in (*outcome.committed, *outcome.duplicates)})
        for message in done.messages:
            self._mail.acknowledge(message)
        self._status.write()

    def _hold(self, full: LocalFaultError) -> None:
        if self._retry_at is None:
            self._log.alarm("lake_holds", code=full.code, detail=str(full), remedy=full.remedy, batches=len(self._gathered.batches))
            self._alarm(full, "")
        self._retry_at = self._clock.mono() + self._limits.retry_s
        self._status.stuck(str(full))
        self._status.write()

    def _go_on(self) -> None:
        if self._retry_at is not None:
            self._log("lake_goes_on")
        self._retry_at = None
        self._status.stuck("")

    def _forget_held(self) -> None:
        """A new connection while the disk is full: nothing of the old one was acknowledged, so it comes again; memory stays bounded."""
        if self._retry_at is not None:
            self._status.dropped(self._gathered.batches)
            self._gathered = Gathered(self._clock.mono())

    def _is_due(self, wait_s: float) -> bool:
        if self._retry_at is not None:
            return self._clock.mono() >= self._retry_at
        return self._full() or self._until_flush_s(wait_s) <= 0

    def _until_flush_s(self, otherwise_s: float) -> float:
        if self._retry_at is not None or not self._gathered.messages:
            return otherwise_s
        return max(0.0, self._gathered.began + self._limits.seconds - self._clock.mono())

    def _full(self) -> bool:
        has, limits = self._gathered, self._limits
        enough = has.rows >= limits.rows or has.bytes >= limits.bytes or len(has.messages) >= limits.messages
        return enough or has.most_bytes >= limits.credit_bytes / 2

    def _take(self, message: mqtt.Message) -> None:
        if not self._gathered.messages:
            self._gathered.began = self._clock.mono()
        self._gathered.take(message)
        try:
            batch = admit(message.topic, message.payload, self._registry)
            self._prepare(batch)
        except TransientError as held:
            self._status.held += 1
            self._log("batch_held", code=held.code, detail=str(held))
            self._nack(message.topic, held)
        except LocalFaultError as fault:  # the table of this family is not ours to write: the device keeps its rows
            self._status.held += 1
            self._log.alarm("batch_held", code=fault.code, detail=str(fault))
            self._alarm(fault, _sender(message.topic))
            self._nack(message.topic, fault)
        except SkerryError as refused:
            self._status.refused += 1
            self._log.alarm("batch_refused", code=refused.code, detail=str(refused))
            self._alarm(refused, _sender(message.topic))
            self._nack(message.topic, refused)
        else:
            self._gathered.add(batch)
            self._status.received(batch)

    def _prepare(self, batch: Batch) -> None:
        """Once for each schema: to ask the lake costs as much as to judge a small batch."""
        if batch.schema is not None and batch.header.schema_id not in self._prepared:
            self._sink.prepare(bronze(batch.schema))
            self._prepared.add(batch.header.schema_id)

    def _park(self, ahead: list[Batch]) -> None:
        """Keep the oldest numbers; what does not fit is dropped, its device sends it again."""
        self.parked, size = [], 0
        for position, batch in enumerate(sorted(ahead, key=lambda each: each.seq)):
            size += len(batch.message)
            if size > self._limits.parked_bytes:
                self._status.dropped(sorted(ahead, key=lambda each: each.seq)[position:])
                return
            self.parked.append(batch)

    def _acknowledge(self, devices: Iterable[str]) -> None:
        for device in sorted(devices):
            positions = self._sink.positions(device)
            streams = {name: AckedStream(seq=at.seq, running_hash=at.running_hash.hex()) for name, at in positions.items()}
            ack = Ack(
                device=device,
                streams=streams,
                credit_bytes=self._limits.credit_bytes,
                key_id=self._key.key_id,
                issued_utc_us=self._now_us(),
            )
            self._mail.publish(topics.ack(device), self._sealed(CONTEXT_ACK, ack), retain=True)
            self._status.acked(positions)

    def _refuse(self, batch: Batch, refused: SkerryError) -> None:
        device = batch.header.device
        self._log.alarm("batch_refused", code=refused.code, detail=str(refused), device_id=device, batch_seq=batch.seq)
        self._alarm(refused, device)
        self._status.refused += 1
        self._send_nack(device, batch.stream, batch.seq, refused.code, refused.detail)

    def _nack(self, topic: str, refusal: SkerryError) -> None:
        """To the device whose topic it came on: the broker saw its certificate."""
        if device := _sender(topic):
            self._send_nack(device, "", 0, refusal.code, str(refusal))

    def _send_nack(self, device: str, stream: str, seq: int, code: str, detail: str) -> None:
        nack = Nack(
            device=device, stream=stream, seq=seq, code=code, detail=detail[:200], key_id=self._key.key_id, issued_utc_us=self._now_us()
        )
        self._mail.publish(topics.nack(device), self._sealed(CONTEXT_NACK, nack))

    def _sealed(self, context: bytes, told: Ack | Nack) -> bytes:
        payload = canonical_json(told.model_dump(mode="json"))
        return seal(payload, self._key.sign(context, payload))

    def _now_us(self) -> int:
        return int(self._clock.utc().timestamp() * 1_000_000)


def _sender(topic: str) -> str:
    """The device that may publish there; "" for none."""
    parsed = topics.parse_up(topic)
    return parsed[0] if parsed and DEVICE_ID.fullmatch(parsed[0]) else ""
