"""`skerry-build`: from a registered fp32 model to a linted, evaluated, signed bundle per profile.

A user and a key of its own: what it signs (provenance) is what the signer believes, and the control plane cannot make it up.
It imports nothing of the device; models are run by the device's worker as a process. Why and how: docs/explanation/build.md.
"""
