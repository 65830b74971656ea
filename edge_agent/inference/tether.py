"""Ties a child process to the agent that spawned it. Standard library, clean for Python 3.8: worker and pipeline use it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_OOM_SCORE_ADJ = 500  # under memory pressure a child goes before the agent, which can start it again


def tie_to_parent(parent_pid: int) -> None:
    """Die with the parent: the kernel kills this process when the *thread* that spawned it ends.

    Raises SystemExit when the parent had gone before the tie was made.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit("the agent is gone")
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(str(_OOM_SCORE_ADJ))
    except OSError:
        pass  # a container may forbid it; the order of killing is a wish
