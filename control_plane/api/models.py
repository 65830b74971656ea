"""`/v1/models`: registered models, their versions and aliases."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from contracts.errors import error
from contracts.ids import Name
from contracts.operator import AliasMove, ModelView
from contracts.release import ModelRegistration, ModelVersion
from control_plane.api.auth import operator, plane
from control_plane.services.models import Models
from control_plane.services.plane import Plane

router = APIRouter(prefix="/v1/models", tags=["models"])


def _models(found: Annotated[Plane, Depends(plane)]) -> Models:
    return found.models.models


Parts = Annotated[Models, Depends(_models)]
Actor = Annotated[str, Depends(operator)]


@router.post("/{name}/versions", status_code=201)
def register(models: Parts, actor: Actor, name: Name, registration: ModelRegistration) -> ModelVersion:
    """Register a version whose files were uploaded before. The same content again answers with the version it has."""
    return models.register(name, registration, actor)


@router.get("")
def all_models(models: Parts) -> list[ModelView]:
    return [_view(models, name) for name in models.registry.names()]


@router.get("/{name}")
def one_model(models: Parts, name: Name) -> ModelView:
    view = _view(models, name)
    if not view.versions:
        raise error("API_NOT_FOUND", name, "no such model")
    return view


def _view(models: Models, name: str) -> ModelView:
    return ModelView(name=name, aliases=models.registry.aliases(name), versions=tuple(models.registry.versions(name)))


@router.get("/{name}/versions/{version}")
def one_version(models: Parts, name: Name, version: int) -> ModelVersion:
    return models.registry.version(name, version)


@router.put("/{name}/aliases/{alias}")
def move_alias(models: Parts, actor: Actor, name: Name, alias: Annotated[Name, Path()], move: AliasMove) -> ModelVersion:
    """Point the alias at a version. Moving `candidate` opens a release and starts its build."""
    return models.move_alias(name, alias, move.version, actor)
