"""i, while a bundle is new: its role signed by another key, then a byte of its model flipped in the blob store; ordered for one device.

The same bundle, untouched, is accepted afterwards: it was the lie that was refused. (A digest that failed is not taken again until a new
order names it.)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from deploy.local.record import Proof
from deploy.local.steps.campaigns import ENDED
from deploy.local.steps.lies import VICTIM, refused
from deploy.local.story import Story

PROBATION = {"probation_s": 1, "probation_frames": 20}


async def run(story: Story, version: int) -> None:
    async with refused(story, f"v{version}'s role signed by a wrong key", ordered=True) as proof:
        role = await _newest_role(story)
        with altered(role, _by_a_stranger(role)):
            await order(story, proof, "wrong-key", version, "TUF_UNSIGNED")
    async with refused(story, f"one byte of v{version}'s model flipped in the blob store", ordered=True) as proof:
        blob, length = await _model(story, version)
        data = bytearray(blob.read_bytes())
        data[length // 2] ^= 1
        with altered(blob, bytes(data)):
            await order(story, proof, "flipped-byte", version, "BUNDLE_MEMBER_DIGEST")
        proof.figures["member"] = blob.name


async def order(story: Story, proof: Proof, name: str, version: int, code: str = "") -> dict[str, Any]:
    """A campaign of one device; wait for its execution to end, with `code` or confirmed; that line's data."""
    since, device = story.feed.last, story.devices[VICTIM]
    request = {"name": name, "release": story.releases[version], "waves": [{"devices": [device]}], **PROBATION}
    campaign = str((await story.api.request("POST", "/v1/campaigns", request))["id"])
    line = await story.operators_event(
        proof,
        lambda line: (
            line.event == "execution_moved"
            and line.subject.startswith(campaign)
            and (line.data["code"] == code if code else line.data["state"] == "CONFIRMED")
        ),
        since,
    )
    proof.figures[code or "confirmed"] = f"#{line.seq}"
    await story.feed.wait(
        lambda line: line.event == "campaign_moved" and line.subject == campaign and line.data.get("state") in ENDED, since
    )  # fmt: skip
    return line.data


@contextlib.contextmanager
def altered(path: Path, data: bytes) -> Iterator[None]:
    """The file with other bytes; its owner and mode stay."""
    honest = path.read_bytes()
    try:
        path.write_bytes(data)
        yield
    finally:
        path.write_bytes(honest)


async def _newest_role(story: Story) -> Path:
    profile = (await story.api.get(f"/v1/devices/{story.devices[VICTIM]}"))["profile"]
    published = (story.site.keys / "signer/image").glob(f"*.profile-{profile}.json")
    return max(published, key=lambda path: int(path.name.split(".")[0]))


def _by_a_stranger(role: Path) -> bytes:
    """The very same content, signed by a key of somebody's own."""
    metadata = Metadata[Any].from_file(str(role))
    metadata.sign(CryptoSigner.generate_ed25519())
    return metadata.to_bytes()


async def _model(story: Story, version: int) -> tuple[Path, int]:
    """The model's blob, and its length."""
    view = await story.api.get(f"/v1/releases/{story.releases[version]}")
    profile = (await story.api.get(f"/v1/devices/{story.devices[VICTIM]}"))["profile"]
    manifest = json.loads(_blob(story, view["release"]["manifests"][profile]).read_bytes())
    member = manifest["members"][manifest["variants"][0]["member"]]
    return _blob(story, member["sha256"]), member["length"]


def _blob(story: Story, digest: str) -> Path:
    return story.site.state("control") / "blobs" / digest[:2] / digest
