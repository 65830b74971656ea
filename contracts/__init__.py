"""What crosses a process border, in JSON or on the wire. Models and constants only: no I/O, no clock, no randomness.

Unknown fields are tolerated (an older device meets a newer control plane and the other way round);
unknown *kinds* are refused with a code.
"""
