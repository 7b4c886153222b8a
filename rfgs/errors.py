"""The one exception that means "the user can mend this": its message is one line with the value and the remedy."""


class UserError(ValueError):
    """Bad input or a missing resource. The command line prints the message and exits with code 2."""


class Unwritten(UserError):
    """A file that could not be written: a full or read-only disk, a folder that is missing or another's.

    Args:
        path: of the file, as it was asked for.
        reason: why, without the path.
        remedy: what to do.
    """

    def __init__(
        self, path: object, reason: str, remedy: str = "free some space there, or choose another folder"
    ) -> None:
        super().__init__(f"{path}: cannot be written ({reason}); {remedy}")
        self.path, self.reason = path, reason
