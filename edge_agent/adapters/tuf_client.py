"""Both update repositories, by python-tuf's ngclient unmodified; what it lacks is added around it.

ngclient does not fsync and forgets what it saw when its cache is cut, has no total deadline, believes any clock, and cannot
ask conditionally. So: version floors and the time floor live in agent.db; the fetcher has a deadline and a lowest rate; the
bootstrap root always comes from the pins; a poll first asks for the director's timestamp with If-None-Match, and on 304 the
stored expiry and floors are judged all the same. The folder `tuf/` is a cache and may vanish at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from contracts.assignment import ASSIGNMENT_MAX_BYTES, ASSIGNMENT_TARGET, Assignment
from contracts.canonical import sha256_hex
from contracts.enrolment import Pins
from contracts.errors import RejectedError, TransientError, TrustError, error
from contracts.manifest import MANIFEST_MAX_BYTES
from edge_agent.adapters.agent_db import AgentDb
from edge_agent.adapters.http import Http, expect
from edge_agent.core.admission import ImageTarget
from edge_agent.core.floors import check_clock, check_expiry, check_versions, with_time, with_versions
from edge_agent.core.orders import parse
from program.clock import Clock
from program.disk import writing

DIRECTOR, IMAGE = "director", "image"
TIMESTAMP_MAX_BYTES = 16 * 1024
REFRESH_AT_LEAST_S = 86_400.0
_FACT = "director"
T = TypeVar("T")


class Fetcher(FetcherInterface):
    """ngclient's seam: the pooled mutual-TLS client, with its deadline."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", url) as (answer, pieces):
                if answer.status != 200:
                    for _ in pieces:  # to its end, or the 404 for the next root would cost a handshake at each refresh
                        pass
                    raise exceptions.DownloadHTTPError(f"HTTP {answer.status} for {url}", answer.status)
                yield from pieces
        except TransientError as failed:
            kind = exceptions.SlowRetrievalError if failed.code == "TUF_TOO_SLOW" else exceptions.DownloadError
            raise kind(str(failed)) from failed


@dataclass(frozen=True)
class _Fact:
    """The last verified answer of the director, as kept in agent.db."""

    etag: str
    expires: datetime
    refresh_at: datetime  # half of the timestamp's life as seen from here, or a day
    versions: dict[str, int]
    assignment: bytes

    def as_json(self) -> dict[str, Any]:
        return {
            "etag": self.etag,
            "expires": self.expires.isoformat(),
            "refresh_at": self.refresh_at.isoformat(),
            "versions": self.versions,
            "assignment": base64.b64encode(self.assignment).decode(),
        }

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> _Fact:
        expires, refresh_at = datetime.fromisoformat(values["expires"]), datetime.fromisoformat(values["refresh_at"])
        return cls(values["etag"], expires, refresh_at, values["versions"], base64.b64decode(values["assignment"]))


