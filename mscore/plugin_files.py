"""Single files as plugins: ``mscore run config.yaml --plugin-file my_objective.py``.

A file is a plugin under its stem: ``my_objective.py`` registers ``"my_objective:Focal"``, and a config may
say ``my_objective/focal``. Its folder is put at the end of the import path, as Python puts a script's at the
beginning, so that the file (and modules beside it) can be imported here and in data workers. Processes
that a run starts find the files in an environment variable.
"""

import os
import re
import sys
import traceback
from collections.abc import Collection
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import importlib_metadata

from mscore.errors import PluginError, did_you_mean
from mscore.registrations import reason


def plugin_name(path: str) -> str:
    """The name of a file's plugin and module: its stem."""
    return os.path.basename(path).removesuffix(".py")


def check_files(paths: Collection[str], plugin_names: Collection[str]) -> None:
    """Check that each file is there and that its name is free.

    Args:
        paths: the files.
        plugin_names: names of the installed plugins.

    Raises:
        PluginError: for the first that cannot be a plugin; the message says what to do.
    """
    by_name: dict[str, str] = {}
    for path in paths:
        name = plugin_name(path)
        if by_name.setdefault(name, path) != path:
            raise PluginError(f"plugin files {by_name[name]} and {path} have one name; rename one of them")
    for name, path in by_name.items():
        if not os.path.isfile(path):
            raise PluginError(f"there is no plugin file {path}.{_nearest(path)}")
        if not path.endswith(".py") or not name.isidentifier() or name.startswith("__"):
            raise PluginError(
                f"plugin file {path}: its name is no module's; name it with letters, digits and _, such as "
                f"{_module_name(name)}.py"
            )
        rename = f"rename the file, such as to my_{name}.py"
        taken = f"the installed plugin {name!r}" if name in plugin_names else _taken(name, path)
        if taken:
            raise PluginError(f"plugin file {path}: its name is that of {taken}; {rename}")


def make_importable(path: str) -> None:
    """Let a file be imported under its stem, here and in processes that get this one's import path."""
    folder = os.path.dirname(path)
    if find_spec(plugin_name(path)) is None:
        sys.path.append(folder)


def located_reason(error: BaseException, path: str, module: ModuleType | None) -> str:
    """Why a file is no plugin, in one line: ``path:line: reason``. What concerns the whole file is in line 1."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f"{path}:{error.lineno}: {type(error).__name__}: {error.msg}"
    return f"{path}:{_line(error, path, module)}: {reason(error)}"


def _line(error: BaseException, path: str, module: ModuleType | None) -> int:
    chained: BaseException | None = error
    while chained is not None:
        lines = [frame.lineno for frame in traceback.extract_tb(chained.__traceback__) if frame.filename == path]
        if lines and lines[-1] is not None:
            return lines[-1]
        chained = chained.__cause__
    for name in re.findall(r"\bmscore_\w+", str(error)):
        code = getattr(getattr(module, name, None), "__code__", None)
        if code is not None and code.co_filename == path:
            return int(code.co_firstlineno)
    return 1


def record(path: str) -> dict[str, Any]:
    """What a run writes down about a plugin file, in the words of an installed plugin's record."""
    import hashlib

    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return {"source": path, "editable": False, "sha256": digest, "file": path}


def _taken(name: str, path: str) -> str:
    """What else has a file's name, in words; empty if nothing has."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # a module that is loaded and does not say where from
        return f"a module that is loaded, {name!r}"
    if spec is not None and not (spec.origin and os.path.exists(spec.origin) and os.path.samefile(spec.origin, path)):
        return f"the module {name!r} ({spec.origin or 'a package'}), which would be imported instead"
    try:
        return f"the installed distribution {importlib_metadata.distribution(name).name!r}"
    except importlib_metadata.PackageNotFoundError:
        return ""


def _module_name(stem: str) -> str:
    name = re.sub(r"\W+", "_", stem.partition(".")[0]).strip("_").lower()
    return name if name.isidentifier() else f"my_{name}".rstrip("_")


def _nearest(path: str) -> str:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f" Nor is there a folder {folder}."
    return did_you_mean(os.path.basename(path), [name for name in os.listdir(folder) if name.endswith(".py")])
