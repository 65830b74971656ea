"""Configuration of skerry-control: /etc/skerry/control.toml. Folders are as the ceremony lays them down."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from program.config import Config


class ControlConfig(Config):
    """Port 0 takes a free one; which one, stands in `<run_dir>/control.ports.json`."""

    # -- listeners
    operators_host: str = "127.0.0.1"  # operators' API: plain HTTP and a bearer token, so keep it on this machine
    operators_port: int = Field(default=8484, ge=0, le=65535)  # of the operators' API
    devices_host: str = "0.0.0.0"  # noqa: S104 - devices come from outside; mutual TLS is required
    devices_port: int = Field(default=8443, ge=0, le=65535)  # of devices and services (mutual TLS 1.3)
    enrolment_host: str = "0.0.0.0"  # noqa: S104 - devices come from outside; server TLS and a one-time token
    enrolment_port: int = Field(default=8444, ge=0, le=65535)  # of enrolment (server TLS)
    keep_alive_s: int = Field(default=180, gt=0)  # longer than the poll interval: a handshake costs as much as thirty polls

    # -- where things lie
    keys_dir: Path = Path(
        "/etc/skerry/control/keys"
    )  # director.pem device-ca.{key,crt} server.{key,crt} svc-control-1.{key,crt} operator.token
    director_dir: Path = Path("/etc/skerry/control/director")  # <N>.root.json
    public_dir: Path = Path("/etc/skerry/public")  # what everybody may read: CAs, TUF roots, public keys
    image_repo_dir: Path = Path("/var/lib/skerry-signer/image")  # written by skerry-signer, served by us
    database: str = ""  # SQLAlchemy URL; default sqlite:///<state_dir>/skerry.db
    blob_dir: Path | None = None  # default <state_dir>/blobs
    registry_database: Path | None = None  # MLflow's own file, default <state_dir>/registry.db
    registry_artifacts_dir: Path | None = None  # default <state_dir>/registry-artifacts
    registry_url: str = ""  # an MLflow server; "" is the registry embedded in this process
    registry_poll_s: float = Field(default=30, gt=0)  # how often aliases are compared with the registry's
    signer_socket: Path = Path("/run/skerry/signer.sock")  # skerry-signer's

    # -- building
    build_profiles: tuple[str, ...] = ()  # for which profiles to build; () builds for those of the enrolled devices
    build_lease_s: float = Field(default=900, gt=0)  # a builder that has not answered by then loses its job to another

    # -- what devices are told at enrolment and in assignments
    control_url: str = "https://localhost:8443"  # where devices reach the devices' listener
    broker_host: str = "localhost"  # where devices reach the MQTT broker
    broker_port: int = Field(default=8883, gt=0, le=65535)  # of the MQTT broker (TLS)
    poll_interval_s: float = Field(default=30, gt=0)  # how often a device asks for its assignment
    report_window_s: float = Field(default=30, gt=0)  # how long a device gathers figures into one window
    security_epoch_floor: int = Field(default=0, ge=0)  # bundles below it are refused by every device, for ever

    # -- lifetimes
    certificate_days: float = Field(default=7, gt=0)  # life of a device's certificate; it renews at half of it
    director_life_s: float = Field(default=86_400, gt=0)  # life of the director's metadata; renewed at half of it (offline sites: 30 days)
    last_seen_flush_s: float = Field(default=5, gt=0)  # how often heartbeats are written, in one transaction

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.state_dir / 'skerry.db'}"

    @property
    def blobs(self) -> Path:
        return self.blob_dir or self.state_dir / "blobs"

    @property
    def registry_file(self) -> Path:
        return self.registry_database or self.state_dir / "registry.db"

    @property
    def registry_artifacts(self) -> Path:
        return self.registry_artifacts_dir or self.state_dir / "registry-artifacts"

    def key(self, name: str) -> Path:
        return self.keys_dir / name

    def public(self, name: str) -> Path:
        return self.public_dir / name
