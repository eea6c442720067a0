"""The line between the process that called ``fit`` and those that train: a module that is imported fast."""

import io
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class News:
    """What the training processes told since they were asked last."""

    said: list[tuple[str, bool]]
    """What they printed, and whether as an error."""
    started: set[int]
    """The ranks that run."""


class Line:
    """The line between the process that called ``fit`` and those that train: an actor that all of them can reach."""

    def __init__(self) -> None:
        self._said: list[tuple[str, bool]] = []
        self._started: set[int] = set()
        self._stop = False

    def start(self, rank: int) -> None:
        """A training process runs."""
        self._started.add(rank)

    def say(self, text: str, is_error: bool) -> None:
        """A training process has printed something."""
        self._said.append((text, is_error))

    def is_stopping(self) -> bool:
        """Whether training is to stop."""
        return self._stop

    def news(self, stop: bool) -> News:
        """What there is to tell; ``stop`` asks training to stop."""
        self._stop |= stop
        said, self._said = self._said, []
        return News(said, self._started)


class Voice(io.TextIOBase):
    """An output stream whose lines are printed by the process that called ``fit``."""

    def __init__(self, line: Any, is_error: bool) -> None:
        self._line = line
        self._is_error = is_error
        self._begun = ""

    def write(self, text: str) -> int:
        """Say what is complete."""
        complete, end, self._begun = (self._begun + text).rpartition("\n")
        if end:
            self._line.say.remote(complete + end, self._is_error)
        return len(text)
