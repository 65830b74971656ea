"""Identifiers, topics, batch header, canonical bytes, enrolment tokens, feature schemas: the forms that two programs must agree on."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from pydantic import ValidationError

from contracts import topics
from contracts.assignment import Assignment
from contracts.batch import LEDGER_START, BatchHeader
from contracts.canonical import canonical_json, key_id, seal, unseal
from contracts.enrolment import Token
from contracts.features import FRAME_COLUMNS, GAPS, QUARANTINE, ROW_ID, Column, FeatureSchema, bronze
from contracts.ids import DEVICE_ID, SERVICE_ID, SERVICE_ROLES, device_urn, execution_id, service_urn, stream_id
from contracts.manifest import MEMBER_NAME, Manifest, processing_spec
from contracts.reports import Event, ReportBatch, Transition
from contracts.states import TERMINAL, State
from tests.simulators.bundle_bytes import make_bundle

DEVICE = "dev-" + "abcdefghijklmnopqrstuvwxyz"
OTHER = "dev-" + "z" * 26
HASH = hashlib.sha256(b"x").digest()


def header(**changes: object) -> BatchHeader:
    values: dict[str, object] = {
        "kind": "rows",
        "device": DEVICE,
        "lane": "live",
        "epoch": "0123456789abcdef",
        "seq": 1,
        "last_seq": 1,
        "rows": 3,
        "schema_id": "a" * 16,
        "bundle_digest": "b" * 64,
        "accepted_utc_us": 1,
        "boot_id": "boot",
        "key_id": "k",
        "hash_before": LEDGER_START,
        "hash_after": HASH,
        "body_sha256": HASH,
    }
    return BatchHeader.model_validate({**values, **changes})


# -- ids


@pytest.mark.parametrize("text", ["dev-abc", "dev-" + "A" * 26, "dev-" + "a" * 27, "dev-" + "1" * 26, DEVICE + "\n", "svc-ingest-1"])
def test_a_device_id_has_one_form(text: str) -> None:
    assert DEVICE_ID.fullmatch(DEVICE)
    assert not DEVICE_ID.fullmatch(text)
    with pytest.raises(ValidationError):
        Assignment.model_validate({"device": text, "desired_generation": 0, "issued_at": "2026-01-01T00:00:00Z", "kind": "none"})


def test_ids_are_composed_from_their_parts() -> None:
    assert stream_id(DEVICE, "live", "0" * 16) == f"{DEVICE}/live/{'0' * 16}"
    assert execution_id("c1", DEVICE, 2) == f"c1/{DEVICE}/2"
    assert service_urn("ingest") == "urn:skerry:svc:ingest"
    assert device_urn(DEVICE) == f"urn:skerry:device:{DEVICE}"
    assert all(SERVICE_ID.fullmatch(f"svc-{role}-1") for role in SERVICE_ROLES)


# -- topics and the access list


def test_an_up_topic_carries_the_device_and_its_shard() -> None:
    topic = topics.up(DEVICE, "live")
    assert topic == f"skerry/1/up/{zlib.crc32(DEVICE.encode()) % 64}/{DEVICE}/live"
    assert topics.parse_up(topic) == (DEVICE, "live")


@pytest.mark.parametrize(
    "topic",
    [
        f"skerry/1/up/{(topics.shard(DEVICE) + 1) % 64}/{DEVICE}/live",
        f"skerry/2/up/{topics.shard(DEVICE)}/{DEVICE}/live",
        f"skerry/1/up/{topics.shard(DEVICE)}/{DEVICE}",
        f"skerry/1/up/{topics.shard(DEVICE)}/{DEVICE}/live/more",
        topics.ack(DEVICE),
        "",
    ],
)
def test_a_topic_of_another_form_or_shard_is_refused(topic: str) -> None:
    assert topics.parse_up(topic) is None


def test_a_device_may_write_two_topics_and_read_four() -> None:
    verbs = [line.split()[1] for line in topics.DEVICE_ACL]
    assert verbs.count("write") == 2
    assert verbs.count("read") == 4
    assert all("%u" in line and "#" not in line for line in topics.DEVICE_ACL)


def test_the_access_list_gives_each_service_its_topics_and_no_more() -> None:
    text = topics.acl_file(["svc-ingest-1", "svc-control-1"])
    ingest, control = text.split("user svc-control-1")
    assert "user svc-ingest-1" in ingest
    assert "topic write skerry/1/ack/#" in ingest
    assert "wake" not in ingest
    assert "topic write skerry/1/wake/#" in control
    assert "topic read skerry/1/up/#" not in control
    assert text.endswith("\n")


def test_a_service_of_no_known_role_has_no_access_list() -> None:
    with pytest.raises(KeyError):
        topics.acl_file(["svc-stranger-1"])


# -- batches


def test_a_batch_header_survives_its_array() -> None:
    assert BatchHeader.from_array(header().to_array()) == header()


def test_a_later_header_with_more_fields_is_read_and_an_earlier_one_with_fewer() -> None:
    assert BatchHeader.from_array([*header().to_array(), "from the future"]) == header()
    assert BatchHeader.from_array(header().to_array()[:-2]) == header()  # shed_bytes and reason have defaults


def test_the_order_of_header_fields_is_the_wire() -> None:
    assert list(BatchHeader.model_fields) == [
        "version", "kind", "device", "lane", "epoch", "seq", "last_seq", "rows", "schema_id", "bundle_digest", "accepted_utc_us",
        "boot_id", "key_id", "hash_before", "hash_after", "body_sha256", "shed_bytes", "reason",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"kind": "rumour"}, {"seq": 0}, {"epoch": "XYZ"}, {"hash_before": b"short"}, {"rows": -1}, {"device": "dev-1"}],
)
def test_a_header_of_an_unknown_kind_or_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        header(**change)


# -- canonical bytes


def test_canonical_json_is_one_form() -> None:
    assert canonical_json({"b": 1, "a": ["ü", None, True]}) == '{"a":["ü",null,true],"b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": float("-inf")}])
def test_canonical_json_has_no_form_for_what_json_lacks(value: object) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        canonical_json(value)


def test_a_sealed_message_opens_into_payload_and_signature() -> None:
    assert unseal(seal(b"payload", b"s" * 64)) == (b"payload", b"s" * 64)


@pytest.mark.parametrize("message", [b"", b"s" * 64, b"s" * 63])
def test_a_message_without_a_payload_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="shorter"):
        unseal(message)


def test_a_key_is_named_by_the_start_of_its_digest() -> None:
    assert key_id(b"k" * 32) == hashlib.sha256(b"k" * 32).hexdigest()[:16]


# -- enrolment tokens


def test_a_token_survives_its_text() -> None:
    token = Token(secret="s" * 24, ca_sha256="c" * 64)
    assert Token.parse(f"  {token}\n") == token


@pytest.mark.parametrize("text", ["", "skt1", "skt1.short." + "c" * 64, "skt2." + "s" * 24 + "." + "c" * 64, "skt1." + "s" * 24 + ".CA"])
def test_a_token_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"token|String"):
        Token.parse(text)


# -- feature schemas and tables


def schema(*extra: Column, family: str = "digits") -> FeatureSchema:
    return FeatureSchema(family=family, columns=(*FRAME_COLUMNS, *extra))


def test_a_schema_id_follows_from_its_content() -> None:
    plain, wider = schema(), schema(Column(name="score", type="f32"))
    assert plain.schema_id == schema().schema_id
    assert len({plain.schema_id, wider.schema_id, schema(family="other").schema_id}) == 3


@pytest.mark.parametrize(
    "columns",
    [
        FRAME_COLUMNS[1:],
        (*FRAME_COLUMNS, FRAME_COLUMNS[0]),
        (*FRAME_COLUMNS, Column(name="seq", type="i64")),
        (Column(name="score", type="f32"), *FRAME_COLUMNS),
    ],
)
def test_a_schema_begins_with_the_frame_and_never_shadows_the_row_id(columns: tuple[Column, ...]) -> None:
    with pytest.raises(ValidationError):
        FeatureSchema(family="digits", columns=columns)


def test_every_table_is_append_only_and_partitioned_by_a_column_it_has() -> None:
    for table in (bronze(schema()), QUARANTINE, GAPS):
        names = [column.name for column in table.columns]
        assert dict(table.properties)["delta.appendOnly"] == "true"
        assert set(table.partition_by) <= set(names)
        assert len(set(names)) == len(names)
    assert bronze(schema()).columns[: len(ROW_ID)] == ROW_ID


# -- manifest, states, reports


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "", "A", "x" * 65, "a\n"])
def test_a_member_name_is_never_a_path(name: str) -> None:
    assert MEMBER_NAME.fullmatch("model.int8.onnx")
    assert not MEMBER_NAME.fullmatch(name)


@pytest.mark.parametrize("raw", [[], {}, {"pre": []}, {"pre": {}, "post": []}, "pre"])
def test_a_processing_spec_has_two_lists(raw: object) -> None:
    assert processing_spec({"pre": [], "post": [], "windows": [], "rows": "frames", "labels": []})
    with pytest.raises(ValueError, match="no field 'window'; known: labels, post, pre, rows, windows"):
        processing_spec({"pre": [], "post": [], "window": []})
    with pytest.raises(ValueError, match="pre and post"):
        processing_spec(raw)


def test_labels_are_as_many_as_the_outputs_last_dimension_or_none() -> None:
    """A manifest of before there were any has none."""
    assert labelled() == ()
    assert labelled(["bolt", "nut"]) == ("bolt", "nut")
    for wrong in (["bolt"], ["bolt", "nut", "none"], ["bolt", ""], ["bolt", "a\nb"], ["bolt", "x" * 129]):
        with pytest.raises(ValidationError):
            labelled(wrong)


def labelled(labels: list[str] | None = None) -> tuple[str, ...]:
    return Manifest.model_validate_json(make_bundle(labels=labels).manifest).labels  # None: the manifest lacks the field


def test_terminal_states_are_the_seven_that_never_change() -> None:
    assert {state.value for state in TERMINAL} == {"CONFIRMED", "REJECTED", "FAILED", "TIMED_OUT", "CANCELED", "SUPERSEDED", "REVERTED"}
    assert State("PROBATION") not in TERMINAL


REPORT = {"execution": "c/d/1", "fence": 1, "seq": 1, "boot_id": "b", "mono_ms": 1, "utc": "2026-01-01T00:00:00Z", "bundle_digest": ""}
HELLO = {"agent_version": "1", "profile": "p", "running_digest": ""}


def test_a_report_is_told_by_its_kind() -> None:
    reports = [{**REPORT, "kind": "transition", "state": "CONFIRMED"}, {**REPORT, "seq": 2, "kind": "event", "event": "x"}]
    batch = ReportBatch.model_validate({"device": DEVICE, "hello": HELLO, "reports": reports})
    assert [type(report) for report in batch.reports] == [Transition, Event]


def test_an_unknown_kind_of_report_is_refused_and_an_unknown_field_is_not() -> None:
    known = {**REPORT, "kind": "event", "event": "x", "invented": 1}
    assert ReportBatch.model_validate({"device": DEVICE, "hello": HELLO, "reports": [known]}).reports
    with pytest.raises(ValidationError, match="kind"):
        ReportBatch.model_validate({"device": DEVICE, "hello": HELLO, "reports": [{**known, "kind": "rumour"}]})


def test_an_assignment_of_an_unknown_kind_can_be_read_so_that_it_can_be_refused_with_a_code() -> None:
    values = {"device": OTHER, "desired_generation": 3, "issued_at": "2026-01-01T00:00:00Z", "kind": "teleport"}
    assert Assignment.model_validate(values).kind == "teleport"
