"""The site folder: which file lies where, whose it is, and who may read it. The one place that knows these paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import error
from program.files import write_durably

ROLES = ("signer", "control", "build", "ingest", "broker", "approver", "trainer")
PRIVATE, PUBLIC = 0o600, 0o644
# `signer` must be passable, because the image repository below it is public; its keys folder is not.
_FOLDERS = {
    "": 0o755, "offline": 0o700, "signer": 0o711, "signer/keys": 0o700, "signer/image": 0o755, "control": 0o700, "control/keys": 0o700,
    "control/director": 0o700, "build": 0o700, "build/keys": 0o700, "ingest": 0o700, "ingest/keys": 0o700, "broker": 0o700,
    "approver": 0o700, "trainer": 0o700, "public": 0o755,
}  # fmt: skip


@dataclass(frozen=True)
class Owner:
    uid: int
    gid: int


@dataclass(frozen=True)
class Site:
    """Paths of a site. `owners` maps a role to who owns its folder; a role without one stays the caller's."""

    folder: Path
    owners: tuple[tuple[str, Owner], ...] = ()

    @property
    def offline(self) -> Path:
        return self.folder / "offline"

    @property
    def image(self) -> Path:
        return self.folder / "signer" / "image"

    @property
    def signer_keys(self) -> Path:
        return self.folder / "signer" / "keys"

    @property
    def director(self) -> Path:
        return self.folder / "control" / "director"

    @property
    def public(self) -> Path:
        return self.folder / "public"

    def make_folders(self) -> None:
        """LocalFaultError SETUP_SITE_EXISTS when the folder is there already: a ceremony is never run over another."""
        if self.folder.exists():
            raise error("SETUP_SITE_EXISTS", str(self.folder))
        for name, mode in _FOLDERS.items():
            folder = self.folder / name
            folder.mkdir(parents=not name)
            folder.chmod(mode)
            self._hand_over(name, folder)

    def write(self, name: str, data: bytes, mode: int = PRIVATE) -> None:
        """Write `name` (relative to the site) durably, with its mode and the owner of its role."""
        path = self.folder / name
        write_durably(path, data, mode)
        self._hand_over(name, path)

    def read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as unreadable:
            raise error("SETUP_SITE_UNREADABLE", str(self.folder / name), str(unreadable)) from unreadable

    def owner(self, role: str) -> Owner | None:
        """Who owns a role's folder: as given, else as it is on disk (for acts after `init`)."""
        given = dict(self.owners).get(role)
        if given or not (self.folder / role).is_dir():
            return given
        seen = (self.folder / role).stat()
        return Owner(seen.st_uid, seen.st_gid)

    def _hand_over(self, name: str, path: Path) -> None:
        role = name.split("/", 1)[0]
        owner = self.owner(role) if role in ROLES else None
        if owner and (owner.uid, owner.gid) != (os.geteuid(), os.getegid()):
            os.chown(path, owner.uid, owner.gid)
