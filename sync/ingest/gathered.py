"""What has come since the last flush: batches for the lake, and the messages that the broker waits to hear of. Sums grow with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sync import mqtt
from sync.ingest.intake import Batch


@dataclass
class Gathered:
    began: float  # when the oldest message came
    batches: list[Batch] = field(default_factory=list)
    messages: list[mqtt.Message] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0  # of all messages
    device_bytes: Counter[str] = field(default_factory=Counter)  # of the batches of each device

    def take(self, message: mqtt.Message) -> None:
        self.messages.append(message)
        self.bytes += len(message.payload)

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.rows += batch.header.rows
        self.device_bytes[batch.header.device] += len(batch.message)

    @property
    def most_bytes(self) -> int:
        """Of the device that has sent most."""
        return max(self.device_bytes.values(), default=0)
