"""The template of a plugin package, and how a package is written from it.

``package/`` is what every package has, ``kinds/`` what differs. The engine is copier, an extra of ours.
"""

import datetime
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml

import mscore
from mscore.components import components, plugin_directory
from mscore.errors import MscoreError
from mscore.plugins import CORE, canonical, installed_plugins

Kind = Literal["objective", "policy", "callback", "datamodule", "environment", "trainer"]
KINDS: tuple[Kind, ...] = get_args(Kind)

EXTRA = "template"
LONGEST_NAME = 22
"""With longer names, the generated lines would be longer than the generated settings allow."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED = {
    "conformance": "its tests would be tests/test_conformance.py, which every package has",
    CORE: f"in configs, {CORE}/… means the core's own components",
}
"""Names that no package can have, and why."""

_SUFFIX = {"datamodule": "DataModule"}
"""Kind to the end of its classes' names, where capitals do not give it."""

_ALSO: dict[Kind, tuple[Kind, ...]] = {"environment": ("datamodule",)}
"""Kind to the further ones of which its package has a component."""


@dataclass(frozen=True)
class Package:
    """A package that was written from the template."""

    kind: Kind
    name: str
    """The component's, the entry point's and the recipe's name."""
    folder: Path
    component: Path
    """The file to edit, in the folder."""
    warnings: tuple[str, ...] = ()
    """One line for each name that others have already."""


def write_package(kind: Kind, name: str, to: Path | None = None, author: str | None = None) -> Package:
    """Write a complete plugin package: a component that works, its tests, a recipe, and what publishing needs.

    Args:
        kind: what it provides.
        name: the component's name, lower-case words joined by hyphens.
        to: the new package's folder; None means one named like the distribution, in the current folder.
        author: for the metadata and the licence; None means ``The <distribution> authors``.

    Raises:
        MscoreError: a name or folder that cannot be taken, or copier is not installed.
    """
    _refuse_name(kind, name)
    class_name = _class_name(kind, name)
    distribution = f"mscore-plugin-{name}"
    folder = Path(distribution) if to is None else to
    _refuse_folder(folder)
    author = f"The {distribution} authors" if author is None else author.strip()
    if not author.isprintable() or not author or set(author) & {'"', "\\"}:
        raise MscoreError(f"author {author!r}: expected a name, without quotes, backslashes and control characters")
    if importlib.util.find_spec("copier") is None:
        raise MscoreError(f'packages are written with copier, which is not installed: pip install "mscore[{EXTRA}]"')
    import copier

    answers = {
        "kind": kind,
        "name": name,
        "author": author,
        "year": datetime.date.today().year,
        "class_name": class_name,
        "mscore_bounds": _bounds(),
    }
    try:
        copier.run_copy(str(Path(__file__).parent), folder, data=answers, defaults=True, quiet=True)
    except OSError as error:
        raise MscoreError(f"cannot write {folder}: {error}") from error
    (component,) = folder.glob(f"*/{kind}.py")
    return Package(kind, name, folder, component, tuple(_taken(kind, name, distribution)))


def _refuse_name(kind: Kind, name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        meant = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
        meant = re.sub(r"^(mscore-)?(plugin-)?[^a-z]*", "", meant).strip("-")[:LONGEST_NAME].strip("-")
        hint = f" Did you mean {meant!r}?" if meant and meant != name else ""
        raise MscoreError(
            f"name {name!r}: expected lower-case words joined by hyphens, at most {LONGEST_NAME} characters, such as "
            f"'my-{kind}'.{hint}"
        )
    if name in _RESERVED:
        raise MscoreError(f"name {name!r} cannot be taken: {_RESERVED[name]}; choose another")
    if not isinstance(read := yaml.safe_load(name), str):
        raise MscoreError(f"name {name!r} cannot be taken: a config that says it means {read!r}; choose another")
    if any(component.name == name and component.plugin.name == CORE for component in components(kind)):
        raise MscoreError(f"name {name!r} cannot be taken: mscore itself has a {kind} of this name; choose another")


def _class_name(kind: Kind, name: str) -> str:
    made = "".join(word.capitalize() for word in name.split("-")) + _SUFFIX.get(kind, kind.capitalize())
    if made in mscore.__all__:
        raise MscoreError(f"name {name!r}: its class would be {made}, which mscore itself exports; choose another")
    return made


def _refuse_folder(folder: Path) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        raise MscoreError(f"{folder} is a file; name a new folder with --to")
    if folder.is_dir() and any(folder.iterdir()):
        raise MscoreError(f"{folder} exists already and is not empty; name a new folder with --to")
    if not folder.resolve().parent.is_dir():
        raise MscoreError(f"there is no folder {folder.resolve().parent}")


def _bounds() -> str:
    """The versions of mscore that the package may need: from this one's minor to below the next major."""
    major, minor = mscore.__version__.split(".")[:2]
    return f">={major}.{minor},<{int(major) + 1}"


def _taken(kind: Kind, name: str, distribution: str) -> list[str]:
    """What others provide under the names that the package has.

    None of it stops an author: a bare name that two plugins provide can be qualified, and a package that is never
    published may be called as it likes.
    """
    lines = []
    for what in (kind, *_ALSO.get(kind, ()), "recipe"):
        providers = {
            canonical(component.plugin.distribution): component.plugin.label
            for component in components(what)
            if component.name == name
        }
        for entry in plugin_directory():
            if name in entry["provides"].get(what, []):
                providers.setdefault(entry["distribution"], entry["distribution"])
        providers.pop(distribution, None)
        if providers:
            lines.append(
                f"{what} {name!r} is also provided by {' and '.join(providers.values())}; where both are installed, "
                f"write {name + '/' + name!r}"
            )
    known = {canonical(plugin.distribution) for plugin in installed_plugins()}
    if distribution in known or distribution in {entry["distribution"] for entry in plugin_directory()}:
        lines.append(f"there is a package {distribution} already; installing this one replaces it")
    return lines
