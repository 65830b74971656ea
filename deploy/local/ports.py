"""Which ports a local site listens on, and who has one that is not free."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from contracts.errors import error
from program.sockets import port_owner


@dataclass(frozen=True)
class Ports:
    operators: int = 8484
    devices: int = 8443
    enrolment: int = 8444
    mqtt: int = 8883  # devices
    mqtt_services: int = 8884

    @classmethod
    def from_base(cls, base: int | None) -> Ports:
        """The documented ports, or five in a row from `base`."""
        return cls() if base is None else cls(base, base + 1, base + 2, base + 3, base + 4)


def check_free(ports: Ports, host: str = "127.0.0.1") -> None:
    """LocalFaultError SETUP_PORT_BUSY, with the owner's name and pid where they can be seen."""
    for use, port in vars(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as busy:
                if busy.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                raise error("SETUP_PORT_BUSY", f"port {port} ({use})", f"held by {port_owner(port)}") from busy
