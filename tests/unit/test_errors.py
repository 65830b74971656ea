"""The registry of error codes: each code has one class, and says what was wrong and what to do."""

from __future__ import annotations

import re

import pytest

from contracts.errors import CODES, LocalFaultError, RejectedError, SkerryError, TransientError, TrustError, error

AREAS = {
    "SETUP", "CONFIG", "ENROL", "TUF", "BUNDLE", "ASSIGNMENT", "FRAME", "QUEUE", "PIPELINE", "AGENT", "WORKER", "ARENA", "OIP", "OUTBOX",
    "ACK", "INGEST", "LAKE", "REPORT", "CAMPAIGN", "BUILD", "SIGNER", "API",
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_names_its_area_and_carries_meaning_and_remedy(code: str) -> None:
    entry = CODES[code]
    assert re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", code)
    assert code.partition("_")[0] in AREAS
    assert entry.meaning
    assert entry.remedy
    assert entry.kind in (TransientError, RejectedError, TrustError, LocalFaultError)


def test_no_two_codes_mean_the_same() -> None:
    meanings = [entry.meaning for entry in CODES.values()]
    assert len(set(meanings)) == len(meanings)


def test_an_error_has_the_class_that_the_registry_gives() -> None:
    raised = error("BUNDLE_MEMBER_DIGEST", "model.onnx", "was aa, is bb")
    assert type(raised) is TrustError
    assert str(raised) == "BUNDLE_MEMBER_DIGEST: model.onnx: was aa, is bb"
    assert raised.remedy == CODES["BUNDLE_MEMBER_DIGEST"].remedy


def test_without_a_detail_the_meaning_is_said() -> None:
    assert str(error("OUTBOX_FULL", "live")) == f"OUTBOX_FULL: live: {CODES['OUTBOX_FULL'].meaning}"


def test_a_code_is_not_raised_as_another_class() -> None:
    with pytest.raises(TypeError, match="TUF_UNSIGNED is a TrustError"):
        RejectedError("TUF_UNSIGNED")


def test_an_unregistered_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        error("BUNDLE_INVENTED")


def test_a_transient_error_may_carry_the_far_sides_own_delay() -> None:
    assert TransientError("API_UNREACHABLE", retry_after_s=7).retry_after_s == 7
    assert isinstance(error("API_UNREACHABLE"), SkerryError)
