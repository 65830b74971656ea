"""What each of Skerry's programs does in the same way: configuration, JSON log, readiness, stopping, durable files, clock.

Standard library and pydantic only; imports nothing of ours but `contracts`. Why it exists: docs/adr/0006.
"""
