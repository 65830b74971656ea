"""The rim of the agent: HTTP, TUF, disk, keys, sockets. Foreign exceptions become codes of contracts/errors.py here."""
