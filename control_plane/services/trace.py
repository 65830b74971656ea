"""From a bundle digest back to the data: each hop is read from its own store and must name the next one.

    image      the profile's signed targets in the image repository    bundle digest -> target path
    manifest   the blob store, re-hashed                               target path   -> model version, run, data
    model      the model registry                                      model version -> run, data
    run        the registry's run                                      run           -> data

No hop takes an id from a neighbour's store: `complete` is true only where all of them say the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contracts.canonical import sha256_hex
from contracts.errors import RejectedError
from contracts.manifest import Manifest
from contracts.operator import Trace
from contracts.release import ModelVersion
from control_plane.adapters.blobs import BlobStore
from control_plane.services.models_port import ModelRegistry, Run

Hop = dict[str, Any]


@dataclass(frozen=True)
class Tracing:
    blobs: BlobStore
    registry: ModelRegistry
    image_repo_dir: Path

    def trace(self, bundle: str) -> Trace:
        """A hop that is missing or differs is in the answer, not an error: that is what was asked.

        Raises API_NOT_FOUND when `bundle` is not a sha256.
        """
        self.blobs.path(bundle)
        target = published_target(self.image_repo_dir, bundle)
        manifest = self._manifest(bundle)
        version = self._version(manifest) if manifest else None
        run = self._run(version) if version else None
        hops = (_image(bundle, target), _bundle(bundle, target, manifest), _model(manifest, version), _data(manifest, version, run))
        return Trace(
            bundle=bundle, target=target or "", model_version=version, run=run.id if run else "", data=run.data if run else "",
            hops=hops, complete=all(hop["ok"] for hop in hops),
        )  # fmt: skip

    def _manifest(self, bundle: str) -> Manifest | None:
        try:
            raw = self.blobs.read(bundle)
        except RejectedError:
            return None
        if sha256_hex(raw) != bundle:
            return None
        try:
            return Manifest.model_validate_json(raw)
        except ValidationError:
            return None

    def _version(self, manifest: Manifest) -> ModelVersion | None:
        name, _, number = manifest.model_version.removeprefix("model:").rpartition("/")
        try:
            return self.registry.version(name, int(number))
        except (RejectedError, ValueError):
            return None

    def _run(self, version: ModelVersion) -> Run | None:
        try:
            return self.registry.run(version.run)
        except RejectedError:
            return None


def published_target(image_repo_dir: Path, bundle: str) -> str | None:
    """Path of the target with this digest in the newest metadata of any profile's role; None when there is none."""
    for path in _newest_roles(image_repo_dir):
        targets = json.loads(path.read_bytes())["signed"].get("targets", {})
        for target, description in targets.items():
            if description["hashes"].get("sha256") == bundle:
                return str(target)
    return None


def _newest_roles(folder: Path) -> list[Path]:
    """`<version>.profile-<profile>.json`, the highest version of each."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in folder.glob("*.profile-*.json"):
        number, _, role = path.name.partition(".")
        if number.isdigit():
            newest[role] = max(newest.get(role, (0, path)), (int(number), path))
    return [path for _, path in newest.values()]


def _hop(name: str, store: str, identity: str, problem: str) -> Hop:
    return {"hop": name, "store": store, "id": identity, "ok": not problem, "detail": problem}


def _image(bundle: str, target: str | None) -> Hop:
    return _hop("image", "image repository", target or "", "" if target else f"no target has the digest {bundle}")


def _bundle(bundle: str, target: str | None, manifest: Manifest | None) -> Hop:
    if manifest is None:
        return _hop("manifest", "blob store", "", f"no manifest whose sha256 is {bundle}")
    other = manifest.target_path != target
    problem = f"the manifest is of {manifest.target_path}, the image repository has {target}" if other else ""
    return _hop("manifest", "blob store", f"bundle:{bundle}", problem)


def _model(manifest: Manifest | None, version: ModelVersion | None) -> Hop:
    wanted = manifest.model_version if manifest else ""
    if manifest is None or version is None:
        return _hop("model", "model registry", "", f"the registry has no {wanted or 'version to look for'}")
    problem = "" if version.run == manifest.run else f"the registry names {version.run}, the manifest {manifest.run}"
    return _hop("model", "model registry", version.id, problem)


def _data(manifest: Manifest | None, version: ModelVersion | None, run: Run | None) -> Hop:
    if manifest is None or version is None or run is None:
        return _hop("run", "model registry's run", "", "the registry has no such run")
    problem = "" if run.data == manifest.data else f"the run was fed {run.data}, the manifest names {manifest.data}"
    return _hop("run", "model registry's run", run.id, problem)
