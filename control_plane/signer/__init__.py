"""`skerry-signer`: the one process that can put a bundle into the image repository, with a user and a key folder of its own.

It believes pinned keys and its own hashes, never a field of its caller. Rules in the order of their checks: decision.py.
"""
