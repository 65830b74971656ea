"""Agent <-> Open Inference Protocol front: a Unix stream of `u32 length (little-endian) + msgpack map`. One message, one `kind`.

front -> agent:  hello, alive, window, repository        agent -> front:  answer
The front imports no pydantic, so these are plain dictionaries and this page is their description.

hello       {kind, rest_port, grpc_port}         it serves; 0 where no TCP port is served
alive       {kind}                               every ALIVE_S; without it for SILENT_S the front hangs, and is killed
window      every ALIVE_S if there was anything: as in contracts/pipeline.py, without its last line, accepted_rows and cpu_us 0. Frames are
            the requests that the live model was asked over this front
repository  {kind, request_no, op: index}, {.., op: load | unload, name, version}      "" is no version: the newest, all
answer      {kind, request_no} and for index {models: [{name, version, state, reason}]}, or {kind, request_no, code, thing, detail}
"""

from __future__ import annotations

ALIVE_S = 2.0
SILENT_S = 12.0
