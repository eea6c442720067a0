"""Starting an online training from Python, as MineStudio's scripts do."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mscore import MscoreError, convert_to_normal, did_you_mean
from mscore_plugin_ppo.rollouts.worker import EnvGenerator, PolicyGenerator
from mscore_plugin_ppo.trainers.acting import rollout_parameters
from mscore_plugin_ppo.trainers.base import BaseTrainer
from mscore_plugin_ppo.trainers.ppo import PPOTrainer

TRAINERS: dict[str, type[BaseTrainer]] = {"PPOTrainer": PPOTrainer}
"""What ``trainer_name`` may say beside a class."""

_SECTIONS = ("trainer_name", "rollout_config", "train_config")


def start_trainer(
    policy_generator: PolicyGenerator,
    env_generator: EnvGenerator,
    online_cfg: Mapping[str, Any],
    whole_config: Any = None,
) -> Any:
    """Build the trainer that a config names, and train to the end.

    Args:
        policy_generator: makes the policy.
        env_generator: makes one environment, or an ``mscore.Environment``.
        online_cfg: ``trainer_name`` (``"PPOTrainer"``, or a class derived from ``BaseTrainer``),
            ``train_config`` (the trainer's arguments) and ``rollout_config`` (those of
            ``LocalRolloutManager`` and ``RayRolloutManager``); a plain mapping or OmegaConf's.
        whole_config: stored in checkpoints; ``online_cfg`` where it is None.

    Returns:
        What the trainer's ``fit`` returns.

    Raises:
        MscoreError: an unknown section, trainer or argument; the message has the nearest name.
    """
    config = convert_to_normal(dict(online_cfg))
    _refuse_unknown("section", config, _SECTIONS)
    chosen = config.get("trainer_name", "PPOTrainer")
    if isinstance(chosen, str):
        _refuse_unknown("trainer", [chosen], TRAINERS)
        chosen = TRAINERS[chosen]
    arguments = dict(config.get("train_config") or {})
    rollouts = dict(config.get("rollout_config") or {})
    known = [*_parameters(chosen), *_parameters(BaseTrainer)]
    _refuse_unknown("argument of train_config", arguments, known)
    _refuse_unknown("argument of rollout_config", rollouts, rollout_parameters())
    if "whole_config" in known:
        arguments.setdefault("whole_config", convert_to_normal(config if whole_config is None else whole_config))
    trainer = chosen(None, policy_generator, env_generator, **arguments, **rollouts)
    return trainer.fit()


def _parameters(target: Any) -> list[str]:
    """What may be set of a constructor's arguments: not what this function passes itself."""
    taken = ("self", "rollout_manager", "policy_generator", "env_generator", "kwargs")
    return [name for name in inspect.signature(target).parameters if name not in taken]


def _refuse_unknown(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise MscoreError(
                f"unknown {what} {name!r}.{did_you_mean(name, known)} There are: {', '.join(sorted(known))}"
            )
