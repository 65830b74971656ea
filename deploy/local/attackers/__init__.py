"""Those against whom the promises hold, each a program of its own with the rights of whom it has taken over and with nobody else's keys.

They import nothing of the programs that they attack: what they know is the wire.
"""
