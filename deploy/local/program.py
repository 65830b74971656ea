"""skerry-local: a whole site on one machine, on real parts.

demo      tells the story from nothing to a fleet that updates itself, and prints what it proved; exit 0 only when all of it is true
up        starts everything, enrols three devices and stays until Ctrl-C ("try it")
picture   draws what has happened so far in a site that one of the two keeps running, as one HTML page
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from contracts.errors import SkerryError
from deploy.local.picture.reading import drawn, standing
from deploy.local.ports import Ports
from deploy.local.progress import Progress, render
from deploy.local.record import Record
from deploy.local.site import LocalSite
from deploy.local.steps import PICTURE, STORY, TRY_IT, Step
from deploy.local.steps.kept import frames_again, where_to_look
from deploy.local.story import Story
from deploy.local.supervisor import Supervisor
from program import failure
from program.clock import SystemClock

HIGHEST_BASE = 65_531
EXAMPLES = {"demo": ["digits_line"], "up": ["digits_line", "belt_parts"]}  # act -> of examples/; the story is told of the first one
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_SETUP, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.act == "picture":
        return _picture(options)
    root = options.work_dir or Path(tempfile.mkdtemp(prefix="skerry-demo-"))
    returncode = asyncio.run(_until_interrupted(options, root))
    if returncode in (EXIT_OK, EXIT_INTERRUPTED) and options.work_dir is None:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"logs and state stay in {root}", file=sys.stderr)
    return returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry-local", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = parser.add_subparsers(dest="act", required=True)
    for act, text in {"demo": "tell the story", "up": "start everything and stay"}.items():
        command = acts.add_parser(act, help=text)
        command.add_argument("--keep", action="store_true", help="leave everything running afterwards, until Ctrl-C")
        command.add_argument("--json", type=Path, metavar="FILE", help="write the record; the table is its rendering")
        command.add_argument(
            "--port-base", type=_port_base, metavar="N", help="five ports from N on (default 8484, 8443, 8444, 8883, 8884)"
        )
        command.add_argument(
            "--work-dir", type=Path, metavar="DIR", help="an empty folder that others can reach (default /tmp/skerry-demo-*)"
        )
        command.add_argument("--seed", type=int, default=20, help="of what is chosen at random (default %(default)s)")
        command.add_argument("--example", choices=EXAMPLES[act], default=EXAMPLES[act][0], help="what runs on it (default %(default)s)")
        command.add_argument("--picture", type=Path, metavar="FILE", help="the page that demo draws (default: beside the work folder)")
    picture = acts.add_parser("picture", help="draw a running site as one HTML page")
    picture.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help="the site's folder, as demo and up print it")
    picture.add_argument("--out", type=Path, default=Path("picture.html"), metavar="FILE", help="default %(default)s")
    picture.add_argument("--last-s", type=float, metavar="N", help="only the last N seconds")
    return parser


def _picture(options: argparse.Namespace) -> int:
    try:
        options.out.write_text(asyncio.run(drawn(standing(options.work_dir), options.last_s)))
    except SkerryError as failed:
        failure.tell("skerry-local", failed)
        return EXIT_FAILED
    print(options.out)
    return EXIT_OK


def _port_base(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= HIGHEST_BASE:
        raise argparse.ArgumentTypeError(f"from 1 to {HIGHEST_BASE}: five ports in a row")
    return int(text)


async def _until_interrupted(options: argparse.Namespace, root: Path) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    telling = asyncio.create_task(_tell(options, root, stop), name="story")
    stopped = asyncio.create_task(stop.wait(), name="interrupt")
    await asyncio.wait((telling, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not telling.done():
        telling.cancel()
    try:
        return await telling
    except asyncio.CancelledError:
        print("interrupted: everything is stopped", file=sys.stderr)
        return EXIT_INTERRUPTED


async def _tell(options: argparse.Namespace, root: Path, stop: asyncio.Event) -> int:
    clock, record, picture = SystemClock(), Record(), options.picture or root.with_name(f"{root.name}.html")
    site = LocalSite(root, Ports.from_base(options.port_base), as_root=os.geteuid() == 0)
    async with (
        Supervisor(root, clock) as supervisor,
        Story(site, supervisor, clock, Progress(clock), record, options.seed, picture, options.example) as story,
    ):
        await _run_steps(story, STORY if options.act == "demo" else TRY_IT)
        if options.act == "demo" and site.config("control").exists():
            await _run_steps(story, PICTURE)  # of a story that failed too: then somebody wants to see it
        _show(options, record)
        if picture.exists():
            story.progress.say(f"a picture of it: {picture}")
        if record.ok and (options.keep or options.act == "up"):
            if options.act == "demo":
                await frames_again(story)
            story.progress.say(where_to_look(story))
            story.progress.silent = True
            await stop.wait()
        story.progress.doing("stopping everything")
    return EXIT_OK if record.ok else EXIT_FAILED


async def _run_steps(story: Story, steps: Sequence[Step]) -> None:
    timings_s, began_s = story.record.timings_s, story.clock.mono()
    try:
        for step in steps:
            step_began_s = story.clock.mono()
            await step(story)
            timings_s[step.__module__.rpartition(".")[2]] = round(story.clock.mono() - step_began_s, 2)
    except SkerryError as failed:
        story.progress.say(f"\n{failure.text(failed)}")
    finally:
        timings_s["all"] = round(timings_s.get("all", 0.0) + story.clock.mono() - began_s, 2)


def _show(options: argparse.Namespace, record: Record) -> None:
    if options.json:
        record.save(options.json)
    render(record.as_json())
