"""The daemon on the device: identity, updates, uplink, supervision of worker and pipeline. Its core process imports no numpy."""

import os

AGENT_VERSION = "0.1.0"

# Before the first model is built: looking for plugins reads the metadata of every installed package, a third of the way back to frames.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
