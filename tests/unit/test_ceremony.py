"""A site as the ceremony leaves it: files, modes, owners, chains, and that it is never run over another."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tuf.api.metadata import Metadata, Root, Targets

from contracts.errors import LocalFaultError
from contracts.ids import service_urn
from control_plane.ceremony import ceremony
from control_plane.ceremony.layout import Owner, Site
from control_plane.ceremony.status import status
from control_plane.signer.repository import Repository
from tests.simulators.release_line import NOW, PROFILES

AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("ceremony") / "site")
    ceremony.make_site(site, PROFILES, "gateway.example", NOW)
    return site


def test_every_private_key_is_0600_in_a_0700_folder_and_every_pin_readable(site: Site) -> None:
    keys = [path for path in site.folder.rglob("*") if path.suffix in (".pem", ".key") and path.parent != site.public]
    # offline TUF and CAs, profiles, online, control + build + ingest, broker + approver + trainer
    assert len(keys) == 9 + 3 + len(PROFILES) + 2 + 8 + 3
    for path in [*keys, site.folder / "control/keys/operator.token"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path
    for path in [site.image, site.public]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o644}
    names = {path.name for path in site.public.iterdir()}
    assert names >= {"site-ca.crt", "device-ca.crt", "service-ca.crt", "image-root.json", "director-root.json", "model-signing.pub.pem"}
    assert all(len(bytes.fromhex((site.public / f"{name}.pub").read_text())) == 32 for name in ("builder", "approver", "ack"))


@pytest.mark.skipif(not AS_ROOT, reason="needs root: gives folders to other users")
def test_folders_belong_to_the_roles_that_were_named(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", (("signer", Owner(4101, 4102)), ("control", Owner(4103, 4104))))
    ceremony.make_site(site, PROFILES, "localhost", NOW)
    for role, uid, gid in (("signer", 4101, 4102), ("control", 4103, 4104), ("build", 0, 0), ("offline", 0, 0), ("public", 0, 0)):
        owned = {(path.stat().st_uid, path.stat().st_gid) for path in (site.folder / role).rglob("*")}
        assert owned == {(uid, gid)}, role
    ceremony.add_profile(Site(site.folder), "jetson-orin-trt10", NOW)  # later acts give files to who owns the folder
    assert (site.signer_keys / "profile-jetson-orin-trt10.pem").stat().st_uid == 4101


def test_a_second_ceremony_over_a_site_is_refused_and_changes_nothing(site: Site) -> None:
    before = {path: path.read_bytes() for path in site.folder.rglob("*") if path.is_file()}
    with pytest.raises(LocalFaultError) as refused:
        ceremony.make_site(site, PROFILES, "localhost", NOW)
    assert refused.value.code == "SETUP_SITE_EXISTS"
    assert before == {path: path.read_bytes() for path in site.folder.rglob("*") if path.is_file()}


def test_thresholds_delegations_and_lives(site: Site) -> None:
    for root, consistent in ((site.public / "image-root.json", True), (site.public / "director-root.json", False)):
        signed = Metadata[Root].from_bytes(root.read_bytes()).signed
        assert (signed.roles["root"].threshold, len(signed.roles["root"].keyids)) == (2, 3)
        assert signed.consistent_snapshot is consistent
    image = Metadata[Root].from_bytes((site.public / "image-root.json").read_bytes()).signed
    assert (image.roles["targets"].threshold, len(image.roles["targets"].keyids)) == (2, 3)
    delegations = Metadata[Targets].from_bytes((site.image / "1.targets.json").read_bytes()).signed.delegations
    assert delegations is not None
    assert delegations.roles is not None
    assert {name: (role.paths, role.terminating) for name, role in delegations.roles.items()} == {
        f"profile-{profile}": ([f"bundles/{profile}/*"], True) for profile in PROFILES
    }
    lives = {role: signed.expires - NOW for role, signed in Repository(site.image).current().items()}
    days = {"root": 365, "targets": 365, "snapshot": 30, "timestamp": 1, **{f"profile-{profile}": 30 for profile in PROFILES}}
    assert lives == {role: timedelta(days=life) for role, life in days.items()}


def certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def test_each_chain_leads_to_its_root_and_has_one_purpose(site: Site) -> None:
    [root] = certificates(site.public / "site-ca.crt")
    [services] = certificates(site.public / "service-ca.crt")
    for path, anchor, purpose in (
        (site.folder / "control/keys/server.crt", root, ExtendedKeyUsageOID.SERVER_AUTH),
        (site.folder / "broker/server.crt", root, ExtendedKeyUsageOID.SERVER_AUTH),
        (site.folder / "ingest/keys/svc-ingest-1.crt", services, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        leaf, intermediate, *rest = certificates(path)
        leaf.verify_directly_issued_by(intermediate)
        intermediate.verify_directly_issued_by(anchor)
        assert rest == ([root] if purpose == ExtendedKeyUsageOID.SERVER_AUTH else [])
        for certificate in (leaf, intermediate):
            assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
    [device_ca] = certificates(site.folder / "control/keys/device-ca.crt")
    device_ca.verify_directly_issued_by(root)
    for authority in (device_ca, services):
        assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    with pytest.raises(ValueError, match="Issuer"):
        services.verify_directly_issued_by(root)  # a root of its own: who trusts it alone takes no device for a service


@pytest.mark.parametrize("role", ["control", "build", "ingest"])
def test_a_services_certificate_names_its_instance_and_its_role(site: Site, role: str) -> None:
    leaf = certificates(site.folder / role / "keys" / f"svc-{role}-1.crt")[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert leaf.subject.rfc4514_string() == f"CN=svc-{role}-1"
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [service_urn(role)]


def test_another_instance_gets_a_certificate_of_its_own_from_the_same_authority(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    ceremony.make_site(site, PROFILES, "localhost", NOW)
    ceremony.add_service(site, "svc-ingest-2", NOW)
    first, second = (certificates(site.folder / f"ingest/keys/svc-ingest-{number}.crt") for number in (1, 2))
    assert second[0].subject.rfc4514_string() == "CN=svc-ingest-2"
    assert (second[0].issuer, second[1:]) == (first[0].issuer, first[1:])
    key = site.folder / "ingest/keys/svc-ingest-2.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    ceremony.add_service(site, "svc-ingest-2", NOW + timedelta(days=200))
    assert certificates(key.with_suffix(".crt"))[0].not_valid_after_utc > second[0].not_valid_after_utc, "again, it is renewed"


def test_status_tells_what_is_past_half_its_life(site: Site) -> None:
    assert not any(line.renew for line in status(site, NOW))
    due = {line.name for line in status(site, NOW + timedelta(days=16)) if line.renew}
    assert due == {"image snapshot", "image timestamp", *(f"image profile-{profile}" for profile in PROFILES)}
    assert any(line.name == "control/keys/server.crt" and line.renew for line in status(site, NOW + timedelta(days=200)))


def test_a_profile_is_added_by_two_targets_holders(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    ceremony.make_site(site, PROFILES, "localhost", NOW)
    ceremony.add_profile(site, "jetson-orin-trt10", NOW)
    repository = Repository(site.image)
    assert repository.versions() == {
        "root": 1, "targets": 2, "snapshot": 2, "timestamp": 2, "profile-jetson-orin-trt10": 1,
        **{f"profile-{profile}": 1 for profile in PROFILES},
    }  # fmt: skip
    assert len(Metadata.from_bytes((site.image / "2.targets.json").read_bytes()).signatures) == 2
    with pytest.raises(LocalFaultError) as refused:
        ceremony.add_profile(site, "jetson-orin-trt10", NOW)
    assert refused.value.code == "SETUP_PROFILE_EXISTS"


def test_a_rotation_without_the_offline_keys_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    ceremony.make_site(site, PROFILES, "localhost", NOW)
    (site.offline / "image-root-2.pem").unlink()
    with pytest.raises(LocalFaultError) as refused:
        ceremony.rotate_root(site, "image", NOW)
    assert refused.value.code == "SETUP_SITE_UNREADABLE"
    assert not (site.image / "2.root.json").exists()


def test_the_program_makes_a_site_and_tells_its_state(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "control_plane.ceremony", *arguments], capture_output=True, text=True, check=False)

    folder = str(tmp_path / "site")
    assert call("init", folder, "--profiles", "x86-cpu-avx2").returncode == 0
    assert call("add-service", folder, "svc-control-2").returncode == 0
    assert "expected svc-ROLE-N" in call("add-service", folder, "svc-broker-1").stderr
    assert "image timestamp" in {line["name"] for line in json.loads(call("status", folder, "--json").stdout)}
    again = call("init", folder, "--profiles", "x86-cpu-avx2")
    assert (again.returncode, "SETUP_SITE_EXISTS" in again.stderr) == (1, True)
    assert call("init", folder, "--profiles", "../x").returncode == 2
    assert call("init", folder, "--profiles", "x", "--owner", "offline=0:0").returncode == 2
