"""MQTT topics, version 1 of the topic space, and the broker's access list made from them."""

from __future__ import annotations

import zlib

ROOT = "skerry/1"
SHARDS = 64  # a constant of topic version 1


def shard(device: str) -> int:
    """crc32(device) mod 64 (IEEE 802.3 polynomial, as in zlib)."""
    return zlib.crc32(device.encode()) % SHARDS


def up(device: str, lane: str) -> str:
    return f"{ROOT}/up/{shard(device)}/{device}/{lane}"


def ack(device: str) -> str:
    return f"{ROOT}/ack/{device}"


def nack(device: str) -> str:
    return f"{ROOT}/nack/{device}"


def state(device: str) -> str:
    return f"{ROOT}/state/{device}"


def wake(device: str) -> str:
    return f"{ROOT}/wake/{device}"


def snapshot(device: str) -> str:
    return f"{ROOT}/snapshot/{device}"


def parse_up(topic: str) -> tuple[str, str] | None:
    """(device, lane) of an up topic whose shard is the device's, else None."""
    parts = topic.split("/")
    if len(parts) != 6 or parts[:3] != ["skerry", "1", "up"]:
        return None
    device, lane = parts[4], parts[5]
    return (device, lane) if parts[3] == str(shard(device)) else None


ALL_UP = f"{ROOT}/up/#"
ALL_STATE = f"{ROOT}/state/#"

# mosquitto's `%u` is the certificate's common name: a device reaches its own topics and no others.
DEVICE_ACL = (
    f"pattern write {ROOT}/up/+/%u/+",
    f"pattern write {ROOT}/state/%u",
    *(f"pattern read {ROOT}/{name}/%u" for name in ("ack", "nack", "wake", "snapshot")),
)
_SERVICE_ACL = {
    "ingest": (("read", "up"), ("read", "state"), ("write", "ack"), ("write", "nack")),
    "control": (("read", "state"), ("write", "wake"), ("write", "snapshot"), ("write", "ack")),
}


def device_acl() -> str:
    """mosquitto's acl_file for the listener of devices. Its size does not grow with the fleet."""
    return "\n".join([*DEVICE_ACL, ""])


def service_acl(services: list[str]) -> str:
    """mosquitto's acl_file for the listener of the given service ids (`svc-ingest-1`, ...)."""
    lines = []
    for service in services:
        lines.append(f"user {service}")
        lines += [f"topic {verb} {ROOT}/{name}/#" for verb, name in _SERVICE_ACL[service.split("-")[1]]]
        lines.append("")
    return "\n".join(lines)


def acl_file(services: list[str]) -> str:
    """Both, for a broker with one listener: there a name is all that tells a service from a device."""
    return service_acl(services) + "\n" + device_acl()
