"""The pipeline process (sources, pre- and post-processing, inference through the arena, rows and windows), and the agent's link to it.

In the process: numpy, Pillow, msgpack; no pydantic. In link.py and what it imports: no numpy.
"""
