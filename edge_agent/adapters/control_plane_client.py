"""The rest of /device/v1: reports and renewals. Blocking; call it in a thread."""

from __future__ import annotations

import json

from pydantic import ValidationError

from contracts.enrolment import EnrolmentAnswer
from contracts.errors import error
from contracts.reports import ReportAnswer, ReportBatch
from edge_agent.adapters.http import Http, expect, problem_of
from edge_agent.adapters.identity import Identity

MAX_ANSWER_BYTES = 256 * 1024
NEVER_TAKEN = ("REPORT_EXECUTION", "REPORT_KIND", "API_INVALID")


class ControlPlaneClient:
    def __init__(self, http: Http, control_url: str) -> None:
        self._http, self._base = http, f"{control_url}/device/v1"

    def report(self, batch: ReportBatch) -> ReportAnswer:
        """Raises TransientError, or RejectedError REPORT_EXECUTION, REPORT_KIND, API_INVALID: these reports are never taken."""
        url = f"{self._base}/reports"
        answer = self._http.post(url, batch.model_dump_json().encode(), max_bytes=MAX_ANSWER_BYTES)
        code, detail = problem_of(answer)
        if code in NEVER_TAKEN:
            raise error(code, url, detail)
        expect(url, answer, 200)
        try:
            return ReportAnswer.model_validate_json(answer.body)
        except ValidationError as invalid:
            raise error("API_UNREACHABLE", url, "an answer that cannot be read") from invalid

    def renew(self, identity: Identity) -> Identity:
        """New keys, same id; the pins stay those of enrolment. Raises TransientError, TrustError ENROL_SERVER_UNKNOWN."""
        from edge_agent.adapters.new_keys import NewKeys, keep  # noqa: PLC0415  a megabyte, for once in half a certificate's life

        keys = NewKeys.make()
        url = f"{self._base}/renewals"
        body = json.dumps({"csr_pem": keys.csr_pem(), "batch_key": keys.batch_key().model_dump()}).encode()
        answer = expect(url, self._http.post(url, body, max_bytes=MAX_ANSWER_BYTES), 200, 201)
        granted = EnrolmentAnswer.model_validate_json(answer.body)
        if granted.device != identity.device:
            raise error("ENROL_SERVER_UNKNOWN", granted.device, f"this is {identity.device}")
        return keep(identity.folder, keys, granted, identity.pins)
