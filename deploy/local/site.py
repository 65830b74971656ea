"""One machine as a whole site: folders, identities, configuration files and programs below one work folder.

    <root>/opt                 the installation, /opt/skerry of a package
    <root>/etc                 control.toml signer.toml build.toml ingest.toml mosquitto.conf broker-{devices,services}.acl      /etc/skerry
    <root>/site                what the ceremony made: keys, certificates, metadata; each folder its owner's
    <root>/state/<program>     state folders           <root>/run/<program>    sockets
    <root>/lake                Delta tables            <root>/frames/<n>       what the camera of device n sees
    <root>/devices/<n>/{etc,state,run}                 a device each
    <root>/logs <root>/notify  the supervisor's

Files that two programs share (and no others): configuration; state/control/blobs (skerry-control writes, skerry-signer reads);
site/signer/image (skerry-signer writes, skerry-control reads); lake (skerry-ingest writes, who queries reads); site/public.
As root every program has a uid of its own; else all run as the caller, and the record says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from contracts.errors import error
from deploy.local import broker
from deploy.local.ports import Ports
from deploy.local.processes import Owner
from deploy.local.supervisor import Program
from deploy.local.units import Unit, parse

UNITS = Path(__file__).parents[1] / "systemd"
DEVICES = (1, 2, 3)
# In the order of starting. Three devices on one machine are three copies of one unit.
CLOUD = {
    "broker": "skerry-broker",
    "signer": "skerry-signer",
    "control": "skerry-control",
    "build": "skerry-build",
    "ingest": "skerry-ingest",
}
AGENTS = {f"agent-{number}": "skerry-agent" for number in DEVICES}
PROGRAMS = {**CLOUD, **AGENTS}
PEOPLE = ("approver", "trainer", "operator")
FIRST_ID = 59_801  # below 60000 and above what Debian gives to people; no entry in /etc/passwd is made
SERVICES = ["svc-ingest-1", "svc-control-1"]
POLL_S = 1.0  # production: 30
REPORT_WINDOW_S = 1.0  # production: 30
RETRY_CAP_S = 2.0  # production: 60
FRAMES_PER_S = 20.0


def unit_of(name: str) -> Unit:
    """The unit file that program `name` is started from."""
    unit = PROGRAMS[name]
    return parse(unit, (UNITS / f"{unit}.service").read_text())


@dataclass(frozen=True)
class LocalSite:
    root: Path
    ports: Ports
    as_root: bool

    # -- who

    def owner(self, name: str) -> Owner | None:
        """Identity of a program or person; None when everything runs as the caller."""
        if not self.as_root:
            return None
        number = self._number(name)
        groups = (self._number("control"),) if "skerry-control" in self._groups(name) else ()
        return Owner(number, number, groups)

    def _groups(self, name: str) -> tuple[str, ...]:
        return unit_of(name).groups[1:] if name in PROGRAMS else ()

    @staticmethod
    def _number(name: str) -> int:
        return FIRST_ID + [*PROGRAMS, *PEOPLE].index(name)

    def owners_of_ceremony(self) -> list[str]:
        """`--owner` arguments of skerry-ceremony."""
        roles = ("signer", "control", "build", "ingest", "broker", "approver", "trainer")
        owners = {role: self.owner(role) for role in roles}
        return [part for role, owner in owners.items() if owner for part in ("--owner", f"{role}={owner.uid}:{owner.gid}")]

    # -- where

    @property
    def opt(self) -> Path:
        return self.root / "opt"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def keys(self) -> Path:
        return self.root / "site"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def state(self, name: str) -> Path:
        return self.root / "state" / name if name in CLOUD else self.device(name) / "state"

    def run(self, name: str) -> Path:
        return self.root / "run" / name if name in CLOUD else self.device(name) / "run"

    def device(self, name: str) -> Path:
        return self.root / "devices" / name.rpartition("-")[2]

    def config(self, name: str) -> Path:
        return self.device(name) / "etc" / "agent.toml" if name in AGENTS else self.etc / f"{name}.toml"

    def frames(self, name: str) -> Path:
        return self.root / "frames" / name.rpartition("-")[2]

    def person(self, name: str) -> Path:
        return self.root / "people" / name

    def token(self, person: str) -> Path:
        return self.person(person) / "operator.token"

    def bin(self, name: str) -> str:
        return str(self.opt / "bin" / name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.operators}"

    # -- making it

    def make_folders(self) -> None:
        """Every folder with its owner; the root is passable for all, so that other uids reach what is theirs.

        LocalFaultError SETUP_WORK_DIR where they could not.
        """
        self._check_passable()
        for shared in (self.root, self.etc, *(self.root / part for part in ("state", "run", "frames", "devices", "people"))):
            self._folder(shared, None, 0o755)
        for name in CLOUD:
            mode = {"control": 0o710, "signer": 0o711}.get(name, 0o700)
            self._folder(self.state(name), self.owner(name), mode)
            self._folder(self.run(name), self.owner(name), 0o755)
        self._folder(self.lake, self.owner("ingest"), 0o755)
        for name in AGENTS:
            self._folder(self.device(name), None, 0o755)
            self._folder(self.config(name).parent, self.owner(name), 0o755)
            self._folder(self.state(name), self.owner(name), 0o700)
            self._folder(self.run(name), self.owner(name), 0o700)
        for person in PEOPLE:
            self._folder(self.person(person), self.owner(person), 0o700)
        for name in AGENTS:
            self._folder(self.frames(name), self.owner("trainer"), 0o755)

    def _check_passable(self) -> None:
        closed = [folder for folder in self.root.parents if self.as_root and not folder.stat().st_mode & 0o001]
        if closed:
            raise error("SETUP_WORK_DIR", str(self.root), f"other users cannot pass {', '.join(map(str, closed))}")

    def write_configuration(self) -> None:
        """One TOML per program, the broker's files, and the operators' token for the people who act. After the ceremony."""
        for name, values in self._cloud_configuration().items():
            self._write_toml(name, {"state_dir": self.state(name), "run_dir": self.run(name), **values})
        for name in AGENTS:
            self.write_agent(name)
        broker.write(self.etc, self.ports, self.keys / "broker", SERVICES, self.owner("broker"))
        token = (self.keys / "control/keys/operator.token").read_bytes()
        for person in PEOPLE:
            self._private(self.token(person), token, self.owner(person))

    def write_agent(self, name: str, frames: bool = True) -> None:
        """agent.toml of one device; without `frames` it has no source, and so no pipeline."""
        source = {"source": {"kind": "folder", "path": self.frames(name), "fps": FRAMES_PER_S}} if frames else {}
        folders = {"state_dir": self.state(name), "run_dir": self.run(name)}
        self._write_toml(name, {**folders, "network": {"retry_cap_s": RETRY_CAP_S}, **source})

    def _cloud_configuration(self) -> dict[str, dict[str, Any]]:
        keys, ports = self.keys, self.ports
        devices_url = f"https://localhost:{ports.devices}"
        caller = self.owner("control")
        control = {
            "operators_port": ports.operators,
            "devices_host": "127.0.0.1",
            "devices_port": ports.devices,
            "enrolment_host": "127.0.0.1",
            "enrolment_port": ports.enrolment,
            "keys_dir": keys / "control/keys",
            "director_dir": keys / "control/director",
            "public_dir": keys / "public",
            "image_repo_dir": keys / "signer/image",
            "signer_socket": self.run("signer") / "signer.sock",
            "control_url": devices_url,
            "broker_port": ports.mqtt,
            "poll_interval_s": POLL_S,
            "report_window_s": REPORT_WINDOW_S,
        }
        signer = {
            "keys_dir": keys / "signer/keys",
            "image_dir": keys / "signer/image",
            "blobs_dir": self.state("control") / "blobs",
            "public_dir": keys / "public",
            "allowed_uids": [caller.uid if caller else os.getuid()],
        }
        build = {
            "control_url": devices_url,
            "certificate": keys / "build/keys/svc-build-1.crt",
            "key": keys / "build/keys/svc-build-1.key",
            "server_ca": keys / "public/site-ca.crt",
            "builder_key": keys / "build/keys/builder.pem",
            "public_dir": keys / "public",
        }
        return {"control": control, "signer": signer, "build": build, "ingest": self._ingest_configuration(devices_url)}

    def _ingest_configuration(self, devices_url: str) -> dict[str, Any]:
        keys = self.keys
        return {
            "control_url": devices_url,
            "ca": keys / "public/site-ca.crt",
            "certificate": keys / "ingest/keys/svc-ingest-1.crt",
            "key": keys / "ingest/keys/svc-ingest-1.key",
            "broker_host": "localhost",
            "broker_port": self.ports.mqtt_services,
            "lake_dir": self.lake,
            "ack_key": keys / "ingest/keys/ack.pem",
            "flush_s": 0.5,  # production: 1
        }

    def programs(self) -> list[Program]:
        return [self._program(name) for name in PROGRAMS]

    def _program(self, name: str) -> Program:
        folders = {"/opt/skerry": str(self.opt), "/etc/skerry": str(self.config(name).parent)}
        return Program(name, unit_of(name), folders, self.owner(name), self.state(name))

    def _folder(self, path: Path, owner: Owner | None, mode: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)

    def _write_toml(self, name: str, values: dict[str, Any]) -> None:
        self._private(self.config(name), tomli_w.dumps(_plain(values)).encode(), self.owner(name))

    def _private(self, path: Path, data: bytes, owner: Owner | None) -> None:
        path.touch(mode=0o600)
        path.write_bytes(data)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, Path):
        return str(value)
    return [_plain(part) for part in value] if isinstance(value, Iterable) and not isinstance(value, str) else value
