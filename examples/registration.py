"""Registers what `train` wrote: files as blobs by their sha256, then one request that names them.

A pattern for any training side: it needs an HTTP client and the models of `contracts/`, nothing else of Skerry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import urllib3

from contracts.canonical import sha256_hex
from contracts.errors import CODES, SkerryError, error
from contracts.operator import Problem
from contracts.release import ModelRegistration, ModelVersion
from examples.command_line import Progress, read

TIMEOUT_S = 120  # the first registration creates the registry's schema
FILES = {
    "model": "model.onnx",
    "calibration": "calibration.npz",
    "held_out": "held_out.npz",
    "signature": "model.sig",
    "processing": "processing.json",
    "feature_schema": "feature_schema.json",
}


class OperatorApi:
    """The two calls of the operators' API that a training side makes."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._http = urllib3.PoolManager(headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S, retries=False)

    def close(self) -> None:
        self._http.clear()

    def put_blob(self, content: bytes) -> str:
        """Store `content`; its sha256. Storing twice is storing once."""
        digest = sha256_hex(content)
        self._call("PUT", f"/v1/blobs/{digest}", content, "application/octet-stream")
        return digest

    def register(self, name: str, registration: ModelRegistration) -> ModelVersion:
        answer = self._call("POST", f"/v1/models/{name}/versions", registration.model_dump_json().encode(), "application/json")
        return ModelVersion.model_validate_json(answer)

    def _call(self, method: str, path: str, body: bytes, media_type: str) -> bytes:
        try:
            answer = self._http.request(method, self._url + path, body=body, headers={**self._http.headers, "Content-Type": media_type})
        except urllib3.exceptions.HTTPError as unreachable:
            raise error("API_UNREACHABLE", self._url, str(unreachable)) from unreachable
        if answer.status >= 400:
            raise _refusal(answer.data, path)
        return answer.data


def _refusal(body: bytes, path: str) -> SkerryError:
    try:
        problem = Problem.model_validate_json(body)
    except ValueError:
        return error("API_INVALID", path, body[:200].decode(errors="replace"))
    return error(problem.code if problem.code in CODES else "API_INVALID", path, problem.detail)


def register(api: OperatorApi, name: str, folder: Path, say: Progress) -> ModelVersion:
    """Upload the files of `folder` and register them as the next version of `name`."""
    digests: dict[str, Any] = {}
    for field, file_name in FILES.items():
        content = read(folder / file_name)
        digests[field] = api.put_blob(content)
        say(f"stored {file_name}: {len(content)} bytes, sha256 {digests[field][:12]}")
    say(f"registering {name}")
    return api.register(name, _registration(digests, folder / "run.json"))


def _registration(digests: dict[str, Any], run: Path) -> ModelRegistration:
    try:
        return ModelRegistration(**digests, **json.loads(read(run)))
    except (TypeError, ValueError) as invalid:  # pydantic's error is a ValueError
        raise error("API_INVALID", str(run), str(invalid)[:300]) from invalid
