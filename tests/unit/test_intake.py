"""Each step of the intake refuses with its code; only what the device has signed gets further than step 5."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from contracts import topics
from contracts.batch import BatchHeader
from contracts.canonical import CONTEXT_ACK, CONTEXT_BATCH
from contracts.errors import RejectedError, SkerryError, TransientError
from signatures.ed25519 import SigningKey
from sync import codec
from sync.ingest.intake import Batch, admit
from tests.simulators.device_registry import SimulatedRegistry
from tests.simulators.row_path import DEVICE, DEVICE_KEY, DIGEST, OTHER_DEVICE, SCHEMA, STRANGER_KEY, open_outbox, rows

TOPIC = topics.up(DEVICE, "live")


@pytest.fixture
def registry() -> SimulatedRegistry:
    registry = SimulatedRegistry()
    registry.know(DEVICE, DEVICE_KEY)
    registry.know(OTHER_DEVICE, STRANGER_KEY)
    registry.learn(SCHEMA)
    return registry


@pytest.fixture
def message(tmp_path: Path) -> bytes:
    outbox = open_outbox(tmp_path / "outbox.db")
    stream = outbox.accept("live", SCHEMA, DIGEST, rows(0, 5)).stream
    message = outbox.take(stream, 0, 1)[0].message
    outbox.close()
    return message


def signed(header: BatchHeader, body: bytes, key: SigningKey = DEVICE_KEY, context: bytes = CONTEXT_BATCH) -> bytes:
    packed = codec.pack_header(header)
    return codec.frame(packed, body, key.sign(context, packed))


def changed(message: bytes, body: bytes | None = None, **fields: object) -> bytes:
    """The device signs something else: a device that lies or is broken, not somebody on the way."""
    frame = codec.parse(message)
    body = frame.body if body is None else body
    return signed(frame.header.model_copy(update={"body_sha256": codec.body_digest(body), **fields}), body)


def refusal_of(topic: str, message: bytes, registry: SimulatedRegistry) -> SkerryError:
    with pytest.raises(SkerryError) as refusal:
        admit(topic, message, registry)
    return refusal.value


def test_an_honest_batch_is_admitted(message: bytes, registry: SimulatedRegistry) -> None:
    batch = admit(TOPIC, message, registry)
    assert batch.rows is not None
    assert (batch.rows.num_rows, batch.fault, batch.schema) == (5, None, SCHEMA)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (topics.up(OTHER_DEVICE, "live"), "INGEST_IDENTITY"),
        (topics.up(DEVICE, "bulk"), "INGEST_IDENTITY"),
        (TOPIC.replace(f"/{topics.shard(DEVICE)}/", "/63/"), "INGEST_IDENTITY"),
        ("skerry/1/up/x", "INGEST_IDENTITY"),
    ],
)
def test_topic_and_header_must_agree(message: bytes, registry: SimulatedRegistry, topic: str, code: str) -> None:
    assert refusal_of(topic, message, registry).code == code


def test_a_batch_by_another_devices_key_is_forged(message: bytes, registry: SimulatedRegistry) -> None:
    frame = codec.parse(message)
    by_stranger = signed(frame.header, frame.body, STRANGER_KEY)
    own_name = signed(frame.header.model_copy(update={"key_id": STRANGER_KEY.key_id}), frame.body, STRANGER_KEY)
    for forged in (by_stranger, own_name):
        assert refusal_of(TOPIC, forged, registry).code == "INGEST_SIGNATURE"


def test_a_signature_for_another_purpose_is_no_signature(message: bytes, registry: SimulatedRegistry) -> None:
    frame = codec.parse(message)
    assert refusal_of(TOPIC, signed(frame.header, frame.body, context=CONTEXT_ACK), registry).code == "INGEST_SIGNATURE"


def test_a_body_that_the_device_did_not_sign_is_refused_not_quarantined(message: bytes, registry: SimulatedRegistry) -> None:
    """Else a broker could replace rows by rubbish and have the rubbish acknowledged."""
    frame = codec.parse(message)
    other = codec.frame(frame.signed, zstandard.ZstdCompressor().compress(b"rubbish"), frame.signature)
    assert refusal_of(TOPIC, other, registry).code == "INGEST_SIGNATURE"


@pytest.mark.parametrize("state", ["PENDING", "QUARANTINED", "DECOMMISSIONED"])
def test_a_device_that_is_not_active_is_held(message: bytes, registry: SimulatedRegistry, state: str) -> None:
    registry.know(DEVICE, DEVICE_KEY, state=state)
    refusal = refusal_of(TOPIC, message, registry)
    assert (refusal.code, type(refusal)) == ("INGEST_DEVICE_UNKNOWN", TransientError)


def test_an_unknown_device_or_schema_is_held(message: bytes) -> None:
    registry = SimulatedRegistry()
    assert refusal_of(TOPIC, message, registry).code == "INGEST_DEVICE_UNKNOWN"
    registry.know(DEVICE, DEVICE_KEY)
    refusal = refusal_of(TOPIC, message, registry)
    assert (refusal.code, type(refusal)) == ("INGEST_SCHEMA_UNKNOWN", TransientError)


def test_nothing_is_looked_up_for_a_forged_schema(message: bytes) -> None:
    """The schema is asked for only when the signature holds: a stranger cannot make ingest ask the control plane."""
    registry = SimulatedRegistry()
    registry.know(DEVICE, STRANGER_KEY)
    assert refusal_of(TOPIC, message, registry).code == "INGEST_SIGNATURE"
    assert registry.asked == []


@pytest.mark.parametrize("forged", [b"", b"\xff\xff" + bytes(80), bytes(300 * 1024)])
def test_rubbish_is_refused(registry: SimulatedRegistry, forged: bytes) -> None:
    refusal = refusal_of(TOPIC, forged, registry)
    assert (refusal.code, type(refusal)) == ("INGEST_MALFORMED", RejectedError)


def faulty(message: bytes) -> dict[str, bytes]:
    rubbish = zstandard.ZstdCompressor().compress(b"rubbish")
    return {
        "body is no Arrow": changed(message, rubbish),
        "body is no zstd": changed(message, b"rubbish"),
        "another count of rows": changed(message, rows=6),
        "a range of numbers": changed(message, last_seq=2),
    }


@pytest.mark.parametrize("name", ["body is no Arrow", "body is no zstd", "another count of rows", "a range of numbers"])
def test_what_the_device_itself_signed_wrongly_goes_to_quarantine(message: bytes, registry: SimulatedRegistry, name: str) -> None:
    batch = admit(TOPIC, faulty(message)[name], registry)
    assert (batch.rows, code_of(batch)) == (None, "INGEST_MALFORMED")


def test_rows_that_do_not_lead_to_the_stated_hash_go_to_quarantine(message: bytes, registry: SimulatedRegistry) -> None:
    assert code_of(admit(TOPIC, changed(message, hash_after=bytes(32)), registry)) == "INGEST_LEDGER"
    assert code_of(admit(TOPIC, changed(message, hash_before=bytes([1]) * 32), registry)) == "INGEST_LEDGER"


def code_of(batch: Batch) -> str:
    assert batch.fault is not None
    return batch.fault.code
