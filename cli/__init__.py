"""The command line: one file per command, each a tyro dataclass that checks its input and calls the library."""
