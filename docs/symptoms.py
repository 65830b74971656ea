"""From what somebody sees to the code, the remedy and what goes on meanwhile: docs/reference/troubleshoot.md is made from this table.

The remedy is the registry's own. Every code that tells somebody to do something at a machine (LocalFaultError) has a line.
"""

from __future__ import annotations

from collections.abc import Iterator

from contracts.errors import CODES

# section -> (what is seen, code, what goes on meanwhile)
SYMPTOMS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Setting up": (
        ("`./dev` ends with exit code 3 and prints an apt-get line", "SETUP_NEEDS_APT", "nothing was begun"),
        ("`./dev` ends with exit code 3 and lists interpreters", "SETUP_NEEDS_PYTHON", "nothing was begun"),
        (
            "a program does not start: a port is in use; the message names pid and command of who has it",
            "SETUP_PORT_BUSY",
            "the others run on",
        ),
        ("the demo cannot install the project", "SETUP_INSTALL", "nothing runs"),
        ("the demo refuses its work folder", "SETUP_WORK_DIR", "nothing runs"),
        ("the demo says that a program did not become ready", "SETUP_PROGRAM_FAILED", "everything is stopped; the log is shown"),
        ("`skerry-agent status` or `skerry-ingest status` finds nobody to ask", "SETUP_NOT_RUNNING", "nothing, where nothing runs"),
        ("the demo stops at a step", "SETUP_STEP_FAILED", "everything is stopped; `--work-dir` keeps state and logs"),
        ("`skerry-ceremony init` refuses", "SETUP_SITE_EXISTS", "the site stays as it is"),
        ("`skerry-ceremony` cannot read a key", "SETUP_SITE_UNREADABLE", "the site stays as it is"),
        ("`skerry-ceremony add-profile` refuses", "SETUP_PROFILE_EXISTS", "the profile can be used"),
        ("the agent does not start: no profile fits the board", "SETUP_PROFILE_UNKNOWN", "nothing runs on this device"),
        ("a program does not start: a key of its TOML file is not known, or has a wrong value", "CONFIG_INVALID", "the others run on"),
        ("a program does not start: its TOML file, or a token file, cannot be read", "CONFIG_MISSING", "the others run on"),
    ),
    "A folder that is taken, full or read-only": (
        ("an agent or a signer does not start beside one that runs", "SETUP_STATE_TAKEN", "the one that runs goes on"),
        (
            "a program does not start: its state or run folder takes no writes",
            "SETUP_STATE_DISK",
            "an agent that runs already goes on inferring: orders and reports wait, rows are refused. On a full disk it starts too",
        ),
        (
            "`skerry-agent status` shows rows as shed",
            "OUTBOX_FULL",
            "the oldest unsent rows became a gap, which the lake shows with its count",
        ),
        (
            "`skerry-agent status` shows what the disk said",
            "OUTBOX_DISK",
            "frames are answered; new rows are refused, counted, and taken again later",
        ),
        ("an install ends FAILED with this code", "BUNDLE_NO_SPACE", "the incumbent answers; what was fetched has given its room back"),
        (
            "`skerry-ingest status` shows `trouble`; the event log has an alarm",
            "LAKE_DISK",
            "nothing is acknowledged, so devices keep their rows",
        ),
        ("an upload or a report is answered with 507", "API_STORAGE", "polls and downloads are served; devices keep their reports"),
    ),
    "Enrolling": (
        ("`skerry-agent run` ends at once", "ENROL_MISSING", "nothing runs on this device"),
        ("the token is refused: used by another key", "ENROL_TOKEN_SPENT", "the device that used it is not touched"),
        ("the token is refused: too old", "ENROL_TOKEN_EXPIRED", "nothing was spent"),
        ("the token is refused: never made here", "ENROL_TOKEN_UNKNOWN", "nothing was spent"),
        ("the token is refused: made for another serial number", "ENROL_TOKEN_BINDING", "nothing was spent"),
        ("the certificate request is refused: another key type, or a name that is somebody's", "ENROL_CSR_REFUSED", "nothing was spent"),
        ("the agent says that the server is not the one of the token", "ENROL_SERVER_UNKNOWN", "nothing was sent"),
    ),
    "At the device": (
        ("updates stop, and the agent says that its clock is wrong", "TUF_CLOCK_BELOW_FLOOR", "the incumbent answers"),
        (
            "`skerry-agent status` shows frames refused as this: a folder, file, camera or topic without a picture",
            "FRAME_SOURCE",
            "each frame is refused and counted; the first that comes is answered",
        ),
        (
            "frames are refused as this, or an install is rolled back for it",
            "FRAME_SHAPE",
            "other frames are answered; a new model that no frame fits gives way to the incumbent",
        ),
        ("frames are refused as this: the board is too slow for its pace", "FRAME_LATE", "the next frame in time is answered"),
        ("a worker died", "WORKER_CRASH", "it is restarted; until then frames are refused"),
        ("a worker does not become ready", "WORKER_START", "the incumbent answers"),
        ("an install ends FAILED with this code", "WORKER_MEMORY", "the incumbent answers; nothing was started"),
        ("a caller of the inference front gets this, and its connection ends", "OIP_BUG", "all other callers are answered"),
        ("a worker died again and again", "WORKER_CIRCUIT_OPEN", "the device goes back to its previous model by itself"),
    ),
    "Campaigns": (
        ("a campaign is refused: its labels match nothing", "CAMPAIGN_NO_DEVICE", "nothing was made"),
        ("a campaign is refused: a wave of zero devices, or none are left for it", "CAMPAIGN_WAVE_EMPTY", "nothing was made"),
        ("a campaign is refused for another reason, which is named", "CAMPAIGN_INVALID", "nothing was made"),
        ("a campaign is refused: the release does not fit the devices", "CAMPAIGN_NO_RELEASE", "nothing was made"),
    ),
    "Rows and reports that are refused": (
        (
            "a batch cannot be read",
            "INGEST_MALFORMED",
            "signed by its device: in quarantine; else: refused, and its device sends again",
        ),
        ("a batch is not signed by its device", "INGEST_SIGNATURE", "it is refused; the device's own rows go on"),
        ("a batch's rows do not lead to its running hash", "INGEST_LEDGER", "it is in quarantine; the stream goes on"),
        ("a report is refused: of a kind that is not known", "REPORT_KIND", "nothing of its request is stored"),
        ("a report is refused: for another device's execution", "REPORT_EXECUTION", "nothing of its request is stored"),
        ("a report, or any other request, is refused: the field is named", "API_INVALID", "nothing of it is stored"),
        ("a request is refused: too large", "API_TOO_LARGE", "nothing of it is stored"),
    ),
    "The lake and the signer": (
        ("ingest does not start: a table has other columns", "LAKE_SCHEMA_MISMATCH", "devices keep their rows"),
        ("ingest does not start: a table lacks part of its history", "LAKE_HISTORY", "devices keep their rows"),
        ("the signer does not start", "SIGNER_REPOSITORY", "devices go on with what is published, until it expires"),
    ),
}


def page(notice: str) -> str:
    return "\n".join([*_head(notice), *_sections(), ""])


def _head(notice: str) -> Iterator[str]:
    yield from ("# Troubleshooting", "", notice, "")
    yield "Made from `docs/symptoms.py` and the registry of codes. Every program says an error in one form, on stderr; with `--json`, where"
    yield "a command has it, as one JSON object with the same parts:"
    yield from (
        "",
        "```",
        "PROGRAM: CODE: what it is about: what was seen",
        "  remedy: what to do",
        "  see: where the code is explained",
        "```",
    )
    yield from ("", "In the API it is problem+json with `code`, `detail` and `remedy`; in logs the fields `code` and `detail`.")


def _sections() -> Iterator[str]:
    for section, lines in SYMPTOMS.items():
        yield from ("", f"## {section}", "", "| what you see | code | what to do | meanwhile |", "|---|---|---|---|")
        yield from (
            f"| {seen} | [`{code}`](errors.md#{code.lower()}) | {CODES[code].remedy} | {meanwhile} |" for seen, code, meanwhile in lines
        )
