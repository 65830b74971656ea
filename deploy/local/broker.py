"""mosquitto's configuration for one site: TLS 1.3, a certificate for everybody, the certificate's name as user and client id.

Rules learned the hard way:
- mosquitto started by root gives up root right after reading its configuration and then cannot open private files of root's.
  Here it is started under its own uid, and every file lies in a folder of that uid.
- Two processes with one certificate throw each other out for ever, because the name is the client id: one certificate per process.
- Nothing of value lies in the broker: no persistence. Devices keep their batches until the lake has acknowledged them.
- Its own port. The system's mosquitto service, where there is one, stays as found.
"""

from __future__ import annotations

import os
from pathlib import Path

from contracts import topics
from contracts.batch import MAX_BATCH_BYTES
from deploy.local.processes import Owner

MAX_PACKET_BYTES = 2 * MAX_BATCH_BYTES  # a batch, its topic and its properties
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_INFLIGHT = 100


def configuration(port: int, site_folder: Path, acl: Path, host: str = "127.0.0.1") -> str:
    """The text of mosquitto.conf; `site_folder` holds server.key, server.crt and clients-ca.crt."""
    return f"""\
listener {port} {host}
protocol mqtt
cafile {site_folder}/clients-ca.crt
certfile {site_folder}/server.crt
keyfile {site_folder}/server.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {acl}

persistence false
allow_zero_length_clientid false
max_packet_size {MAX_PACKET_BYTES}
max_queued_bytes {MAX_QUEUED_BYTES}
max_inflight_messages {MAX_INFLIGHT}
max_keepalive 120
retain_available true
set_tcp_nodelay true

log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%SZ
connection_messages true
"""


def write(etc: Path, port: int, site_folder: Path, services: list[str], owner: Owner | None) -> Path:
    """Write mosquitto.conf and its access list below `etc`, private to the broker; the path of mosquitto.conf."""
    acl, main = etc / "broker.acl", etc / "mosquitto.conf"
    acl.write_text(topics.acl_file(services))
    main.write_text(configuration(port, site_folder, acl))
    for path in (acl, main):
        path.chmod(0o600)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)
    return main
