"""The worker process: one model version behind one arena. Standard library, numpy and a backend; clean for Python 3.8.

It reads its slot and its descriptors, and nothing else of the device. It imports none of contracts, program or pydantic: a board's
own interpreter has none of their dependencies.
"""
