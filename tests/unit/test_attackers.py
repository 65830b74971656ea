"""The attackers of the demo against the defenders' own code: each lie is refused with its code, and for nothing but the lie.

A clumsy attacker would prove nothing: what he makes has to be right but for the one thing that he cannot have.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.errors import SkerryError, TrustError
from contracts.release import Approval, SignRelease
from control_plane.signer.program import make_signer
from control_plane.store import releases
from control_plane.store.base import Base, Database, make_engine
from control_plane.store.releases import ReleaseRow
from deploy.local.attackers import builder, director
from deploy.local.attackers.director import LIES, Lie
from edge_agent.adapters.new_keys import NewKeys, keep
from edge_agent.core.orders import order_of
from signatures.ed25519 import SigningKey
from tests.simulators.bundle_bytes import make_bundle
from tests.simulators.director import DEVICE, Cloud
from tests.simulators.release_line import NOW, PROFILES, ReleaseLine
from tests.unit.test_tuf_client import Client, ShiftedClock, assignment

OTHER = "dev-" + "b" * 26


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A device that has seen its director's version 100."""
    cloud = Cloud(tmp_path)
    cloud.publish(make_bundle(1))
    cloud.assign(assignment(1), version=100)
    keys = NewKeys.make()
    granted = cloud.grant(keys.csr_pem())
    client = Client(cloud, tmp_path, keep(tmp_path / "keys", keys, granted, granted.pins), ShiftedClock())
    client.trust.poll()
    yield client
    client.close()
    cloud.close()


def tell(client: Client, lie: Lie) -> None:
    signer = director.director_key(client.cloud.site.folder)
    client.cloud.files |= {f"director/{name}": data for name, data in director.files(signer, lie, 100, DEVICE, OTHER).items()}
    order_of(client.trust.poll(), DEVICE)


@pytest.mark.parametrize(("lie", "code"), [("older", "TUF_ROLLBACK"), ("expired", "TUF_EXPIRED"), ("misrouted", "ASSIGNMENT_DEVICE")])
def test_a_directors_lie_is_refused_with_its_code(client: Client, lie: str, code: str) -> None:
    with pytest.raises(TrustError) as refused:
        tell(client, LIES[lie])
    assert refused.value.code == code


def test_without_the_lie_the_same_files_are_believed(client: Client) -> None:
    tell(client, Lie(version=+1, issued=timedelta()))
    assert client.db.floors().versions["director/timestamp"] == 101


# -- who wants his own bundle signed


@pytest.fixture
def line(tmp_path: Path) -> ReleaseLine:
    return ReleaseLine.make(tmp_path)


@pytest.fixture
def database(line: ReleaseLine, tmp_path: Path) -> Path:
    """With a good release, signed."""
    request = line.request(profiles=PROFILES[:1])
    make_signer(line.config()).answer(request, NOW)
    database = Database(make_engine(f"sqlite:///{tmp_path / 'control.db'}"))
    Base.metadata.create_all(database.engine)
    with database.write() as session:
        session.add(
            ReleaseRow(
                id="small-1", name="small", number=1, state="SIGNED", model_version="model:small/1", created_utc=NOW,
                manifests=request.release.manifests,
            )
        )  # fmt: skip
    database.close()
    return tmp_path / "control.db"


def refusal(line: ReleaseLine, request: SignRelease) -> str:
    with pytest.raises(SkerryError) as refused:
        make_signer(line.config()).answer(request, NOW)
    return refused.value.code


def test_a_release_of_an_unknown_builder_is_refused_whoever_approves_it(line: ReleaseLine, database: Path) -> None:
    forged = builder.slip_in(database, "small-1", builder.Builder(line.blobs, Ed25519PrivateKey.generate()))
    with sqlite3.connect(database) as control:
        state, approval = control.execute("SELECT state, approval FROM releases WHERE id = ?", (forged.id,)).fetchone()
    assert (state, forged.number) == ("APPROVED", 2)
    by_stranger = SignRelease(release=forged, approval=Approval(**json.loads(approval)))
    assert refusal(line, by_stranger) == "SIGNER_APPROVAL"
    assert refusal(line, SignRelease(release=forged, approval=line.approve(forged))) == "SIGNER_PROVENANCE"


def test_by_the_pinned_builder_the_same_release_is_signed(line: ReleaseLine, database: Path) -> None:
    """So it is the key alone that is wrong with it."""
    private = SigningKey.from_pem(line.site.read("build/keys/builder.pem"))._private
    forged = builder.slip_in(database, "small-1", builder.Builder(line.blobs, private))
    assert make_signer(line.config()).answer(SignRelease(release=forged, approval=line.approve(forged)), NOW).ok


def test_the_control_plane_reads_what_was_slipped_in(line: ReleaseLine, database: Path) -> None:
    forged = builder.slip_in(database, "small-1", builder.Builder(line.blobs, Ed25519PrivateKey.generate()))
    plane = Database(make_engine(f"sqlite:///{database}"))
    with plane.read() as session:
        (row,) = releases.in_state(session, "APPROVED")
        assert (row.id, row.manifests, row.created_utc.tzinfo is not None) == (forged.id, forged.manifests, True)
    plane.close()
