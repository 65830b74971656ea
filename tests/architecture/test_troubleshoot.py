"""The troubleshooting table: whoever has to act at a machine finds a line; each line's code is raised somewhere and tested somewhere."""

from __future__ import annotations

import pytest

from contracts.errors import CODES, LocalFaultError
from docs.symptoms import SYMPTOMS
from tests.architecture.source import PACKAGES, REPO, python_files

LISTED = [code for lines in SYMPTOMS.values() for _, code, _ in lines]
NOT_LOCAL = (
    "ENROL_TOKEN_SPENT", "ENROL_TOKEN_EXPIRED", "ENROL_CSR_REFUSED", "INGEST_MALFORMED", "REPORT_KIND", "REPORT_EXECUTION",
    "CAMPAIGN_NO_DEVICE", "CAMPAIGN_WAVE_EMPTY", "OUTBOX_FULL", "API_STORAGE",
)  # fmt: skip


def test_every_fault_of_a_machine_has_a_line() -> None:
    local = {code for code, entry in CODES.items() if entry.kind is LocalFaultError}
    assert (local | set(NOT_LOCAL)) - set(LISTED) == set()


def test_no_code_stands_there_twice() -> None:
    assert sorted(set(LISTED)) == sorted(LISTED)


@pytest.mark.parametrize("where", ["the code", "the tests"])
def test_every_listed_code_is_raised_and_tested(where: str) -> None:
    files = [REPO / path for path in python_files(*(PACKAGES if where == "the code" else ("tests",)))]
    text = "".join(path.read_text() for path in files if path.name not in ("errors.py", "test_troubleshoot.py"))
    if where == "the code":
        text += (REPO / "dev").read_text()
    assert [code for code in LISTED if code not in text] == []
