"""Which routers each listener has. A new router is added here and nowhere else.

Every router of OPERATORS is mounted behind the operator's token, every router of INTERNAL names its service role itself.
"""

from __future__ import annotations

from fastapi import APIRouter

OPERATORS: tuple[APIRouter, ...] = ()
INTERNAL: tuple[APIRouter, ...] = ()  # devices' listener, /internal/v1, services only
DEVICES: tuple[APIRouter, ...] = ()  # devices' listener, /device/v1
ENROLMENT: tuple[APIRouter, ...] = ()
