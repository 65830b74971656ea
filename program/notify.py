"""sd_notify(3): READY, WATCHDOG, STOPPING, STATUS. Without NOTIFY_SOCKET nothing is sent."""

from __future__ import annotations

import os
import socket


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        notify.connect(address)
        notify.send(message.encode())


def ready(status: str = "") -> None:
    _send("READY=1" + (f"\nSTATUS={status}" if status else ""))


def watchdog() -> None:
    """Only after a completed pass of the main loop, never from a timer of its own."""
    _send("WATCHDOG=1")


def stopping() -> None:
    _send("STOPPING=1")


def watchdog_interval_s() -> float | None:
    """Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises; None when no watchdog is set."""
    usec = os.environ.get("WATCHDOG_USEC")
    return int(usec) / 2e6 if usec else None
