"""`skerry/1/state/<device>`: birth and will, both retained JSON. A hint for people; no gate and no order hangs on it."""

from __future__ import annotations

from typing import Literal

from contracts.ids import DeviceId, Wire


class Presence(Wire):
    """`streams` are the open streams of the outbox: a stream that was never seen before means a new outbox."""

    device: DeviceId
    state: Literal["online", "offline"]
    boot_id: str = ""
    connection_no: int = 0  # counts the agent's connections since it started
    streams: tuple[str, ...] = ()
