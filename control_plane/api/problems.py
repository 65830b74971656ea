"""Errors as RFC 9457 problem details. The only place where a code becomes an HTTP status.

A code's own row wins, else its class decides: what does the caller do next? (contracts/errors.py)
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from contracts.errors import LocalFaultError, RejectedError, SkerryError, TransientError, TrustError, error
from contracts.operator import Problem
from program.log import Log

log = Log("api")

STATUS_BY_CODE = {
    "API_UNAUTHENTICATED": 401,
    "API_FORBIDDEN": 403,
    "API_NOT_FOUND": 404,
    "API_INVALID": 422,
    "API_CONFLICT": 409,
    "API_PRECONDITION": 412,
    "API_TOO_LARGE": 413,
    "API_DIGEST": 422,
    "ENROL_TOKEN_UNKNOWN": 403,
    "ENROL_TOKEN_SPENT": 403,
    "ENROL_TOKEN_EXPIRED": 403,
    "ENROL_TOKEN_BINDING": 403,
    "ENROL_CSR_REFUSED": 422,
    "REPORT_EXECUTION": 403,
    "REPORT_GAP": 409,
    "REPORT_KIND": 422,
    "BUILD_RELEASE_STATE": 409,
    "API_REGISTRY_UNREACHABLE": 503,
    "API_STORAGE": 507,
    "CAMPAIGN_UNKNOWN": 404,
    "CAMPAIGN_STATE": 409,
    "CAMPAIGN_INVALID": 422,
    "CAMPAIGN_NO_RELEASE": 409,
}
STATUS_BY_CLASS: dict[type[SkerryError], int] = {TransientError: 503, RejectedError: 422, TrustError: 409, LocalFaultError: 500}
MEDIA_TYPE = "application/problem+json"


def status_of(failed: SkerryError) -> int:
    return STATUS_BY_CODE.get(failed.code, STATUS_BY_CLASS[type(failed)])


def problem(failed: SkerryError, status: int | None = None) -> Response:
    """The answer to a request that met `failed`; `status` only where HTTP itself refused."""
    status = status or status_of(failed)
    body = Problem(
        type=f"urn:skerry:error:{failed.code}", title=str(failed).partition(": ")[0], status=status,
        code=failed.code, detail=str(failed).partition(": ")[2], remedy=failed.remedy,
    )  # fmt: skip
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(failed, TransientError) and failed.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(failed.retry_after_s)))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    app.add_exception_handler(SkerryError, _on_skerry_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


async def _on_skerry_error(request: Request, failed: Exception) -> Response:
    assert isinstance(failed, SkerryError)
    if isinstance(failed, TrustError | LocalFaultError) or failed.code == "API_STORAGE":
        log.alarm("request_failed", path=request.url.path, code=failed.code, detail=str(failed))
    return problem(failed)


async def _on_invalid(_request: Request, failed: Exception) -> Response:
    assert isinstance(failed, RequestValidationError)
    first = failed.errors()[0]
    if first["type"] == "union_tag_invalid" and "reports" in first["loc"]:
        return problem(error("REPORT_KIND", ".".join(str(part) for part in first["loc"]), first["msg"]))
    return problem(error("API_INVALID", ".".join(str(part) for part in first["loc"]), first["msg"]))


async def _on_http(_request: Request, failed: Exception) -> Response:
    """The framework's own refusals: no such route, method not allowed."""
    assert isinstance(failed, HTTPException)
    return problem(error("API_NOT_FOUND" if failed.status_code == 404 else "API_INVALID", "", str(failed.detail)), failed.status_code)


async def _on_disconnect(_request: Request, _gone: Exception) -> Response:
    """The caller hung up in the middle of its body: nobody reads this, and nothing has gone wrong here."""
    return Response(status_code=400)
