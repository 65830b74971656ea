"""Carries what workers and pipeline say of the models to those who judge: windows and deaths."""

from __future__ import annotations

import asyncio

from edge_agent.loops.exchange import Exchange
from edge_agent.ports import Pipeline, Workers
from program.log import Log


async def run_windows(pipeline: Pipeline, exchange: Exchange) -> None:
    while True:
        exchange.take_window(await pipeline.windows.get())


async def run_deaths(workers: Workers, exchange: Exchange) -> None:
    log = Log("health")
    while True:
        death = await workers.deaths.get()
        log("worker_died", bundle_digest=death.digest, returncode=death.returncode, circuit_open=death.circuit_open)
        exchange.deaths_seen += 1
        exchange.take_death(death)


async def run(pipeline: Pipeline, workers: Workers, exchange: Exchange, stop: asyncio.Event) -> None:
    """Both until stop; an exception of one goes up."""
    tasks = [asyncio.ensure_future(run_windows(pipeline, exchange)), asyncio.ensure_future(run_deaths(workers, exchange))]
    ended = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, ended):
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
