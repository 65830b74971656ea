"""`skerry-signer`: wires configuration, keys, repository and socket, and renews what is past half its life by its own timer."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from contracts.errors import LocalFaultError
from contracts.release import SignerAnswer
from control_plane.signer.blobs import Blobs
from control_plane.signer.config import SignerConfig
from control_plane.signer.keys import read_keys, read_pins
from control_plane.signer.listener import Listener, refusing
from control_plane.signer.publisher import Lives, Publisher
from control_plane.signer.record import Record
from control_plane.signer.repository import Repository
from control_plane.signer.service import Signer, parse
from program import notify, run
from program.clock import Clock, SystemClock
from program.disk import take, writing
from program.log import Log

LONGEST_NAP_S = 60.0
OFFLINE_LIFE = timedelta(days=365)  # of root and targets


async def serve(config: SignerConfig, stop: asyncio.Event, clock: Clock) -> None:
    """Serve until `stop`. LocalFaultError at start when keys, pins or repository are not in order."""
    log = Log("signer")
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = take(config.state_dir)  # two signers would each have a memory of its own
    signer = make_signer(config)
    busy = asyncio.Lock()

    async def handle(data: bytes) -> SignerAnswer:
        async with busy:
            return await asyncio.to_thread(refusing(lambda request: signer.answer(parse(request), clock.utc()), log), data)

    renewal = Renewal(signer.publisher, clock, log)
    await renewal.run(busy)
    listener = Listener(config.socket_path, config.allowed_uids, handle, log)
    await listener.start()
    notify.ready()
    log("signer_ready", socket=str(config.socket_path), versions=signer.publisher.repository.versions())
    while not await clock.wait(stop, renewal.nap_s()):
        await renewal.run(busy)
        notify.watchdog()
    async with busy:  # a request that is being signed is finished, not torn
        await listener.close()
    os.close(held)


def make_signer(config: SignerConfig) -> Signer:
    lives = Lives(*(timedelta(seconds=life) for life in (config.role_life_s, config.snapshot_life_s, config.timestamp_life_s)))
    config.socket_path.parent.mkdir(parents=True, exist_ok=True)
    record = Record(config.state_dir / "signer.json")
    publisher = Publisher(Repository(config.image_dir), record, read_keys(config.keys_dir), lives)
    return Signer(Blobs(config.blobs_dir), read_pins(config.public_dir), publisher)


def main() -> int:
    options = run.arguments("skerry-signer", __doc__ or "", "/etc/skerry/signer.toml").parse_args()
    return run.run("skerry-signer", SignerConfig, options, lambda config, stop: serve(config, stop, SystemClock()))


class Renewal:
    """The signer's own timer: signs what is past half its life, and tells once of an offline role that people must renew."""

    def __init__(self, publisher: Publisher, clock: Clock, log: Log) -> None:
        self._publisher, self._clock, self._log = publisher, clock, log
        self._told: set[str] = set()

    async def run(self, busy: asyncio.Lock) -> None:
        async with busy:
            renewed = await asyncio.to_thread(self._renew)
        if renewed:
            self._log("roles_renewed", roles=renewed, versions=self._publisher.repository.versions())
        self._tell_of_offline_roles()

    def _renew(self) -> list[str]:
        """On a disk that takes no writes nothing is renewed: what is published holds until it expires, and the next pass tries again."""
        try:
            with writing("SETUP_STATE_DISK", "signer", "renewing"):
                renewed = self._publisher.renew(self._clock.utc())
        except LocalFaultError as full:
            self._tell_once("roles_not_renewed", code=full.code, detail=str(full), remedy=full.remedy)
            return []
        self._told.discard("roles_not_renewed")
        return renewed

    def _tell_once(self, event: str, **fields: str) -> None:
        if event not in self._told:
            self._log.alarm(event, **fields)
        self._told.add(event)

    def nap_s(self) -> float:
        """Until the next renewal, but never longer than the watchdog allows."""
        due_s = (self._publisher.next_renewal() - self._clock.utc()).total_seconds()
        return max(0.5, min(due_s, notify.watchdog_interval_s() or LONGEST_NAP_S, LONGEST_NAP_S))

    def _tell_of_offline_roles(self) -> None:
        for role in ("root", "targets"):
            expires = self._publisher.repository.current()[role].expires
            if self._clock.utc() < expires - OFFLINE_LIFE / 2:
                self._told.discard(role)
            elif role not in self._told:
                self._told.add(role)
                self._log.alarm("offline_role_past_half_its_life", role=role, expires_utc=expires.isoformat())


if __name__ == "__main__":
    raise SystemExit(main())
