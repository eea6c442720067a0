"""JSON that any program reads: Python's own writes infinities as bare words, which are none."""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: Any) -> str:
    """A value as JSON; ``inf``, ``-inf`` and ``nan`` become text, which NumPy and ``float`` read back."""
    return json.dumps(_strict(value), indent=2, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
