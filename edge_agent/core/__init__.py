"""Decisions of the agent on values: the update table, admission, health, floors, back-off. Pure: no I/O, clock, randomness or logger."""
