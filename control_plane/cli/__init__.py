"""`skerry`: the operator's command line. Contracts and HTTP, nothing else of Skerry; see main.py."""
