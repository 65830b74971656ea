"""Where a worker's interpreter finds our code.

The agent's own interpreter takes it from the folder that the agent came from. A foreign one (the board's system Python, which carries
TensorRT's binding) must not see that folder: it may be a site-packages full of binaries of another Python. It gets a folder of links to the
two packages that the worker needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_agent.inference.child import CODE_ROOT

_PACKAGES = ("edge_agent", "processing")


def code_root_for(python: str, run_dir: Path) -> Path:
    """The working folder in which `python -m edge_agent.inference.worker` finds its modules."""
    if Path(python).absolute() == Path(sys.executable).absolute():
        return CODE_ROOT
    root = run_dir / "worker-code"
    root.mkdir(parents=True, exist_ok=True)
    for package in _PACKAGES:
        _link(CODE_ROOT / package, root / package)
    return root


def _link(target: Path, link: Path) -> None:
    if not (link.is_symlink() and link.readlink() == target):
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
