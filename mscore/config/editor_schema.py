"""The JSON schema of whole configs, from which an editor completes and checks them.

It describes a file as it is written. What other files or overrides may add is not missed: a file with
``defaults`` or ``stages`` need not be complete, and ``${…}`` may stand for any value. What depends on
several values, such as labels of included files, only ``mscore run --dry-run`` checks.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from mscore.components import Component, components, find
from mscore.config.grammar import COMPONENT_NAME, LARGEST_SEED, RUN_NAME, SECTIONS
from mscore.config.json_values import INTERPOLATION, INTERPOLATION_SCHEMA, adapted, or_interpolated
from mscore.config.merging import DEFAULTS, PLURAL, SINGULAR
from mscore.config.model import Evaluation
from mscore.config.schema import component_schema
from mscore.errors import PluginError
from mscore.plugins import PluginSet, canonical, installed_plugins
from mscore.registrations import reason

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]

_KINDS = [*SINGULAR.values(), *PLURAL.values()]
_NULL: Json = {"type": "null"}
_DOCS = {
    "name": "The run's name: its folder below runs/.",
    "requires": "What has to be installed, as pip writes it.",
    "seed": "Seed of everything random.",
    "init_from": "Starting weights: a run, a checkpoint, or a weights file.",
    "log_freq": "Steps between metrics.",
    "policy": "The policy that is trained.",
    "data": "The data module that it learns from.",
    "objectives": "Objectives by label, in the order in which they run.",
    "optimizer": "The optimizer; adamw unless `use` says otherwise.",
    "scheduler": "The learning-rate scheduler; linear-warmup unless `use` says otherwise.",
    "trainer": "The trainer; offline unless `use` says otherwise.",
    "callbacks": "Callbacks by label, in the order in which they run.",
    "loggers": "Loggers by label; csv is there until `csv: null` removes it.",
    "environment": "The environment, for evaluation and for online training.",
    "evaluation": "Rollouts in the environment.",
    "stages": "Partial configs that run one after another, each laid over the common part.",
    "defaults": "Files and recipes that lie under this file.",
}
_EVALUATION_DOCS = {
    "episodes": "Episodes of each evaluation.",
    "every_n_steps": "Training steps between evaluations; null: at the start and the end only.",
    "deterministic": "The most probable action instead of a sample.",
    "seed": "Seed of the first episode.",
    "at_start": "Also evaluate before training.",
    "num_envs": "Environments side by side.",
}


def config_schema(plugins: PluginSet | None = None) -> tuple[Json, list[str]]:
    """The JSON schema of configs that use the installed components; it imports all of them.

    Returns:
        The schema, and one line for each plugin that is left out as it cannot be loaded, and each component that
        cannot be imported: whatever is said of it goes.
    """
    plugins = plugins or installed_plugins()
    maker = _Maker(plugins)
    failed = [f"plugin {one.name!r} ({one.label}) is {one.status}: {one.reason}" for one in plugins.failed]
    return maker.schema(), failed + maker.problems


class _Maker:
    def __init__(self, plugins: PluginSet) -> None:
        self.plugins = plugins
        self.problems: list[str] = []
        self.definitions: Json = {INTERPOLATION: INTERPOLATION_SCHEMA}
        self.required: dict[str, list[str]] = {}
        self.spellings: dict[str, dict[str, str]] = {kind: {} for kind in _KINDS}
        for kind in _KINDS:
            for component in components(kind, plugins):
                self._define(component)
        for kind in _KINDS:
            self.definitions[kind] = self._selection(kind, partial=False)
            self.definitions[f"{kind}.partial"] = self._selection(kind, partial=True)

    def schema(self) -> Json:
        sections = {name: {"description": _DOCS[name]} for name in (*SECTIONS, "defaults")}
        return {
            "$schema": DIALECT,
            "title": "mscore config",
            "type": "object",
            "properties": sections,
            "additionalProperties": False,
            "if": {"anyOf": [{"required": ["defaults"]}, {"required": ["stages"]}]},
            "then": {"properties": {**self._sections(partial=True), **self._partials()}},
            "else": {
                "properties": self._sections(partial=False),
                "required": ["policy"],
                "if": {"properties": {"evaluation": {"type": "object"}}, "required": ["evaluation"]},
                "then": {"properties": {"environment": {"not": _NULL}}, "required": ["environment"]},
            },
            "$defs": self.definitions,
        }

    def _define(self, component: Component) -> None:
        """Define what a config may say of a component, under an identifier that is its own."""
        name = f"{component.kind}.{canonical(component.plugin.distribution)}.{component.name}"
        spellings = list(self._spellings(component))
        use: Json = {"enum": spellings, "description": f"{component.kind} of {component.plugin.label}"}
        try:
            target = component.load()
            schema = component_schema(target, component.kind).json_schema()
        except Exception as error:  # a constructor's annotations and defaults may be anything
            line = str(error) if isinstance(error, PluginError) else f"{component.qualified}: {reason(error)}"
            self.problems.append(line)
            target, schema = None, {"properties": {}, "additionalProperties": True}
        for inner, definition in schema.get("$defs", {}).items():
            self.definitions[f"{name}.{inner}"] = adapted(definition, name)
        self.definitions[name] = {
            "title": component.qualified,
            "description": (inspect.getdoc(target) or "").partition("\n\n")[0] if target is not None else "",
            "type": "object",
            "properties": {
                "use": use,
                **{one: or_interpolated(adapted(value, name)) for one, value in schema["properties"].items()},
            },
            "additionalProperties": schema["additionalProperties"],
        }
        self.required[name] = schema.get("required", [])
        self.spellings[component.kind] |= dict.fromkeys(spellings, name)

    def _spellings(self, component: Component) -> Iterator[str]:
        """The names by which a config may call a component: those that are its own alone."""
        owners = (component.plugin.name, canonical(component.plugin.distribution))
        for spelling in dict.fromkeys([component.name, *(f"{owner}/{component.name}" for owner in owners)]):
            try:
                if find(component.kind, spelling, self.plugins) == component:
                    yield spelling
            except PluginError:  # two plugins provide it
                continue

    def _selection(self, kind: str, partial: bool) -> Json:
        """A component where it is named: a name, or a mapping with ``use``."""
        bare = [spelling for spelling, name in self.spellings[kind].items() if partial or not self.required[name]]
        choices: list[Json] = [{"enum": bare}] if bare else []
        choices += [
            self._component(name, "use", complete=not partial) for name in dict.fromkeys(self.spellings[kind].values())
        ]
        interpolated = {"$ref": f"#/$defs/{INTERPOLATION}"}
        choices += [interpolated, {"type": "object", "properties": {"use": interpolated}, "required": ["use"]}]
        if partial:
            choices.append({"type": "object", "not": {"required": ["use"]}})
        return {"anyOf": choices}

    def _component(self, name: str, *required: str, complete: bool) -> Json:
        needed = [*required, *(self.required[name] if complete else [])]
        return {"$ref": f"#/$defs/{name}", **({"required": needed} if needed else {})}

    def _sections(self, partial: bool) -> Json:
        sections: Json = {
            "name": _maybe({"type": "string", "pattern": f"^{RUN_NAME.pattern}$"}),
            "requires": _maybe({"type": "array", "items": {"type": "string"}}),
            "seed": or_interpolated({"type": "integer", "minimum": 0, "maximum": LARGEST_SEED, "default": 0}),
            "init_from": _maybe({"type": "string", "minLength": 1}),
            "log_freq": or_interpolated({"type": "integer", "minimum": 1, "default": 20}),
            "evaluation": _maybe(_evaluation()),
        }
        sections |= {section: self._single(section, kind, partial) for section, kind in SINGULAR.items()}
        return sections | {section: self._labels(section, kind, partial) for section, kind in PLURAL.items()}

    def _single(self, section: str, kind: str, partial: bool) -> Json:
        choices: list[Json] = [{"$ref": f"#/$defs/{kind}.partial" if partial else f"#/$defs/{kind}"}]
        implied = self.spellings[kind].get(DEFAULTS.get(section, {}).get("use", ""))
        if implied is not None:
            choices.insert(0, self._component(implied, complete=not partial))
        if partial or section in ("data", "environment"):
            choices.append(_NULL)
        return {"anyOf": choices}

    def _labels(self, section: str, kind: str, partial: bool) -> Json:
        """Labels to components; a label that is a component's name implies it."""
        labels: Json = {}
        for spelling, name in self.spellings[kind].items():
            removable = partial or spelling in DEFAULTS.get(section, {})
            implied = self._component(name, complete=not partial)
            labels[spelling] = {"anyOf": [implied, {"$ref": f"#/$defs/{kind}"}, *([_NULL] if removable else [])]}
        other = [{"$ref": f"#/$defs/{kind}.partial"}, _NULL] if partial else [{"$ref": f"#/$defs/{kind}"}]
        mapping = {
            "type": "object",
            "properties": labels,
            "propertyNames": {"pattern": f"^{COMPONENT_NAME.pattern}$"},
            "additionalProperties": {"anyOf": other},
        }
        return {"anyOf": [mapping, {"$ref": f"#/$defs/{INTERPOLATION}"}, _NULL]}

    def _partials(self) -> Json:
        sections = {name: {"description": _DOCS[name], **value} for name, value in self._sections(partial=True).items()}
        stage = {"type": "object", "properties": sections, "additionalProperties": False}
        names: Json = {"type": "array", "items": {"type": "string"}}
        return {
            "stages": _maybe({"type": "array", "items": stage}),
            "defaults": {"anyOf": [{"type": "string"}, names, _NULL]},
        }


def _maybe(schema: Json) -> Json:
    return or_interpolated({"anyOf": [schema, _NULL]})


def _evaluation() -> Json:
    count: Json = {"type": "integer", "minimum": 1}
    settings: Json = {
        "episodes": count,
        "every_n_steps": {"anyOf": [count, _NULL]},
        "deterministic": {"type": "boolean"},
        "seed": {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED},
        "at_start": {"type": "boolean"},
        "num_envs": count,
    }
    defaults = Evaluation()
    properties = {
        name: {**or_interpolated(value), "default": getattr(defaults, name), "description": _EVALUATION_DOCS[name]}
        for name, value in settings.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}
