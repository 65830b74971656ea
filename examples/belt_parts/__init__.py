"""A detector with boxes, its data and its registration: parts on a conveyor belt. Start with README.md."""
