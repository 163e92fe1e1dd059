"""The exceptions a user may meet.

Each message is one sentence that names the file or field, says what is wrong with it and
what to do about it. The command line prints it without a traceback.
"""

__all__ = [
    "ContradictedError",
    "InputError",
    "Note",
    "NothingFoundError",
    "ProgramError",
    "UnreadableError",
]


class InputError(ValueError):
    """Something the user gave cannot be used."""

    exit_code = 2


class UnreadableError(InputError):
    """Not one frame of a run can be read: nothing was measured, and no rate is known."""

    exit_code = 3


class NothingFoundError(InputError):
    """A session has measured what it should, and nothing of it is worth recommending."""

    exit_code = 4


class ContradictedError(InputError):
    """A session has a recommendation, but its frames contradict the cell that was given."""

    exit_code = 5


class ProgramError(RuntimeError):
    """An outside program, such as ``indexamajig``, is missing or failed."""

    exit_code = 2


class Note(UserWarning):
    """Something that a user should know, and that stops nothing; the command line prints it."""
