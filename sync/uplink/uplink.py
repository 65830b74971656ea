"""From the outbox to the broker, until the signed ack frees it. One task in the agent's loop; paho's thread stays behind sync/mqtt.py.

    uplink = Uplink(outbox, UplinkSettings(host="broker", port=8883),
                    tls=lambda: sync.mqtt.tls_context(ca, certificate, key),   # asked for each connection: certificates are renewed
                    ack_keys=lambda: {key_id: raw_public_key},                 # asked for each ack: keys rotate by the assignment
                    on_wake=..., on_nack=..., on_alarm=...)                    # called in the event loop
    await uplink.run(stop)       # returns when `stop` is set; reconnects by itself, for ever
    uplink.nudge()               # after Outbox.accept; from any thread
    uplink.keys_changed()        # after an assignment with other ack keys
    uplink.figures()             # for status pages

A disk that takes no writes (OUTBOX_DISK) holds the sending: nothing goes out that is not marked, no ack counts that is not kept.

Rules: the broker's PUBACK frees nothing and only says whether somebody listens; silence goes back to the watermark;
each reason code that a broker may answer with stands in the table below.
"""

from __future__ import annotations

import asyncio
import math
import random as randomness
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from contracts import topics
from contracts.batch import Nack
from contracts.errors import LocalFaultError, SkerryError, error
from contracts.presence import Presence
from program.clock import Clock, SystemClock
from program.log import Log
from sync import mqtt
from sync.uplink.ack import open_ack, open_nack
from sync.uplink.outbox import Outbox, Outgoing
from sync.uplink.window import Delays, SendWindow

# What a reason code does, beside the back-off that every lost connection brings:
#                            lost connection: wait at least, s    PUBACK: hold sending    alarm
# 0x10 nobody subscribed     -                                    yes, if it was rows     no (ingest is away)
# 0x87 not authorised        60                                   yes                     yes
# 0x8E session taken over    300 (do not fight the other one)     -                       yes
# 0x97 quota exceeded        60                                   yes                     no
NOT_BEFORE_S = {mqtt.NOT_AUTHORIZED: 60.0, mqtt.SESSION_TAKEN_OVER: 300.0, mqtt.QUOTA_EXCEEDED: 60.0}
ALARMING = frozenset({mqtt.NOT_AUTHORIZED, mqtt.SESSION_TAKEN_OVER, mqtt.PACKET_TOO_LARGE})

SILENCE = Delays(first_s=10.0, limit_s=120.0)
RECONNECT = Delays(first_s=1.0, limit_s=60.0)
PACKET_OVERHEAD_BYTES = 256  # fixed header, topic and properties around a payload
MAX_WAITING = 256  # messages not yet looked at: a broker that floods must not fill the memory of a device
IDLE_S = 60.0
STABLE_S = 20.0


@dataclass(frozen=True)
class UplinkSettings:
    host: str
    port: int
    credit_bytes: int = 1024 * 1024  # until an ack says otherwise
    silence: Delays = SILENCE
    reconnect: Delays = RECONNECT
    first_contact_s: float = 0.5
    keepalive_s: int = 20
    not_before_s: Mapping[int, float] = field(default_factory=lambda: dict(NOT_BEFORE_S))


def _nothing(*_: object) -> None:
    return None


