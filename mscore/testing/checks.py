"""What a check is, and what became of one: the kit's vocabulary. Nothing heavy is imported.

A check is a function of a subject (a plugin or a component) that returns if all is well (None, or a few
words to show) and raises :class:`CheckFailed` or :class:`CheckSkipped` otherwise. The same checks run as
pytest items and from ``mscore plugins check``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar

from mscore.errors import MscoreError

Status = Literal["pass", "fail", "warning", "skipped"]

PLUGIN = "plugin"
"""Kind of the checks of a plugin as a whole."""

ANY = "any"
"""Kind of the checks that every component has."""

_MODULES = {
    PLUGIN: "plugin_checks",
    ANY: "component_checks",
    "objective": "objective_checks",
    "policy": "policy_checks policy_use_checks",
    "callback": "callback_checks",
    "datamodule": "datamodule_checks",
    "environment": "environment_checks",
    "trainer": "trainer_checks",
    "optimizer": "optimization_checks",
    "scheduler": "optimization_checks",
    "logger": "logger_checks",
    "command": "command_checks",
}
"""Kind to the modules of its checks, imported when they are needed."""


class CheckFailed(AssertionError):
    """The subject does not keep a promise; the message says which, and what was found."""


class CheckSkipped(Exception):
    """The check does not apply, or something that it needs is not there; the message says what."""


class Unusable(CheckFailed):
    """What several checks need does not work. The check that it belongs to fails, the others are skipped.

    Args:
        check: name of the check that fails.
        message: what is wrong.
    """

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


@dataclass(frozen=True)
class Check:
    """One promise, and the function that holds a subject against it."""

    kind: str
    name: str
    promise: str
    """What a right subject does, in one sentence."""
    remedy: str
    """What to do if it does not."""
    advice: bool
    """True if breaking it is a warning rather than a failure."""
    function: Callable[[Any], str | None]


@dataclass(frozen=True)
class Outcome:
    """What became of a check."""

    id: str
    status: Status
    reason: str = ""
    """Why it failed or was skipped; for a pass a few words, or ``""``."""
    remedy: str = ""
    seconds: float = 0.0
    error: BaseException | None = None
    """What was raised, for its traceback."""


_CHECKS: dict[str, list[Check]] = {}

F = TypeVar("F", bound=Callable[[Any], str | None])


def check(kind: str, name: str, *, remedy: str, advice: bool = False) -> Callable[[F], F]:
    """Make a function a check; the first sentence of its docstring is the promise.

    Args:
        kind: of the components that it is for, or :data:`PLUGIN` or :data:`ANY`.
        name: unique among the checks of that kind, in kebab case.
        remedy: what the author should do about a failure.
        advice: a failure is only a warning.
    """

    def decorate(function: F) -> F:
        promise = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
        # A module that is imported again, as pytest's own test kit does, replaces its checks.
        others = [one for one in _CHECKS.get(kind, []) if one.name != name]
        _CHECKS[kind] = [*others, Check(kind, name, promise, remedy, advice, function)]
        return function

    return decorate


def checks_of(kind: str) -> list[Check]:
    """The checks of a kind, in the order in which they run."""
    for module in _MODULES.get(kind, "").split():
        import_module(f"mscore.testing.{module}")
    return _CHECKS.get(kind, [])


def all_kinds() -> list[str]:
    """Every kind that has checks."""
    return list(_MODULES)


def perform(identity: str, one: Check, subject: Any) -> Outcome:
    """Run a check and say what became of it; nothing that a plugin raises comes out of here."""
    start = time.perf_counter()
    status: Status = "pass"
    reason = ""
    error: BaseException | None = None
    try:
        reason = one.function(subject) or ""
    except CheckSkipped as skipped:
        status, reason = "skipped", str(skipped)
    except Unusable as unusable:
        if unusable.check == one.name:
            status, reason, error = "fail", str(unusable), unusable
        else:
            status, reason = "skipped", f"see `{unusable.check}`, which fails"
    except CheckFailed as failed:
        status, reason, error = "fail", str(failed), failed
    except MscoreError as raised:
        # Its text says what to install, where an import is behind it.
        lacking = isinstance(raised.__cause__, ImportError)
        status, reason = ("skipped", str(raised)) if lacking else ("fail", _raised(raised))
        error = None if lacking else raised
    except (Exception, SystemExit) as raised:  # whatever the plugin's code does is the result
        status, reason, error = "fail", _raised(raised), raised
    if status == "fail" and one.advice:
        status = "warning"
    remedy = one.remedy if status in ("fail", "warning") else ""
    return Outcome(identity, status, reason, remedy, time.perf_counter() - start, error)


def _raised(error: BaseException) -> str:
    return f"it raised {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def require(condition: Any, message: str) -> None:
    """Fail the check with a message unless the condition holds."""
    if not condition:
        raise CheckFailed(message)
