"""`skerry-ingest`: run the program, read its figures, or audit the lake."""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
from pathlib import Path

import urllib3
from cryptography import x509
from cryptography.x509.oid import NameOID

from contracts.errors import SkerryError, error
from program import failure, notify
from program.clock import SystemClock
from program.config import load
from program.files import fsync_folder
from program.run import EXIT_FAILED, EXIT_OK, add_arguments, overrides, run
from signatures.ed25519 import SigningKey
from sync import mqtt
from sync.ingest import status
from sync.ingest.alarms import Alarms, post
from sync.ingest.audit import Audit, audit
from sync.ingest.config import IngestConfig
from sync.ingest.durability import LocalDisk
from sync.ingest.mailbox import Address, Mailbox
from sync.ingest.registry import Ages, CachedRegistry, ControlPlane
from sync.ingest.sink import Sink
from sync.ingest.tables import DeltaLake
from sync.ingest.worker import Limits, Worker

DEFAULT_CONFIG = "/etc/skerry/ingest.toml"
PASS_S = 0.2  # the longest wait of one pass: how soon SIGTERM is seen


def main() -> None:
    raise SystemExit(dispatch(_parser().parse_args()))


def dispatch(options: argparse.Namespace) -> int:
    try:
        if options.command == "audit":
            return _audit(options)
        if options.command == "status":
            return _status(options)
    except SkerryError as failed:
        failure.tell("skerry-ingest", failed, options.json)
        return EXIT_FAILED
    return run("skerry-ingest", IngestConfig, options, serve)


async def serve(config: IngestConfig, stop: asyncio.Event) -> None:
    """Ready once the tables are open; a broker that is away is a normal state, and the figures show it."""
    worker, mailbox, alarms = await asyncio.to_thread(build, config)
    notify.ready()
    telling = asyncio.create_task(alarms.run(stop), name="alarms")
    try:
        while not stop.is_set():
            await asyncio.to_thread(worker.step, PASS_S)
            notify.watchdog()
            if telling.done() and not stop.is_set():
                telling.result()  # an unforeseen exception ends the process
        await asyncio.to_thread(worker.flush)
    finally:
        telling.cancel()
        await asyncio.to_thread(mailbox.close)


def build(config: IngestConfig) -> tuple[Worker, Mailbox, Alarms]:
    """Put ingest together. Raises LocalFaultError CONFIG_INVALID, LAKE_SCHEMA_MISMATCH or LAKE_HISTORY."""
    clock = SystemClock()
    for folder in (config.state_dir, config.run_dir, config.lake_dir):
        folder.mkdir(parents=True, exist_ok=True)
    fsync_folder(config.lake_dir.parent)  # where the lake's own name stands
    registry = CachedRegistry(
        ControlPlane(_pool(config), config.control_url), config.state_dir, clock, Ages(config.registry_cache_s, config.registry_retry_s)
    )
    sink = Sink(DeltaLake(config.lake_dir, LocalDisk()), clock)
    address = Address(config.broker_host, config.broker_port, _client_id(config.certificate))
    mailbox = Mailbox(address, lambda: _tls(config), clock)
    limits = Limits(config.flush_rows, config.flush_bytes, config.flush_s, config.parked_bytes, config.credit_bytes)
    alarms = Alarms(post(_pool(config), config.control_url), clock)
    worker = Worker(
        mailbox, registry, sink,
        key=_ack_key(config.ack_key), clock=clock, status=status.Status(config.run_dir), limits=limits, alarm=alarms.note,
    )  # fmt: skip
    return worker, mailbox, alarms


def _tls(config: IngestConfig) -> ssl.SSLContext:
    return mqtt.tls_context(str(config.ca), str(config.certificate), str(config.key))


def _pool(config: IngestConfig) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(total=config.request_timeout_s)
    return urllib3.PoolManager(ssl_context=_tls(config), timeout=timeout, retries=False, maxsize=1)


def _client_id(certificate: Path) -> str:
    leaf = x509.load_pem_x509_certificate(_bytes(certificate))
    return str(leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _ack_key(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(_bytes(path))
    except ValueError as unusable:
        raise error("CONFIG_INVALID", str(path), str(unusable)) from unusable


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as unreadable:
        raise error("CONFIG_MISSING", str(path), str(unreadable)) from unreadable


def _status(options: argparse.Namespace) -> int:
    config = load(IngestConfig, options.config, overrides(options))
    print(json.dumps(status.read(config.run_dir), indent=None if options.json else 2))
    return EXIT_OK


def _audit(options: argparse.Namespace) -> int:
    lake = options.lake or load(IngestConfig, options.config, overrides(options)).lake_dir
    found = audit(lake)
    print(json.dumps(found.as_json()) if options.json else _as_text(found))
    return EXIT_OK if found.clean else EXIT_FAILED


def _as_text(found: Audit) -> str:
    lines = [f"{'rows':>9} {'bronze':>9} {'quarant.':>9} {'gaps':>7} {'seq':>7}  running hash  stream"]
    for stream, account in found.as_json()["streams"].items():
        figures = "{rows:>9} {bronze:>9} {quarantine:>9} {gap_rows:>7} {last_seq:>7}".format(**account)
        lines.append(f"{figures}  {account['running_hash'][:12]}  {stream}")
        lines += [f"{'':>10}{fault}" for fault in account["faults"]]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry-ingest", description="MQTT -> Delta Lake, each row exactly once")
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("run", help="take batches from the broker and commit them"), DEFAULT_CONFIG)
    figures = commands.add_parser("status", help="figures of the running program")
    add_arguments(figures, DEFAULT_CONFIG)
    figures.add_argument("--json", action="store_true", help="on one line")
    check = commands.add_parser("audit", help="recompute rows and running hash of every stream from the lake; exit code 1 on a fault")
    add_arguments(check, DEFAULT_CONFIG)
    check.add_argument("--lake", type=Path, help="folder of the tables (default: lake_dir of the configuration)")
    check.add_argument("--json", action="store_true", help="as JSON")
    return parser
