"""Who calls? FastAPI dependencies, one per kind of caller; each answers 401 or 403 as a problem.

    actor: Annotated[str, Depends(operator)]          operators' listener, bearer token -> "operator:local"
    device: Annotated[str, Depends(device)]           devices' listener, active device by its certificate -> device id
    peer: Annotated[str, Depends(service("build"))]   devices' listener, service certificate of that role -> "service:svc-build-1"

A device's id comes from its certificate and from nowhere else; that it is active is looked up for every request, since a
connection lives for days.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, MutableMapping
from typing import Any

from fastapi import Request

from contracts.errors import error
from control_plane.adapters.peer_certificate import SCOPE_KEY, Peer
from control_plane.services.plane import Plane

OPERATOR = "operator:local"  # one operator token until there are accounts


def plane(request: Request) -> Plane:
    """The process's parts: `Annotated[Plane, Depends(plane)]`."""
    found: Plane = request.app.state.plane
    return found


def operator(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), plane(request).operator_token.encode()):
        raise error("API_UNAUTHENTICATED", "operator")
    return OPERATOR


def peer(request: Request) -> Peer:
    return peer_of(request.scope)


def peer_of(scope: MutableMapping[str, Any]) -> Peer:
    """Raises API_UNAUTHENTICATED."""
    found: Peer | None = scope["state"].get(SCOPE_KEY)
    if found is None:
        raise error("API_UNAUTHENTICATED", "certificate", "not of a device or service of this site")
    return found


def device(request: Request) -> str:
    found, parts = peer(request), plane(request)
    parts.registry.require_active(found)
    parts.last_seen.note(found.id)
    return found.id


def service(*roles: str) -> Callable[[Request], str]:
    def _service(request: Request) -> str:
        found = peer(request)
        if found.kind != "service" or found.role not in roles:
            raise error("API_FORBIDDEN", found.id, f"only services of role {', '.join(roles)}")
        if found.not_after <= plane(request).clock.utc():
            raise error("API_UNAUTHENTICATED", found.id, "the certificate has expired")
        return f"service:{found.id}"

    return _service
