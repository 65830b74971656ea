"""`skerry-ceremony`: makes every key, certificate and first piece of metadata of a site, once, on an offline machine.

Root and targets keys stay in `offline/`, which no service can read. Who holds what: docs/explanation/trust.md.
"""
