"""The grammar: sections to selections. Names and shape are checked, nothing heavy is imported."""

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mscore.config.interpolation import resolve
from mscore.config.merging import PLURAL, SINGULAR, Tree
from mscore.config.messages import Origins, a, child, found
from mscore.config.model import Evaluation, RunConfig, Selection
from mscore.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from mscore.plugins import PluginSet

SECTIONS = (
    *("name", "requires", "seed", "init_from", "log_freq", "policy", "data", "objectives", "optimizer", "scheduler"),
    *("trainer", "callbacks", "loggers", "environment", "evaluation", "stages"),
)
"""Sections of a config, in the order in which a resolved config has them; ``defaults`` is for files only."""

RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
COMPONENT_NAME = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+")
LARGEST_SEED = 2**32 - 1
_REGISTERED_ONLY = "a config names registered components only (`mscore plugins` lists them)"


class Grammar:
    """Reads one composed config, collecting every problem.

    Args:
        tree: the config, included files and overrides laid over one another, without ``stages``.
        origins: where its values were written.
        plugins: where components are looked up.
        staged: it is the common part of stages, which may complete it.
        first: no stage comes before it.
    """

    def __init__(
        self, tree: Tree, origins: Origins, plugins: "PluginSet | None", staged: bool, first: bool = True
    ) -> None:
        self.origins = origins
        self.plugins = plugins
        self.staged = staged
        self.first = first
        self.problems: list[str] = []
        self.broken: set[str] = set()
        self.tree = resolve(tree, self._unresolved)

    def _report(self, path: str, text: str, *, written_at: str | None = None) -> None:
        self.problems.append(self.origins.line(path, text, written_at=written_at))

    def _unresolved(self, path: str, text: str) -> None:
        self.broken.add(path)
        self._report(path, text)

    def read(self, default_name: str) -> RunConfig | None:
        """The config, or None if there are problems."""
        for section in self.tree:
            if section not in SECTIONS:
                known = ", ".join((*SECTIONS, "defaults"))
                self._report(
                    str(section),
                    f"unknown section, expected one of: {known}.{did_you_mean(section, SECTIONS)}",
                )
        self._refuse_code(self.tree, "")
        single = {section: self._component(section) for section in SINGULAR}
        plural = {section: self._components(section) for section in PLURAL}
        if single["policy"] is None and "policy" not in self.tree and not self.staged:
            self._report("policy", "missing section: a run trains a policy, write `policy: NAME`")
        settings = {
            "name": self._name(default_name),
            "seed": self._integer(self.tree, "seed", "seed", 0, least=0, most=LARGEST_SEED),
            "init_from": self._init_from(),
            "requires": self._requires(),
            "log_freq": self._integer(self.tree, "log_freq", "log_freq", 20, least=1),
        }
        evaluation = self._evaluation()
        if evaluation is not None and self.tree.get("environment") is None and not self.staged:
            self._report("evaluation", "rollouts need an environment; add the section `environment`")
        if self.problems:
            return None
        values: dict[str, Any] = {**settings, **single, **plural, "evaluation": evaluation}
        return RunConfig(
            **values,
            stages=(),
            resolved=_resolved(values),
            source=self.origins.source,
            origins=self.origins,
        )

    def _component(self, section: str) -> Selection | None:
        value = self.tree.get(section)
        if value is None and (section not in self.tree or section in ("data", "environment") or self.staged):
            return None
        return self._selection(SINGULAR[section], section, value, section, implied=None)

    def _components(self, section: str) -> tuple[Selection, ...]:
        labels = self.tree.get(section)
        if labels is None:
            return ()
        if not isinstance(labels, Mapping):
            hint = ""
            if isinstance(labels, list) and labels and isinstance(labels[0], str):
                hint = f", such as `{labels[0]}: {{}}`"
            self._report(section, f"found {found(labels)}, expected labels with their parameters{hint}")
            return ()
        selections = []
        for label, value in labels.items():
            path = child(section, str(label))
            if not isinstance(label, str):
                self._report(path, f"found the label {found(label)}, a label is text: quote it")
            elif isinstance(value, Mapping) and "use" in value and not COMPONENT_NAME.fullmatch(label):
                self._report(path, f"found the label {label!r}, expected letters, digits, - and _")
            elif value is not None:
                selections.append(self._selection(PLURAL[section], label, value, path, implied=label))
        return tuple(selection for selection in selections if selection is not None)

    def _selection(self, kind: str, label: str, value: Any, path: str, implied: str | None) -> Selection | None:
        if path in self.broken:
            return None
        if not isinstance(value, Mapping):
            hint = ""
            if kind == "scheduler" and value is None:
                hint = "; `{use: linear-warmup, warmup_steps: 0}` keeps the learning rate as it is"
            self._report(path, f"found {found(value)}, expected {a(kind)}'s name or a mapping of its parameters{hint}")
            return None
        use = value.get("use", implied)
        parameters = {key: item for key, item in value.items() if key != "use"}
        if isinstance(use, Mapping):
            # `environment: ${data.environment}` names a whole component.
            parameters = {**{key: item for key, item in use.items() if key != "use"}, **parameters}
            use = use.get("use")
        if child(path, "use") in self.broken:
            return None
        for key in parameters:
            if not isinstance(key, str):
                self._report(child(path, str(key)), f"found the key {found(key)}, a parameter's name is text")
        if use is None:
            self._report(child(path, "use"), f"missing: which {kind}? Write `use: NAME`", written_at=path)
        elif self._known(kind, use, self._name_path(path)):
            return Selection(kind, label, use, parameters, path, self.origins.locate(path)[0])
        return None

    def _name_path(self, path: str) -> str:
        """Where a component's name was written: as `use:`, as the bare value, or as the label."""
        return child(path, "use") if self.origins.names(child(path, "use")) else path

    def _known(self, kind: str, use: Any, path: str) -> bool:
        """Whether a name is that of a registered component; if not, it is reported."""
        problem = name_problem(kind, use, self.plugins)
        if problem is not None:
            self._report(path, problem)
        return problem is None

    def _refuse_code(self, value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key == "_target_":
                    self._report(child(path, key), _REGISTERED_ONLY)
                self._refuse_code(item, child(path, str(key)))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._refuse_code(item, child(path, index))

    def _name(self, default: str) -> str:
        name = self.tree.get("name")
        if name is None:
            return re.sub(r"[^A-Za-z0-9_.-]+", "-", default).lstrip("-.") or "run"
        if not isinstance(name, str) or not RUN_NAME.fullmatch(name):
            if "name" not in self.broken:
                quoted = "; quote it" if isinstance(name, int | float) else ""
                self._report("name", f"found {found(name)}, expected letters, digits, - _ and . (a folder){quoted}")
            return ""
        return name

    def _requires(self) -> tuple[str, ...]:
        value = self.tree.get("requires")
        if value is None:
            return ()
        if not isinstance(value, list):
            self._report("requires", f"found {found(value)}, expected a list of requirements")
            return ()
        from mscore.config.requirements import requirement_problem

        for index, requirement in enumerate(value):
            path = child("requires", index)
            problem = None if path in self.broken else requirement_problem(requirement)
            if problem is not None:
                self._report(path, problem)
        return tuple(map(str, value))

    def _init_from(self) -> str | None:
        value = self.tree.get("init_from")
        if value is not None and not (isinstance(value, str) and value):
            self._report("init_from", f"found {found(value)}, expected a run, a checkpoint or a weights file")
            return None
        if value == "previous" and self.first:
            self._report("init_from", "'previous' is for stages after the first; there is none before this")
        return value

    def _evaluation(self) -> Evaluation | None:
        value = self.tree.get("evaluation")
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._report("evaluation", f"found {found(value)}, expected settings such as `episodes: 50`")
            return None
        known = [field.name for field in dataclasses.fields(Evaluation)]
        for key in value:
            if key not in known:
                path = child("evaluation", str(key))
                self._report(path, f"unknown setting, expected one of: {', '.join(known)}.{did_you_mean(key, known)}")
        defaults = Evaluation()
        every = None
        if value.get("every_n_steps") is not None:
            every = self._integer(value, "every_n_steps", "evaluation.every_n_steps", 1, least=1)
        return Evaluation(
            episodes=self._integer(value, "episodes", "evaluation.episodes", defaults.episodes, least=1),
            every_n_steps=every,
            deterministic=self._flag(value, "deterministic", "evaluation.deterministic", defaults.deterministic),
            seed=self._integer(value, "seed", "evaluation.seed", defaults.seed, least=0, most=LARGEST_SEED),
            at_start=self._flag(value, "at_start", "evaluation.at_start", defaults.at_start),
            num_envs=self._integer(value, "num_envs", "evaluation.num_envs", defaults.num_envs, least=1),
        )

    def _integer(
        self,
        holder: Mapping[str, Any],
        key: str,
        path: str,
        default: int,
        *,
        least: int,
        most: int | None = None,
    ) -> int:
        value = holder.get(key, default)
        right = isinstance(value, int) and not isinstance(value, bool)
        if right and value >= least and (most is None or value <= most):
            return int(value)
        if path not in self.broken:
            limits = f"of at least {least}" if most is None else f"from {least} to {most}"
            self._report(path, f"found {found(value)}, expected an integer {limits}")
        return default

    def _flag(self, holder: Mapping[str, Any], key: str, path: str, default: bool) -> bool:
        value = holder.get(key, default)
        if isinstance(value, bool):
            return value
        if path not in self.broken:
            self._report(path, f"found {found(value)}, expected true or false")
        return default


def name_problem(kind: str, use: Any, plugins: "PluginSet | None") -> str | None:
    """What is wrong with a component's name, or None if a plugin provides it."""
    from mscore.components import find

    if not isinstance(use, str):
        return f"found {found(use)}, expected the name of {a(kind)}"
    if not COMPONENT_NAME.fullmatch(use) and ("." in use or ":" in use):
        return f"found {found(use)}: {_REGISTERED_ONLY}"
    try:
        find(kind, use, plugins)
    except PluginError as error:
        return str(error)
    return None


def _resolved(values: Mapping[str, Any]) -> Tree:
    """The whole plain config, from which the same is made again."""
    resolved: Tree = {}
    for section in SECTIONS:
        value = values.get(section)
        if section in PLURAL:
            assert isinstance(value, tuple)
            resolved[section] = {selection.label: selection.to_config() for selection in value}
            if section == "loggers":
                # csv lies under every config; one that removed it has to say so again.
                resolved[section] = (
                    resolved[section] if "csv" in resolved[section] else {"csv": None, **resolved[section]}
                )
        elif isinstance(value, Selection):
            resolved[section] = value.to_config()
        elif isinstance(value, Evaluation):
            resolved[section] = dataclasses.asdict(value)
        elif section == "requires":
            resolved |= {section: list(value)} if value else {}
        elif value is not None:
            resolved[section] = value
    return resolved
