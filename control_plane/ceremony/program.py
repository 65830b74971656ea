"""`skerry-ceremony init|rotate-root|add-profile|add-service|status`: run by people on the machine that holds the offline keys."""

from __future__ import annotations

import argparse
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from contracts.errors import SkerryError, error
from contracts.ids import SERVICE_ID, SERVICE_ROLES
from control_plane.ceremony import ceremony
from control_plane.ceremony.layout import ROLES, Owner, Site
from control_plane.ceremony.status import status
from program import failure
from program.run import EXIT_FAILED, EXIT_OK

_PROFILE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    os.umask(0o022)  # modes are set file by file; a caller's odd umask must not hide the public ones
    try:
        options.act(options)
    except SkerryError as failed:
        failure.tell("skerry-ceremony", failed, getattr(options, "json", False))
        return EXIT_FAILED
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry-ceremony", description=__doc__)
    acts = parser.add_subparsers(required=True)
    init = acts.add_parser("init", help="make a site: keys, certificates, both roots, the empty image repository")
    init.add_argument("site", type=Path)
    init.add_argument("--profiles", required=True, type=_profiles, help="comma-separated, one release key each")
    init.add_argument("--host", default="localhost", help="name in the server certificates (default %(default)s)")
    init.add_argument("--owner", action="append", default=[], type=_owner, metavar="ROLE=UID:GID", help=f"roles: {', '.join(ROLES)}")
    init.set_defaults(act=_init)
    rotate = acts.add_parser("rotate-root", help="replace all three root keys of a repository")
    rotate.add_argument("site", type=Path)
    rotate.add_argument("--repo", choices=("image", "director"), required=True)
    rotate.set_defaults(act=_rotate)
    add = acts.add_parser("add-profile", help="a release key and a delegation for one more profile")
    add.add_argument("site", type=Path)
    add.add_argument("profile", type=_profile)
    add.set_defaults(act=_add)
    service = acts.add_parser("add-service", help="a certificate for one more instance of a service, or a new one in place of an old one")
    service.add_argument("site", type=Path)
    service.add_argument("name", type=_service, metavar="svc-ROLE-N")
    service.set_defaults(act=_add_service)
    show = acts.add_parser("status", help="when each role and certificate expires")
    show.add_argument("site", type=Path)
    show.add_argument("--json", action="store_true")
    show.set_defaults(act=_status)
    return parser


def _init(options: argparse.Namespace) -> None:
    ceremony.make_site(Site(options.site, tuple(options.owner)), options.profiles, options.host, _now())
    print(f"{options.site}: site made for {', '.join(options.profiles)}; move {options.site / 'offline'} to its holders")


def _rotate(options: argparse.Namespace) -> None:
    version = ceremony.rotate_root(_site(options.site), options.repo, _now())
    print(f"{options.repo} root: version {version} published")


def _add(options: argparse.Namespace) -> None:
    ceremony.add_profile(_site(options.site), options.profile, _now())
    print(f"{options.profile}: delegated")


def _add_service(options: argparse.Namespace) -> None:
    ceremony.add_service(_site(options.site), options.name, _now())
    print(f"{options.name}: certificate made")


def _status(options: argparse.Namespace) -> None:
    lines = status(_site(options.site), _now())
    if options.json:
        print(json.dumps([line.__dict__ for line in lines], indent=1))
        return
    for line in lines:
        print(f"{line.name:44} {line.version:>3}  {line.expires_utc}  {'past half its life' if line.renew else ''}".rstrip())


def _site(folder: Path) -> Site:
    if not (folder / "public").is_dir():
        raise error("SETUP_SITE_UNREADABLE", str(folder), "no site lies there")
    return Site(folder)


def _profile(text: str) -> str:
    if not _PROFILE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"not a profile name: {text}")
    return text


def _service(text: str) -> str:
    named = SERVICE_ID.fullmatch(text)
    if named is None or named["role"] not in SERVICE_ROLES:
        raise argparse.ArgumentTypeError(f"expected svc-ROLE-N, where ROLE is one of {', '.join(SERVICE_ROLES)}")
    return text


def _profiles(text: str) -> list[str]:
    return [_profile(part) for part in text.split(",")]


def _owner(text: str) -> tuple[str, Owner]:
    role, _, ids = text.partition("=")
    uid, _, gid = ids.partition(":")
    if role not in ROLES or not uid.isdecimal() or not gid.isdecimal():
        raise argparse.ArgumentTypeError("expected ROLE=UID:GID")
    return role, Owner(int(uid), int(gid))


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    raise SystemExit(main())
