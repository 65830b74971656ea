"""A batch on the wire: `u16 header length | msgpack header | body | 64 bytes Ed25519 signature`.

Rows: body = zstd(Arrow record batch message without schema). Gap: body = empty; the header says it all.
The signature covers CONTEXT_BATCH + length + header, and the header holds the body's sha256.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.ids import DeviceId, Sha256, Wire

BATCH_VERSION = 1
MAX_BATCH_BYTES = 256 * 1024
MAX_BATCH_ROWS = 1000
INGEST_WINDOW = 512  # batches that may be on their way from the broker to ingest: what bounds memory there, and the size of a commit
LEDGER_START = bytes(32)  # running hash of a stream without rows


class BatchHeader(Wire):
    """Field order is the order in the msgpack array (`to_array`): append only."""

    version: Literal[1] = 1
    kind: Literal["rows", "gap"]
    device: DeviceId
    lane: str
    epoch: str = Field(pattern=r"^[0-9a-f]{16}$")
    seq: int = Field(ge=1)
    last_seq: int = Field(ge=1)  # equals seq for rows; a gap stands for seq..last_seq
    rows: int = Field(ge=0)  # rows in the body, or rows that were shed
    schema_id: str = Field(pattern=r"^([0-9a-f]{16})?$")  # "" for a gap; ingest asks for it by a path
    bundle_digest: str = Field(max_length=64)  # "" for a gap
    accepted_utc_us: int
    boot_id: str = Field(max_length=64)
    key_id: str = Field(max_length=64)
    hash_before: bytes = Field(min_length=32, max_length=32)  # running hash before and after: see docs on the ledger
    hash_after: bytes = Field(min_length=32, max_length=32)
    body_sha256: bytes = Field(min_length=32, max_length=32)
    shed_bytes: int = Field(default=0, ge=0)
    reason: str = Field(default="", max_length=64)

    def to_array(self) -> list[object]:
        return [getattr(self, name) for name in type(self).model_fields]

    @classmethod
    def from_array(cls, values: list[object]) -> BatchHeader:
        return cls(**dict(zip(cls.model_fields, values, strict=False)))


class AckedStream(Wire):
    seq: int = Field(ge=0)
    running_hash: Sha256


class Ack(Wire):
    """The one retained message per device that frees rows; sealed with CONTEXT_ACK over these exact JSON bytes."""

    device: DeviceId
    streams: dict[str, AckedStream]
    credit_bytes: int = Field(ge=0)  # bytes that may be in flight beyond the watermark
    key_id: str
    issued_utc_us: int


class Nack(Wire):
    """Says why a batch was refused; frees nothing. Sealed with CONTEXT_NACK."""

    device: DeviceId
    stream: str
    seq: int
    code: str
    detail: str = ""
    key_id: str
    issued_utc_us: int
