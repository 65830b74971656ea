"""Configuration of `skerry-ingest`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from program.config import Config


class IngestConfig(Config):
    control_url: str  # https://host:8443 of the control plane: devices and schemas come from there
    ca: Path  # site-ca.crt: who control plane and broker must be signed by
    certificate: Path  # svc-ingest-<n>.crt: leaf and intermediate, PEM; its name is the client id, so one per process
    key: Path  # its private key, PEM
    broker_host: str  # the MQTT broker, as its certificate names it
    broker_port: int = Field(default=8883, gt=0, lt=65536)  # its TLS listener
    lake_dir: Path  # folder of the Delta tables, on a local disk
    ack_key: Path  # ack.pem (Ed25519): signs acks and nacks
    registry_cache_s: float = Field(default=60, gt=0)  # the registry is asked again when its answer is older
    registry_retry_s: float = Field(default=1, gt=0)  # pause before asking again for an unknown device or schema
    request_timeout_s: float = Field(default=5, gt=0)  # one request to the control plane
    flush_rows: int = Field(default=100_000, gt=0)  # commit at this many rows
    flush_bytes: int = Field(default=32 * 1024 * 1024, gt=0)  # or at this many bytes of messages
    flush_s: float = Field(default=1, gt=0)  # or when the oldest message has waited this long
    parked_bytes: int = Field(default=8 * 1024 * 1024, ge=0)  # batches kept that came before their predecessors
    credit_bytes: int = Field(default=8 * 1024 * 1024, gt=0)  # what a device may have in flight beyond its watermark
