"""The demo's model, its data and its registration: a pattern for a user's own. Start with README.md."""
