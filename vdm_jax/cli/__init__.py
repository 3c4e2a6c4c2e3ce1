"""Commands, which parse flags, call the library and print."""
