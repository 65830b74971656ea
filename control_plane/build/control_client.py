"""The builder's face to the control plane: jobs, blobs and results over mutual TLS. Bytes are believed by their digest only."""

from __future__ import annotations

import ssl
from http import HTTPStatus

import urllib3
from pydantic import ValidationError

from contracts.canonical import canonical_json, sha256_hex
from contracts.errors import CODES, SkerryError, error
from contracts.operator import Problem
from contracts.release import BuildJob, BuildResult
from control_plane.build.config import BuildConfig

MAX_BLOB_BYTES = 256 * 1024 * 1024
MAX_JOB_BYTES = 1024 * 1024


class ControlClient:
    """Raises TransientError API_UNREACHABLE when the control plane cannot be reached or is at fault itself."""

    def __init__(self, config: BuildConfig) -> None:
        self._url = config.control_url.rstrip("/")
        context = _tls(config)
        timeout = urllib3.Timeout(connect=5, read=config.request_timeout_s)
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False, maxsize=2)

    def next_job(self) -> BuildJob | None:
        """A job, or None when there is none just now."""
        status, body = self._request("GET", "/internal/v1/builds/next", limit_bytes=MAX_JOB_BYTES)
        if status == HTTPStatus.NO_CONTENT:
            return None
        _expect(status, body, "builds/next")
        try:
            return BuildJob.model_validate_json(body)
        except ValidationError as broken:
            raise error("API_UNREACHABLE", "builds/next", f"not a job: {broken}") from broken

    def download(self, digest: str) -> bytes:
        """RejectedError BUILD_SOURCE when the blob is absent or its bytes have another digest."""
        status, body = self._request("GET", f"/internal/v1/blobs/{digest}")
        if status == HTTPStatus.NOT_FOUND:
            raise error("BUILD_SOURCE", digest, "the blob store does not have it")
        _expect(status, body, digest)
        if sha256_hex(body) != digest:
            raise error("BUILD_SOURCE", digest, "the blob store gave other bytes")
        return body

    def upload(self, data: bytes) -> str:
        digest = sha256_hex(data)
        status, _ = self._request("HEAD", f"/internal/v1/blobs/{digest}")
        if status != HTTPStatus.OK:
            status, body = self._request("PUT", f"/internal/v1/blobs/{digest}", data)
            _expect(status, body, digest)
        return digest

    def post_result(self, job: str, result: BuildResult) -> None:
        """RejectedError with the control plane's code when it does not take the result."""
        told = canonical_json(result.model_dump(mode="json"))
        status, body = self._request("POST", f"/internal/v1/builds/{job}/result", told, {"Content-Type": "application/json"})
        _expect(status, body, job)

    def close(self) -> None:
        self._pool.clear()

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, limit_bytes: int = MAX_BLOB_BYTES
    ) -> tuple[int, bytes]:
        try:
            answer = self._pool.request(method, self._url + path, body=body, headers=headers, preload_content=False, redirect=False)
            try:
                data = answer.read(limit_bytes + 1)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as unreachable:
            raise error("API_UNREACHABLE", self._url + path, str(unreachable)) from unreachable
        if len(data) > limit_bytes:
            answer.close()
            raise error("API_UNREACHABLE", path, f"the answer is longer than {limit_bytes} bytes")
        return answer.status, data


def _tls(config: BuildConfig) -> ssl.SSLContext:
    """LocalFaultError CONFIG_INVALID when a certificate or key is missing or does not fit."""
    try:
        context = ssl.create_default_context(cafile=str(config.server_ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(config.certificate, config.key)
    except OSError as broken:  # ssl.SSLError is one
        raise error("CONFIG_INVALID", f"{config.certificate}, {config.key}, {config.server_ca}", str(broken)) from broken
    return context


def _expect(status: int, body: bytes, thing: str) -> None:
    """2xx passes; 4xx is a refusal with the control plane's code; anything else is its own trouble."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _refusal(status, body, thing)
    raise error("API_UNREACHABLE", thing, f"the control plane answers {status}")


def _refusal(status: int, body: bytes, thing: str) -> SkerryError:
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return error("API_INVALID", thing, f"the control plane answers {status}")
    return error(problem.code if problem.code in CODES else "API_INVALID", thing, problem.detail)
