"""Write the next revision: the difference between the tables in code and the history so far."""

from __future__ import annotations

import argparse

from alembic import command
from sqlalchemy import create_engine

from control_plane.store.migrate import configuration

parser = argparse.ArgumentParser(prog="python -m control_plane.store.migrations", description="Write the next schema revision.")
parser.add_argument("number", help="revision, four digits")
parser.add_argument("name", help="what changes, in words with underscores")
options = parser.parse_args()
with create_engine("sqlite://").connect() as connection:
    command.upgrade(configuration(connection), "head")
    command.revision(configuration(connection), options.name, autogenerate=True, rev_id=options.number)
