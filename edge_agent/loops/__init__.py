"""`async def run(...)` per loop: each waits for its events, the stop or a deadline, and holds no rule of its own (those are in core)."""
