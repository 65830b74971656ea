"""Alembic's entry: the connection comes from the caller; there is no configuration file."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from control_plane.store.base import Utc
from control_plane.store.metadata import METADATA


def _rendered(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A revision stays as it was written, so it names no type of ours."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Utc) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by copying it
    render_item=_rendered,
)
with context.begin_transaction():
    context.run_migrations()
