"""A child process of the agent, watched by its pidfd in the event loop.

Spawn from the event loop's thread, which must live as long as the agent: PR_SET_PDEATHSIG follows the spawning *thread*, and
asyncio's own subprocess support may reap from a helper thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import edge_agent
from edge_agent.inference.within import within

CODE_ROOT = Path(edge_agent.__file__).resolve().parent.parent  # the folder that holds our packages
_KEPT_OUT = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")  # only the agent speaks to its supervisor
NOTHING: Mapping[str, str] = {}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the board's other cores are not ours


class Child:
    """One running child; it leads a process group of its own."""

    def __init__(
        self, argv: Sequence[str], pass_fds: Sequence[int], code_root: Path = CODE_ROOT, environment: Mapping[str, str] = NOTHING
    ) -> None:
        """`environment`: variables beside the agent's own."""
        self._process = subprocess.Popen(
            argv,
            pass_fds=pass_fds,
            cwd=code_root,  # `python -m` finds our packages in the working folder
            env={**_environment(os.environ), **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @property
    def running(self) -> bool:
        return not self._ended.done()

    async def wait(self) -> int:
        """The return code, negative for a signal; may be awaited by several."""
        return await asyncio.shield(self._ended)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the whole process group, if it is still ours to signal."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago; the pidfd will say so
                os.killpg(self.pid, number)

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, then SIGKILL after `grace_s`; the return code."""
        self.kill(signal.SIGTERM)
        try:
            return await within(self.wait(), grace_s)
        except TimeoutError:
            self.kill(signal.SIGKILL)
            return await self.wait()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._ended.set_result(self._process.wait())


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {**{key: value for key, value in environment.items() if key not in _KEPT_OUT}, **_ONE_THREAD}
