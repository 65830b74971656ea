"""slots/: bundles on disk. The only writer of this folder.

    <sha256>/        immutable: manifest.json (bytes as signed) and the members
    .staging/<sha256>/  being fetched; resumable, worthless
    current, previous   symlinks to slots

Rules
- A slot gets its name by one rename, after every file was verified and synced, the folder too: a name means a whole slot.
- `current` changes by one renameat2(EXCHANGE) with `previous`, then the folder is synced: after a power cut it names the
  old slot or the new one. Where the file system cannot exchange, a temporary symlink is renamed over it.
- A slot loses its name, durably, before its files are deleted. What an earlier life did and did not sync is synced again.
- Only admitted bundles come in, and only names that the manifest lists are ever opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from contracts.canonical import sha256_hex
from contracts.errors import LocalFaultError, SkerryError, error
from contracts.manifest import MODEL_SIGNATURE, PROVENANCE, Manifest, Member
from edge_agent.core.admission import AdmittedBundle, parse_manifest
from program.disk import NO_SPACE, writing
from program.files import fsync_file, fsync_folder, write_durably

MANIFEST = "manifest.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

Fetch = Callable[[Member, Path, Callable[[], bool]], None]
CheckSignature = Callable[[Manifest, bytes, bytes], None]  # manifest, model.sig, provenance; raises BUNDLE_MODEL_SIGNATURE


class SlotDirs:
    def __init__(self, root: Path, fetch: Fetch, check_signature: CheckSignature, margin_bytes: int) -> None:
        self._root, self._fetch, self._check_signature, self._margin_bytes = root, fetch, check_signature, margin_bytes
        self._staging = root / ".staging"
        if not self._staging.is_dir():
            self._staging.mkdir(parents=True, mode=0o700)
            fsync_folder(root.parent)

    # -- staging

    def check_space(self, admitted: AdmittedBundle) -> None:
        """Raises LocalFaultError BUNDLE_NO_SPACE: members once, and the margin for engines and databases."""
        needed = sum(member.length for member in admitted.manifest.members.values()) + self._margin_bytes
        free = shutil.disk_usage(self._root).free
        if free < needed:
            raise error("BUNDLE_NO_SPACE", str(self._root), f"{free} bytes free, {needed} needed")

    def stage(self, admitted: AdmittedBundle, stopped: Callable[[], bool]) -> None:
        """Fetch what is missing; twice is once.

        Raises what `fetch` raises, LocalFaultError BUNDLE_NO_SPACE (what was staged gives its room back) or SETUP_STATE_DISK.
        """
        if self.path(admitted.digest).is_dir():
            return
        folder = self._staging / admitted.digest
        try:
            with self._writing("staging"), writing("BUNDLE_NO_SPACE", self._root, "staging", NO_SPACE):
                self._fill(folder, admitted, stopped)
        except LocalFaultError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _fill(self, folder: Path, admitted: AdmittedBundle, stopped: Callable[[], bool]) -> None:
        folder.mkdir(exist_ok=True, mode=0o755)
        for name, member in admitted.manifest.members.items():
            self._copy_of_another_slot(member, folder / name)
            self._fetch(member, folder / name, stopped)
        write_durably(folder / MANIFEST, admitted.manifest_bytes)

    def _writing(self, phase: str) -> AbstractContextManager[None]:
        return writing("SETUP_STATE_DISK", self._root, phase)

    def seal(self, digest: str) -> None:
        """Raises TrustError BUNDLE_MEMBER_DIGEST or BUNDLE_MODEL_SIGNATURE, and clears what was staged; twice is once."""
        if self.path(digest).is_dir():
            fsync_folder(self._root)
            return
        folder = self._staging / digest
        try:
            manifest = _verified(folder, digest)
            self._check_signature(manifest, (folder / MODEL_SIGNATURE).read_bytes(), (folder / PROVENANCE).read_bytes())
        except SkerryError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._writing("sealing"):
            for name in (MANIFEST, *manifest.members):
                os.chmod(folder / name, 0o444, follow_symlinks=False)
                fsync_file(folder / name)
            fsync_folder(folder)
            os.rename(folder, self.path(digest))
            fsync_folder(self._staging)
            fsync_folder(self._root)

    def _copy_of_another_slot(self, member: Member, path: Path) -> None:
        """Versions share members. The copy is verified like a download, so a damaged source costs a fetch, no more."""
        if path.exists():
            return
        for slot in self._slots():
            with contextlib.suppress(OSError, ValueError):
                manifest = Manifest.model_validate_json((slot / MANIFEST).read_bytes())
                for name, other in manifest.members.items():
                    if other.sha256 == member.sha256:
                        shutil.copyfile(slot / name, path, follow_symlinks=False)
                        return

    # -- reading

    def path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a digest: {digest!r}")
        return self._root / digest

    def manifest(self, digest: str) -> Manifest:
        return _manifest(self.path(digest), digest)

    def verify(self, digest: str) -> Manifest:
        return _verified(self.path(digest), digest)

    def current(self) -> str:
        return self._named_by("current")

    def previous(self) -> str:
        return self._named_by("previous")

    def _named_by(self, link: str) -> str:
        try:
            name = os.readlink(self._root / link)
        except FileNotFoundError:
            return ""
        return name if _DIGEST.fullmatch(name) else ""

    def digests(self) -> frozenset[str]:
        """Of the slots that are sealed."""
        return frozenset(path.name for path in self._slots())

    def _slots(self) -> Iterator[Path]:
        return (path for path in self._root.iterdir() if _DIGEST.fullmatch(path.name))

    # -- switching

    def activate(self, digest: str) -> None:
        """Raises LocalFaultError SETUP_STATE_DISK; then `current` names what it named."""
        with self._writing("activating"):
            if self.current() != digest:
                self._switch_to(digest)
            fsync_folder(self._root)

    def _switch_to(self, digest: str) -> None:
        current = self._root / "current"
        if not digest:
            current.unlink()
        elif not self.current():
            self._link("current", digest)
        else:
            self._link("previous", digest)
            if not _exchange(current, self._root / "previous"):
                old = self.current()
                self._link("current", digest)
                self._link("previous", old)

    def _link(self, name: str, digest: str) -> None:
        temporary = self._root / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        os.symlink(digest, temporary)
        os.rename(temporary, self._root / name)

    def keep_only(self, digests: frozenset[str]) -> None:
        keep = digests | {self.current()}
        with self._writing("tidying"):
            for path in self._slots():
                if path.name not in keep:
                    os.rename(path, self._staging / f"{path.name}.old")
            doomed = [path for path in self._staging.iterdir() if path.name not in keep]
            if doomed:  # out of sight for good, so that a half deleted slot never carries a slot's name
                fsync_folder(self._root)
            for path in doomed:
                shutil.rmtree(path)


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(RENAME_EXCHANGE); False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _manifest(folder: Path, digest: str) -> Manifest:
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError as missing:
        raise error("BUNDLE_MEMBER_DIGEST", digest, f"{MANIFEST}: {missing}") from missing
    if sha256_hex(raw) != digest:
        raise error("BUNDLE_MEMBER_DIGEST", digest, f"{MANIFEST} was altered")
    return parse_manifest(digest, raw)


def _verified(folder: Path, digest: str) -> Manifest:
    manifest = _manifest(folder, digest)
    extra = {path.name for path in folder.iterdir()} - {MANIFEST, *manifest.members}
    if extra:
        raise error("BUNDLE_MEMBER_DIGEST", digest, f"not in the manifest: {sorted(extra)[0]}")
    for name, member in manifest.members.items():
        _check_file(folder / name, member)
    return manifest


def _check_file(path: Path, member: Member) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as missing:
        raise error("BUNDLE_MEMBER_DIGEST", path.name, str(missing)) from missing
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb") as file:
        while piece := file.read(1024 * 1024):
            digest.update(piece)
    if digest.hexdigest() != member.sha256:
        raise error("BUNDLE_MEMBER_DIGEST", path.name, "its bytes are not those of the manifest")
