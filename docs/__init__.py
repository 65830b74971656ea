"""Pages for people. generate.py makes those that come from the code."""
