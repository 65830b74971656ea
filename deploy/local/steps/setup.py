"""Set-up: install, ceremony, configuration, the cloud's programs, frames; all with the real programs."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.local.install import install
from deploy.local.ports import check_free
from deploy.local.processes import command, environment
from deploy.local.site import AGENTS, CLOUD
from deploy.local.steps import released
from deploy.local.story import Story, want

CHECKOUT = Path(__file__).parents[3]
FRAMES = 300  # per device; the folder is read again and again
INSTALL_S, CEREMONY_S, START_S, FRAMES_S = 120, 60, 120, 120


async def run(story: Story) -> None:
    await _install(story)
    await _ceremony(story)
    frames = story.beside(_frames(story))
    await _start_cloud(story)
    await frames
    story.training = story.beside(released.train(story, 1))


async def _install(story: Story) -> None:
    async with story.proving("setup", "ports free, project installed", INSTALL_S) as proof:
        check_free(story.site.ports)
        want(shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is not None, "mosquitto is installed", "run: apt-get install mosquitto")
        story.site.make_folders()
        await install(CHECKOUT, story.site.opt)
        proof.figures["uids"] = "one each" if story.site.as_root else "one for all (not root)"


async def _ceremony(story: Story) -> None:
    """Keys of every profile of x86 boards without accelerator: which one this machine has, its agents find out."""
    site = story.site
    async with story.proving("setup", "ceremony: keys, certificates, both roots 2 of 3", CEREMONY_S) as proof:
        profiles = sorted(path.stem for path in site.opt.glob("lib/*/site-packages/firmware_profiles/profiles/x86-cpu-*.toml"))
        want(bool(profiles), "profiles are installed")
        argv = [site.bin("skerry-ceremony"), "init", str(site.keys), "--profiles", ",".join(profiles), *site.owners_of_ceremony()]
        done = await command(argv, None, environment(site.root, "holder"))
        want(done.returncode == 0, "skerry-ceremony init", done.stderr)
        site.write_configuration()
        proof.figures["profiles"] = profiles


async def _start_cloud(story: Story) -> None:
    for program in story.site.programs():
        story.supervisor.add(program)
    for name in CLOUD:
        async with story.proving("setup", f"{name} ready", START_S) as proof:
            event = await story.supervisor.start(name)
            proof.source, proof.event_no = "supervisor", event.no
            proof.figures["pid"] = event.pid
    story.connect()


async def _frames(story: Story) -> None:
    async with story.proving("setup", "frames of three cameras drawn", FRAMES_S) as proof:
        for number, name in enumerate(AGENTS, start=1):
            await story.trainer("frames", "--out", str(story.site.frames(name)), "--device", str(number), "--count", str(FRAMES))
        proof.figures["frames"] = {name: len(list(story.site.frames(name).glob("*.png"))) for name in AGENTS}
