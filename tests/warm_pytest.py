"""pytest that is warm: what tests import of others is imported once, and each run is a fork of the process that did it.

    python tests/warm_pytest.py        one request a line: ["where its output goes", [arguments]]; one answer a line: pytest's exit code

Runs in the tree that it is started in, and has nothing of ours before it forks: each run imports the tree as it is then.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

# What takes long to import and survives a fork (ONNX Runtime and Arrow start threads).
OTHERS = (
    "pytest", "unittest.mock", "asyncio", "http.server", "hypothesis.stateful", "hypothesis.strategies", "numpy", "pydantic",
    "cryptography.x509", "cryptography.hazmat.primitives.serialization", "cryptography.hazmat.primitives.asymmetric.ed25519",
    "tuf.ngclient", "tuf.api.metadata", "urllib3", "paho.mqtt.client", "nanoarrow", "zstandard", "msgpack",
    "sqlalchemy.orm", "alembic.command", "fastapi", "uvicorn", "httptools", "typer", "rich.table", "onnx", "PIL.Image",
)  # fmt: skip
PLUGINS = ("--disable-plugin-autoload", "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin")  # autoload minds what is imported already


def run(output: str, arguments: list[str]) -> int:
    """pytest's exit code, of a run in a process of its own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY)):
        os.dup2(os.open(path, how), number)
    os.dup2(1, 2)
    import pytest

    sys.exit(pytest.main([*PLUGINS, *arguments]))


def main() -> None:
    sys.path[0] = os.getcwd()  # and not the folder of this file
    for name in OTHERS:
        importlib.import_module(name)
    for request in sys.stdin:
        print(run(*json.loads(request)), flush=True)


if __name__ == "__main__":
    main()
