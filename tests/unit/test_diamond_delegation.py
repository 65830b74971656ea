"""A role that two others delegate to is judged by each of them: python-tuf before 7.0.1 took the first one's word for both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import DownloadHTTPError, UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)
GOOD, SMUGGLED = "a/good.json", "b/smuggled.json"


def signed(content: Any, *signers: CryptoSigner) -> bytes:
    metadata: Metadata[Any] = Metadata(content)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def delegating(name: str, signer: CryptoSigner, path: str) -> Delegations:
    keys: dict[str, Key] = {signer.public_key.keyid: signer.public_key}
    return Delegations(keys, {name: DelegatedRole(name, list(keys), 1, False, [path])})


class Repository(FetcherInterface):
    """targets -> a and b; both delegate to `shared`, with different keys. `shared` names a file of each, signed by `signers`."""

    def __init__(self, first: CryptoSigner, second: CryptoSigner, *signers: CryptoSigner) -> None:
        top = CryptoSigner.generate_ed25519()
        keyid = top.public_key.keyid
        public: dict[str, Key] = {keyid: top.public_key}
        top_level = {name: Role([keyid], 1) for name in ("root", "targets", "snapshot", "timestamp")}
        root = Root(1, expires=EXPIRES, keys=public, roles=top_level, consistent_snapshot=False)
        parents = {name: DelegatedRole(name, [keyid], 1, False, [f"{name}/*"]) for name in ("a", "b")}
        files = {path: TargetFile.from_data(path, path.encode()) for path in (GOOD, SMUGGLED)}
        roles = ("targets", "a", "b", "shared")
        self.files = {
            "1.root.json": signed(root, top),
            "timestamp.json": signed(Timestamp(1, expires=EXPIRES, snapshot_meta=MetaFile(1)), top),
            "snapshot.json": signed(Snapshot(1, expires=EXPIRES, meta={f"{name}.json": MetaFile(1) for name in roles}), top),
            "targets.json": signed(Targets(1, expires=EXPIRES, delegations=Delegations(public, parents)), top),
            "a.json": signed(Targets(1, expires=EXPIRES, delegations=delegating("shared", first, "a/*")), top),
            "b.json": signed(Targets(1, expires=EXPIRES, delegations=delegating("shared", second, "b/*")), top),
            "shared.json": signed(Targets(1, expires=EXPIRES, targets=files), *signers),
        }

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise DownloadHTTPError(name, 404)
        yield self.files[name]

    def updater(self, folder: Path) -> Updater:
        updater = Updater(str(folder), "https://image.example/", fetcher=self, bootstrap=self.files["1.root.json"])
        updater.refresh()
        return updater


def test_a_role_that_one_parent_signed_is_not_believed_for_the_other(tmp_path: Path) -> None:
    first, second = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    updater = Repository(first, second, first).updater(tmp_path)
    assert updater.get_targetinfo(GOOD) is not None
    with pytest.raises(UnsignedMetadataError):
        updater.get_targetinfo(SMUGGLED)


def test_a_role_that_both_signed_is_believed_for_both(tmp_path: Path) -> None:
    first, second = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    updater = Repository(first, second, first, second).updater(tmp_path)
    assert {updater.get_targetinfo(path) is not None for path in (GOOD, SMUGGLED)} == {True}
