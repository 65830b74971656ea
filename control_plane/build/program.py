"""`skerry-build`: asks for a job, builds it in a thread, answers; a job that cannot be built is answered with its code."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from contracts.errors import RejectedError, SkerryError, TransientError, TrustError
from contracts.release import BuildJob, BuildResult
from control_plane.build.config import BuildConfig
from control_plane.build.control_client import ControlClient
from control_plane.build.evaluate import Evaluator
from control_plane.build.job import Builder, Policy
from control_plane.build.pins import read_model_keys, read_signing_key
from program import notify, run
from program.clock import Clock, SystemClock
from program.log import Log

_RETRY_S = 2.0


async def serve(config: BuildConfig, stop: asyncio.Event, clock: Clock) -> None:
    """Build until `stop`. LocalFaultError at start when a key or a certificate is not in order."""
    log = Log("build")
    client = ControlClient(config)
    builder = make_builder(config, client, clock, log, stop)
    notify.ready()
    log("build_ready", control_url=config.control_url)
    try:
        reachable = True
        while not stop.is_set():
            try:
                worked = await asyncio.to_thread(_one_job, client, builder, log)
                pause_s, reachable = (0.0 if worked else config.poll_s), _recovered(reachable, log)
            except _StoppedError:
                break
            except TransientError as away:
                pause_s, reachable = away.retry_after_s or _RETRY_S, _lost(reachable, away, log)
            notify.watchdog()
            await clock.wait(stop, pause_s)
    finally:
        client.close()


class _StoppedError(Exception):
    """Ends a build between two steps: its result was not given, so the control plane hands the job out again."""


def make_builder(config: BuildConfig, client: ControlClient, clock: Clock, log: Log, stop: asyncio.Event) -> Builder:
    def progress(step: str, **fields: object) -> None:
        if stop.is_set():
            raise _StoppedError(step)
        notify.watchdog()  # a step is a completed pass: a long build is no hang
        log(f"build_{step}", **fields)

    policy = Policy(config.max_accuracy_loss, config.min_held_out, config.golden_vectors)
    evaluator = Evaluator(config.worker_python or Path(sys.executable), config.evaluation_timeout_s)
    keys = read_model_keys(config.public_dir / "model-signing.pub.pem")
    return Builder(client, evaluator, read_signing_key(config.builder_key), keys, policy, progress, clock.utc)


def main() -> int:
    options = run.arguments("skerry-build", __doc__ or "", "/etc/skerry/build.toml").parse_args()

    async def start(config: BuildConfig, stop: asyncio.Event) -> None:
        os.nice(config.nice)  # the worker processes inherit it
        await serve(config, stop, SystemClock())

    return run.run("skerry-build", BuildConfig, options, start)


def _one_job(client: ControlClient, builder: Builder, log: Log) -> bool:
    """True when there was a job. A TransientError leaves the job as it is: the control plane hands it out again."""
    job = client.next_job()
    if job is None:
        return False
    log("build_started", job=job.id, model_version=job.model_version.id, profiles=job.profiles)
    try:
        client.post_result(job.id, _result(builder, job, log))
    except RejectedError as refused:  # else the same job would come again for ever
        log.alarm("build_result_refused", job=job.id, code=refused.code, detail=refused.detail)
        client.post_result(job.id, BuildResult(code=refused.code, detail=str(refused)))
    return True


def _result(builder: Builder, job: BuildJob, log: Log) -> BuildResult:
    try:
        result = builder.build(job)
    except (RejectedError, TrustError) as refused:
        log.alarm("build_refused", job=job.id, code=refused.code, thing=refused.thing, detail=refused.detail)
        return BuildResult(code=refused.code, detail=str(refused))
    log("build_finished", job=job.id, manifests=result.manifests)
    return result


def _lost(reachable: bool, away: SkerryError, log: Log) -> bool:
    if reachable:
        log("control_plane_lost", code=away.code, detail=away.detail)
    return False


def _recovered(reachable: bool, log: Log) -> bool:
    if not reachable:
        log("control_plane_back")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
