"""Exit codes, and the one exception by which a command ends with a sentence."""

from __future__ import annotations

OK = 0
PROBLEMS = 1  # check, fmt --check, test: problems were found
USAGE = 2  # the command was written wrongly
CHANGES = 3  # plan --detailed-exitcode: changes are pending
REFUSED = 4  # not confirmed, stale, over a limit
ENVIRONMENT = 5  # a file, the database, the configuration, a plugin
PARTIAL = 6  # some of it failed, the rest is done
INTERNAL = 70  # our fault
INTERRUPTED = 130  # Ctrl-C


class Trouble(Exception):
    """Ends a command: one sentence on what is wrong and where, one on the way out, and the exit code."""

    def __init__(self, message: str, help: str = "", code: int = ENVIRONMENT) -> None:
        super().__init__(message)
        self.message, self.help, self.code = message, help, code


def usage(message: str, help: str = "") -> Trouble:
    """The command was written wrongly."""
    return Trouble(message, help, USAGE)


def refused(message: str, help: str = "") -> Trouble:
    """Camp could do it, but won't, or wasn't told yes."""
    return Trouble(message, help, REFUSED)
