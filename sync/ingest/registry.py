"""Devices and schemas as the control plane knows them: `/internal/v1/devices?since=` and `/internal/v1/schemas/<id>`, mutual TLS.

Asked again after `cache_s`, and sooner (not below `retry_s`) when a device, a key or a schema is not known. When the control plane does
not answer, ingest goes on with the last known state, which lies in the state folder, so that a restart does not stop the rows either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import urllib3
from pydantic import ValidationError

from contracts.errors import LocalFaultError, SkerryError, error
from contracts.features import FeatureSchema
from contracts.ids import Wire
from contracts.operator import RegistryDevice, RegistryFeed
from program.clock import Clock
from program.disk import writing
from program.files import write_durably
from program.log import Log

MAX_ANSWER_BYTES = 64 * 1024 * 1024
FILE_NAME = "registry.json"
W = TypeVar("W", bound=Wire)


class Known(Wire):
    """What is kept in the state folder."""

    revision: int = 0
    devices: dict[str, RegistryDevice] = {}
    schemas: dict[str, FeatureSchema] = {}


class Source(Protocol):
    """The control plane. Both raise TransientError INGEST_FEED when it does not answer, or not with what was asked for."""

    def feed(self, since: int) -> RegistryFeed: ...

    def schema(self, schema_id: str) -> FeatureSchema | None: ...


@dataclass(frozen=True)
class Ages:
    cache_s: float
    retry_s: float


class CachedRegistry:
    """A Registry (ports.py) over a Source."""

    def __init__(self, source: Source, state_dir: Path, clock: Clock, ages: Ages) -> None:
        self._source, self._path, self._clock, self._ages = source, state_dir / FILE_NAME, clock, ages
        self._known = self._read()
        self._log = Log("registry")
        self._asked_at: dict[str, float] = {}  # "" is the feed, else a schema id
        self._answers = True

    def device(self, device_id: str, key_id: str) -> RegistryDevice | None:
        found = self._known.devices.get(device_id)
        known = found is not None and key_id in found.batch_keys
        if self._may_ask("", self._ages.cache_s if known else self._ages.retry_s):
            self._refresh()
        return self._known.devices.get(device_id)

    def schema(self, schema_id: str) -> FeatureSchema | None:
        if schema_id not in self._known.schemas and self._may_ask(schema_id, self._ages.retry_s):
            self._fetch(schema_id)
        return self._known.schemas.get(schema_id)

    def _may_ask(self, what: str, age_s: float) -> bool:
        now = self._clock.mono()
        if now - self._asked_at.get(what, float("-inf")) < age_s:
            return False
        self._asked_at[what] = now
        return True

    def _refresh(self) -> None:
        try:
            feed = self._source.feed(self._known.revision)
            if feed.revision < self._known.revision:  # the control plane's database was restored: begin anew
                self._known = self._known.model_copy(update={"devices": {}})
                feed = self._source.feed(0)
        except SkerryError as silent:
            self._silent(silent)
            return
        self._heard()
        if feed.devices or feed.revision != self._known.revision:
            devices = {**self._known.devices, **{device.id: device for device in feed.devices}}
            self._keep(self._known.model_copy(update={"revision": feed.revision, "devices": devices}))

    def _fetch(self, schema_id: str) -> None:
        try:
            schema = self._source.schema(schema_id)
        except SkerryError as silent:
            self._silent(silent)
            return
        self._heard()
        if schema is not None:
            self._keep(self._known.model_copy(update={"schemas": {**self._known.schemas, schema_id: schema}}))
            self._log("schema_learned", schema_id=schema_id, family=schema.family)

    def _silent(self, refusal: SkerryError) -> None:
        if self._answers:
            self._log.alarm("registry_silent", code=refusal.code, detail=str(refusal))
        self._answers = False

    def _heard(self) -> None:
        if not self._answers:
            self._log("registry_answers")
        self._answers = True

    def _keep(self, known: Known) -> None:
        """A disk that takes no writes costs a restart its memory, no more."""
        self._known = known
        try:
            with writing("SETUP_STATE_DISK", self._path, "keeping the registry's answer"):
                write_durably(self._path, known.model_dump_json().encode(), 0o600)
        except LocalFaultError as full:
            self._log.alarm("registry_not_kept", code=full.code, detail=str(full), remedy=full.remedy)

    def _read(self) -> Known:
        try:
            return Known.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Known()


class ControlPlane:
    """The Source over HTTPS. `pool` carries the service certificate (see program.py)."""

    def __init__(self, pool: urllib3.PoolManager, control_url: str) -> None:
        self._pool, self._url = pool, control_url.rstrip("/")

    def feed(self, since: int) -> RegistryFeed:
        answer = self._get(f"/internal/v1/devices?since={since}")
        return _as(RegistryFeed, answer)

    def schema(self, schema_id: str) -> FeatureSchema | None:
        """None when the control plane does not know it. What comes must be what its id says."""
        answer = self._get(f"/internal/v1/schemas/{schema_id}", may_lack=True)
        if answer is None:
            return None
        schema = _as(FeatureSchema, answer)
        if schema.schema_id != schema_id:
            raise error("INGEST_FEED", schema_id, f"the answer is schema {schema.schema_id}")
        return schema

    def _get(self, path: str, may_lack: bool = False) -> Any:
        try:
            response = self._pool.request("GET", self._url + path, preload_content=False)
            try:
                body = response.read(MAX_ANSWER_BYTES)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as failed:
            raise error("INGEST_FEED", path, str(failed)) from failed
        if may_lack and response.status == 404:
            return None
        if response.status != 200:
            raise error("INGEST_FEED", path, f"answer {response.status}")
        try:
            return json.loads(body)
        except ValueError as broken:
            raise error("INGEST_FEED", path, str(broken)) from broken


def _as(model: type[W], answer: Any) -> W:
    try:
        return model.model_validate(answer)
    except ValidationError as broken:
        raise error("INGEST_FEED", model.__name__, str(broken)) from broken
