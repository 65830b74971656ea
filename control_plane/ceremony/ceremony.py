"""The acts of a ceremony: make a site, rotate a root, add a profile. Each is run by people who hold the offline keys.

Files are written in an order that leaves a valid repository at every instant: what is named before what names it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, Root, Targets

from contracts.errors import error
from control_plane.ceremony import certificates, roles
from control_plane.ceremony.layout import PUBLIC, Site
from control_plane.signer.publisher import role_of
from control_plane.signer.repository import Repository
from signatures.ed25519 import SigningKey

Repo = Literal["image", "director"]
SERVICES = {"control": "svc-control-1", "build": "svc-build-1", "ingest": "svc-ingest-1"}
_HOLDER_NUMBERS = range(1, roles.HOLDERS + 1)


def make_site(site: Site, profiles: Sequence[str], host: str, now: datetime) -> None:
    """The whole site folder. SETUP_SITE_EXISTS when it is there already."""
    site.make_folders()
    _make_certificates(site, host, now)
    _make_image_repository(site, profiles, now)
    _make_director_root(site, now)
    _make_single_keys(site)
    site.write("control/keys/operator.token", secrets.token_urlsafe(32).encode())


def rotate_root(site: Site, repo: Repo, now: datetime) -> int:
    """Replace all three root keys of `repo` and publish the next root; its version. Run again after a crash, it finishes."""
    current = _newest_root(site, repo)
    old = [_signer(site, _holder(repo, "root", n)) for n in _HOLDER_NUMBERS]
    new = [_signer(site, _waiting_key(site, repo, n)) for n in _HOLDER_NUMBERS]
    if not _lists(current, new):  # else the last run published and stopped before it moved the keys
        current = roles.next_root(current, [key.public_key for key in new], [*old[: roles.THRESHOLD], *new[: roles.THRESHOLD]], now)
        site.write(_root_name(repo, Metadata[Root].from_bytes(current).signed.version), current, PUBLIC)
    for n in _HOLDER_NUMBERS:
        (site.offline / f"{repo}-root-{n}.next.pem").rename(site.offline / f"{repo}-root-{n}.pem")
    return int(Metadata[Root].from_bytes(current).signed.version)


def add_profile(site: Site, profile: str, now: datetime) -> None:
    """A key and a delegation for one more profile: targets signed by two holders, then snapshot and timestamp."""
    with Repository(site.image).locked() as repository:
        targets = repository.targets()
        if targets.delegations and role_of(profile) in (targets.delegations.roles or {}):
            raise error("SETUP_PROFILE_EXISTS", profile)
        key = _make_signer(site, f"signer/keys/profile-{profile}.pem")
        held = {**_delegated_keys(targets), profile: key.public_key}
        holders = [_signer(site, _holder("image", "targets", n)) for n in _HOLDER_NUMBERS][: roles.THRESHOLD]
        changed = {
            role_of(profile): (1, roles.empty_role(1, key, now)),
            "targets": (targets.version + 1, roles.image_targets(targets.version + 1, held, holders, now)),
        }
        _publish(site, repository.versions(), changed, now)


def add_service(site: Site, name: str, now: datetime) -> None:
    """A certificate for one more instance, svc-<role>-<n>: two processes with one certificate evict each other. Again, it renews it."""
    authority = certificates.Identity.from_pem(site.read("public/service-ca.crt"), site.read("offline/service-ca.key"))
    _make_service(site, name, authority, now)


def _make_service(site: Site, name: str, authority: certificates.Identity, now: datetime) -> None:
    role = name.split("-")[1]
    leaf = certificates.service(authority, name, now)
    site.write(f"{role}/keys/{name}.key", leaf.key_pem)
    site.write(f"{role}/keys/{name}.crt", leaf.certificate_pem + authority.certificate_pem, PUBLIC)


def _make_certificates(site: Site, host: str, now: datetime) -> None:
    root = certificates.root_authority(now)
    device_ca = certificates.intermediate(root, "Skerry device CA", certificates.CLIENT, now)
    service_ca = certificates.service_authority(now)
    server_ca = certificates.intermediate(root, "Skerry server CA", certificates.SERVER, now)
    site.write("offline/site-ca.key", root.key_pem)
    site.write("offline/service-ca.key", service_ca.key_pem)
    site.write("offline/server-ca.key", server_ca.key_pem)
    site.write("control/keys/device-ca.key", device_ca.key_pem)
    site.write("control/keys/device-ca.crt", device_ca.certificate_pem, PUBLIC)
    # The root is in the server's chain, because a device that enrols holds no more than the root's digest from its token.
    for folder in ("control/keys", "broker"):
        leaf = certificates.server(server_ca, host, now)
        site.write(f"{folder}/server.key", leaf.key_pem)
        site.write(f"{folder}/server.crt", leaf.certificate_pem + server_ca.certificate_pem + root.certificate_pem, PUBLIC)
    for name in SERVICES.values():
        _make_service(site, name, service_ca, now)
    # Two files for two listeners: a broker knows its clients by name alone, and the name of a service is worth more than a device's.
    site.write("broker/devices-ca.crt", device_ca.certificate_pem + root.certificate_pem, PUBLIC)
    site.write("broker/services-ca.crt", service_ca.certificate_pem, PUBLIC)
    for name, authority in {"site-ca": root, "device-ca": device_ca, "service-ca": service_ca, "server-ca": server_ca}.items():
        site.write(f"public/{name}.crt", authority.certificate_pem, PUBLIC)


def _make_image_repository(site: Site, profiles: Sequence[str], now: datetime) -> None:
    root_holders = _make_holders(site, "image", "root")
    targets_holders = _make_holders(site, "image", "targets")
    online = {role: _make_signer(site, f"signer/keys/{role}.pem") for role in ("snapshot", "timestamp")}
    keys = {
        "root": [holder.public_key for holder in root_holders],
        "targets": [holder.public_key for holder in targets_holders],
        **{role: [key.public_key] for role, key in online.items()},
    }
    root = roles.root(1, keys, root_holders[: roles.THRESHOLD], now, consistent_snapshot=True)
    site.write(_root_name("image", 1), root, PUBLIC)
    site.write("public/image-root.json", root, PUBLIC)
    profile_keys = {profile: _make_signer(site, f"signer/keys/profile-{profile}.pem") for profile in profiles}
    held = {profile: key.public_key for profile, key in profile_keys.items()}
    changed = {role_of(profile): (1, roles.empty_role(1, key, now)) for profile, key in profile_keys.items()}
    changed["targets"] = (1, roles.image_targets(1, held, targets_holders[: roles.THRESHOLD], now))
    _publish(site, {"snapshot": 0, "timestamp": 0}, changed, now)


def _publish(site: Site, versions: dict[str, int], changed: dict[str, tuple[int, bytes]], now: datetime) -> None:
    """Roles first, then the snapshot that names them, the timestamp that names the snapshot last."""
    for role, (version, data) in changed.items():
        site.write(f"signer/image/{version}.{role}.json", data, PUBLIC)
    named = {role: number for role, number in versions.items() if role not in ("root", "snapshot", "timestamp")}
    named.update({role: version for role, (version, _) in changed.items()})
    snapshot_version, timestamp_version = versions["snapshot"] + 1, versions["timestamp"] + 1
    snapshot = roles.snapshot(snapshot_version, named, _signer(site, "signer/keys/snapshot.pem"), now)
    site.write(f"signer/image/{snapshot_version}.snapshot.json", snapshot, PUBLIC)
    timestamp = roles.timestamp(timestamp_version, snapshot_version, _signer(site, "signer/keys/timestamp.pem"), now)
    site.write("signer/image/timestamp.json", timestamp, PUBLIC)


def _make_director_root(site: Site, now: datetime) -> None:
    holders = _make_holders(site, "director", "root")
    online = _make_signer(site, "control/keys/director.pem").public_key
    keys = {"root": [holder.public_key for holder in holders], "targets": [online], "snapshot": [online], "timestamp": [online]}
    root = roles.root(1, keys, holders[: roles.THRESHOLD], now, consistent_snapshot=False)
    site.write(_root_name("director", 1), root, PUBLIC)
    site.write("public/director-root.json", root, PUBLIC)


def _make_single_keys(site: Site) -> None:
    for name, public in {"build/keys/builder.pem": "builder", "approver/approver.pem": "approver", "ingest/keys/ack.pem": "ack"}.items():
        pem = roles.new_key_pem()
        site.write(name, pem)
        site.write(f"public/{public}.pub", SigningKey.from_pem(pem).public.hex().encode() + b"\n", PUBLIC)
    model_key = ec.generate_private_key(ec.SECP256R1())
    site.write("trainer/model-signing.pem", model_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_pem = model_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    site.write("public/model-signing.pub.pem", public_pem, PUBLIC)


def _holder(repo: Repo, role: str, number: int) -> str:
    return f"offline/{repo}-{role}-{number}.pem"


def _make_holders(site: Site, repo: Repo, role: str) -> list[CryptoSigner]:
    return [_make_signer(site, _holder(repo, role, n)) for n in _HOLDER_NUMBERS]


def _make_signer(site: Site, name: str) -> CryptoSigner:
    pem = roles.new_key_pem()
    site.write(name, pem)
    return roles.signer_from_pem(pem)


def _signer(site: Site, name: str) -> CryptoSigner:
    return roles.signer_from_pem(site.read(name))


def _waiting_key(site: Site, repo: Repo, number: int) -> str:
    """The next key of a holder, made unless an interrupted rotation left it."""
    name = f"offline/{repo}-root-{number}.next.pem"
    if not (site.folder / name).exists():
        site.write(name, roles.new_key_pem())
    return name


def _root_name(repo: Repo, version: int) -> str:
    return f"signer/image/{version}.root.json" if repo == "image" else f"control/director/{version}.root.json"


def _newest_root(site: Site, repo: Repo) -> bytes:
    version = 1
    while (site.folder / _root_name(repo, version + 1)).exists():
        version += 1
    return site.read(_root_name(repo, version))


def _lists(root: bytes, signers: Sequence[CryptoSigner]) -> bool:
    keyids = set(Metadata[Root].from_bytes(root).signed.roles["root"].keyids)
    return keyids == {signer.public_key.keyid for signer in signers}


def _delegated_keys(targets: Targets) -> dict[str, Key]:
    if targets.delegations is None or targets.delegations.roles is None:
        return {}
    prefix = role_of("")
    return {name.removeprefix(prefix): targets.delegations.keys[role.keyids[0]] for name, role in targets.delegations.roles.items()}
