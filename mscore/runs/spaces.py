"""Which spaces a run's policy sees and acts in: the data's, else the environment's; never two of them."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import lightning.pytorch as pl

from mscore.contracts.environment import Environment
from mscore.errors import MscoreError
from mscore.heads.spaces import describe_space

Space = gymnasium.Space[Any]


@dataclass
class Spaces:
    """A run's spaces; None where neither the data nor an environment has one."""

    observation: Space | None = None
    action: Space | None = None

    def injected(self) -> dict[str, Space]:
        """Those that are known, under the names of the parameters that take them."""
        known = {"observation_space": self.observation, "action_space": self.action}
        return {name: space for name, space in known.items() if space is not None}

    def described(self) -> dict[str, dict[str, Any]]:
        """Those that are known, as data that a checkpoint can hold."""
        return {name: describe_space(space) for name, space in self.injected().items()}


def find_spaces(datamodule: pl.LightningDataModule | None, environment: Environment | None) -> Spaces:
    """The spaces of a data module that is prepared, else those of the environment.

    Raises:
        MscoreError: data and environment both have a space and differ in it.
    """
    data = Spaces(getattr(datamodule, "observation_space", None), getattr(datamodule, "action_space", None))
    if environment is None:
        return data
    played = _of_environment(environment)
    for name, left, right in (
        ("observation", data.observation, played.observation),
        ("action", data.action, played.action),
    ):
        if left is None or right is None:
            continue
        described, expected = _without_lengths(describe_space(left)), _without_lengths(describe_space(right))
        if described != expected:
            raise MscoreError(
                f"data and environment disagree about the {name} space: {_difference(described, expected)}"
            )
    return Spaces(data.observation or played.observation, data.action or played.action)


def _of_environment(environment: Environment) -> Spaces:
    env = environment.make()
    try:
        return Spaces(env.observation_space, env.action_space)
    finally:
        env.close()


def _without_lengths(description: dict[str, Any]) -> dict[str, Any]:
    """A description without the lengths of texts: no policy depends on them, and not every environment has any."""
    if description["type"] == "Text":
        return {"type": "Text"}
    parts = description.get("spaces")
    if isinstance(parts, dict):
        return {**description, "spaces": {key: _without_lengths(part) for key, part in parts.items()}}
    if isinstance(parts, list):
        return {**description, "spaces": [_without_lengths(part) for part in parts]}
    return description


def _difference(data: dict[str, Any], environment: dict[str, Any]) -> str:
    """Where two descriptions differ; of Dict spaces only the entries that do."""
    if data["type"] == environment["type"] == "Dict":
        keys = sorted({*data["spaces"], *environment["spaces"]})
        pairs = {key: (data["spaces"].get(key), environment["spaces"].get(key)) for key in keys}
        return "; ".join(f"{key}: {_pair(*pair)}" for key, pair in pairs.items() if pair[0] != pair[1])
    return _pair(data, environment)


def _pair(data: dict[str, Any] | None, environment: dict[str, Any] | None) -> str:
    return f"{_one(data)} in the data, {_one(environment)} in the environment"


def _one(space: dict[str, Any] | None) -> str:
    if space is None:
        return "nothing"
    details = ", ".join(f"{key}={value}" for key, value in space.items() if key != "type")
    return f"{space['type']}({details})"
