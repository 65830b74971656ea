"""Promise P1, with teeth: somebody who has taken over the control plane tries every file that its user can read.

None of them is a key of the image repository, the builder, the approver or the training side; and whatever he signs with
the keys that he does find, the signer refuses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SkerryError
from contracts.release import SignRelease
from control_plane.ceremony.layout import ROLES, Owner
from control_plane.signer.program import make_signer
from signatures.ed25519 import SigningKey
from tests.simulators.release_line import NOW, PROFILES, ReleaseLine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: tries files as the control plane's user")
UIDS = {role: 47200 + number for number, role in enumerate(ROLES)}

# Walks, opens and tries to alter everything below a folder; prints what it could read and what it could write.
WALK = """
import json, os, sys
read, written = {}, []
for folder, folders, files in os.walk(sys.argv[1]):
    if os.access(folder, os.W_OK):
        written.append(folder)
    for name in files:
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as file:
                read[path] = file.read().decode("latin-1")
        except PermissionError:
            pass
        try:
            os.close(os.open(path, os.O_WRONLY))
            written.append(path)
        except PermissionError:
            pass
# folders that cannot be listed may still be passed: names are no secret, so try those of the layout too
for path in sys.stdin.read().split():
    try:
        with open(path, "rb") as file:
            read[path] = file.read().decode("latin-1")
    except PermissionError:
        pass
print(json.dumps({"read": read, "written": written, "uid": os.getuid()}))
"""


@pytest.fixture(scope="module")
def line() -> Iterator[ReleaseLine]:
    folder = Path(tempfile.mkdtemp(prefix="skerry-attacker-"))
    folder.chmod(0o755)
    yield ReleaseLine.make(folder, tuple((role, Owner(uid, uid)) for role, uid in UIDS.items()))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def loot(line: ReleaseLine) -> dict[str, str]:
    """Path within the site -> content, of all that the control plane's user can read."""
    return {str(Path(path).relative_to(line.site.folder)): text for path, text in taken(line, "control")["read"].items()}


def taken(line: ReleaseLine, role: str) -> dict[str, Any]:
    names = "\n".join(str(path) for path in line.site.folder.rglob("*") if path.is_file())
    walker = subprocess.run(
        [sys.executable, "-I", "-c", WALK, str(line.site.folder)], input=names, capture_output=True, text=True, check=True,
        user=UIDS[role], group=UIDS[role], extra_groups=[],
    )  # fmt: skip
    found: dict[str, Any] = json.loads(walker.stdout)
    assert found["uid"] == UIDS[role]
    return found


def test_the_control_planes_user_reads_its_own_keys_and_no_others(loot: dict[str, str]) -> None:
    private = {path for path, text in loot.items() if "PRIVATE KEY" in text}
    assert private == {f"control/keys/{name}" for name in ("director.pem", "device-ca.key", "server.key", "svc-control-1.key")}
    assert "public/image-root.json" in loot, "the walk reads what it can"
    assert "signer/image/timestamp.json" in loot


@pytest.mark.parametrize("role", ["build", "ingest", "broker", "approver", "trainer", "signer"])
def test_nobody_reads_another_ones_keys(line: ReleaseLine, role: str) -> None:
    private = {
        Path(path).relative_to(line.site.folder).parts[0] for path, text in taken(line, role)["read"].items() if "PRIVATE KEY" in text
    }
    assert private == {role}


def test_it_can_alter_nothing_that_others_trust(line: ReleaseLine) -> None:
    written = {Path(path).relative_to(line.site.folder).parts[0] for path in taken(line, "control")["written"]}
    assert written == {"control"}


def test_whatever_it_signs_with_what_it_found_the_signer_refuses(line: ReleaseLine, loot: dict[str, str]) -> None:
    signer = make_signer(line.config())
    before = signer.publisher.repository.versions()
    good = line.request(profiles=PROFILES[:1])
    keys = [SigningKey.from_pem(text.encode()) for path, text in loot.items() if path == "control/keys/director.pem"]
    assert keys, "the director's key is an Ed25519 key, the kind that builder and approver have"
    for key in keys:
        own_build = line.release({PROFILES[0]: line.bundle(PROFILES[0], 2, builder=key)}, 2)
        attempts = {
            "SIGNER_APPROVAL": SignRelease(release=good.release, approval=line.approve(good.release, key)),
            "SIGNER_PROVENANCE": SignRelease(release=own_build, approval=line.approve(own_build)),  # even with a deceived approver
        }
        for code, attempt in attempts.items():
            with pytest.raises(SkerryError) as refused:
                signer.answer(attempt, NOW)
            assert refused.value.code == code
    assert signer.publisher.repository.versions() == before
