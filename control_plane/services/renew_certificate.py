"""Renewal: an active device gets a certificate for new keys; the old one stays valid until it expires, so nothing breaks midway."""

from __future__ import annotations

from contracts.enrolment import BatchKey, EnrolmentAnswer
from control_plane.adapters.certificates import check_batch_key, parse_request, require_own_name
from control_plane.services.enrol_device import Enrolment, issue
from control_plane.store import devices


def renew_certificate(enrolment: Enrolment, device: str, csr_pem: str, batch_key: BatchKey) -> EnrolmentAnswer:
    """Raises ENROL_CSR_REFUSED."""
    check_batch_key(parse_request(csr_pem), batch_key)
    require_own_name(csr_pem, device)
    with enrolment.units.write() as work:
        row = devices.must(work.session, device)
        credential = issue(work, enrolment.ca, row, csr_pem, batch_key.public_key, enrolment.certificate_life)
        devices.touch(work.session, row)
        work.event(
            "certificate_renewed", device, f"device:{device}",
            fingerprint=credential.fingerprint, not_after=credential.not_after.isoformat(),
        )  # fmt: skip
        return EnrolmentAnswer(device=device, certificate_pem=credential.certificate_pem, pins=enrolment.pins)
