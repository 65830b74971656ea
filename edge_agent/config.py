"""agent.toml. Where the control plane and the broker are comes from the pins of enrolment, not from here."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from program.config import Config

DEFAULT_CONFIG = "/etc/skerry/agent.toml"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(_Table):
    kind: Literal["folder", "video", "camera", "topic"] = "folder"  # the first two again and again; of the others the newest picture
    path: Path | None = None  # of the folder or the file
    url: str | None = None  # of the camera: rtsp://, http:// (MJPEG) or /dev/video0; of the topic: mqtt://host/topic, mqtts://host/topic
    silence_s: float = Field(default=5, gt=0, le=86400)  # a camera or topic that sends nothing for so long is connected to again
    fps: float = Field(default=20, ge=1e-6, le=1000)  # frames per second
    deadline_frames: float = Field(default=2, gt=0, le=1000)  # a frame is given up this many frame times after it was due

    @model_validator(mode="after")
    def _has_its_place(self) -> SourceConfig:
        wanted, other = ("url", self.path) if self.kind in ("camera", "topic") else ("path", self.url)
        if self.kind == "camera" and not re.fullmatch(r"(rtsps?|https?)://\S+|/dev/\S+", self.url or ""):
            raise ValueError("a camera's url is rtsp://..., http://... or /dev/...")
        if self.kind == "topic" and not _is_topic(self.url or ""):
            raise ValueError("a topic's url is mqtt://host[:port]/topic or mqtts://host[:port]/topic, without #, + and ?")
        if getattr(self, wanted) is None or other is not None:
            raise ValueError(f"a source of kind {self.kind} has {wanted}, and no {'path' if wanted == 'url' else 'url'}")
        return self


def _is_topic(url: str) -> bool:
    try:
        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        return False
    return bool(host) and port != 0 and re.fullmatch(r"mqtts?://[^/@?#\s]+/[^?#+\0]+", url) is not None


class BudgetConfig(_Table):
    live_bytes: int = Field(default=256 * 1024**2, gt=0)  # disk for rows of lane `live` that are not acked yet
    windows_bytes: int = Field(default=16 * 1024**2, gt=0)  # the same for lane `windows`: rows of feature windows
    bulk_bytes: int = Field(default=64 * 1024**2, gt=0)  # the same for lane `bulk`
    alert_bytes: int = Field(default=16 * 1024**2, gt=0)  # the same for lane `alert`
    reserve_bytes: int = Field(default=8 * 1024**2, ge=0)  # stays free of the disk, whatever the lanes may hold: acks need some


class NetworkConfig(_Table):
    connect_timeout_s: float = Field(default=5, gt=0)  # for one connection
    read_timeout_s: float = Field(default=10, gt=0)  # without a single byte
    metadata_deadline_s: float = Field(default=30, gt=0)  # one metadata file or answer, in all
    blob_deadline_s: float = Field(default=3600, gt=0)  # one member, in all; it is resumed after that
    min_bytes_per_s: int = Field(default=1024, ge=0)  # below this average a download is given up
    rate_grace_s: float = Field(default=10, ge=0)  # before the average counts
    retry_cap_s: float = Field(default=60, gt=0)  # longest delay between attempts


class InferenceConfig(_Table):
    seats: int = Field(default=8, ge=2, le=64)  # client processes per model; one is the pipeline's
    cells_per_seat: int = Field(default=8, ge=1, le=32)  # requests that a client may have in flight; fewer for large tensors
    queue_limit: int = Field(default=32, ge=1)  # requests that wait for one model, over all clients; low priority has half
    memory_reserve_bytes: int = Field(default=256 * 1024**2, ge=0)  # stays available when one more model is loaded beside the live one
    spin_us: int | None = Field(default=None, ge=0, le=50)  # how long a wait spins before it blocks; default: the profile's
    batch_delay_us: int | None = Field(
        default=None, ge=0, le=2000
    )  # a model of several rows waits this long for them; default: no batching


class OipConfig(_Table):
    rest_port: int | None = Field(default=None, ge=0, le=65535)  # REST on 127.0.0.1 too, for every user of this machine; 0 takes a free one
    grpc_port: int | None = Field(default=None, ge=0, le=65535)  # the same for gRPC
    shared_memory_uids: tuple[int, ...] = ()  # owners of the files in /dev/shm that may be registered; none switches the extension off
    line_limit: int = Field(default=32, ge=0)  # requests of one model that may wait for a free cell
    timeout_s: float = Field(default=10, gt=0)  # of a request that names none, and the longest that one may name
    max_request_bytes: int = Field(default=64 * 1024**2, gt=0)  # body of an inference
    shadow_share: float = Field(
        default=0.1, ge=0, le=1
    )  # of the live model's requests, copied to the candidate that an update tries beside it
    canary_share: float = Field(default=0, ge=0, le=0.5)  # of the ids of requests that name no version, answered by that candidate
    body_s: float = Field(default=30, gt=0)  # for the head of a request, for its body, for its answer to be taken, and for gRPC's handshake


class AgentConfig(Config):
    state_dir: Path = Path("/var/lib/skerry/agent")  # agent.db, outbox.db, slots/, tuf/, keys/
    run_dir: Path = Path("/run/skerry/agent")  # control socket, pipeline socket
    source: SourceConfig | None = None  # where frames come from; without it no pipeline is started
    worker_python: str = sys.executable  # interpreter of the workers (the board's own, where TensorRT's binding lives)
    profile_root: Path = Path("/")  # file tree from which the profile is detected
    budgets: BudgetConfig = BudgetConfig()  # disk per lane
    network: NetworkConfig = NetworkConfig()  # deadlines
    inference: InferenceConfig = InferenceConfig()  # workers and their clients
    oip: OipConfig | None = None  # the Open Inference Protocol front; without it none is started
    free_space_margin_bytes: int = Field(default=64 * 1024**2, ge=0)  # stays free after staging
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"  # of the JSON log
