"""One module per noun. They import Typer and options.py only; the rest when a command runs."""
