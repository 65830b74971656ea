"""Installs Skerry into a folder that other uids can reach: `<root>/opt`, as a package would install it into /opt/skerry.

A virtual environment without pip, whose interpreter is the running one's; a path file names the environment that holds the pinned
dependencies; the project itself is built and installed with its console scripts. About four seconds.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from contracts.errors import error
from deploy.local.processes import command, environment

PACKAGES = (
    "contracts",
    "program",
    "signatures",
    "processing",
    "firmware_profiles",
    "edge_agent",
    "sync",
    "control_plane",
    "examples",
    "deploy",
)
BESIDE = ("pyproject.toml", "README.md", "LICENSE")


async def install(source: Path, opt: Path) -> None:
    """Install the checkout `source` as `opt`. LocalFaultError SETUP_INSTALL with what the installer said."""
    interpreter = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    await _run(interpreter, "-m", "venv", "--without-pip", opt)
    site_packages, build = opt / "lib" / f"python3.{sys.version_info.minor}" / "site-packages", opt / "build"
    _name_dependencies(site_packages)
    _copy(source, build)
    python = opt / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location")
    await _run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--no-compile", build)
    shutil.rmtree(build)
    # now, because other uids cannot write the cache and would compile at every start
    await _run(python, "-m", "compileall", "-qq", site_packages)


def _name_dependencies(site_packages: Path) -> None:
    (site_packages / "skerry-dependencies.pth").write_text(f"{Path(sysconfig.get_path('purelib')).resolve()}\n")


def _copy(source: Path, build: Path) -> None:
    """Building leaves files beside the sources; a checkout must stay as it is."""
    build.mkdir()
    for name in PACKAGES:
        shutil.copytree(source / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        if (source / name).exists():
            shutil.copy(source / name, build / name)


async def _run(*argv: str | Path) -> None:
    done = await command([str(part) for part in argv], None, environment(Path("/nonexistent"), "root"))
    if done.returncode != 0:
        raise error("SETUP_INSTALL", " ".join(Path(part).name for part in map(str, argv[:4])), (done.stdout + done.stderr)[-2000:])
