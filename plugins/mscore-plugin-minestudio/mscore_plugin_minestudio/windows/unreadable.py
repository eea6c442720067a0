"""What could not be read while training: counted, and said."""

import warnings
from collections.abc import Iterable

from mscore_plugin_minestudio.windows.batches import Unreadable

_NAMED = 10
"""Episodes that the report names."""


class UnreadableWindows:
    """The windows that were left out because they cannot be read."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._windows: set[tuple[str, int]] = set()

    def add(self, windows: Iterable[Unreadable]) -> None:
        """Count windows, each once; the first one is said at once."""
        for window in windows:
            if not self._windows:
                warnings.warn(
                    f"left out (on_error: skip), as others that cannot be read will be: {window.reason}", stacklevel=2
                )
            self._windows.add((window.episode, window.start))
            self._reasons.setdefault(window.episode, window.reason)

    def report(self) -> None:
        """Say how many there were, in which episodes and why, and begin anew."""
        if self._windows:
            lines = [f"  {reason}" for reason in list(self._reasons.values())[:_NAMED]]
            if len(self._reasons) > _NAMED:
                lines.append(f"  and {len(self._reasons) - _NAMED} episodes more")
            counts = f"{_count(len(self._windows), 'window')} of {_count(len(self._reasons), 'episode')}"
            warnings.warn("\n".join([f"left out, as they cannot be read: {counts}", *lines]), stacklevel=2)
        self._windows.clear()
        self._reasons.clear()


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"
