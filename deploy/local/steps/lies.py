"""i: lies are refused. Each has its code in the operators' log; slots and update record are what they were, while frames flow.

Who lies is a program of its own (deploy/local/attackers) or an act on the disk of whom he has taken over. A bundle's lies are told while
it is new (lies_of_a_bundle.py), the others at the end: the director's (lies_of_the_director.py), then those below.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

from contracts.operator import EventView
from deploy.local import intact
from deploy.local.broker import SERVICES_ACL
from deploy.local.processes import command
from deploy.local.record import Proof
from deploy.local.story import Story, want

VICTIM, OTHER = "agent-3", "agent-2"
LIE_S = 60


async def run(story: Story) -> None:
    await _approval_and_provenance(story)
    await _acks_and_batches(story)
    await _report(story)


@contextlib.asynccontextmanager
async def refused(story: Story, what: str, ordered: bool = False) -> AsyncIterator[Proof]:
    """A lie, told in the block. `ordered`: it came as an order, so the record ends with the refused execution, after what was confirmed."""
    async with story.proving("i", what, LIE_S, ["control", VICTIM]) as proof:
        before = await intact.look(story.site, VICTIM)
        yield proof
        after = await story.until(lambda: intact.look(story.site, VICTIM), lambda seen: seen.frames > before.frames)
        proof.figures.update(unharmed(before, after, ordered))


def unharmed(before: intact.Seen, after: intact.Seen, ordered: bool = False) -> dict[str, Any]:
    """Figures. SETUP_STEP_FAILED when slots or record have changed, or no frame came."""
    want(after.slots == before.slots, "slots are what they were", (before, after))
    want(after.history == before.history, "what was confirmed is what it was", (before, after))
    want(ordered or after.record == before.record, "the update record is what it was", (before, after))
    want(after.frames > before.frames, "frames flow", (before, after))
    return {"frames": after.frames - before.frames, "slots": after.slots[:12], "record": "refused order" if ordered else after.record[:12]}


async def told(story: Story, proof: Proof, event: str, subject: str, code: str, after: int) -> EventView:
    """Wait for the line of the operators' log; its number goes into the proof."""
    line = await story.operators_event(
        proof, lambda line: (line.event, line.subject, line.data.get("code")) == (event, subject, code), after
    )  # fmt: skip
    proof.figures[code] = f"#{line.seq}"
    return line


def attacker(story: Story, name: str, **options: Any) -> tuple[str, ...]:
    """The command line of one of deploy/local/attackers."""
    given = [part for option, value in options.items() for part in (f"--{option}", str(value))]
    return (story.site.bin("python"), "-m", f"deploy.local.attackers.{name}", *given)


# -- to the signer


async def _approval_and_provenance(story: Story) -> None:
    """Somebody with the control plane's rights slips a release of his own in; it is judged by the signer, whoever approves it."""
    site, since = story.site, story.feed.last
    stranger = site.run("control") / "stranger.pem"
    database, blobs = site.state("control") / "skerry.db", site.state("control") / "blobs"
    async with refused(story, "an approval by an unknown key") as proof:
        argv = attacker(story, "builder", database=database, blobs=blobs, release=story.releases[2], key=stranger)
        release = json.loads((await story.act("control", *argv)).stdout)["release"]
        await told(story, proof, "release_built", release, "SIGNER_APPROVAL", since)  # the signer's own refusal
        await _not_approved(story, release, str(stranger))
        await told(story, proof, "approval_refused", release, "SIGNER_APPROVAL", since)  # and the front door's
    async with refused(story, "provenance by an unknown builder, approved by a deceived person") as proof:
        await _not_approved(story, release, str(site.keys / "approver/approver.pem"), person="approver")
        await told(story, proof, "release_failed", release, "SIGNER_PROVENANCE", since)


async def _not_approved(story: Story, release: str, key: str, person: str = "operator") -> None:
    argv = (story.site.bin("skerry"), "release", "approve", release, "--key", key)
    done = await command(argv, story.site.owner(person), story.environment_of(person))
    want(done.returncode != 0, f"`skerry release approve {release}` fails", done.stdout)


# -- by the broker


async def _acks_and_batches(story: Story) -> None:
    site, since, victim, other = story.site, story.feed.last, story.devices[VICTIM], story.devices[OTHER]
    async with refused(story, "forged acks") as acks, refused(story, "forged batches") as batches:
        keys = site.keys / "control/keys"
        named = {"certificate": keys / "svc-control-1.crt", "key": keys / "svc-control-1.key", "ca": site.keys / "public/site-ca.crt"}
        before = _refused_batches(story)
        with _broker_opened(story):
            argv = attacker(story, "broker", port=site.ports.mqtt_services, device=victim, other=other, **named)
            sent = json.loads((await story.act("control", *argv)).stdout)["sent"]
        for code in ("ACK_SIGNATURE", "ACK_DEVICE"):
            await told(story, acks, "device_event", victim, code, since)
        await told(story, batches, "service_alarm", victim, "INGEST_SIGNATURE", since)
        await told(story, batches, "service_alarm", other, "INGEST_IDENTITY", since)
        forged = [one for one in sent if one["code"].startswith("INGEST")]
        await story.until(lambda: _refused(story, before), lambda seen: seen >= len(forged))
        acks.figures["forged"] = len([one for one in sent if one["code"].startswith("ACK")])
        batches.figures.update(forged=len(forged), refused=await _refused(story, before))
        want(batches.figures["refused"] == len(forged), "what was forged is refused, and nothing else", batches.figures)


@contextlib.contextmanager
def _broker_opened(story: Story) -> Iterator[None]:
    """Whoever holds the broker writes its access list."""
    acl = story.site.etc / SERVICES_ACL
    honest = acl.read_text()
    try:
        acl.write_text(honest + "\nuser svc-control-1\ntopic readwrite #\n")
        os.kill(story.supervisor.pid("broker"), signal.SIGHUP)
        yield
    finally:
        acl.write_text(honest)
        os.kill(story.supervisor.pid("broker"), signal.SIGHUP)


def _refused_batches(story: Story) -> int:
    return int(json.loads((story.site.run("ingest") / "ingest-status.json").read_text())["refused_batches"])


async def _refused(story: Story, before: int) -> int:
    return _refused_batches(story) - before


# -- by a device


async def _report(story: Story) -> None:
    site, since, victim, other = story.site, story.feed.last, story.devices[VICTIM], story.devices[OTHER]
    moves = [line for line in story.feed.events if line.event == "execution_moved" and line.data["device"] == other]
    async with refused(story, "a report for another device's execution") as proof:
        argv = attacker(
            story, "device", port=site.ports.devices, keys=site.state(VICTIM) / "keys", device=victim, execution=moves[-1].subject
        )
        answer = json.loads((await story.act(VICTIM, *argv)).stdout)
        want(answer == {"status": 403, "code": "REPORT_EXECUTION"}, "the control plane refuses it", answer)
        await told(story, proof, "report_refused", victim, "REPORT_EXECUTION", since)
