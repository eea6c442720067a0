"""Warnings about what goes away, and names of the public API that are on their way out.

The policy is on the page docs/plugins/compatibility.md: what is deprecated works and warns in at least one
minor release before the one without it.
"""

import warnings
from importlib import import_module
from typing import Any


class MscoreDeprecationWarning(FutureWarning):
    """Something public goes away; the message says what takes its place.

    A ``FutureWarning``, as Python shows those to everybody, and ``DeprecationWarning`` to hardly anyone.
    """


class MscoreRemovedIn1Warning(MscoreDeprecationWarning):
    """It works until mscore 1.0."""


def renamed(name: str, replacement: str) -> Any:
    """The object that a deprecated name of a package means, with a warning at the line that uses the name.

    For a module's ``__getattr__``.

    Args:
        name: what was asked for, ``"mscore.OldName"``.
        replacement: the public name that takes its place, ``"mscore.NewName"``.
    """
    warnings.warn(f"{name} is deprecated; use {replacement}", MscoreRemovedIn1Warning, stacklevel=3)
    module, _, attribute = replacement.rpartition(".")
    return getattr(import_module(module), attribute)
