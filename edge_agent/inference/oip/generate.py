"""Makes open_inference_pb2.py and .pyi from open_inference.proto: `.venv/bin/python -m edge_agent.inference.oip.generate`.

The messages get a descriptor pool of their own: a process may then also hold a client library that registers the same names.
"""

from __future__ import annotations

import importlib
from pathlib import Path

HERE = Path(__file__).parent
PROTO, MODULE = "open_inference.proto", "open_inference_pb2.py"
_DEFAULT_POOL, _OWN_POOL = "_descriptor_pool.Default().", "_descriptor_pool.DescriptorPool()."


def generate(folder: Path) -> None:
    """Write both files into `folder`."""
    protoc = importlib.import_module("grpc_tools.protoc")  # of the development environment only
    if protoc.main(["protoc", f"-I{HERE}", f"--python_out={folder}", f"--pyi_out={folder}", PROTO]) != 0:
        raise SystemExit(f"{PROTO} cannot be compiled")
    module = folder / MODULE
    module.write_text(module.read_text().replace(_DEFAULT_POOL, _OWN_POOL))


if __name__ == "__main__":
    generate(HERE)
