"""The exceptions a user may meet.

Each message is one sentence that names the file or field, says what is wrong with it and
what to do about it. The command line prints it without a traceback.
"""

__all__ = ["InputError", "ProgramError"]


class InputError(ValueError):
    """Something the user gave cannot be used (exit code 2)."""


class ProgramError(RuntimeError):
    """An outside program, such as ``indexamajig``, is missing or failed (exit code 2)."""
