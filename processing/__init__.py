"""Pure functions that device, evaluation and training share: numpy only, clean for Python 3.8, no I/O, no clock."""
