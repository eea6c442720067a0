"""What is checked: a plugin, and a component with the arguments and surroundings that a check gives it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mscore.components import Component, UnimportableComponent
from mscore.config.annotations import component_kind
from mscore.config.messages import a
from mscore.config.model import Selection
from mscore.config.schema import OUTPUT_FOLDERS, Schema, component_schema
from mscore.errors import ConfigError, MscoreError
from mscore.plugins import Plugin, PluginSet
from mscore.testing.checks import CheckSkipped, Unusable

if TYPE_CHECKING:
    import gymnasium

PLAIN = (str, int, float, bool, type(None), list, dict)
"""Types of the values that a config can hold."""


@dataclass(frozen=True)
class Sample:
    """What the kit cannot guess about a component.

    Attributes:
        parameters: constructor arguments, as a config would give them; parameters that a config cannot set
            may be given too.
        policy: makes the policy that an objective is checked with; by default a :class:`TinyPolicy` for
            ``action_space``.
        batch: makes the batch of an objective's checks from the keywords of :func:`tiny_batch`.
        observation_space: what the component is to see; by default the first of several that works.
        action_space: what it is to choose from; by default the first of several that works.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    policy: Callable[[], Any] | None = None
    batch: Callable[..., dict[str, Any]] | None = None
    observation_space: "gymnasium.Space[Any] | None" = None
    action_space: "gymnasium.Space[Any] | None" = None


BY_CLASS = ("objective", "policy", "callback", "datamodule", "trainer", "logger")
"""Kinds whose components are classes with a base of their own."""

SampleSource = Mapping[str, Any] | Sample | Callable[[Path], "Mapping[str, Any] | Sample"]
"""A sample: constructor arguments, a :class:`Sample`, or a function of an empty folder that returns either."""


@dataclass
class PluginSubject:
    """A plugin as a whole."""

    plugin: Plugin
    plugins: PluginSet
    folder: Path


@dataclass
class ComponentSubject:
    """A component, and what the kit knows about it."""

    component: Component
    plugins: PluginSet
    source: SampleSource
    folder: Path
    """Empty; the component may write into it."""

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.component.kind

    @cached_property
    def sample(self) -> Sample:
        """What the author says about the component."""
        given = self.source(self.folder) if callable(self.source) else self.source
        return given if isinstance(given, Sample) else Sample(given)

    @cached_property
    def target(self) -> Any:
        """The component's class or factory.

        Raises:
            Unusable: it cannot be imported, or is of another kind.
        """
        try:
            target = self.component.load()
        except UnimportableComponent as error:
            raise Unusable("imports", str(error)) from error
        found = component_kind(target)
        if self.kind in BY_CLASS and isinstance(target, type) and found != self.kind:
            other = f" but from that of {a(found)}" if found else ""
            raise Unusable(
                "imports", f"{target.__name__} is registered as {a(self.kind)} and derives from no such base{other}"
            )
        return target

    @cached_property
    def schema(self) -> Schema:
        """What a config may say about it."""
        try:
            return component_schema(self.target, self.kind)
        except TypeError as error:
            raise Unusable("imports", f"{self.component.target} {error}") from error

    def build(self, **injected: Any) -> Any:
        """Build the component as a run does, from the sample's arguments.

        Args:
            injected: what a run would supply; the constructor gets those that it names. What is not given
                and named is supplied from the tiny parts.

        Raises:
            CheckSkipped: a parameter without default has no sample.
            Unusable: the constructor raises, or its arguments do not fit it.
        """
        from mscore.config import build_arguments

        parameters = dict(self.sample.parameters)
        for name in OUTPUT_FOLDERS & set(self.schema.names) - set(parameters):
            if self.kind in ("callback", "logger"):
                parameters[name] = str(self.folder)
        plain = {
            name: value
            for name, value in parameters.items()
            if name not in self.schema.hidden and isinstance(value, PLAIN)
        }
        python = {name: value for name, value in parameters.items() if name not in plain}
        missing = [one.name for one in self.schema.parameters if one.required and one.name not in parameters]
        if missing:
            raise CheckSkipped(f"a sample for {self.kind}/{self.component.name} must give {', '.join(missing)}")
        if python:
            # Placeholders would not pass the schema; what is no plain data goes straight to the constructor.
            return self._call({**plain, **python}, self._supplied(injected))
        selection = Selection(
            self.kind, self.component.name, self.component.qualified, plain, self.component.name, "the sample"
        )
        try:
            target, arguments = build_arguments(selection, self.plugins, self._supplied(injected))
        except ConfigError as error:
            raise Unusable("builds", str(error)) from error
        return self._call(arguments, {}, target)

    def _call(self, arguments: dict[str, Any], supplied: dict[str, Any], target: Any = None) -> Any:
        named = {parameter.name for parameter in self.schema.supplied}
        arguments = {**{name: value for name, value in supplied.items() if name in named}, **arguments}
        positional = [
            arguments.pop(one.name)
            for one in (*self.schema.supplied, *self.schema.parameters)
            if one.by_position and one.name in arguments
        ]
        try:
            if self.kind == "environment":
                from mscore.contracts.environment import as_environment

                return as_environment(self.target, arguments)
            return self.target(*positional, **arguments)
        except Exception as error:
            text = " ".join(str(error).split()) or "no message"
            if isinstance(error, MscoreError) and not self.sample.parameters:
                # It says itself that it cannot be built from its defaults alone.
                where = f"{self.kind}/{self.component.name}"
                raise CheckSkipped(f"a sample for {where} must say with what it is built: {text}") from error
            raise Unusable("builds", f"its constructor raised {type(error).__name__}: {text}") from error

    def _supplied(self, injected: dict[str, Any]) -> dict[str, Any]:
        """What a run supplies, for those parameters that the constructor names."""
        from mscore.testing.tiny import OBSERVATIONS, TinyEnvironment, tiny_action_space

        named = {parameter.name for parameter in self.schema.supplied}
        required = {parameter.name for parameter in self.schema.supplied if parameter.required}
        supplied = dict(injected)
        if "observation_space" in named:
            supplied.setdefault("observation_space", self.sample.observation_space or OBSERVATIONS)
        if "action_space" in named:
            supplied.setdefault("action_space", self.sample.action_space or tiny_action_space())
        if "environment_factory" in named:
            supplied.setdefault("environment_factory", TinyEnvironment())
        if "run" in required and "run" not in supplied:
            raise CheckSkipped("it takes the run itself, which the kit does not make up")
        return supplied
