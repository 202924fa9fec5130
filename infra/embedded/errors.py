"""The one error of this package."""


class EmbeddedError(RuntimeError):
    """An embedded server can't be had here; the message is one line that says why, fit for a command line."""
