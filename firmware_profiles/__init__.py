"""Firmware profiles: board x runtime x instruction set, one TOML each; which one this machine is; whether a bundle may run here.

No numpy: the agent's core process imports this. Every reader takes the root of a file tree, so that recorded boards are test cases.
"""
