"""The operators' API (`/v1`, 127.0.0.1:8484, bearer token): bodies shared by control_plane/api and the CLI.

GET    /v1/status                                  counts, versions, what waits for what
PUT/GET/HEAD /v1/blobs/{sha256}                    bytes, at most 256 MiB
POST   /v1/models/{name}/versions                  ModelRegistration -> ModelVersion
GET    /v1/models  /v1/models/{name}  /v1/models/{name}/versions/{v}
PUT    /v1/models/{name}/aliases/{alias}           {version}: moving `candidate` starts a build
GET    /v1/releases  /v1/releases/{id}             ReleaseView: BUILDING, BUILT, APPROVED, SIGNED, FAILED
POST   /v1/releases/{id}/approval                  Approval -> signs through skerry-signer
POST   /v1/enrolment-tokens                        TokenRequest -> {token}
GET    /v1/devices  /v1/devices/{id}               DeviceView
POST   /v1/devices/{id}/approve                    let in who enrolled without pre-registration -> DeviceView
POST   /v1/devices/{id}/revoke                     decommission, for good -> DeviceView
POST   /v1/campaigns                               CampaignRequest -> CampaignView
GET    /v1/campaigns  /v1/campaigns/{id}           the ETag of one campaign is its revision
POST   /v1/campaigns/{id}/pause  /v1/campaigns/{id}/resume  /v1/campaigns/{id}/abort       -> CampaignView; If-Match is honoured
GET    /v1/events?after=N&limit=M&wait_s=S         append-only log, long poll; EventView list
GET    /v1/trace/{bundle_digest}                   Trace: bundle -> model version -> run -> data, each hop from its own store
GET    /v1/keys                                    expiry of every role and certificate

/internal/v1 (services' certificates, :8443):
GET    /internal/v1/devices?since=N                RegistryFeed (ingest)
GET    /internal/v1/schemas/{schema_id}            FeatureSchema (ingest)
POST   /internal/v1/alarms                         ServiceAlarms: what was refused there, for the log (ingest, build)
GET    /internal/v1/builds/next    POST /internal/v1/builds/{id}/result      (build)
PUT/GET/HEAD /internal/v1/blobs/{sha256}           (build)

/device/v1 (devices' certificates, :8443):
GET    /device/v1/director/{file}  /device/v1/image/{path}
GET/HEAD /device/v1/blobs/{sha256}                 bytes, with Range
POST   /device/v1/reports                          ReportBatch -> ReportAnswer
POST   /device/v1/renewals                         {csr_pem, batch_key} -> EnrolmentAnswer

/enrol/v1 (server TLS, :8444): POST /enrol/v1/requests, GET /enrol/v1/requests/{id}
Errors are problem+json: {type, title, status, code, detail, remedy}.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from contracts.errors import error
from contracts.features import FeatureSchema
from contracts.ids import DeviceId, Name, Wire
from contracts.release import ModelVersion, Release
from contracts.states import State


class Problem(Wire):
    """RFC 9457 problem details, with our code and remedy."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    remedy: str = ""


class TokenRequest(Wire):
    """`labels` and `serial` are copied to the device; a token made by an operator counts as pre-registration."""

    serial: str | None = None
    labels: dict[str, str] = {}
    valid_s: int = Field(default=86_400, gt=0, le=10 * 366 * 86_400)
    preregistered: bool = True


class DeviceView(Wire):
    id: DeviceId
    state: Literal["PENDING", "ACTIVE", "QUARANTINED", "DECOMMISSIONED"]
    profile: str
    labels: dict[str, str] = {}
    running_digest: str = ""
    confirmed_digest: str = ""
    desired_generation: int = 0
    last_seen_utc: str | None = None
    certificate_not_after: str = ""
    ledger: dict[str, int] = {}


GateMetric = Literal[
    "install_success", "latency_p95_us", "latency_p95_vs_incumbent", "agreement", "not_finite", "refused_share",
]  # fmt: skip


class Gate(Wire):
    """A limit on one metric of a wave, from the devices' reports. Missing evidence holds; it never passes.

    install_success: share of the wave's devices CONFIRMED, at least `limit`.
    latency_p95_us: p95 of the frames of the probation, at most `limit`.
    latency_p95_vs_incumbent: candidate's p95 over the same shadow frames, at most the greater of `limit` times the incumbent's and
    `allowance_us` more than it.
    agreement: agreed / pairs while shadowing. `limit` is the drop below the expected agreement that has to be found.
    not_finite, refused_share: share of frames, at most `limit`.

    All but the first pass or fail when that is proven, with at least `min_samples` (docs/explanation/gates.md).
    """

    metric: GateMetric
    limit: float
    min_samples: int = Field(default=1, ge=1)
    allowance_us: float = Field(default=2000, ge=0)  # of latency_p95_vs_incumbent


