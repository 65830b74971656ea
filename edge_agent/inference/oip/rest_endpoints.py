"""REST endpoints but for inference: what is answered, and under which path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson

from contracts.errors import error
from edge_agent.inference.oip.exchange import TEXT, Reply
from edge_agent.inference.oip.front import Front
from edge_agent.inference.oip.regions import check_no_device_region
from edge_agent.inference.oip.request import count_of


class Call(NamedTuple):
    """`parts` are what the path names: model and version, or region. `local`: the caller came over the Unix socket."""

    front: Front
    parts: tuple[str, ...]
    message: dict[str, Any]
    local: bool


def reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, (orjson.dumps(value),))


async def _live(call: Call) -> Reply:
    return reply({"live": True})


async def _ready(call: Call) -> Reply:
    """By its status, as Triton's clients look, and by its text, as KServe's do."""
    ready = await call.front.ready()
    return reply({"ready": ready}, 200 if ready else 400)


async def _model_ready(call: Call) -> Reply:
    ready = await call.front.model_ready(*_model(call))
    return reply({"name": call.parts[0], "ready": ready}, 200 if ready else 400)


async def _metadata(call: Call) -> Reply:
    return reply(call.front.metadata())


async def _model_metadata(call: Call) -> Reply:
    return reply(await call.front.model_metadata(*_model(call)))


async def _config(call: Call) -> Reply:
    return reply(await call.front.config(*_model(call)))


async def _statistics(call: Call) -> Reply:
    return reply({"model_stats": await call.front.statistics(*_model(call))})


async def _all_statistics(call: Call) -> Reply:
    return reply({"model_stats": await call.front.statistics()})


async def _index(call: Call) -> Reply:
    return reply(await call.front.index(call.message.get("ready") is True))


async def _load(call: Call) -> Reply:
    await call.front.load(call.parts[0], _parameters(call))
    return Reply(200)


async def _unload(call: Call) -> Reply:
    await call.front.unload(call.parts[0], _parameters(call))
    return Reply(200)


async def _regions(call: Call) -> Reply:
    return reply(call.front.shared_memory(call.local).status(*call.parts))


async def _register(call: Call) -> Reply:
    regions = call.front.shared_memory(call.local)
    key = call.message.get("key")
    if not isinstance(key, str):
        raise error("OIP_REQUEST", "key", "it is text")
    regions.register(call.parts[0], key, count_of(call.message, "offset"), count_of(call.message, "byte_size"))
    return Reply(200)


async def _unregister(call: Call) -> Reply:
    call.front.shared_memory(call.local).unregister(*call.parts)
    return Reply(200)


async def _device_regions(call: Call) -> Reply:
    check_no_device_region(*call.parts)
    return reply([])


async def _no_device_region(call: Call) -> Reply:
    check_no_device_region(*call.parts)
    return Reply(200)


async def _metrics(call: Call) -> Reply:
    return Reply(200, ((await call.front.metrics()).encode(),), TEXT)


def _model(call: Call) -> tuple[str, str]:
    return call.parts[0], call.parts[1] if len(call.parts) > 1 else ""


def _parameters(call: Call) -> Mapping[str, Any]:
    parameters = call.message.get("parameters", {})
    if not isinstance(parameters, dict):
        raise error("OIP_REQUEST", "parameters", "they are an object")
    return parameters


# -- where it lies

Endpoint = Callable[[Call], Awaitable[Reply]]
_SHM, _CUDA = ("v2", "systemsharedmemory"), ("v2", "cudasharedmemory")
# "*" is a name in the path
ROUTES: Mapping[tuple[str, ...], Mapping[str, Endpoint]] = {
    ("v2",): {"GET": _metadata},
    ("v2", "health", "live"): {"GET": _live},
    ("v2", "health", "ready"): {"GET": _ready},
    ("v2", "models", "stats"): {"GET": _all_statistics},
    ("v2", "models", "*"): {"GET": _model_metadata},
    ("v2", "models", "*", "ready"): {"GET": _model_ready},
    ("v2", "models", "*", "config"): {"GET": _config},
    ("v2", "models", "*", "stats"): {"GET": _statistics},
    ("v2", "models", "*", "versions", "*"): {"GET": _model_metadata},
    ("v2", "models", "*", "versions", "*", "ready"): {"GET": _model_ready},
    ("v2", "models", "*", "versions", "*", "config"): {"GET": _config},
    ("v2", "models", "*", "versions", "*", "stats"): {"GET": _statistics},
    ("v2", "repository", "index"): {"POST": _index},
    ("v2", "repository", "models", "*", "load"): {"POST": _load},
    ("v2", "repository", "models", "*", "unload"): {"POST": _unload},
    (*_SHM, "status"): {"GET": _regions},
    (*_SHM, "unregister"): {"POST": _unregister},
    (*_SHM, "region", "*", "status"): {"GET": _regions},
    (*_SHM, "region", "*", "register"): {"POST": _register},
    (*_SHM, "region", "*", "unregister"): {"POST": _unregister},
    (*_CUDA, "status"): {"GET": _device_regions},
    (*_CUDA, "unregister"): {"POST": _no_device_region},
    (*_CUDA, "region", "*", "status"): {"GET": _device_regions},
    (*_CUDA, "region", "*", "register"): {"POST": _no_device_region},
    (*_CUDA, "region", "*", "unregister"): {"POST": _no_device_region},
    ("metrics",): {"GET": _metrics},
}


def parts_of(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def inference(parts: tuple[str, ...]) -> tuple[str, str] | None:
    """(model, version) of the one path that must be quick."""
    if parts[:2] != ("v2", "models") or parts[-1] != "infer":
        return None
    if len(parts) == 4:
        return parts[2], ""
    return (parts[2], parts[4]) if len(parts) == 6 and parts[3] == "versions" else None


def route(parts: tuple[str, ...]) -> tuple[Mapping[str, Endpoint], tuple[str, ...]]:
    """The methods of an endpoint, and the names in its path; what is spelled out wins. Raises RejectedError OIP_ENDPOINT."""
    if parts in ROUTES and "*" not in parts:
        return ROUTES[parts], ()
    for pattern, methods in ROUTES.items():
        if len(pattern) == len(parts) and all(word == part or (word == "*" and part) for word, part in zip(pattern, parts)):
            return methods, tuple(part for word, part in zip(pattern, parts) if word == "*")
    raise error("OIP_ENDPOINT", "/" + "/".join(parts)[:80])
