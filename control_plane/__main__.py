"""`python -m control_plane` is skerry-control."""

from __future__ import annotations

from control_plane.app import main

main()
