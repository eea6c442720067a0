"""Where a config comes from: a file, a recipe or a mapping, and the files that it includes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

from mscore.config import dialect
from mscore.config.merging import DEFAULTS, Tree, merge_config
from mscore.config.messages import Origins, child, found
from mscore.errors import ConfigError, PluginError, did_you_mean

if TYPE_CHECKING:
    from mscore.plugins import PluginSet

_SUFFIXES = (".yaml", ".yml")


@dataclass
class Draft:
    """A composed config: interpolation not yet resolved, nothing checked but that it is YAML."""

    tree: Tree
    source: str
    name: str
    """What the run is called unless the config says so."""
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Mistakes found while laying the files over one another."""
    files: list[Path] = field(default_factory=list)
    """The files that were read, recipes among them."""


def read_source(source: str | Path | Mapping[str, Any], plugins: "PluginSet | None") -> Draft:
    """Read a config and everything that it includes, and lay it over the defaults of every config.

    Raises:
        ConfigError: a file or recipe that is not there, that is no YAML, or that includes itself.
    """
    if isinstance(source, Mapping):
        draft = Draft(dict(DEFAULTS), "config", "run")
        problems: list[str] = []
        own = _plain(_unwrapped(source), "", problems)
        if problems:
            raise ConfigError(problems)
        _Includes(draft, plugins).lay(own, {}, "config", Path(), ())
        return draft
    path = _locate(os.fspath(source), Path(), plugins, "")
    draft = Draft(dict(DEFAULTS), _shown(path), path.stem)
    _Includes(draft, plugins).lay_file(path, ())
    return draft


class _Includes:
    """Lays files over a draft, each file's ``defaults`` first."""

    def __init__(self, draft: Draft, plugins: "PluginSet | None") -> None:
        self.draft = draft
        self.plugins = plugins

    def lay_file(self, path: Path, chain: tuple[Path, ...]) -> None:
        shown = _shown(path)
        self.draft.files.append(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError([f"{shown}: cannot be read: {reason}"]) from None
        document = dialect.parse(text, shown)
        if not isinstance(document.value, dict):
            raise ConfigError([f"{shown}: found {found(document.value)}, expected sections such as `policy:`"])
        self.lay(document.value, document.places, shown, path.parent, (*chain, path.resolve()))

    def lay(self, own: Tree, places: dict[str, str], shown: str, folder: Path, chain: tuple[Path, ...]) -> None:
        origins = Origins(places, shown)
        included = own.pop("defaults", None)
        included = [included] if isinstance(included, str) else included or []
        if not isinstance(included, list) or not all(isinstance(entry, str) for entry in included):
            raise ConfigError([origins.line("defaults", f"found {found(included)}, expected a list of files")])
        for index, entry in enumerate(included):
            place = origins.locate(child("defaults", index))[0]
            path = _locate(entry, folder, self.plugins, f"{place}: defaults: ")
            if path.resolve() in chain:
                names = " includes ".join(_shown(one) for one in (*chain, path))
                raise ConfigError([f"{place}: defaults: a file cannot include itself: {names}"])
            self.lay_file(path, chain)
        problems = self.draft.problems
        self.draft.tree = merge_config(
            self.draft.tree, own, lambda path, text: problems.append(origins.line(path, text))
        )
        self.draft.places.update(places)


def _locate(name: str, folder: Path, plugins: "PluginSet | None", place: str) -> Path:
    """The file that a name stands for: a path (relative to ``folder``), or a recipe."""
    path = folder / os.path.expanduser(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError([f"{place}{name} is a folder; name a YAML file in it"])
    if not name.endswith(_SUFFIXES):
        return _locate_recipe(name, path, plugins, place)
    near = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    where = "" if path.parent.is_dir() else f" (nor a folder {_shown(path.parent)})"
    raise ConfigError([f"{place}there is no file {_shown(path)}{where}.{_nearest(path, near)}"])


def _nearest(path: Path, near: list[str]) -> str:
    hint = did_you_mean(path.name, near)
    if hint or not near:
        return hint
    return f" In {_shown(path.parent)}: {', '.join(sorted(near)[:8])}"


def _locate_recipe(name: str, path: Path, plugins: "PluginSet | None", place: str) -> Path:
    from mscore.components import AmbiguousComponent, components, find

    try:
        return Path(find("recipe", name, plugins).target)
    except AmbiguousComponent as error:
        raise ConfigError([f"{place}{error}"]) from None
    except PluginError as error:
        files = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        recipes = [component.name for component in components("recipe", plugins)]
        hint = did_you_mean(name, [*recipes, *files]) or did_you_mean(path.name + ".yaml", files)
        if hint:
            message = f"there is no file and no recipe {name!r}.{hint}"
        else:
            message = f"there is no file {name!r}, and {error}"
        raise ConfigError([place + message]) from None


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _unwrapped(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """An OmegaConf config as a dict with its interpolation as written; other mappings as they are."""
    if type(source).__module__.partition(".")[0] != "omegaconf":
        return source
    from omegaconf import OmegaConf

    return cast(Mapping[str, Any], OmegaConf.to_container(source, resolve=False))


def _plain(value: Any, path: str, problems: list[str]) -> Any:
    """A mapping from Python as a YAML file would give it; also a copy, so that the caller's stays as it is."""
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (bool, int, float, str):
                problems.append(f"config: {path}: a key must be text or a number, found {found(key)}")
        return {key: _plain(item, child(path, str(key)), problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, child(path, index), problems) for index, item in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if value is not None and type(value) not in (bool, int, float, str):
        problems.append(f"config: {path}: found {found(value)}, a config holds plain values only")
    return value
