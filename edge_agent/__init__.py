"""The daemon on the device: identity, updates, uplink, supervision of worker and pipeline. Its core process imports no numpy."""

AGENT_VERSION = "0.1.0"
