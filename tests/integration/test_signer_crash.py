"""The signer is killed (SIGKILL) before, in the middle of and after each of its writes: clients always see a whole repository,
and the signer that starts next finishes what was asked without ever issuing a number twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from contracts.release import SignRelease
from control_plane.signer.program import make_signer
from control_plane.signer.publisher import Publisher
from control_plane.signer.record import Record
from program.files import write_durably
from tests.simulators.release_line import PROFILES, ReleaseLine

WRITES = ("record", "role", "snapshot", "timestamp")
PATH = f"bundles/{PROFILES[0]}/small-1.json"


class FolderFetcher(FetcherInterface):
    """python-tuf's client over a folder: `_fetch` is the one method that its interface asks for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([(self._folder / url.rsplit("/", 1)[1]).read_bytes()])
        except FileNotFoundError as absent:
            raise DownloadHTTPError("absent", 404) from absent


def published(line: ReleaseLine, state: Path) -> bool:
    """True when a fresh client finds the release; raises when the repository is not valid."""
    state.mkdir(exist_ok=True)
    root = (line.site.public / "image-root.json").read_bytes()
    updater = Updater(str(state), "folder://image/", fetcher=FolderFetcher(line.site.image), bootstrap=root)
    updater.refresh()
    return updater.get_targetinfo(PATH) is not None


def before(path: Path, data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def halfway(path: Path, data: bytes) -> None:
    path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def after(path: Path, data: bytes) -> None:
    write_durably(path, data)
    os.kill(os.getpid(), signal.SIGKILL)


def sign_and_die(line: ReleaseLine, request: SignRelease, at: int, die: Callable[[Path, bytes], None]) -> int:
    """A child signs with a writer that dies at write number `at`; the signal that ended it, 0 when it came to the end."""
    child = os.fork()
    if child == 0:
        seen = 0

        def write(path: Path, data: bytes) -> None:
            nonlocal seen
            seen += 1
            (die if seen == at else write_durably)(path, data)

        signer = make_signer(line.config())
        old = signer.publisher
        record = Record(line.config().state_dir / "signer.json", write)
        signer.publisher = Publisher(old.repository, record, old._keys, old._lives, write)
        signer.answer(request, datetime.now(timezone.utc))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("die", [before, halfway, after])
@pytest.mark.parametrize("at", range(1, len(WRITES) + 1), ids=WRITES)
def test_killed_at_each_write(at: int, die: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    line = ReleaseLine.make(tmp_path, now=datetime.now(timezone.utc))
    request = line.request(profiles=PROFILES[:1])
    assert sign_and_die(line, request, at, die) == -signal.SIGKILL
    complete = at == len(WRITES) and die is after
    assert published(line, tmp_path / "client") is complete

    issued = numbers(line)
    signer = make_signer(line.config())
    answer = signer.answer(request, datetime.now(timezone.utc))
    assert published(line, tmp_path / "client"), "the client that saw the torn state goes on"
    assert published(line, tmp_path / "new-client")
    if not complete:
        assert {name: content for name, content in numbers(line).items() if name in issued} == issued, "a signed file was signed again"
    assert answer.versions["timestamp"] >= 2


def test_without_a_kill_there_are_exactly_these_writes(tmp_path: Path) -> None:
    line = ReleaseLine.make(tmp_path, now=datetime.now(timezone.utc))
    assert sign_and_die(line, line.request(profiles=PROFILES[:1]), len(WRITES) + 1, before) == 0
    assert published(line, tmp_path / "client")


def numbers(line: ReleaseLine) -> dict[str, bytes]:
    """Every versioned file in the repository: a number that was issued keeps its content."""
    files = {path.name: path.read_bytes() for path in line.site.image.glob("[0-9]*.json")}
    assert all(Metadata.from_bytes(data).signatures for data in files.values())
    return files
