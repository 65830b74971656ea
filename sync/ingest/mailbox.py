"""Ingest's end of the broker: keeps one connection, puts what comes into a bounded queue. Called from one thread, never blocks long.

A message is acknowledged towards the broker only after it was dealt with, so the broker's window (receive maximum) bounds what
is in memory here. Nobody else's promise hangs on that acknowledgement.
"""

from __future__ import annotations

import math
import queue
import random as randomness
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from contracts import topics
from contracts.batch import INGEST_WINDOW
from program.clock import Clock
from program.log import Log
from sync import mqtt

RECONNECT_FIRST_S, RECONNECT_LIMIT_S = 0.5, 10.0
STABLE_S = 20.0
TAKEN_OVER_S = 60.0  # another process has this certificate: two that fight for it lose both


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    client_id: str


class Mailbox:
    def __init__(
        self,
        address: Address,
        tls: Callable[[], ssl.SSLContext | None],
        clock: Clock,
        dial: mqtt.Dial = mqtt.dial,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._address, self._tls, self._clock, self._dial, self._random = address, tls, clock, dial, random
        # a connection brings at most its window and a handful of its own events
        self._events: queue.Queue[tuple[int, mqtt.Event]] = queue.Queue(maxsize=4 * INGEST_WINDOW)
        self._log = Log("mailbox", client_id=address.client_id)
        self._link: mqtt.Link | None = None
        self.connection_no = 0
        self.connected = False
        self._failures, self._since = 0, math.inf
        self._dial_at = clock.mono()

    def receive(self, timeout_s: float) -> mqtt.Message | mqtt.Connected | None:
        """The next message, or Connected after each new connection; None after `timeout_s`. Redials by itself."""
        self._redial()
        try:
            connection_no, event = self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return None
        if connection_no != self.connection_no:
            return None
        if isinstance(event, mqtt.Lost):
            self._lost(event)
        elif isinstance(event, mqtt.Connected):
            self._since, self.connected = self._clock.mono(), True
            self._log("connected", connection_no=connection_no)
            return event
        return event if isinstance(event, mqtt.Message) else None

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """QoS 1. Without a connection it is lost: who sends must send again when asked or when Connected comes."""
        if self._link is not None:
            self._link.publish(topic, payload, retain)

    def acknowledge(self, message: mqtt.Message) -> None:
        if self._link is not None:
            self._link.acknowledge(message)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    def _redial(self) -> None:
        if self._link is not None or self._clock.mono() < self._dial_at:
            return
        self.connection_no += 1
        settings = mqtt.Settings(
            self._address.host, self._address.port, self._address.client_id, (topics.ALL_UP,), self._tls(),
            manual_ack=True, receive_maximum=INGEST_WINDOW,
        )  # fmt: skip
        number = self.connection_no
        self._link = self._dial(settings, number, lambda event: self._events.put((number, event)))

    def _lost(self, lost: mqtt.Lost) -> None:
        say = self._log.alarm if lost.reason in (mqtt.SESSION_TAKEN_OVER, mqtt.NOT_AUTHORIZED) else self._log
        say("connection_lost", reason=lost.reason, detail=lost.detail)
        self.close()
        self._link, self.connected = None, False
        if self._clock.mono() - self._since >= STABLE_S:  # two processes with one certificate evict each other, at once and for ever
            self._failures = 0
        self._since = math.inf
        delay_s = min(RECONNECT_LIMIT_S, RECONNECT_FIRST_S * 2.0**self._failures) * (0.5 + self._random() / 2)
        self._failures = min(self._failures + 1, 16)
        self._dial_at = self._clock.mono() + (TAKEN_OVER_S if lost.reason == mqtt.SESSION_TAKEN_OVER else delay_s)
