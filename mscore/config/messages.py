"""How a mistake in a config is worded, and where the value was written.

Every line reads ``place: dotted.path: what is wrong``. The place is ``config.yaml:12``, or
``override a.b=1`` for what came from the command line.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_LAST_STEP = re.compile(r"(\.[^.\[\]]+|\[\d+\])$")
_LONGEST_VALUE = 60


def child(path: str, key: object) -> str:
    """Dotted path of an item: ``a.b`` for a key, ``a[0]`` for an index."""
    if isinstance(key, int) and not isinstance(key, bool) and path:
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else str(key)


def parent(path: str) -> str:
    """Dotted path of what holds the item; ``""`` for a section."""
    shorter = _LAST_STEP.sub("", path)
    return "" if shorter == path else shorter


def found(value: Any) -> str:
    """A value and its type, as a reader of YAML would call it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()} (boolean)"
    if isinstance(value, str):
        return f"{_short(repr(value))} (text)"
    if isinstance(value, int):
        return f"{value} (integer)"
    if isinstance(value, float):
        return f"{value} (number)"
    if isinstance(value, Mapping):
        return f"a mapping ({_short(', '.join(map(str, value)) or 'empty')})"
    if isinstance(value, list | tuple):
        return f"a list ({_short(', '.join(map(str, value)) or 'empty')})"
    return a(type(value).__name__)


def a(noun: str) -> str:
    """A noun with its article."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


@dataclass(frozen=True)
class Origins:
    """Where the values of a config were written.

    Args:
        places: dotted path to place; paths that are absent lie where their nearest ancestor does.
        source: what to name when no place is known.
        stage: the stage that this config is, or None for the common part.
    """

    places: Mapping[str, str] = field(default_factory=dict, repr=False)
    source: str = "config"
    stage: int | None = None

    def locate(self, path: str) -> tuple[str, str]:
        """Place of a value, and its path as the reader wrote it (below ``stages[i]`` if it lies there)."""
        common_depth, common_place = self._nearest(path)
        if self.stage is None:
            return common_place, path
        prefix = f"stages[{self.stage}]"
        stage_depth, stage_place = self._nearest(f"{prefix}.{path}", top=prefix)
        # What a stage did not write comes from the common part, and is reported there.
        if common_depth and common_depth > stage_depth - len(prefix) - 1:
            return common_place, path
        return stage_place, f"{prefix}.{path}"

    def names(self, path: str) -> bool:
        """Whether the config writes this very path."""
        return path in self.places or (self.stage is not None and f"stages[{self.stage}].{path}" in self.places)

    def line(self, path: str, text: str, *, written_at: str | None = None) -> str:
        """One line for one mistake.

        Args:
            path: the dotted path that is wrong.
            text: what is wrong with it.
            written_at: the path whose place is named, where it is another (a missing key has none).
        """
        place, _ = self.locate(path if written_at is None else written_at)
        _, shown = self.locate(path)
        return f"{place}: {shown}: {text}"

    def _nearest(self, path: str, top: str = "") -> tuple[int, str]:
        below = tuple(path + mark for mark in ".[") if path else ()
        # Nobody writes `objectives.kl` itself with the override objectives.kl.weight=1.
        inner = next((place for at, place in self.places.items() if at.startswith(below)), None)
        if path not in self.places and inner is not None:
            return len(path), inner
        while path and path != top:
            if path in self.places:
                return len(path), self.places[path]
            path = parent(path)
        return 0, self.places.get(top, self.source)
