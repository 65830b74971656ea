"""Pictures that another program publishes on an MQTT topic: JPEG or PNG, one a message. A connection of its own, mostly to a broker on the
same gateway; the agent's uplink and its certificate have nothing to do with it.
"""

from __future__ import annotations

import io
import secrets
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from edge_agent.pipeline.sources.frame_error import FrameError
from edge_agent.pipeline.sources.newest import Newest
from edge_agent.pipeline.sources.picture import decoded
from sync import mqtt

Array = Any
KEPT = 4  # pictures that came while one was decoded; older ones are let go
MAX_BYTES = 16 * 1024 * 1024  # of one message: a JPEG of a 4K camera has 2 to 5 MB
PORTS = {"mqtt": 1883, "mqtts": 8883}


def topic(values: Mapping[str, Any]) -> Newest:
    """`url`: mqtt://host[:port]/topic, or mqtts:// with the system's authorities; dialled again after `silence_s` without a picture."""
    url, silence_s = urlsplit(str(values["url"])), float(values["silence_s"])
    return Newest(f"{url.scheme}://{url.hostname}{url.path}", lambda: _pictures(url, silence_s))


def _pictures(url: Any, silence_s: float) -> Iterator[Array | FrameError]:
    arrived, came = deque[mqtt.Event](maxlen=KEPT), threading.Event()

    def sink(event: mqtt.Event) -> None:
        arrived.append(event)
        came.set()

    link, connected = mqtt.dial(_settings(url), 1, sink), False
    try:
        while came.wait(silence_s):
            came.clear()
            while arrived:
                connected = connected or isinstance(arrived[0], mqtt.Connected)
                yield from _picture(arrived.popleft())
        raise FrameError(f"no picture for {silence_s:g} s" if connected else f"the broker does not answer for {silence_s:g} s")
    finally:
        link.drop()
        link.close()


def _settings(url: Any) -> mqtt.Settings:
    tls = ssl.create_default_context() if url.scheme == "mqtts" else None
    port = url.port or PORTS[url.scheme]
    client_id = f"skerry-frames-{secrets.token_hex(4)}"
    return mqtt.Settings(
        url.hostname, port, client_id, (url.path[1:],), tls, receive_maximum=KEPT, max_packet_bytes=MAX_BYTES, retained=False
    )


def _picture(event: mqtt.Event) -> Iterator[Array | FrameError]:
    if isinstance(event, mqtt.Lost):
        raise FrameError(event.detail)
    if isinstance(event, mqtt.Message):
        yield _decoded(event.payload)


def _decoded(payload: bytes) -> Array | FrameError:
    try:
        return decoded(io.BytesIO(payload), f"a message of {len(payload)} bytes")
    except FrameError as broken:
        return broken
