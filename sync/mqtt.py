"""One MQTT 5 connection over paho: from CONNECT to its end, never again. Both ends of the sync path use it.

Why a new client for each connection: message ids start at 1 again after a broker has lost a session, and paho's
`ack(mid)` does not know to which connection a mid belonged; a late ack once destroyed a new message. Here a
message can be acknowledged only on the connection that brought it, and what an old connection still had queued dies with it.
Sessions are clean and expire at once: the broker holds nothing of value (batches are in the outbox, acks are retained or made anew),
and it answers "no matching subscribers" while ingest is away.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

# Reason codes of MQTT 5 that mean something to us (section 2.4 of the standard).
SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97
NO_CONNECTION = -1  # ours: the TCP or TLS connection failed or ended without a reason code

DEFAULT_RECEIVE_MAXIMUM = 65_535  # what the standard says when CONNACK names none
CONNECT_TIMEOUT_S = 10.0
MAX_PACKET_BYTES = 1024 * 1024  # acks, nacks, batches and hints are far smaller
IN_FLIGHT = 20  # messages towards the broker without a PUBACK; what mosquitto grants by default


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes
    delay_s: int = 5  # a reconnect within this time is not announced as an absence


@dataclass(frozen=True)
class Settings:
    """`receive_maximum` bounds what the broker may have un-acknowledged towards us, `max_packet_bytes` each packet that may come."""

    host: str
    port: int
    client_id: str
    subscriptions: tuple[str, ...]
    tls: ssl.SSLContext | None
    will: Will | None = None
    manual_ack: bool = False
    receive_maximum: int = 64
    keepalive_s: int = 20
    max_packet_bytes: int = MAX_PACKET_BYTES
    retained: bool = True  # whether what was retained before we came is wanted


@dataclass(frozen=True)
class Connected:
    """Subscribed and ready. `receive_maximum`: what the broker takes un-acknowledged; `max_packet_bytes`: None when it names no limit."""

    receive_maximum: int
    max_packet_bytes: int | None


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    connection_no: int
    mid: int


@dataclass(frozen=True)
class Published:
    """PUBACK: the broker has it, or says why not. No promise about anybody else."""

    mid: int
    reason: int


@dataclass(frozen=True)
class Lost:
    """The last event of a connection; also when it never came about."""

    reason: int
    detail: str


Event = Connected | Message | Published | Lost


class Link(Protocol):
    """A connection, from `dial` on. Every method may be called from any thread."""

    connection_no: int

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> int:
        """QoS 1; returns the mid that Published will name. Nothing happens on a link that was lost."""

    def acknowledge(self, message: Message) -> None:
        """PUBACK `message`; ignored when another connection brought it."""

    def close(self) -> None:
        """DISCONNECT (no will is sent) and wait for the end."""

    def drop(self) -> None:
        """Cut the connection as a failing network would."""


# (settings, connection_no, sink) -> Link, at once. `sink` gets the events, in order, in another thread; it must not block.
Dial = Callable[[Settings, int, Callable[[Event], None]], Link]


def dial(settings: Settings, connection_no: int, sink: Callable[[Event], None]) -> Link:
    return PahoLink(settings, connection_no, sink)


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.3 with a client certificate; the broker is checked against `ca` alone. Arguments are paths of PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


class _Client(paho.Client):
    """An honest broker keeps to MaximumPacketSize; another may announce 256 MB, and paho would take all of it into memory."""

    max_packet_bytes = MAX_PACKET_BYTES
    met_too_large = False

    def _sock_recv(self, bufsize: int) -> bytes:
        """paho asks for what is left of a packet: the first time for all of it, before a byte of it was taken."""
        if bufsize > self.max_packet_bytes:
            self.met_too_large = True
            raise ConnectionError(f"a packet of {bufsize} bytes")
        return super()._sock_recv(bufsize)


class PahoLink:
    """One paho client and the one thread that serves it."""

    def __init__(self, settings: Settings, connection_no: int, sink: Callable[[Event], None]) -> None:
        self.connection_no = connection_no
        self._settings, self._sink = settings, sink
        self._reason, self._connected = NO_CONNECTION, Connected(DEFAULT_RECEIVE_MAXIMUM, None)
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._serve, name=f"mqtt-{connection_no}", daemon=True)
        self._thread.start()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> int:
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def acknowledge(self, message: Message) -> None:
        if message.connection_no == self.connection_no:
            self._client.ack(message.mid, 1)

    def close(self) -> None:
        self._client.disconnect()
        self._thread.join(CONNECT_TIMEOUT_S)
        if not self._thread.is_alive():
            self._client._reset_sockets()  # left to itself paho closes what wakes its loop when it is collected, in no order

    def drop(self) -> None:
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.shutdown(socket.SHUT_RDWR)

    def _make_client(self) -> _Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._settings.client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=self._settings.manual_ack,
        )
        client.max_packet_bytes = self._settings.max_packet_bytes
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = IN_FLIGHT  # paho keeps what is beyond it; it cannot follow CONNACK's number
        if self._settings.tls is not None:
            client.tls_set_context(self._settings.tls)
        if (will := self._settings.will) is not None:
            client.will_set(will.topic, will.payload, 1, True, _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=will.delay_s))
        client.on_connect, client.on_subscribe, client.on_disconnect = self._on_connect, self._on_subscribe, self._on_disconnect
        client.on_message, client.on_publish = self._on_message, self._on_publish
        # Else paho would write in the thread that publishes while ours reads, and TLS does not survive two at once on one connection.
        client.on_socket_register_write = lambda *_: None
        client._sockpairR, client._sockpairW = _pair()
        return client

    def _serve(self) -> None:
        detail = ""
        try:
            self._client.connect(
                self._settings.host,
                self._settings.port,
                self._settings.keepalive_s,
                clean_start=True,
                properties=_properties(
                    PacketTypes.CONNECT,
                    ReceiveMaximum=self._settings.receive_maximum,
                    SessionExpiryInterval=0,
                    MaximumPacketSize=self._settings.max_packet_bytes,
                ),
            )
            while self._client.loop() == paho.MQTT_ERR_SUCCESS:  # unlike loop_forever, it is woken when another thread publishes
                pass
        except OSError as failed:  # refused, unreachable, TLS: all of them end this connection and nothing else
            detail = str(failed)
        finally:
            reason = PACKET_TOO_LARGE if self._client.met_too_large else self._reason
            self._sink(Lost(reason, detail or f"reason code {reason:#04x}"))

    # paho calls these in the serving thread

    def _on_connect(self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            self._reason = reason.value
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM)
        self._connected = Connected(receive_maximum, getattr(properties, "MaximumPacketSize", None))
        retained = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if self._settings.retained else SubscribeOptions.RETAIN_DO_NOT_SEND
        client.subscribe([(topic, SubscribeOptions(qos=1, retainHandling=retained)) for topic in self._settings.subscriptions])

    def _on_subscribe(self, _client: paho.Client, _data: object, _mid: int, _reasons: object, _properties: object) -> None:
        self._sink(self._connected)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._sink(Message(message.topic, bytes(message.payload), self.connection_no, message.mid))

    def _on_publish(self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object) -> None:
        self._sink(Published(mid, reason.value))

    def _on_disconnect(
        self, _client: paho.Client, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:  # else paho makes a reason up
            self._reason = reason.value


def _pair() -> tuple[socket.socket, socket.socket]:
    """What a publishing thread wakes the loop through. Left to itself paho opens a TCP connection to itself for it."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    return reader, writer


def _properties(packet: int, **values: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this class without annotations
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