class GateView(Wire):
    metric: GateMetric
    limit: float
    verdict: Literal["waiting", "passed", "failed", "not_applicable"]
    value: float | None = None  # latency_p95_vs_incumbent and its bounds: in units of the incumbent's p95
    low: float | None = None  # bounds of the value that hold at every look; None where there is none
    high: float | None = None
    passes_at: float | None = None  # both bounds on the good side of it: passed
    fails_at: float | None = None  # both bounds on the bad side of it: failed
    samples: int = 0
    reason: str = ""  # what it waits for, or why it does not apply


class WaveRequest(Wire):
    """`size` devices (None: all that are left), chosen in the order of their ids, or `devices` by name."""

    size: int | None = None
    devices: tuple[DeviceId, ...] = ()
    soak_s: float = Field(default=0, ge=0)
    gates: tuple[Gate, ...] = ()


class CampaignRequest(Wire):
    name: Name
    release: str  # <name>-<number>
    waves: tuple[WaveRequest, ...] = Field(min_length=1)
    labels: dict[str, str] = {}  # devices that carry all of these
    shadow_pairs: int = Field(default=0, ge=0)
    probation_s: float = Field(default=5, ge=0)
    probation_frames: int = Field(default=100, ge=0)
    state_deadline_s: dict[State, float] = {}
    wave_deadline_s: float = Field(default=3600, gt=0)
    on_failure: Literal["pause", "rollback"] = "rollback"

    def check_waves(self) -> None:
        """Before it is sent, and again where it is made. Raises CAMPAIGN_WAVE_EMPTY: a slice of -1 devices would be all but the last."""
        for number, wave in enumerate(self.waves, start=1):
            if wave.size is not None and wave.size < 1:
                raise error("CAMPAIGN_WAVE_EMPTY", self.name, f"wave {number} is of {wave.size} devices")


CampaignState = Literal["RUNNING", "PAUSED", "SUCCEEDED", "ROLLING_BACK", "ROLLED_BACK", "ABORTED"]
WaveState = Literal["PENDING", "OPEN", "SOAKING", "PASSED", "FAILED"]


class ExecutionView(Wire):
    id: str
    device: DeviceId
    kind: Literal["install", "rollback"]
    state: State
    fence: int
    target_digest: str
    previous_digest: str
    code: str = ""
    detail: str = ""


class WaveView(Wire):
    number: int
    state: WaveState
    gates: tuple[GateView, ...]
    executions: tuple[ExecutionView, ...]


class CampaignView(Wire):
    id: str
    name: str
    release: str
    state: CampaignState
    revision: int
    waits_for: str = ""
    waits_until_utc: str | None = None
    waves: tuple[WaveView, ...]


class AliasMove(Wire):
    """Body of PUT /v1/models/{name}/aliases/{alias}."""

    version: int = Field(ge=1)


class ModelView(Wire):
    name: Name
    aliases: dict[str, int]  # alias -> version
    versions: tuple[ModelVersion, ...]  # oldest first


class ReleaseView(Wire):
    id: str
    state: Literal["BUILDING", "BUILT", "APPROVED", "SIGNED", "FAILED"]
    release: Release | None = None
    model_version: str
    code: str = ""
    detail: str = ""


class EventView(Wire):
    """One line of the append-only log; `hash` chains: sha256(previous hash || canonical JSON of the rest)."""

    seq: int
    utc: str
    event: str
    subject: str  # device, campaign, execution, release, model version ...
    actor: str  # operator:<name>, device:<id>, service:<id>, system
    data: dict[str, Any] = {}
    hash: str


class RegistryDevice(Wire):
    id: DeviceId
    state: str
    batch_keys: dict[str, str]  # key id -> raw public key, hex; old keys stay until their certificate has expired


class RegistryFeed(Wire):
    revision: int
    devices: tuple[RegistryDevice, ...]


MAX_ALARMS = 256


class ServiceAlarm(Wire):
    """Somebody lied to a service, `count` times since it last told of it."""

    code: str  # of contracts/errors.py
    device: DeviceId | Literal[""] = ""  # in whose name; "" when that is not known
    detail: str = Field(default="", max_length=500)  # of the last time
    count: int = Field(default=1, ge=1)


class ServiceAlarms(Wire):
    alarms: tuple[ServiceAlarm, ...] = Field(max_length=MAX_ALARMS)


class KeyView(Wire):
    """One line of GET /v1/keys (a list): a role's metadata or a certificate of this site."""

    name: str  # image/snapshot, image/profile-x86-cpu-avx2, director/timestamp, certificate/server ...
    expires_utc: str  # ISO 8601
    version: int | None = None
    overdue: bool = False  # past half its life and not renewed, or expired: somebody must look
    detail: str = ""


class SchemaView(Wire):
    schema_id: str
    schema_: FeatureSchema = Field(alias="schema")


class Trace(Wire):
    """Each hop as read from its own store, and whether the next hop's id was found in it."""

    bundle: str
    target: str
    model_version: ModelVersion | None
    run: str
    data: str
    hops: tuple[dict[str, Any], ...]  # {hop, store, id, ok, detail}
    complete: bool
