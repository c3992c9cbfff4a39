"""The model hub: what goes wrong on the way to it."""

from __future__ import annotations


def hub_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Errors of a hub that refuses, does not have what was asked for, or cannot be reached; and others.

    Where there is no answer, huggingface_hub lets the errors of its HTTP library through. Which library that is depends on its version; but
    its own error derives from the base class of all of them.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    bases = (base for base in HfHubHTTPError.__mro__ if base.__module__ != "builtins")
    return (*bases, HFValidationError, OSError, *others)


def unreached(error: Exception) -> bool:
    """Whether there was no answer at all; a file that cannot be read or a token that is not there is another matter."""
    from huggingface_hub.errors import HfHubHTTPError

    bases = tuple(base for base in HfHubHTTPError.__mro__[1:] if base.__module__ != "builtins")
    return isinstance(error, (*bases, ConnectionError)) and not isinstance(error, HfHubHTTPError)