class Uplink:
    def __init__(
        self,
        outbox: Outbox,
        settings: UplinkSettings,
        *,
        tls: Callable[[], ssl.SSLContext | None],
        ack_keys: Callable[[], Mapping[str, bytes]],
        on_wake: Callable[[], None] = _nothing,
        on_nack: Callable[[Nack], None] = _nothing,
        on_alarm: Callable[[SkerryError], None] = _nothing,
        clock: Clock | None = None,
        random: Callable[[], float] = randomness.random,
        dial: mqtt.Dial = mqtt.dial,
    ) -> None:
        self._outbox, self._settings, self._tls, self._ack_keys = outbox, settings, tls, ack_keys
        self._on_wake, self._on_nack, self._on_alarm = on_wake, on_nack, on_alarm
        self._clock, self._random, self._dial = clock or SystemClock(), random, dial
        self._device = outbox.device
        self._log = Log("uplink", device_id=self._device)
        self._window = SendWindow(settings.silence, random)
        self._credit_bytes = settings.credit_bytes
        self._events: deque[mqtt.Event] = deque()
        self._attention = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection_no = 0
        self._online: mqtt.Connected | None = None
        self._unjudged_ack: bytes | None = None  # under a key that is not pinned, perhaps not yet
        self._streams: list[str] = []  # in order of priority
        self._watermarks: dict[str, int] = {}
        self._stream_sent: dict[str, int] = {}
        self._stream_pubacked: dict[str, int] = {}
        self._unpubacked: dict[int, Outgoing] = {}  # by message id of this connection
        self._sent = self._pubacked = self._going_back = self._overrun = 0
        self._failures = 0
        self._disk_refuses = False
        self._online_since = math.inf

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, drain, reconnect until `stop`."""
        self._loop = asyncio.get_running_loop()
        self._streams, self._watermarks = self._outbox.streams(), self._outbox.watermarks()
        stopper = asyncio.create_task(self._attend_to(stop), name="uplink-stop")
        try:
            await self._clock.wait(stop, self._settings.first_contact_s * self._random())
            while not stop.is_set():
                lost = await self._connection(stop)
                if lost is not None:
                    await self._clock.wait(stop, self._delay_s(lost))
        finally:
            stopper.cancel()

    def nudge(self) -> None:
        """There is something to send. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._attention.set)

    def keys_changed(self) -> None:
        """Judge the last refused ack again. In the event loop."""
        if self._unjudged_ack is not None:
            self._events.append(mqtt.Message(topics.ack(self._device), self._unjudged_ack, self._connection_no, 0))
            self._unjudged_ack = None
            self._attention.set()

    def figures(self) -> dict[str, Any]:
        return {
            "connected": self._online is not None,
            "connection_no": self._connection_no,
            "sent_batches": self._sent,
            "puback_batches": self._pubacked,
            "gone_back": self._going_back,
            "overrun": self._overrun,
            "in_flight_bytes": self._window.in_flight_bytes,
            "credit_bytes": self._credit_bytes,
            "held": self._window.held,
            "streams": {
                stream: {
                    "sent_seq": self._stream_sent.get(stream, 0),
                    "pubacked_seq": self._stream_pubacked.get(stream, 0),
                    "acked_seq": self._watermarks.get(stream, 0),
                }
                for stream in self._streams
            },
        }

    async def _attend_to(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._attention.set()

    def _delay_s(self, lost: mqtt.Lost) -> float:
        self._log("connection_lost", reason=lost.reason, detail=lost.detail, connection_no=self._connection_no)
        if lost.reason in ALARMING:
            self._log.alarm("connection_refused", reason=lost.reason, detail=lost.detail)
        # A connection that never lasts is somebody else with this certificate, or a broker in trouble: only a stable one
        # takes the back-off away. (mosquitto 2.0 ends a taken-over TLS session without saying 0x8E.)
        if self._clock.mono() - self._online_since >= STABLE_S:
            self._failures = 0
        self._online_since = math.inf
        delay_s = self._settings.reconnect.after(self._failures, self._random)
        self._failures += 1
        return max(delay_s, self._settings.not_before_s.get(lost.reason, 0.0))

    async def _connection(self, stop: asyncio.Event) -> mqtt.Lost | None:
        """One connection until it ends (Lost) or `stop` is set (None)."""
        self._connection_no += 1
        self._events.clear()
        self._unpubacked.clear()
        link = self._dial(self._link_settings(), self._connection_no, partial(self._from_link, self._connection_no))
        try:
            while not stop.is_set():
                self._attention.clear()
                while self._events:
                    event = self._events.popleft()
                    if isinstance(event, mqtt.Lost):
                        return event
                    await self._handle(link, event)
                await self._drain(link)
                left_s = self._window.seconds_left(self._clock.mono())
                await self._clock.wait(self._attention, IDLE_S if left_s is None else left_s)
            self._publish_presence(link, "offline")
            return None
        finally:
            self._online = None
            self._window.reset()
            await asyncio.to_thread(link.close)

    def _link_settings(self) -> mqtt.Settings:
        mine = (topics.ack(self._device), topics.nack(self._device), topics.wake(self._device))
        will = mqtt.Will(topics.state(self._device), self._presence("offline"))
        return mqtt.Settings(
            self._settings.host, self._settings.port, self._device, mine, self._tls(), will, keepalive_s=self._settings.keepalive_s
        )

    def _from_link(self, connection_no: int, event: mqtt.Event) -> None:
        """In the link's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived, connection_no, event)

    def _arrived(self, connection_no: int, event: mqtt.Event) -> None:
        if isinstance(event, mqtt.Message) and len(self._events) >= MAX_WAITING:
            self._overrun += 1  # an ack says all that those before it said, so what is let go is made up for by the next one
            return
        if connection_no == self._connection_no:
            self._events.append(event)
            self._attention.set()

    async def _handle(self, link: mqtt.Link, event: mqtt.Event) -> None:
        if isinstance(event, mqtt.Connected):
            self._online, self._online_since = event, self._clock.mono()
            self._window.reset()
            self._log("connected", connection_no=self._connection_no)
            self._publish_presence(link, "online")
        elif isinstance(event, mqtt.Published):
            self._puback(event)
        elif isinstance(event, mqtt.Message):
            await self._message(event)

    def _puback(self, event: mqtt.Published) -> None:
        record = self._unpubacked.pop(event.mid, None)
        if record is not None:
            self._pubacked += 1
            self._stream_pubacked[record.stream] = max(record.last_seq, self._stream_pubacked.get(record.stream, 0))
        if event.reason < mqtt.NO_MATCHING_SUBSCRIBERS or (record is None and event.reason == mqtt.NO_MATCHING_SUBSCRIBERS):
            return  # that nobody reads where this device is says nothing of ingest
        if not self._window.held:
            self._log("broker_holds", reason=event.reason)
        self._window.refused(self._clock.mono())
        if event.reason in ALARMING:
            self._log.alarm("publish_refused", reason=event.reason)

    async def _message(self, message: mqtt.Message) -> None:
        if message.topic == topics.wake(self._device):
            self._on_wake()
            return
        try:
            if message.topic == topics.ack(self._device):
                await self._acknowledge(message.payload)
            elif message.topic == topics.nack(self._device):
                self._nack(open_nack(message.payload, self._ack_keys(), self._device))
        except LocalFaultError as full:
            self._hold_for_disk(full)  # the ack is retained, and comes again when what it freed is sent again
        except SkerryError as refusal:
            self._log.alarm("ack_refused", code=refusal.code, detail=str(refusal))
            self._on_alarm(refusal)

    async def _acknowledge(self, payload: bytes) -> None:
        keys = self._ack_keys()
        try:
            ack = open_ack(payload, keys, self._device)
        except SkerryError as refusal:
            self._unjudged_ack = payload if refusal.code == "ACK_SIGNATURE" else None
            if keys:
                raise
            self._log("ack_waits_for_key")
            return
        self._credit_bytes = ack.credit_bytes
        try:
            await asyncio.to_thread(self._outbox.acknowledge, ack)
        finally:
            self._watermarks = await asyncio.to_thread(self._outbox.watermarks)
            self._window.acked(self._watermarks, self._clock.mono())

    def _nack(self, nack: Nack) -> None:
        self._log("batch_refused", code=nack.code, stream=nack.stream, batch_seq=nack.seq, detail=nack.detail)
        self._on_nack(nack)

    async def _drain(self, link: mqtt.Link) -> None:
        """Publish what the credit allows; it may be exceeded by one record, so that a small credit is not a standstill."""
        if self._online is None:
            return
        if self._window.expire(self._clock.mono()):
            self._going_back += 1
            self._log.debug("gone_back")
        try:
            for stream in self._streams:
                await self._drain_stream(link, stream)
        except LocalFaultError as full:
            self._hold_for_disk(full)

    async def _drain_stream(self, link: mqtt.Link, stream: str) -> None:
        while not self._window.held and (room := self._room_bytes()) > 0:
            after = self._window.cursor(stream, self._watermarks[stream])
            records = await asyncio.to_thread(self._outbox.take, stream, after, room)
            if not records or not all([self._publish(link, record) for record in records]):
                break
            self._disk_refuses = False

    def _hold_for_disk(self, full: LocalFaultError) -> None:
        """Until the window's deadline; said once, until records can be taken again."""
        if not self._disk_refuses:
            self._log.alarm("outbox_disk", code=full.code, detail=str(full), remedy=full.remedy)
            self._on_alarm(full)
        self._disk_refuses = True
        self._window.refused(self._clock.mono())

    def _room_bytes(self) -> int:
        if self._online is None or len(self._unpubacked) >= self._online.receive_maximum:
            return 0
        return self._credit_bytes - self._window.in_flight_bytes

    def _publish(self, link: mqtt.Link, record: Outgoing) -> bool:
        limit = self._online.max_packet_bytes if self._online else None
        if limit is not None and len(record.message) + PACKET_OVERHEAD_BYTES > limit:
            # The broker would cut the connection, and again at each attempt.
            too_large = error("OUTBOX_TOO_LARGE", record.stream, f"batch {record.seq} is larger than the broker's limit of {limit} bytes")
            self._on_alarm(too_large)
            self._log.alarm("batch_too_large", batch_seq=record.seq, detail=str(too_large))
            self._window.refused(self._clock.mono())
            return False
        self._unpubacked[link.publish(topics.up(self._device, record.lane), record.message)] = record
        self._stream_sent[record.stream] = max(record.last_seq, self._stream_sent.get(record.stream, 0))
        self._window.sent(record.stream, record.last_seq, len(record.message), self._clock.mono())
        self._sent += 1
        return True

    def _publish_presence(self, link: mqtt.Link, state: str) -> None:
        if self._online is not None:
            link.publish(topics.state(self._device), self._presence(state), retain=True)

    def _presence(self, state: str) -> bytes:
        presence = Presence(
            device=self._device, state=state, boot_id=self._outbox.boot_id, connection_no=self._connection_no,
            streams=tuple(self._streams),
        )  # fmt: skip
        return presence.model_dump_json().encode()
