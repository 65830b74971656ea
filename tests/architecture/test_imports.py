"""Who may import whom: the contracts of .importlinter, and each program started with all but its own libraries out of reach."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import REPO, python_files

# What a library needs of others goes with its name.
_LIBRARIES = {
    "pydantic": {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"},
    "cryptography": {"cryptography", "cffi", "_cffi_backend", "pycparser"},
    "tuf": {"tuf", "securesystemslib", "urllib3"},
    "mqtt": {"paho"},
    "codec": {"zstandard", "msgpack"},
    "numpy": {"numpy"},
    "onnxruntime": {"onnxruntime", "flatbuffers", "google", "packaging", "coloredlogs", "humanfriendly", "sympy", "mpmath"},
    "onnx": {"onnx", "ml_dtypes", "google"},
    "pillow": {"PIL"},
    "typer": {"typer", "rich", "click", "shellingham", "markdown_it", "mdurl", "pygments", "typing_extensions", "annotated_doc"},
    "lake": {"deltalake", "arro3", "pyarrow", "deprecated", "wrapt"},
}

# modules -> the libraries that they may use; all else that is installed raises ImportError
PROGRAMS = {
    "the agent": (("edge_agent.cli", "edge_agent.agent"), ("pydantic", "cryptography", "tuf", "mqtt", "codec", "toml")),
    "the agent's decisions": (("edge_agent.core",), ("pydantic",)),
    "the worker": (("edge_agent.inference.worker",), ("numpy", "onnxruntime")),
    "the pipeline": (("edge_agent.pipeline.process",), ("numpy", "pillow", "codec")),
    "the inference front": (("edge_agent.inference.oip",), ("numpy", "codec", "oip")),
    "processing": (("processing",), ("numpy",)),
    "ingest": (("sync.ingest",), ("pydantic", "cryptography", "mqtt", "codec", "lake", "numpy", "urllib3")),
    "the signer": (("control_plane.signer",), ("pydantic", "cryptography", "tuf")),
    "the ceremony": (("control_plane.ceremony",), ("pydantic", "cryptography", "tuf")),
    "the builder": (("control_plane.build",), ("pydantic", "cryptography", "tuf", "numpy", "onnxruntime", "onnx", "pillow")),
    "the operator's CLI": (("control_plane.cli",), ("typer", "pydantic", "cryptography", "urllib3")),
    "the domain": (("control_plane.domain",), ("pydantic",)),
}
_LIBRARIES["oip"] = {"grpc", "google", "httptools", "uvloop", "typing_extensions", "orjson"}
_LIBRARIES["toml"] = {"tomli", "tomli_w"}
_LIBRARIES["urllib3"] = {"urllib3"}

BARRED_IMPORT = """
import importlib, sys

class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            raise ImportError(f"{name} is out of reach of this program")

BARRED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Barred())
for module in sys.argv[2].split(","):
    importlib.import_module(module)
"""


def modules(roots: tuple[str, ...]) -> list[str]:
    """All modules below the roots, but for `__main__`, which starts the program."""
    names = []
    for root in roots:
        base = root.replace(".", "/")
        paths = python_files(f"{base}.py") if (REPO / f"{base}.py").is_file() else python_files(base)
        names += [_name(path) for path in paths if path.name != "__main__.py"]
    return names


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def barred_for(libraries: tuple[str, ...]) -> set[str]:
    allowed = set().union(*(_LIBRARIES[name] for name in libraries))
    ours_too = {name for name, owners in importlib.metadata.packages_distributions().items() if "skerry" not in owners}
    return {name for name in ours_too if name.isidentifier()} - allowed - {"pip", "setuptools", "pkg_resources", "_distutils_hack"}


@pytest.mark.parametrize("who", sorted(PROGRAMS))
def test_a_program_starts_with_its_own_libraries_alone(who: str) -> None:
    roots, libraries = PROGRAMS[who]
    command = [sys.executable, "-c", BARRED_IMPORT, ",".join(sorted(barred_for(libraries))), ",".join(modules(roots))]
    done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", ["numpy", "fastapi", "mlflow", "sqlalchemy", "deltalake", "pyarrow", "onnxruntime"])
def test_the_check_above_really_bars(library: str) -> None:
    assert library in barred_for(PROGRAMS["the agent"][1])
    done = subprocess.run(
        [sys.executable, "-c", BARRED_IMPORT, library, library], cwd=REPO, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "out of reach" in done.stderr


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout
