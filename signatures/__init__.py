"""Signatures that more than one program makes or checks: bytes in, verdict out; over `cryptography` and securesystemslib.

Pure: no I/O, no clock. TUF's own signatures stay inside python-tuf. Why a package of its own: docs/adr/0007.
"""
