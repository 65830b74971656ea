"""A whole release line as processes: skerry-control, skerry-signer and skerry-build on one real site, and the CLI in front."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from control_plane.ceremony.ceremony import make_site
from control_plane.ceremony.layout import Site
from tests.simulators.small_line import register

REPO = Path(__file__).resolve().parents[2]
PROFILE = "x86-cpu-avx2"
MODEL = "small"
START_S = 90.0


class ReleaseSite:
    """Programs by name: control, signer, build. Their logs and folders lie under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, Site(folder / "site", ())
        make_site(self.site, (PROFILE,), "localhost", datetime.now(timezone.utc))
        (folder / "signer-state").mkdir(mode=0o700)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""

    @property
    def token_file(self) -> Path:
        return self.site.folder / "control/keys/operator.token"

    @property
    def registry_file(self) -> Path:
        return self.folder / "control-state/registry.db"

    def start_control(self) -> None:
        keys, ports = self.site.folder / "control", self.folder / "run/control.ports.json"
        ports.unlink(missing_ok=True)
        self._start("control", "control_plane", {
            "state_dir": self.folder / "control-state", "run_dir": self.folder / "run", "blob_dir": self.folder / "blobs",
            "operators_port": 0, "devices_port": 0, "enrolment_port": 0, "devices_host": "127.0.0.1", "enrolment_host": "127.0.0.1",
            "keys_dir": keys / "keys", "director_dir": keys / "director", "public_dir": self.site.public, "image_repo_dir": self.site.image,
            "signer_socket": self.folder / "signer.sock", "build_profiles": [PROFILE], "registry_poll_s": 0.2,
        })  # fmt: skip
        found = json.loads(self._appeared("control", ports).read_text())
        self.url, self.devices_url = f"http://127.0.0.1:{found['operators']}", f"https://localhost:{found['devices']}"

    def start_signer(self) -> None:
        socket = self.folder / "signer.sock"
        socket.unlink(missing_ok=True)
        self._start("signer", "control_plane.signer", {
            "state_dir": self.folder / "signer-state", "run_dir": self.folder / "run", "keys_dir": self.site.signer_keys,
            "image_dir": self.site.image, "blobs_dir": self.folder / "blobs", "public_dir": self.site.public, "allowed_uids": [os.getuid()],
            "socket": socket,
        })  # fmt: skip
        self._appeared("signer", socket)

    def start_build(self) -> None:
        keys = self.site.folder / "build/keys"
        self._start("build", "control_plane.build", {
            "state_dir": self.folder / "build-state", "run_dir": self.folder / "run", "control_url": self.devices_url,
            "certificate": keys / "svc-build-1.crt", "key": keys / "svc-build-1.key", "server_ca": self.site.public / "site-ca.crt",
            "builder_key": keys / "builder.pem", "public_dir": self.site.public, "poll_s": 0.1,
        })  # fmt: skip

    def _start(self, name: str, module: str, values: dict[str, Any]) -> None:
        config = self.folder / f"{name}.toml"
        config.write_text("".join(f"{key} = {json.dumps(value, default=str)}\n" for key, value in values.items()))
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen([sys.executable, "-m", module, "--config", str(config)], cwd=REPO, stderr=log)

    def _appeared(self, name: str, path: Path) -> Path:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._running[name].poll() is None:
            if path.exists():
                return path
            time.sleep(0.02)  # a file has no event; the deadline decides
        raise AssertionError(self.log(name))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def kill(self, name: str) -> None:
        program = self._running.pop(name)
        program.kill()
        program.wait(20)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; exit status of each."""
        for program in self._running.values():
            program.terminate()
        ended = {name: program.wait(30) for name, program in self._running.items()}
        self._running.clear()
        return ended

    def training_output(self, seed: str) -> Path:
        """A folder as `train` leaves it, of the small model; `seed` makes its content another version."""
        registered = register((self.site.folder / "trainer/model-signing.pem").read_bytes())
        folder = self.folder / f"trained-{seed}"
        folder.mkdir()
        names = {"model": "model.onnx", "calibration": "calibration.npz", "held_out": "held_out.npz", "signature": "model.sig"}
        for field in ("model", "calibration", "held_out", "signature", "processing", "feature_schema"):
            (folder / names.get(field, f"{field}.json")).write_bytes(registered.blobs[getattr(registered.registration, field)])
        run = {"params": {"seed": seed}, "metrics": {"accuracy": 0.9}, "data_digest": f"dataset:sha256:{seed * 64}"}
        (folder / "run.json").write_text(json.dumps(run))
        return folder
