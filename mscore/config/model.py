"""A run as its config describes it: components by name, and the few settings that every run has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mscore.config.messages import Origins


@dataclass(frozen=True)
class Selection:
    """One component that a config chooses.

    Attributes:
        kind: ``"objective"``, ``"policy"``, ``"callback"``, ``"datamodule"``, ``"environment"``,
            ``"trainer"``, ``"optimizer"``, ``"scheduler"`` or ``"logger"``.
        label: in plural sections the label, else the section's name.
        use: the component's name as written, qualified or not.
        parameters: plain values as written, interpolation resolved.
        path: dotted path in the config, such as ``objectives.bc``.
        origin: where it was written, such as ``config.yaml:12``.
    """

    kind: str
    label: str
    use: str
    parameters: dict[str, Any]
    path: str
    origin: str = field(default="config", compare=False)

    def to_config(self) -> dict[str, Any]:
        """The selection as a config would write it."""
        return {"use": self.use, **self.parameters}


@dataclass(frozen=True)
class Evaluation:
    """Rollouts in the run's environment, before, during and after training.

    Attributes:
        episodes: episodes of one evaluation.
        every_n_steps: training steps between evaluations; None evaluates at the start and the end only.
        deterministic: the policy takes its most probable action instead of sampling.
        seed: the first episode's seed; the others follow, and none is a training seed by accident.
        at_start: also evaluate before training, so that the gain can be seen.
        num_envs: environments that are stepped side by side; fewer need less memory.
    """

    episodes: int = 50
    every_n_steps: int | None = None
    deterministic: bool = True
    seed: int = 1_000_000
    at_start: bool = True
    num_envs: int = 16


@dataclass(frozen=True)
class Stage:
    """One of several runs that a config describes: the common part with the stage's own laid over it."""

    name: str
    config: "RunConfig"

    @property
    def resolved(self) -> dict[str, Any]:
        """The stage's whole plain config, from which :func:`mscore.config.load_config` makes it again."""
        return self.config.resolved


@dataclass(frozen=True)
class RunConfig:
    """A config whose names and shape are right; :func:`mscore.config.check_parameters` checks the rest.

    With ``stages`` the fields describe the common part, and each stage's ``config`` a run of its own.

    Attributes:
        requires: what has to be installed, as pip writes it; it was when the config was read.
        resolved: the whole plain config, with defaults filled in; a config made from it is the same.
        source: the file, or the recipe, for messages.
        origins: where each value was written, for messages.
    """

    name: str
    seed: int
    log_freq: int
    policy: Selection
    data: Selection | None
    objectives: tuple[Selection, ...]
    optimizer: Selection
    scheduler: Selection
    trainer: Selection
    callbacks: tuple[Selection, ...]
    loggers: tuple[Selection, ...]
    environment: Selection | None
    evaluation: Evaluation | None
    init_from: str | None
    stages: tuple[Stage, ...]
    requires: tuple[str, ...]
    resolved: dict[str, Any] = field(repr=False)
    source: str = field(default="config", compare=False)
    origins: Origins = field(default_factory=Origins, repr=False, compare=False)

    def selections(self) -> list[Selection]:
        """The components that the config chooses, in the order of the sections (stages' own not included)."""
        single = (self.policy, self.data)
        rest = (self.optimizer, self.scheduler, self.trainer)
        return [
            selection
            for selection in (
                *single,
                *self.objectives,
                *rest,
                *self.callbacks,
                *self.loggers,
                self.environment,
            )
            if selection is not None
        ]

    def to_yaml(self) -> str:
        """The resolved config as YAML that :func:`mscore.config.load_config` reads back to the same."""
        from mscore.config.dialect import dump

        return dump(_escaped(self.resolved))


def _escaped(value: Any) -> Any:
    """Text that contains ``${`` after resolution, written so that it is not interpolated again."""
    if isinstance(value, str) and "${" in value:
        return value.replace("${", "\\${")
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value
