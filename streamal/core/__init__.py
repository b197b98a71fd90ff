"""Pure: no clock, no randomness, no environment, no I/O, no logging. Everything that decides is here."""
