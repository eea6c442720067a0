"""What a plugin's module registers, and what may be wrong with it.

pluggy accepts silently what a plugin's author would want to know: a misspelt hook, a forgotten mark, an
argument with a default value. Here each is a :class:`Defect`, which becomes the plugin's reason in the list.
"""

import inspect
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType

from mscore import hookspecs
from mscore.errors import did_you_mean
from mscore.hookspecs import KIND_OF_HOOK, PROJECT

_COMPONENT_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9-]*( [a-z][a-z0-9-]*)*")
_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Defect(Exception):
    """What is wrong with a plugin, in words that need no exception's type before them."""


def check_implementations(module: ModuleType) -> None:
    """Check a plugin's hooks against the specifications.

    Raises:
        Defect: for the first thing that is wrong.
    """
    known = hookspecs.hook_names()
    found = False
    for name in dir(module):
        if name.startswith("__"):
            continue
        function = inspect.getattr_static(module, name)
        marked = getattr(function, f"{PROJECT}_impl", None) is not None
        if not marked:
            if name.startswith(f"{PROJECT}_") and callable(function):
                _refuse_unmarked(name, known)
            continue
        found = True
        if name not in known:
            raise Defect(f"unknown hook {name!r}.{did_you_mean(name, known)}")
        allowed = list(inspect.signature(getattr(hookspecs, name)).parameters)
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
        for parameter in parameters:
            if parameter.name not in allowed:
                expected = f"it may take: {', '.join(allowed)}" if allowed else "it takes none"
                raise Defect(f"hook {name} has no argument {parameter.name!r}; {expected}")
            if parameter.default is not parameter.empty:
                raise Defect(f"argument {parameter.name!r} of hook {name} has a default value; remove it")
    if not found:
        raise Defect(f"implements none of {PROJECT}'s hooks")


def _refuse_unmarked(name: str, known: list[str]) -> None:
    """A function that is named like a hook, exactly or nearly, was meant as one."""
    near = did_you_mean(name, known)
    if name in known:
        raise Defect(f"{name} is not decorated with @{PROJECT}.hookimpl")
    if near:
        raise Defect(f"{name} is not decorated with @{PROJECT}.hookimpl, and is no hook.{near}")


def registrations(module: ModuleType) -> dict[str, dict[str, str]]:
    """Call a plugin's registration hooks.

    Returns:
        Kind to mapping of component name to import string (to path, for recipes).

    Raises:
        Defect: a hook raises, or returns something else.
    """
    components: dict[str, dict[str, str]] = {}
    for hook, kind in KIND_OF_HOOK.items():
        function = getattr(module, hook, None)
        if function is None:
            continue
        try:
            result = function()
        except (Exception, SystemExit) as error:
            raise Defect(f"{hook} raised {reason(error)}") from error
        if kind == "recipe":
            if not isinstance(result, str):
                raise Defect(f"{hook} returned {type(result).__name__}, expected a package name (str)")
            components[kind] = _recipes(result)
            continue
        if not isinstance(result, Mapping):
            raise Defect(f"{hook} returned {type(result).__name__}, expected a mapping of name to import string")
        pattern = _COMMAND_NAME if kind == "command" else _COMPONENT_NAME
        for name, target in result.items():
            if not isinstance(name, str) or not pattern.fullmatch(name):
                raise Defect(f"{hook} registers {name!r}; names are lower-case words joined by hyphens")
            if not isinstance(target, str) or not _IMPORT_STRING.fullmatch(target):
                example = "package.module:Attribute"
                if inspect.isclass(target):
                    example = f"{target.__module__}:{target.__qualname__}"
                raise Defect(f"{hook} registers {name!r} as {target!r}, expected an import string {example!r}")
        components[kind] = dict(result)
    return components


def _recipes(package: str) -> dict[str, str]:
    """Recipe name to path, for a package folder of YAML files; the package itself is not imported.

    Recipes are files that users copy, so a plugin that has some cannot be a zip file, and
    importlib.resources, which slows every command, is not needed.
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError) as error:
        raise Defect(f"mscore_recipes names the package {package!r}: {reason(error)}") from error
    if spec is None or spec.submodule_search_locations is None:
        what = f"No module named {package!r}" if spec is None else "it is a module, not a folder"
        raise Defect(f"mscore_recipes names the package {package!r}: {what}")
    paths = [os.path.join(folder, name) for folder in spec.submodule_search_locations for name in os.listdir(folder)]
    return {os.path.basename(path).removesuffix(".yaml"): path for path in sorted(paths) if path.endswith(".yaml")}


def reason(error: BaseException) -> str:
    """An error in one line: its type and what it says."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, Defect):
        return text
    if isinstance(error, SyntaxError) and error.filename:
        text = f"{error.msg} ({error.filename}, line {error.lineno})"
    return f"{type(error).__name__}: {text}"
