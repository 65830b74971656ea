"""Who holds the broker: he reads every batch and every ack that passes and publishes what he likes, without anybody's key.

    python -m deploy.local.attackers.broker --port P --ca FILE --certificate FILE --key FILE --device dev-... --other dev-...

Waits until a batch of `device` and the acks of both devices have passed, publishes forgeries made of them, and prints what he sent.
"""

from __future__ import annotations

import argparse
import json
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from contracts import topics
from contracts.batch import BatchHeader
from contracts.canonical import CONTEXT_ACK, CONTEXT_BATCH, SIGNATURE_BYTES, canonical_json, key_id, seal, unseal

LANE = "live"
BEYOND = 1000  # numbers
DEADLINE_S = 30.0
_LENGTH = struct.Struct("<H")


@dataclass(frozen=True)
class Forgery:
    """`code`: what it has to be refused with; "" when it is genuine and only comes again."""

    what: str
    topic: str
    payload: bytes
    code: str


class Forger:
    """Has a key of his own, which nobody knows."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self._public = self._private.public_key().public_bytes_raw()

    def batches(self, batch: bytes, device: str, other: str) -> Iterator[Forgery]:
        """Out of a genuine one."""
        header, body, signature = _parts(batch)
        mine, his = topics.up(device, LANE), topics.up(other, LANE)
        yield Forgery("signed by another key", mine, header + body + self._sign(CONTEXT_BATCH, header), "INGEST_SIGNATURE")
        yield Forgery("with another body", mine, header + body[:-1] + bytes([body[-1] ^ 1]) + signature, "INGEST_SIGNATURE")
        invented = self._invented(header)
        yield Forgery("invented rows", mine, invented + body + self._sign(CONTEXT_BATCH, invented), "INGEST_SIGNATURE")
        yield Forgery("in another device's name", his, batch, "INGEST_IDENTITY")
        yield Forgery("sent again", mine, batch, "")

    def acks(self, ack: bytes, others: bytes, device: str) -> Iterator[Forgery]:
        topic, told = topics.ack(device), json.loads(unseal(ack)[0])
        for stream in told["streams"].values():
            stream["seq"] += BEYOND
        payload = canonical_json(told)
        yield Forgery("ack of what never came", topic, seal(payload, self._sign(CONTEXT_ACK, payload)), "ACK_SIGNATURE")
        own = canonical_json({**told, "key_id": key_id(self._public)})
        yield Forgery("ack by his own key", topic, seal(own, self._sign(CONTEXT_ACK, own)), "ACK_SIGNATURE")
        yield Forgery("another device's ack", topic, others, "ACK_DEVICE")

    def _invented(self, header: bytes) -> bytes:
        values = BatchHeader.from_array(msgpack.unpackb(header[_LENGTH.size :], raw=False))
        later = values.model_copy(update={"seq": values.seq + BEYOND, "last_seq": values.last_seq + BEYOND, "key_id": key_id(self._public)})
        packed: bytes = msgpack.packb(later.to_array())
        return _LENGTH.pack(len(packed)) + packed

    def _sign(self, context: bytes, message: bytes) -> bytes:
        return self._private.sign(context + message)


def _parts(batch: bytes) -> tuple[bytes, bytes, bytes]:
    """Length and header, body, signature."""
    end = _LENGTH.size + _LENGTH.unpack_from(batch)[0]
    return batch[:end], batch[end:-SIGNATURE_BYTES], batch[-SIGNATURE_BYTES:]


class Eavesdropper:
    """One connection: notes the last message of each topic, and publishes."""

    def __init__(self, options: argparse.Namespace, *wanted: str) -> None:
        self._wanted, self.heard = wanted, dict[str, bytes]()
        self.all_heard = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="eavesdropper", protocol=paho.MQTTv5)
        tls = ssl.create_default_context(cafile=options.ca)
        tls.load_cert_chain(options.certificate, options.key)
        self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("localhost", options.port)
        self._client.loop_start()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(topic, 1) for topic in self._wanted])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.payload:
            self.heard.setdefault(message.topic, bytes(message.payload))
        if set(self._wanted) <= set(self.heard):
            self.all_heard.set()

    def publish(self, forgery: Forgery) -> None:
        """Returns when the broker has it."""
        self._client.publish(forgery.topic, forgery.payload, qos=1).wait_for_publish(DEADLINE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.attackers.broker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    for name in ("ca", "certificate", "key", "device", "other"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    batch, ack, others = topics.up(options.device, LANE), topics.ack(options.device), topics.ack(options.other)
    ear = Eavesdropper(options, batch, ack, others)
    if not ear.all_heard.wait(DEADLINE_S):
        print(json.dumps({"heard": sorted(ear.heard)}))
        return 1
    forger = Forger()
    sent = [
        *forger.batches(ear.heard[batch], options.device, options.other),
        *forger.acks(ear.heard[ack], ear.heard[others], options.device),
    ]
    for forgery in sent:
        ear.publish(forgery)
    ear.close()
    print(json.dumps({"sent": [{"what": one.what, "topic": one.topic, "code": one.code} for one in sent]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
