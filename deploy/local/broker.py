"""mosquitto's configuration for one site: TLS 1.3, a certificate for everybody, the certificate's name as user and client id.

Rules learned the hard way:
- mosquitto started by root gives up root right after reading its configuration and then cannot open private files of root's.
  Here it is started under its own uid, and every file lies in a folder of that uid.
- Two processes with one certificate throw each other out for ever, because the name is the client id: one certificate per process.
- Nothing of value lies in the broker: no persistence. Devices keep their batches until the lake has acknowledged them.
- Two listeners, each with its own authority and access list. A name is all that mosquitto knows of a client, and the device CA's key can
  make any name: where devices come in, a service's name is worth nothing.
- Its own ports. The system's mosquitto service, where there is one, stays as found.
"""

from __future__ import annotations

import os
from pathlib import Path

from contracts import topics
from contracts.batch import INGEST_WINDOW, MAX_BATCH_BYTES
from deploy.local.ports import Ports
from deploy.local.processes import Owner

DEVICES_ACL, SERVICES_ACL = "broker-devices.acl", "broker-services.acl"
MAX_PACKET_BYTES = 2 * MAX_BATCH_BYTES  # a batch, its topic and its properties
MAX_QUEUED_BYTES = 64 * 1024 * 1024
# Credit is counted in bytes, so the queue is too: mosquitto's own limit of 1,000 messages would silently drop a backlog of small batches.
# More than those bytes hold; and not 0 for "none": mosquitto 2.0.11 then answers no publication that it refuses.
MAX_QUEUED_MESSAGES = 1_000_000
LIMITS = f"""\
max_packet_size {MAX_PACKET_BYTES}
max_queued_bytes {MAX_QUEUED_BYTES}
max_queued_messages {MAX_QUEUED_MESSAGES}
max_inflight_messages {INGEST_WINDOW}
max_keepalive 120
"""


def configuration(ports: Ports, site_folder: Path, etc: Path, host: str = "127.0.0.1") -> str:
    """The text of mosquitto.conf; `site_folder` holds server.key, server.crt, devices-ca.crt and services-ca.crt."""
    return f"""\
per_listener_settings true

{_listener(ports.mqtt, host, site_folder, site_folder / "devices-ca.crt", etc / DEVICES_ACL)}
{_listener(ports.mqtt_services, host, site_folder, site_folder / "services-ca.crt", etc / SERVICES_ACL)}
persistence false
{LIMITS}\
retain_available true
set_tcp_nodelay true

log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%SZ
connection_messages true
"""


def _listener(port: int, host: str, site_folder: Path, authority: Path, acl: Path) -> str:
    return f"""\
listener {port} {host}
protocol mqtt
cafile {authority}
certfile {site_folder}/server.crt
keyfile {site_folder}/server.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
allow_zero_length_clientid false
acl_file {acl}
"""


def write(etc: Path, ports: Ports, site_folder: Path, services: list[str], owner: Owner | None) -> Path:
    """Write mosquitto.conf and its access lists below `etc`, private to the broker; the path of mosquitto.conf."""
    main = etc / "mosquitto.conf"
    texts = {
        etc / DEVICES_ACL: topics.device_acl(),
        etc / SERVICES_ACL: topics.service_acl(services),
        main: configuration(ports, site_folder, etc),
    }
    for path, text in texts.items():
        path.touch(mode=0o600)
        path.write_text(text)
        path.chmod(0o600)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)
    return main
