"""The three ASGI applications of one control plane, one per listener; they share the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Depends, FastAPI
from starlette.types import ASGIApp

from control_plane.api import problems, routers
from control_plane.api.auth import operator
from control_plane.api.limits import BodyLimit
from control_plane.api.poll import DevicePoll
from control_plane.services.plane import Plane


def operators(plane: Plane) -> ASGIApp:
    """`/v1` behind the bearer token; `/docs` and `/openapi.json` are readable without it."""
    app = FastAPI(title="Skerry", version=_version(), summary="Operators' API")
    return BodyLimit(_filled(app, plane, routers.OPERATORS, authenticated=True))


def devices(plane: Plane) -> ASGIApp:
    """`/device/v1` for devices and `/internal/v1` for services, by certificate."""
    app = FastAPI(title="Skerry devices", version=_version(), docs_url=None, redoc_url=None, openapi_url=None)
    return DevicePoll(BodyLimit(_filled(app, plane, (*routers.DEVICES, *routers.INTERNAL))), plane)  # a poll has no body


def enrolment(plane: Plane) -> ASGIApp:
    app = FastAPI(title="Skerry enrolment", version=_version(), docs_url=None, redoc_url=None, openapi_url=None)
    return BodyLimit(_filled(app, plane, routers.ENROLMENT))


def _filled(app: FastAPI, plane: Plane, some: Sequence[APIRouter], authenticated: bool = False) -> FastAPI:
    app.state.plane = plane
    problems.install(app)
    for router in some:
        app.include_router(router, dependencies=[Depends(operator)] if authenticated else [])
    return app


def _version() -> str:
    try:
        return version("skerry")
    except PackageNotFoundError:  # a checkout that was not installed
        return "0"