class TufClient:
    """The `Trust` port. Blocking; one thread at a time (ngclient's cache has one writer)."""

    def __init__(self, http: Http, pins: Pins, folder: Path, db: AgentDb, clock: Clock) -> None:
        self._http, self._pins, self._folder, self._db, self._clock = http, pins, folder, db, clock
        self._base = f"{pins.control_url}/device/v1"

    # -- the director

    def poll(self) -> Assignment:
        """Raises TransientError (try again), TrustError TUF_* (alarm, stay), LocalFaultError TUF_CLOCK_BELOW_FLOOR."""
        now = self._clock.utc()
        check_clock(self._db.floors(), now)
        fact = self._fact()
        etag, body = self._ask(fact.etag if fact else "")
        if fact and body is None and now < fact.refresh_at:
            check_expiry("director/timestamp", fact.expires, now)
            check_versions(self._db.floors(), fact.versions)
            return parse(fact.assignment)
        return self._refresh_director(etag, body, now)

    def _fact(self) -> _Fact | None:
        values = self._db.fact(_FACT)
        return _Fact.of_json(values) if values else None

    def _ask(self, etag: str) -> tuple[str, bytes | None]:
        """(ETag, unverified timestamp), or (etag, None) when it is the one we know."""
        url = f"{self._base}/{DIRECTOR}/timestamp.json"
        answer = self._http.get(url, max_bytes=TIMESTAMP_MAX_BYTES, headers={"If-None-Match": etag} if etag else None)
        if answer.status == 304 and etag:
            return etag, None
        expect(url, answer, 200)
        return answer.headers.get("ETag", ""), answer.body

    def _refresh_director(self, etag: str, body: bytes | None, now: datetime) -> Assignment:
        raw = _twice(self._assignment_bytes)
        self._raise_version_floors(DIRECTOR)
        assignment = parse(raw)
        self._db.set_floors(with_time(self._db.floors(), assignment.issued_at))
        known = self._cached(DIRECTOR, Timestamp.type)
        expires = _signed_expiry(known)
        fact = _Fact(
            etag=etag if body in (None, known) else "",
            expires=expires,
            refresh_at=now + min((expires - now) / 2, timedelta(seconds=REFRESH_AT_LEAST_S)),
            versions=self._versions(DIRECTOR),
            assignment=raw,
        )
        self._db.set_fact(_FACT, fact.as_json())
        return assignment

    def _assignment_bytes(self) -> bytes:
        with _codes(DIRECTOR):
            updater = self._updater(DIRECTOR, self._pins.director_root_bytes)
            info = updater.get_targetinfo(ASSIGNMENT_TARGET)
            if info is None or info.length > ASSIGNMENT_MAX_BYTES:
                raise error("ASSIGNMENT_INVALID", ASSIGNMENT_TARGET, "the director has none, or it is too large")
            url = f"{self._base}/{DIRECTOR}/{ASSIGNMENT_TARGET}"
            raw = expect(url, self._http.get(url, max_bytes=info.length), 200).body
            info.verify_length_and_hashes(raw)
            return raw

    # -- the image repository

    def manifest(self, path: str, stopped: Callable[[], bool]) -> tuple[ImageTarget, bytes]:
        """Raises TrustError BUNDLE_NOT_IN_IMAGE, BUNDLE_MISMATCH, TUF_*; TransientError."""
        check_clock(self._db.floors(), self._clock.utc())
        info = _twice(lambda: self._image_target(path))
        self._raise_version_floors(IMAGE)
        if info is None:
            raise error("BUNDLE_NOT_IN_IMAGE", path)
        digest = info.hashes.get("sha256", "")
        if info.length > MANIFEST_MAX_BYTES or not digest:
            raise error("BUNDLE_MANIFEST", path, f"{info.length} bytes")
        url = f"{self._base}/blobs/{digest}"
        raw = expect(url, self._http.get(url, max_bytes=info.length), 200).body
        if sha256_hex(raw) != digest or len(raw) != info.length:
            raise error("BUNDLE_MISMATCH", path, "the blob's bytes are not the signed ones")
        return ImageTarget(path, info.length, digest), raw

    def _image_target(self, path: str) -> TargetFile | None:
        with _codes(IMAGE):
            return self._updater(IMAGE, self._pins.image_root_bytes).get_targetinfo(path)

    # -- both

    def _updater(self, repository: str, root: bytes) -> Updater:
        folder = self._folder / repository
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        base = f"{self._base}/{repository}/"
        updater = Updater(str(folder), base, fetcher=Fetcher(self._http), config=UpdaterConfig(), bootstrap=root)
        updater.refresh()
        return updater

    def _raise_version_floors(self, repository: str) -> None:
        """Judge what was verified against what was verified before, in the durable store; then the floor rises."""
        seen, floors = self._versions(repository), self._db.floors()
        check_versions(floors, seen)
        self._db.set_floors(with_versions(floors, seen))

    def _versions(self, repository: str) -> dict[str, int]:
        """`<repository>/<role>` -> version, of the metadata that ngclient has verified and kept."""
        versions = {}
        for path in sorted((self._folder / repository).glob("*.json")):
            try:
                signed = Metadata[Any].from_file(str(path)).signed
            except (DeserializationError, OSError):
                continue  # a file cut by a power loss: it tells nothing, and ngclient will fetch it anew
            versions[f"{repository}/{path.stem}"] = signed.version
        return versions

    def _cached(self, repository: str, role: str) -> bytes:
        return (self._folder / repository / f"{role}.json").read_bytes()


def _signed_expiry(timestamp: bytes) -> datetime:
    return Metadata[Timestamp].from_bytes(timestamp).signed.expires


def _twice(attempt: Callable[[], T]) -> T:
    """Once more when trust seems broken: the repository may have been published anew between two of our requests."""
    try:
        return attempt()
    except (TrustError, RejectedError):
        return attempt()


@contextmanager
def _codes(repository: str) -> Iterator[None]:
    """python-tuf's exceptions as ours; the cause is kept. The order matters: subclasses first."""
    try:
        with writing("SETUP_STATE_DISK", f"tuf/{repository}", "keeping metadata"):
            yield
    except exceptions.ExpiredMetadataError as expired:
        raise error("TUF_EXPIRED", repository, str(expired)) from expired
    except exceptions.UnsignedMetadataError as unsigned:
        raise error("TUF_UNSIGNED", repository, str(unsigned)) from unsigned
    except exceptions.BadVersionNumberError as older:
        raise error("TUF_ROLLBACK", repository, str(older)) from older
    except exceptions.SlowRetrievalError as slow:
        raise error("TUF_TOO_SLOW", repository, str(slow)) from slow
    except exceptions.DownloadLengthMismatchError as long:
        raise error("TUF_INVALID", repository, str(long)) from long
    except exceptions.DownloadError as unreachable:
        raise error("TUF_UNREACHABLE", repository, str(unreachable)) from unreachable
    except (exceptions.RepositoryError, DeserializationError, ValueError) as invalid:
        raise error("TUF_INVALID", repository, str(invalid)) from invalid
