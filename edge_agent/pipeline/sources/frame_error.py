from __future__ import annotations


class FrameError(Exception):
    """This frame cannot be had, and why; the next one may."""
