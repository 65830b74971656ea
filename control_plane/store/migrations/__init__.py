"""The one history of the control plane's schema. `python -m control_plane.store.migrations NAME` writes the next revision."""
