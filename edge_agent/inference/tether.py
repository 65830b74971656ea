"""Ties a child process to the agent that spawned it. Standard library, clean for Python 3.8: worker and pipeline use it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_OOM_SCORE_MORE = 500  # of 1000: under memory pressure a child goes before the agent, which can start it again


def tie_to_parent(parent_pid: int) -> None:
    """Die with the parent: the kernel kills this process when the *thread* that spawned it ends.

    Raises SystemExit when the parent had gone before the tie was made.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit("the agent is gone")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of a large model fills the state disk, and holds what cameras saw
    try:
        with open("/proc/self/oom_score_adj", "r+") as score:
            more = min(1000, int(score.read()) + _OOM_SCORE_MORE)  # than the agent's, from whom it was inherited
            score.write(str(more))
    except OSError:
        pass  # a container may forbid it; the order of killing is a wish
