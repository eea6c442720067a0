"""Who acts for a trainer, by its arguments: in the training process, or in actors on Ray."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from mscore import MscoreError, did_you_mean
from mscore_plugin_ppo.learner.ranks import Ranks
from mscore_plugin_ppo.rollouts.manager import LocalRolloutManager, RolloutManager
from mscore_plugin_ppo.rollouts.worker import EnvGenerator, PolicyGenerator, share_of_environments

_ON_RAY = ("num_cpus_per_rollout_worker", "num_gpus_per_rollout_worker", "asynchronous", "fragment_timeout")
"""Parameters that ``RayRolloutManager`` has beside those of ``LocalRolloutManager``."""
_OWN = ("policy_generator", "env_generator", "device", "first_worker", "seed")


def rollout_parameters() -> list[str]:
    """What may be said about acting beside a trainer's own arguments."""
    local = [name for name in inspect.signature(LocalRolloutManager).parameters if name not in _OWN]
    return [*local, *_ON_RAY]


def refuse_unknown(
    arguments: Mapping[str, Any], rollout_manager: RolloutManager | None, num_workers: int, num_rollout_workers: int
) -> None:
    """Check a trainer's arguments about acting.

    Raises:
        MscoreError: one is unknown, or does not go with the others.
    """
    known = rollout_parameters()
    for name in arguments:
        if name not in known:
            raise MscoreError(f"unknown argument {name!r} of an online trainer.{did_you_mean(name, known)}")
        if rollout_manager is not None:
            raise MscoreError(f"{name!r} is for the rollout manager, and one was given: set it there")
    if rollout_manager is not None and (num_workers or num_rollout_workers):
        raise MscoreError(
            "a rollout manager that is given acts for a trainer in this process; with num_workers or "
            "num_rollout_workers above 0 give None, and each training process makes one of its own"
        )
    if arguments.get("asynchronous") and not num_rollout_workers:
        raise MscoreError("asynchronous: who acts while the trainer learns? Set num_rollout_workers to at least 1")
    if num_workers > 1 and num_rollout_workers % num_workers:
        raise MscoreError(
            f"{num_rollout_workers} rollout workers cannot be shared evenly by {num_workers} training processes; let "
            "num_rollout_workers be a multiple of num_workers, or 0 to act in the training processes"
        )
    if rollout_manager is None:
        who = "rollout workers" if num_rollout_workers else "training processes"
        share_of_environments(_num_envs(arguments), num_rollout_workers or max(1, num_workers), who)


def make_manager(
    policy_generator: PolicyGenerator,
    env_generator: EnvGenerator,
    arguments: Mapping[str, Any],
    *,
    num_rollout_workers: int,
    ranks: Ranks,
    device: torch.device,
    seed: int,
) -> RolloutManager:
    """The rollout manager of one training process, with its share of the actors.

    Args:
        policy_generator: makes the policy that acts.
        env_generator: makes one environment.
        arguments: parameters of the manager.
        num_rollout_workers: actors, over all training processes; 0 acts in this process.
        ranks: this process among the others.
        device: where the policy acts in this process.
        seed: of the training.
    """
    arguments = {**arguments, "num_envs": _num_envs(arguments) // ranks.world}
    if not num_rollout_workers:
        local = {name: value for name, value in arguments.items() if name not in _ON_RAY}
        return LocalRolloutManager(
            policy_generator, env_generator, seed=seed, device=device, first_worker=ranks.rank, **local
        )
    from mscore_plugin_ppo.cluster.manager import RayRolloutManager

    share = num_rollout_workers // ranks.world
    return RayRolloutManager(
        policy_generator,
        env_generator,
        num_rollout_workers=share,
        seed=seed,
        first_worker=ranks.rank * share,
        **arguments,
    )


def _num_envs(arguments: Mapping[str, Any]) -> int:
    """Environments of all workers."""
    return int(arguments.get("num_envs", inspect.signature(LocalRolloutManager).parameters["num_envs"].default))


def ray_needs(
    num_workers: int, num_gpus_per_worker: float, num_rollout_workers: int, arguments: Mapping[str, Any]
) -> tuple[float, float]:
    """CPU cores and GPUs that a training asks Ray for."""
    cpus = num_workers + num_rollout_workers * float(arguments.get("num_cpus_per_rollout_worker", 1.0))
    gpus = num_workers * num_gpus_per_worker
    return cpus, gpus + num_rollout_workers * float(arguments.get("num_gpus_per_rollout_worker", 0.0))
