"""Errors written for the person who made the mistake.

Every error that a user can cause derives from :class:`MscoreError`. The command line prints its text
and nothing else; in Python it is an ordinary exception.
"""

from collections.abc import Iterable, Sequence


class MscoreError(Exception):
    """A mistake with a remedy: the message says what, where, what was expected and what to do."""


class PluginError(MscoreError):
    """A plugin or component that was asked for cannot be used."""


class ConfigError(MscoreError):
    """One or more mistakes in a config; ``problems`` holds one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x' or 'y'?`` (with a leading space) for the nearest known names, else ``""``."""
    import difflib  # only a mistake needs it

    matches = difflib.get_close_matches(str(name), sorted(set(known)), n=3, cutoff=0.6)
    if not matches:
        return ""
    return " Did you mean " + " or ".join(repr(match) for match in matches) + "?"


class Interrupted(MscoreError):
    """A run was asked to stop (SIGTERM, Ctrl-C); what it had learned is saved."""
