"""Error codes and the four classes of error. docs/reference/errors.md is made from CODES.

    SkerryError
    |- TransientError    back off and try again
    |- RejectedError     this content never works here: report it, do not retry
    |- TrustError        stop and alarm: somebody lies or a key is wrong
    `- LocalFaultError   this machine is at fault: stay on what runs, and report

A class answers one question: what does the caller do next? Anything that is none of these is a bug and
ends the process; the supervisor starts it again and the durable record resumes.
"""

from __future__ import annotations

from dataclasses import dataclass


class SkerryError(Exception):
    """An error with a stable code. `thing` is what it is about; `detail` says what was seen."""

    def __init__(self, code: str, thing: str = "", detail: str = "") -> None:
        if CODES[code].kind is not type(self):
            raise TypeError(f"{code} is a {CODES[code].kind.__name__}")
        self.code, self.thing, self.detail = code, thing, detail
        super().__init__(": ".join(part for part in (code, thing, detail or CODES[code].meaning) if part))

    @property
    def remedy(self) -> str:
        return CODES[self.code].remedy

    @property
    def see(self) -> str:
        """Where the code is explained."""
        return f"docs/reference/errors.md#{self.code.lower()}"


class TransientError(SkerryError):
    """Back off and try again. `retry_after_s` wins over the caller's own delay."""

    def __init__(self, code: str, thing: str = "", detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(code, thing, detail)
        self.retry_after_s = retry_after_s


class RejectedError(SkerryError):
    """This content never works here: report it, do not retry."""


class TrustError(SkerryError):
    """Stop and alarm."""


class LocalFaultError(SkerryError):
    """Stay on what runs and report."""


@dataclass(frozen=True)
class Code:
    kind: type[SkerryError]
    meaning: str
    remedy: str


def error(code: str, thing: str = "", detail: str = "") -> SkerryError:
    """The exception of the class that the registry gives `code`: `raise error("BUNDLE_MEMBER_DIGEST", name)`."""
    return CODES[code].kind(code, thing, detail)


_T, _R, _X, _L = TransientError, RejectedError, TrustError, LocalFaultError

# fmt: off
CODES: dict[str, Code] = {
    # -- SETUP, CONFIG
    "SETUP_PORT_BUSY": Code(
        _L, "a port that is needed is in use", "stop the program named, or choose another port (*_port in control.toml, --port-base)"
    ),
    "SETUP_NEEDS_APT": Code(_L, "Debian packages are missing", "run the printed apt-get line once"),
    "SETUP_NEEDS_PYTHON": Code(_L, "there is no Python 3.11", "install it: on Debian 12 the packages python3 and python3-venv"),
    "SETUP_PROGRAM_FAILED": Code(_L, "a program did not become ready", "read its log, whose path is printed"),
    "SETUP_NOT_RUNNING": Code(_L, "the program that is asked does not run here", "start it, or name the run_dir that it has (--run-dir)"),
    "SETUP_INSTALL": Code(_L, "the project could not be installed into the work folder", "see what the installer said"),
    "SETUP_WORK_DIR": Code(_L, "the work folder cannot be reached by other users", "choose one below /tmp (--work-dir)"),
    "SETUP_STEP_FAILED": Code(_L, "a step of the story did not come true", "see what it waited for, and the logs that are shown"),
    "SETUP_SITE_EXISTS": Code(_L, "the site folder exists; a ceremony is never run over another", "choose another folder"),
    "SETUP_SITE_UNREADABLE": Code(_L, "a file of the site cannot be read", "run the ceremony as the holder of the offline keys"),
    "SETUP_PROFILE_EXISTS": Code(_L, "the profile has a key and a delegation already", "nothing is to be done"),
    "SETUP_PROFILE_UNKNOWN": Code(_L, "no firmware profile fits this machine", "add one under firmware_profiles/profiles"),
    "SETUP_STATE_DISK": Code(
        _L, "a folder of this program does not take writes", "free space there, mount it writable or give it to the program's user"
    ),
    "SETUP_STATE_TAKEN": Code(_L, "another process uses this state folder", "stop it, or give this one a folder of its own (--state-dir)"),
    "CONFIG_INVALID": Code(_L, "the configuration file is not valid", "mend the key that is named; see docs/reference/configuration.md"),
    "CONFIG_MISSING": Code(_L, "the configuration file cannot be read", "check the path and its permissions"),
    # -- ENROL
    "ENROL_TOKEN_UNKNOWN": Code(_R, "no such enrolment token", "ask the operator for a new token"),
    "ENROL_TOKEN_SPENT": Code(_R, "the enrolment token was used before", "ask the operator for a new token"),
    "ENROL_TOKEN_EXPIRED": Code(_R, "the enrolment token has expired", "ask the operator for a new token"),
    "ENROL_TOKEN_BINDING": Code(_R, "the token is bound to another machine", "use the token that was made for this serial number"),
    "ENROL_CSR_REFUSED": Code(_R, "the certificate request is not acceptable", "use an EC P-256 key and a request signed by it"),
    "ENROL_SERVER_UNKNOWN": Code(_X, "the server's certificate is not the one in the token", "check the address; do not enrol"),
    "ENROL_PENDING": Code(_T, "the enrolment waits for a person's approval", "approve it: skerry device approve"),
    "ENROL_UNREACHABLE": Code(_T, "the enrolment server does not answer", "check address and network, then try again: the token holds"),
    "ENROL_MISSING": Code(_L, "this device is not enrolled", "skerry-agent enrol --token TOKEN --server HOST:PORT"),
    # -- TUF (chain of trust)
    "TUF_UNSIGNED": Code(_X, "metadata are not signed by enough trusted keys", "check the repository; a key may have leaked"),
    "TUF_ROLLBACK": Code(_X, "metadata are older than metadata seen before", "check the repository; the server may have been restored"),
    "TUF_EXPIRED": Code(_X, "metadata have expired", "renew them: skerry keys status"),
    "TUF_INVALID": Code(_X, "metadata cannot be parsed", "check the repository"),
    "TUF_UNREACHABLE": Code(_T, "the repository does not answer", "check the network; it is tried again"),
    "TUF_TOO_SLOW": Code(_T, "the download was below the lowest accepted rate", "it is tried again"),
    "TUF_CLOCK_BELOW_FLOOR": Code(_L, "the clock shows a time before the newest verified one", "set the clock (NTP, RTC battery)"),
    # -- BUNDLE
    "BUNDLE_NOT_IN_IMAGE": Code(_X, "the director names a bundle that the image repository lacks", "sign the release first"),
    "BUNDLE_MISMATCH": Code(_X, "director and image repository disagree on length or hashes", "alarm: one of them lies"),
    "BUNDLE_MEMBER_DIGEST": Code(_X, "a member's bytes are not those of the manifest", "alarm: the blob store was altered"),
    "BUNDLE_MEMBER_NAME": Code(_R, "a member's name is not allowed", "build the bundle with skerry-build"),
    "BUNDLE_MANIFEST": Code(_R, "the manifest is not valid", "build the bundle with skerry-build"),
    "BUNDLE_PROFILE": Code(_R, "the bundle was built for another profile", "assign the manifest of this device's profile"),
    "BUNDLE_RUNTIME": Code(_R, "the installed runtime is outside the bundle's range", "update the runtime or rebuild the bundle"),
    "BUNDLE_EPOCH": Code(_X, "the bundle's security epoch is below the floor", "release it again with the present epoch"),
    "BUNDLE_MODEL_SIGNATURE": Code(_X, "the model's signature does not verify", "sign the model with a pinned key"),
    "BUNDLE_BAD_DIGEST": Code(_R, "this digest failed here before", "name it in a new campaign, or release a mended one"),
    "BUNDLE_GOLDEN": Code(
        _R, "golden vectors are outside their tolerance on this device", "compare backend and precision with the evaluation"
    ),
    "BUNDLE_LIMITS": Code(_R, "the bundle needs more memory or time than it states", "rebuild with true limits"),
    "BUNDLE_NO_SPACE": Code(_L, "too little free space to stage the bundle", "free space under the state folder"),
    "BUNDLE_PROCESSING": Code(
        _R, "this agent cannot do the bundle's pre- or post-processing", "see docs/reference/processing.md, or update the agent"
    ),
    "BUNDLE_SELF_TEST": Code(_R, "the worker died or failed in its self-test", "read the worker's log"),
    # -- ASSIGNMENT
    "ASSIGNMENT_KIND": Code(_R, "the assignment's kind is unknown to this agent", "update the agent"),
    "ASSIGNMENT_DEVICE": Code(_X, "the assignment names another device", "alarm: replayed or misrouted"),
    "ASSIGNMENT_INVALID": Code(_R, "the assignment is not valid", "update the agent or the control plane"),
    "ASSIGNMENT_SUPERSEDED": Code(_R, "a newer assignment came before this one was confirmed", "nothing: the newer one is taken next"),
    "ASSIGNMENT_DEADLINE": Code(_R, "a state outlasted its deadline", "see the device's log for what it waited for"),
    # -- FRAME, QUEUE, PIPELINE, AGENT: why a frame has no row; counted, not raised
    "FRAME_SOURCE": Code(_T, "the source gives no picture", "see frames_missing in the agent's log, and docs/how-to/choose-a-source.md"),
    "FRAME_SHAPE": Code(
        _R,
        "the live model's pre-processing cannot work on the frame",
        "see frames_unfit in the agent's log; give frames of the size that the model was made for, or roll back",
    ),
    "FRAME_LATE": Code(_T, "the frame's turn came after its deadline", "lower source.fps, or raise source.deadline_frames in agent.toml"),
    "QUEUE_FULL": Code(_T, "the pipeline's rows wait for the outbox, and there is no room for more", "look at the disk: space, errors"),
    "QUEUE_TOO_LARGE": Code(
        _R, "a row is larger than a message from pipeline to agent may be", "fewer columns of lists, or a smaller `most` of `boxes`"
    ),
    "PIPELINE_ENDED": Code(_T, "the pipeline ended before it was known what became of the frame", "see pipeline_died in the agent's log"),
    "AGENT_ENDED": Code(_T, "the agent ended before it was known what became of the frame", "see the supervisor's log"),
    # -- WORKER, ARENA
    "WORKER_CRASH": Code(_L, "the worker ended unasked", "see its log; it is restarted with back-off"),
    "WORKER_START": Code(_L, "the worker did not become ready in time", "see its log"),
    "WORKER_MEMORY": Code(
        _L, "too little memory for one more worker", "free memory, lower inference.memory_reserve_bytes, or release without a shadow"
    ),
    "WORKER_CIRCUIT_OPEN": Code(_L, "the worker died too often; the bundle is given up", "a new campaign must name the bundle again"),
    "WORKER_NOT_FINITE": Code(_R, "the model answers with NaN or infinity", "rebuild the model"),
    "WORKER_MODEL": Code(_R, "the backend cannot load the model", "check opset and operators for this backend"),
    "ARENA_SHAPE": Code(_R, "the request does not fit the arena's cell", "use the shape of the manifest"),
    "ARENA_BUSY": Code(_T, "no cell is free, or the model's queue is full", "slow down"),
    "ARENA_TIMEOUT": Code(_T, "no answer before the deadline", "the frame is counted as refused"),
    "ARENA_MODEL": Code(_R, "no loaded model has this name or digest", "skerry-agent status lists what is loaded"),
    "ARENA_SEATS": Code(_T, "every seat of this model is taken", "end a client, or raise inference.seats in agent.toml"),
    "ARENA_REQUEST": Code(_R, "the request to the attach socket is not valid", "see docs/reference/wire.md"),
    "ARENA_DETACHED": Code(_T, "the agent has ended this seat: the version was unloaded, or the agent ended", "attach again"),
    # -- OIP (Open Inference Protocol)
    "OIP_REQUEST": Code(_R, "the request is not one of the Open Inference Protocol", "see docs/reference/oip.md"),
    "OIP_TENSOR": Code(_R, "a tensor's name, datatype, shape or data do not fit the model", "ask for its metadata: GET /v2/models/NAME"),
    "OIP_PARAMETER": Code(_R, "a parameter is unknown here or has no valid value", "leave it out, or see docs/reference/oip.md"),
    "OIP_ENDPOINT": Code(_R, "no such endpoint", "see docs/reference/oip.md"),
    "OIP_METHOD": Code(_R, "the endpoint has no such method", "see docs/reference/oip.md"),
    "OIP_TOO_LARGE": Code(_R, "the request is larger than this front takes", "send less, or raise oip.max_request_bytes in agent.toml"),
    "OIP_ENCODING": Code(_R, "the body's content encoding is not understood", "send it without Content-Encoding"),
    "OIP_CONNECTIONS": Code(_T, "this front has as many connections as it takes", "close those that are idle, or try again"),
    "OIP_MEMORY": Code(_T, "what all callers ask at once is more than this front may hold", "send less at once, or try again"),
    "OIP_BUG": Code(_L, "the front has a bug", "send us the log of this moment: journalctl -u skerry-agent"),
    "OIP_SLOW_BODY": Code(_T, "the body did not come in time", "send it faster, or raise oip.body_s in agent.toml"),
    "OIP_UNSUPPORTED": Code(_R, "this part of the protocol is not served", "see docs/reference/oip.md"),
    "OIP_REGION": Code(_R, "the shared memory region is not valid, or the piece lies outside of it", "register what exists, in its bounds"),
    "OIP_REGION_UNKNOWN": Code(_R, "no shared memory region of this name is registered", "register it first"),
    "OIP_REGION_OWNER": Code(
        _R, "shared memory is not served to this caller", "use the Unix socket, and list the owner in oip.shared_memory_uids of agent.toml"
    ),
    "OIP_NOT_ADMITTED": Code(_R, "no admitted slot of this device holds this model", "only a campaign brings models to a device"),
    "OIP_BUSY": Code(_T, "an update, or somebody else's request, is loading or unloading models", "ask again in a moment"),
    "OIP_IN_USE": Code(_R, "the agent itself needs this model now", "a campaign changes what is live"),
    # -- OUTBOX, ACK
    "OUTBOX_FULL": Code(_T, "the lane's byte budget is used up", "rows are refused and counted until the link is back"),
    "OUTBOX_SCHEMA": Code(_R, "rows do not fit the signed feature schema", "mend the pipeline or the schema"),
    "OUTBOX_TOO_LARGE": Code(_R, "a batch is larger than the limit", "send fewer rows in one request"),
    "OUTBOX_DISK": Code(_L, "the outbox's disk does not take writes", "look at the disk: space, errors; rows are refused and counted"),
    "ACK_SIGNATURE": Code(_X, "the ack is not signed by a pinned key", "alarm: forged, or the key was not rotated in"),
    "ACK_DEVICE": Code(_X, "the ack names another device", "alarm: replayed or misrouted"),
    "ACK_BEYOND_SENT": Code(_X, "the ack confirms more than was sent", "alarm: forged"),
    "ACK_LEDGER_MISMATCH": Code(_X, "the ack's running hash is not the ledger's", "alarm: the lake holds other bytes than were sent"),
    # -- INGEST, LAKE
    "INGEST_SIGNATURE": Code(_R, "the batch is not signed by the device's key", "alarm: forged batch; it is not committed"),
    "INGEST_IDENTITY": Code(_R, "topic and header name different devices", "alarm: forged batch; it is not committed"),
    "INGEST_MALFORMED": Code(_R, "the batch cannot be decoded", "it is quarantined with its bytes"),
    "INGEST_SCHEMA_UNKNOWN": Code(_T, "the batch's schema is not known yet", "it is held; publish the schema"),
    "INGEST_DEVICE_UNKNOWN": Code(_T, "the device is not active in the registry", "it is held; enrol or activate the device"),
    "INGEST_ROW_RANGE": Code(_R, "a value is outside its range or not finite", "the row is quarantined"),
    "INGEST_LEDGER": Code(_R, "the running hash in the header is not that of the rows", "the batch is quarantined"),
    "INGEST_FEED": Code(_T, "the registry feed does not answer", "ingest goes on with the last known state"),
    "LAKE_SCHEMA_MISMATCH": Code(_L, "a table exists with another schema", "move the table away or migrate it"),
    "LAKE_HISTORY": Code(_L, "a watermark names a batch that no table holds", "restore the table: part of its history is gone"),
    "LAKE_CONFLICT": Code(_T, "another writer committed first", "it is tried again on the new snapshot"),
    "LAKE_DISK": Code(_L, "the lake's disk does not take writes", "free space under lake_dir; ingest goes on by itself"),
    # -- REPORT
    "REPORT_EXECUTION": Code(_R, "the execution is not this device's", "alarm: forged report"),
    "REPORT_GAP": Code(_T, "a report's number is not the next one", "send from the number in the answer"),
    "REPORT_KIND": Code(_R, "the report's kind is unknown", "update the control plane"),
    # -- CAMPAIGN
    "CAMPAIGN_UNKNOWN": Code(_R, "no such campaign", "skerry campaign list"),
    "CAMPAIGN_INVALID": Code(_R, "the campaign cannot be made as asked", "mend what is named"),
    "CAMPAIGN_NO_DEVICE": Code(_R, "no active device carries the labels asked for", "skerry device list shows devices and their labels"),
    "CAMPAIGN_WAVE_EMPTY": Code(_R, "a wave has no device", "give each wave a device that no earlier one takes (--wave 1, --wave all)"),
    "CAMPAIGN_STATE": Code(_R, "the campaign is not in a state that allows this", "skerry campaign show"),
    "CAMPAIGN_NO_RELEASE": Code(_R, "the release is not signed for every profile of the devices", "approve the release first"),
    "CAMPAIGN_GATE": Code(_R, "a gate failed", "skerry campaign show lists gate, value and limit"),
    # -- BUILD, SIGNER, model registry
    "API_REGISTRY_UNREACHABLE": Code(_T, "the model registry does not answer", "is the MLflow server running? it is tried again"),
    "BUILD_NO_PROFILE": Code(_R, "it is not known for which profiles to build", "enrol a device, or set build_profiles in control.toml"),
    "BUILD_RESULT": Code(_R, "the built manifests are not those of the job", "update skerry-build"),
    "BUILD_RELEASE_STATE": Code(_R, "the release is not in a state that allows this", "skerry release show"),
    "BUILD_MODEL_SIGNATURE": Code(
        _X, "the registered model is not signed by a pinned training key", "sign it: see docs/how-to/register-a-model.md"
    ),
    "BUILD_LINT": Code(_R, "the quantized graph would be reinterpreted by a backend", "see the linter's finding"),
    "BUILD_ACCURACY": Code(_R, "quantization costs more accuracy than allowed", "use more calibration samples"),
    "BUILD_SOURCE": Code(_R, "the registered model cannot be read", "register an fp32 ONNX model with calibration and held-out sets"),
    "BUILD_PROCESSING": Code(
        _R, "pre- or post-processing cannot be done, or does not fit the model or the feature schema", "see docs/reference/processing.md"
    ),
    "BUILD_PROFILE": Code(_R, "no firmware profile of this name", "see firmware_profiles/profiles, or add the board there"),
    "SIGNER_PEER": Code(_X, "the caller's uid is not allowed", "call as the control plane's user"),
    "SIGNER_MANIFEST": Code(_R, "the manifest is not valid or its members are missing", "build the bundle with skerry-build"),
    "SIGNER_PROVENANCE": Code(_X, "the provenance is not by a pinned builder or does not name these members", "build with skerry-build"),
    "SIGNER_APPROVAL": Code(_X, "the approval is not by a pinned approver or names another release", "skerry release approve"),
    "SIGNER_MODEL_SIGNATURE": Code(_X, "model.sig is not by a pinned training key", "sign the model with the training side's key"),
    "SIGNER_VERSION": Code(_X, "this name and number were signed before with other content", "release under a new number"),
    "SIGNER_REPOSITORY": Code(_L, "the published image repository is missing or broken", "restore it from a backup of the signer's folder"),
    "SIGNER_REQUEST": Code(_R, "the request is unknown or too large", "update the control plane"),
    "SIGNER_UNREACHABLE": Code(_T, "the signer does not answer", "see its log; it is tried again"),
    # -- API
    "API_UNAUTHENTICATED": Code(_R, "no valid token or certificate", "send Authorization: Bearer <token>"),
    "API_FORBIDDEN": Code(_R, "this caller may not do this", "use another identity"),
    "API_NOT_FOUND": Code(_R, "no such thing", "check the id"),
    "API_INVALID": Code(_R, "the request is not valid", "mend the field that is named"),
    "API_CONFLICT": Code(_R, "the thing changed meanwhile or exists already", "read it again"),
    "API_PRECONDITION": Code(_R, "the thing is no longer at the revision that If-Match names", "read it again, then decide again"),
    "API_TOO_LARGE": Code(_R, "the body is larger than the route's limit", "send less"),
    "API_DIGEST": Code(_R, "the body's sha256 is not the one in the path", "send the bytes again"),
    "API_STORAGE": Code(_T, "the control plane's disk does not take writes", "free space under state_dir and blob_dir, then send it again"),
    "API_UNREACHABLE": Code(_T, "the control plane does not answer", "start it, or say where it is (--url, SKERRY_URL)"),
}
# fmt: on
