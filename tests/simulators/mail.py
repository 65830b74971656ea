"""Ingest's mailbox in memory: a test puts messages in and sees what was published and acknowledged, in one order."""

from __future__ import annotations

from collections import deque

from sync import mqtt


class SimulatedMail:
    """sync.ingest.worker.Mail. `journal` lists ("publish", topic) and ("puback", mid) as they happened."""

    def __init__(self) -> None:
        self.connected, self.connection_no = True, 1
        self.incoming: deque[mqtt.Message | mqtt.Connected] = deque()
        self.published: list[tuple[str, bytes, bool]] = []
        self.journal: list[tuple[str, str]] = []
        self._mid = 0

    def put(self, topic: str, payload: bytes) -> None:
        self._mid += 1
        self.incoming.append(mqtt.Message(topic, payload, self.connection_no, self._mid))

    def take(self, topic: str) -> list[bytes]:
        """Payloads published on `topic` since the last call."""
        found = [payload for where, payload, _ in self.published if where == topic]
        self.published = [each for each in self.published if each[0] != topic]
        return found

    def receive(self, timeout_s: float) -> mqtt.Message | mqtt.Connected | None:
        return self.incoming.popleft() if self.incoming else None

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self.journal.append(("publish", topic))
        self.published.append((topic, payload, retain))

    def acknowledge(self, message: mqtt.Message) -> None:
        self.journal.append(("puback", str(message.mid)))
