"""Installs Skerry into a folder that other uids can reach: `<root>/opt`, as a package would install it into /opt/skerry.

A virtual environment without pip, whose interpreter is the running one's; a path file names the environment that holds the pinned
dependencies; the project itself is built and installed with its console scripts. About four seconds.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from contracts.errors import error

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


def install(source: Path, opt: Path) -> None:
    """Install the checkout `source` as `opt`. LocalFaultError SETUP_INSTALL with what the installer said."""
    site_packages = _environment(opt)
    (site_packages / "skerry-dependencies.pth").write_text(f"{Path(sysconfig.get_path('purelib')).resolve()}\n")
    build = opt / "build"
    _copy(source, build)
    # the installer must not compile for itself: other uids cannot write the cache, and pip's way takes three times as long
    command = [str(opt / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    _run([*command, "--no-deps", "--no-build-isolation", "--no-index", "--no-compile", str(build)])
    shutil.rmtree(build)
    compileall.compile_dir(site_packages, quiet=2, workers=1)


def _environment(opt: Path) -> Path:
    """An empty virtual environment; its site-packages."""
    interpreter = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    _run([str(interpreter), "-m", "venv", "--without-pip", str(opt)])
    opt.chmod(0o755)
    return opt / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"


def _copy(source: Path, build: Path) -> None:
    """Building leaves files beside the sources; a checkout must stay as it is."""
    build.mkdir()
    for name in PACKAGES:
        shutil.copytree(source / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        if (source / name).exists():
            shutil.copy(source / name, build / name)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise error("SETUP_INSTALL", " ".join(command[:4]), (done.stdout + done.stderr)[-2000:])
