"""From bytes on an up topic to a batch that may be committed. Trust first: nothing is decoded before step 5 has passed.

    1 size and frame            INGEST_MALFORMED   nobody to believe: not committed
    2 topic and header agree    INGEST_IDENTITY    not committed
    3 registry has the device   INGEST_DEVICE_UNKNOWN   held: not committed, no ack; the device sends it again
    4 signature, by a key that the registry has for this device; body digest   INGEST_SIGNATURE   not committed
    5 schema is known           INGEST_SCHEMA_UNKNOWN   held
    6 decode                    INGEST_MALFORMED   from here on the device itself has said it: quarantined
    7 running hash of the rows  INGEST_LEDGER      quarantined

A body that is not the one that the device signed is refused, not quarantined: else a broker could replace rows by rubbish.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

from contracts import topics
from contracts.batch import BatchHeader
from contracts.canonical import CONTEXT_BATCH
from contracts.errors import SkerryError, error
from contracts.features import FeatureSchema
from contracts.ids import stream_id
from signatures.ed25519 import verify
from sync import codec
from sync.ingest.arrow import columns_of, decode
from sync.ingest.ports import Registry

ACTIVE = "ACTIVE"


@dataclass(frozen=True)
class Fault:
    """Why a whole batch goes to quarantine."""

    code: str
    detail: str


@dataclass(frozen=True)
class Batch:
    """A record that its device has signed: rows, a gap, or something that must be quarantined whole."""

    header: BatchHeader
    message: bytes
    schema: FeatureSchema | None = None  # None for a gap
    rows: pa.RecordBatch | None = None  # None for a gap and for a fault
    fault: Fault | None = None
    bad_rows: dict[int, str] = field(default_factory=dict)  # idx -> detail; filled by checks.py

    @property
    def seq(self) -> int:
        return self.header.seq

    @property
    def last_seq(self) -> int:
        return self.header.last_seq

    @property
    def stream(self) -> str:
        return stream_id(self.header.device, self.header.lane, self.header.epoch)


def admit(topic: str, message: bytes, registry: Registry) -> Batch:
    """Raises RejectedError (refused) or TransientError (held), with the codes above; other errors are no answer."""
    frame = codec.parse(message)  # 1
    header = frame.header
    if topics.parse_up(topic) != (header.device, header.lane):  # 2
        raise error("INGEST_IDENTITY", header.device, f"on topic {topic}")
    _check_signature(frame, registry)  # 3, 4
    if header.kind == "gap":
        return Batch(header, message)
    schema = registry.schema(header.schema_id)  # 5
    if schema is None:
        raise error("INGEST_SCHEMA_UNKNOWN", header.schema_id)
    return _decoded(frame, message, schema)  # 6, 7


def _check_signature(frame: codec.Frame, registry: Registry) -> None:
    header = frame.header
    device = registry.device(header.device, header.key_id)
    if device is None or device.state != ACTIVE:
        raise error("INGEST_DEVICE_UNKNOWN", header.device, f"is {device.state}" if device else "")
    key = device.batch_keys.get(header.key_id)
    if key is None or not verify(bytes.fromhex(key), CONTEXT_BATCH, frame.signed, frame.signature):
        raise error("INGEST_SIGNATURE", header.device, f"key {header.key_id}, batch {header.seq}")
    if hashlib.sha256(frame.body).digest() != header.body_sha256:
        raise error("INGEST_SIGNATURE", header.device, f"body of batch {header.seq} is not the one that was signed")


def _decoded(frame: codec.Frame, message: bytes, schema: FeatureSchema) -> Batch:
    header = frame.header
    try:
        if header.seq != header.last_seq:
            raise error("INGEST_MALFORMED", header.device, f"rows claim {header.seq}..{header.last_seq}")
        rows = decode(schema, frame.body, header.rows)
        after = codec.extend(header.hash_before, codec.row_bytes(schema, columns_of(schema.columns, rows)))
        if after != header.hash_after:
            raise error("INGEST_LEDGER", header.device, "the rows do not lead from hash_before to hash_after")
    except SkerryError as fault:
        return Batch(header, message, schema, fault=Fault(fault.code, str(fault)))
    return Batch(header, message, schema, rows)
