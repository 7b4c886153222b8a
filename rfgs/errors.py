"""The one exception that means "the user can mend this": its message is one line with the value and the remedy."""


class UserError(ValueError):
    """Bad input or a missing resource. The command line prints the message and exits with code 2."""
