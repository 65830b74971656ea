"""A real `skerry-agent` process against the simulated cloud: enrolled by the command line, with real workers and frames."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from contracts.assignment import Assignment, Component
from contracts.canonical import sha256_hex
from contracts.enrolment import Token
from contracts.errors import SkerryError
from contracts.manifest import MODEL_SIGNATURE, PROVENANCE
from deploy.local import units
from edge_agent.adapters.control_socket import ask
from signatures import model_signature, provenance
from signatures.ed25519 import SigningKey
from tests.simulators import bundles, onnx_bundles
from tests.simulators.bundle_bytes import BundleBytes, make_bundle, member
from tests.simulators.director import DEVICE, Cloud

REPO = Path(__file__).parents[2]
UNIT = REPO / "deploy/systemd/skerry-agent.service"


def real_bundle(cloud: Cloud, number: int, seed: int = 3, **changes: Any) -> BundleBytes:
    """A linear ONNX model with golden vectors, signed by the site's training key and builder. `processing`: of processing.json."""
    matrix, inputs, spec = onnx_bundles.weights(seed), bundles.golden_inputs(), changes.pop("processing", bundles.PROCESSING)
    schema = {"family": "digits", "columns": bundles.COLUMNS}
    files = {
        **make_bundle(number).members,
        "model.onnx": onnx_bundles.onnx_model(matrix),
        "processing.json": json.dumps(spec).encode(),
        "feature_schema.json": json.dumps(schema).encode(),
        "golden_input.npy": bundles.npy(inputs),
        "golden_output.npy": bundles.npy(inputs.reshape(len(inputs), -1) @ matrix),
    }
    fp32 = sha256_hex(files["model.onnx"])
    files[MODEL_SIGNATURE] = model_signature.sign(cloud.site.read("trainer/model-signing.pem"), {model_signature.SIGNED_FILE: fp32})
    subjects = {name: sha256_hex(data) for name, data in files.items() if name != PROVENANCE}
    builder = SigningKey.from_pem(cloud.site.read("build/keys/builder.pem"))
    files[PROVENANCE] = provenance.sign(provenance.Provenance(subjects, {model_signature.SIGNED_FILE: fp32}), builder)
    made = make_bundle(
        number, profile=cloud.profile, members={name: member(data) for name, data in files.items()}, feature_schema=schema,
        window_schemas=[one.model_dump() for one in bundles.window_schemas(spec)],
        input={"name": "x", "dtype": "f32", "shape": bundles.INPUT_SHAPE},
        output={"name": "logits", "dtype": "f32", "shape": bundles.OUTPUT_SHAPE},
        tolerance={"max_abs": 1e-3, "top1_agreement": 1.0}, limits={"memory_bytes": 1 << 30, "latency_p95_us": 1_000_000}, **changes,
    )  # fmt: skip
    return BundleBytes(made.path, made.manifest, files)


def write_frames(folder: Path, count: int = 20) -> None:
    folder.mkdir()
    pixels = np.random.default_rng(5).integers(0, 255, (count, 32, 32)).astype(np.uint8)
    for number, frame in enumerate(pixels):
        Image.fromarray(frame).save(folder / f"frame-{number:05}.png")


def assign(cloud: Cloud, bundle: BundleBytes, fence: int, **changes: Any) -> None:
    component = Component(target=bundle.path, length=len(bundle.manifest), sha256=bundle.digest)
    values = {
        "device": DEVICE, "issued_at": datetime.now(timezone.utc), "kind": "install", "execution": f"c{fence}/{DEVICE}/1", "fence": fence,
        "desired_generation": fence, "components": [component.model_dump()], "activate": True, "probation": {"min_s": 0.2, "min_frames": 5},
        "poll_interval_s": 0.2, "report_window_s": 0.5,
    }  # fmt: skip
    cloud.publish(bundle)
    cloud.assign(Assignment.model_validate({**values, **changes}))


class AgentProcess:
    def __init__(
        self,
        folder: Path,
        cloud: Cloud,
        fps: float | None = 20,
        settings: str = "",
        network: str = "retry_cap_s = 1\n",
        python: str = sys.executable,
        **environment: str,
    ) -> None:
        """`fps`: None for an agent without a source. `python`: the interpreter of agent and worker.

        `settings`: more lines of agent.toml, before its first table; `network`: of its table of deadlines.
        """
        self.environment, self._python = environment, python
        self.folder, self.cloud = folder, cloud
        self.run_dir, self.config = folder / "run", folder / "agent.toml"
        write_frames(folder / "frames")
        source = f'[source]\npath = "{folder}/frames"\nfps = {fps}\n' if fps is not None else ""
        self.config.write_text(f'state_dir = "{folder}/state"\nrun_dir = "{self.run_dir}"\n{settings}{source}[network]\n{network}')
        self.process: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify.sock"))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [self._python, "-m", "edge_agent", *arguments, "--config", str(self.config)]
        return subprocess.run(line, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)

    def enrol(self) -> str:
        token = Token(secret="s" * 24, ca_sha256=self.cloud.ca_sha256())
        done = self.command("enrol", "--token", str(token), "--server", self.cloud.enrolment)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["device"])

    def start(self) -> float:
        """Returns when it said READY: seconds that took."""
        began = time.monotonic()
        unit = dict(units.parse("skerry-agent", UNIT.read_text()).environment)
        environment = {**os.environ, **unit, "NOTIFY_SOCKET": str(self.folder / "notify.sock"), **self.environment}
        with (self.folder / "agent.log").open("ab") as log:
            line = [self._python, "-m", "edge_agent", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(line, cwd=REPO, env=environment, stderr=log)
        self._notify.settimeout(30)
        while not self._notify.recv(4096).startswith(b"READY=1"):
            continue
        return time.monotonic() - began

    def status(self) -> dict[str, Any]:
        try:
            return next(ask(self.run_dir, "status"))
        except (SkerryError, StopIteration):
            return {}

    def wait_for(self, what: Callable[[dict[str, Any]], Any], limit_s: float = 30) -> dict[str, Any]:
        """The first status for which `what` holds."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            status = self.status()
            if status and what(status):
                return status
            time.sleep(0.05)  # the status socket is asked twenty times a second
        raise AssertionError(f"not within {limit_s} s: {self.status()}\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()[-4000:]

    def rss_mb(self) -> float:
        """Of the agent alone, in 10^6 bytes."""
        assert self.process
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024 / 1e6

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        self._notify.close()
