"""Root rotation of both repositories, rehearsed: a client that was off during two of them follows by python-tuf's own
updater; a root that is one key short, or signed by the old or the new holders only, is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient.updater import Updater

from control_plane.ceremony import ceremony, roles
from control_plane.ceremony.layout import Site
from tests.simulators.release_line import PROFILES

REPOS = ("image", "director")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: tests print what they find."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    now = datetime.now(timezone.utc)  # ngclient reads the real clock
    ceremony.make_site(site, PROFILES, "localhost", now)
    director = roles.signer_from_pem(site.read("control/keys/director.pem"))
    site.write("control/director/targets.json", roles.empty_role(1, director, now))
    site.write("control/director/snapshot.json", roles.snapshot(1, {"targets": 1}, director, now))
    site.write("control/director/timestamp.json", roles.timestamp(1, 1, director, now))
    return site


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site.folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def folder(site: Site, repo: str) -> Path:
    return site.image if repo == "image" else site.director


def refresh(site: Site, repo: str, url: str, state: Path) -> int:
    """What a client that holds the pins of enrolment believes after a refresh: the root's version."""
    state.mkdir(exist_ok=True)
    updater = Updater(
        str(state), f"{url}/{folder(site, repo).relative_to(site.folder)}/", bootstrap=(site.public / f"{repo}-root.json").read_bytes()
    )
    updater.refresh()
    return Metadata[Root].from_file(str(state / "root.json")).signed.version


@pytest.mark.parametrize("repo", REPOS)
def test_a_client_that_was_off_during_two_rotations_follows(site: Site, repo: ceremony.Repo, url: str, tmp_path: Path) -> None:
    assert refresh(site, repo, url, tmp_path / "client") == 1
    before = site.read(f"offline/{repo}-root-1.pem")
    assert [ceremony.rotate_root(site, repo, datetime.now(timezone.utc)) for _ in range(2)] == [2, 3]
    assert refresh(site, repo, url, tmp_path / "client") == 3
    assert refresh(site, repo, url, tmp_path / "new-client") == 3
    assert site.read(f"offline/{repo}-root-1.pem") != before
    assert not list(site.offline.glob("*.next.pem"))


def forged(site: Site, repo: str, old: int, new: int) -> bytes:
    """A second root with new holders, signed by `old` of the present ones and `new` of the new ones."""
    held = [roles.signer_from_pem(site.read(f"offline/{repo}-root-{n}.pem")) for n in (1, 2, 3)]
    others: list[CryptoSigner] = [roles.signer_from_pem(roles.new_key_pem()) for _ in range(3)]
    current = (folder(site, repo) / "1.root.json").read_bytes()
    signers = [*held[:old], *others[:new]]
    return roles.next_root(current, [other.public_key for other in others], signers, datetime.now(timezone.utc))


@pytest.mark.parametrize("repo", REPOS)
@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1), (3, 0), (0, 3)])
def test_one_key_short_or_one_side_alone_is_refused(site: Site, repo: str, old: int, new: int, url: str, tmp_path: Path) -> None:
    (folder(site, repo) / "2.root.json").write_bytes(forged(site, repo, old, new))
    with pytest.raises(UnsignedMetadataError):
        refresh(site, repo, url, tmp_path / "client")
    (folder(site, repo) / "2.root.json").write_bytes(forged(site, repo, 2, 2))
    assert refresh(site, repo, url, tmp_path / "client") == 2


@pytest.mark.parametrize("repo", REPOS)
def test_a_rotation_that_stopped_before_the_keys_moved_is_finished_not_repeated(site: Site, repo: ceremony.Repo) -> None:
    now = datetime.now(timezone.utc)
    for n in (1, 2, 3):
        site.write(f"offline/{repo}-root-{n}.next.pem", roles.new_key_pem())
    waiting = [site.read(f"offline/{repo}-root-{n}.next.pem") for n in (1, 2, 3)]
    assert ceremony.rotate_root(site, repo, now) == 2
    for n in (1, 2, 3):  # as if the machine had stopped right after the publication
        (site.offline / f"{repo}-root-{n}.pem").rename(site.offline / f"{repo}-root-{n}.next.pem")
        site.write(f"offline/{repo}-root-{n}.pem", roles.new_key_pem())
    assert ceremony.rotate_root(site, repo, now) == 2
    assert [site.read(f"offline/{repo}-root-{n}.pem") for n in (1, 2, 3)] == waiting
