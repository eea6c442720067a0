"""A rollout worker: one policy that acts in environments that are stepped together, wherever that is."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch

from mscore import Environment, MinePolicy, MscoreError, as_environment
from mscore_plugin_ppo.environments.in_process import InProcessEnvironments
from mscore_plugin_ppo.environments.supervised import SupervisedEnvironments
from mscore_plugin_ppo.rollouts.collector import Collector
from mscore_plugin_ppo.rollouts.fragments import Fragments
from mscore_plugin_ppo.rollouts.randomness import RandomStream, seed_of_worker
from mscore_plugin_ppo.rollouts.versions import ModelVersion

EnvGenerator = Callable[[], gymnasium.Env[Any, Any]] | Environment
PolicyGenerator = Callable[[], MinePolicy]


@dataclass(frozen=True)
class WorkerSettings:
    """How a rollout worker acts; see ``LocalRolloutManager`` for the meaning of each."""

    num_envs: int = 8
    fragment_length: int = 128
    env_processes: bool = False
    step_timeout: float = 60.0
    start_timeout: float = 120.0
    max_restarts: int = 5
    seed: int = 0
    device: str | torch.device = "cpu"


class RolloutWorker:
    """Plays with the newest weights that it was given, a fragment of every environment at a time.

    Args:
        policy_generator: makes the policy that acts.
        env_generator: makes one environment, or an ``mscore.Environment``.
        settings: how it acts.
        number: tells it from the other workers of the training; its episodes and its random numbers follow
            from this and the seed.
    """

    def __init__(
        self,
        policy_generator: PolicyGenerator,
        env_generator: EnvGenerator,
        settings: WorkerSettings,
        number: int = 0,
    ) -> None:
        environment = as_environment(env_generator)
        seed = seed_of_worker(settings.seed, number)
        self._random = RandomStream(seed)
        self.environments: InProcessEnvironments | SupervisedEnvironments
        with self._random.drawn_from():
            if settings.env_processes:
                self.environments = SupervisedEnvironments(
                    environment,
                    settings.num_envs,
                    seed,
                    settings.step_timeout,
                    settings.start_timeout,
                    settings.max_restarts,
                )
            else:
                self.environments = InProcessEnvironments(environment, settings.num_envs, seed)
            self.collector = Collector(
                policy_generator(),
                self.environments,
                environment,
                settings.fragment_length,
                worker=str(number),
                device=settings.device,
            )
        self._own = list(self.collector.policy.state_dict().values())
        self._names = list(self.collector.policy.state_dict())
        self.version: ModelVersion | None = None

    def update(self, version: ModelVersion) -> None:
        """Act with other weights from now on.

        Raises:
            MscoreError: the weights are not those of the policy that acts.
        """
        if list(version.weights) != self._names:
            raise MscoreError(
                "the weights that were broadcast are not those of the policy that `policy_generator` makes: "
                f"{', '.join(sorted(set(version.weights) ^ set(self._names))[:8])}"
            )
        with torch.no_grad():
            torch._foreach_copy_(self._own, list(version.weights.values()))
        # The label follows the weights: whoever reads it meanwhile has one that is too old, never too new.
        self.version = version

    def collect(self) -> Fragments:
        """Play the next fragment of every environment.

        Raises:
            MscoreError: there are no weights yet.
        """
        if self.version is None:
            raise MscoreError("there is no policy to act with yet; call broadcast_model_to_rollout_workers first")
        with self._random.drawn_from():
            return self.collector.collect(self.version)

    def state_dict(self) -> dict[str, Any]:
        """Where the environments, the policy's memory and the random numbers are."""
        return {"collector": self.collector.state_dict(), "random": self._random.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.collector.load_state_dict(state["collector"])
        self._random.state = state["random"]

    def close(self) -> None:
        """End the environments."""
        self.environments.close()


def share_of_environments(num_envs: int, count: int, who: str) -> int:
    """How many environments each of several has.

    Args:
        num_envs: of all.
        count: who share them.
        who: they are, in words.

    Raises:
        MscoreError: they cannot be shared evenly.
    """
    if num_envs % count:
        raise MscoreError(
            f"num_envs is {num_envs}, and {count} {who} cannot share these evenly; let it be a multiple of {count}"
        )
    return num_envs // count


def states_of_workers(state: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The workers' states in what a rollout manager's ``state_dict`` gave.

    Args:
        state: from a manager with as many workers, of whatever kind. Workers that it does not know begin anew,
            and a warning says so.
        count: of workers.
    """
    states: list[dict[str, Any]] = state["workers"][:count]
    if len(states) < count:
        warnings.warn(
            f"the checkpoint knows {len(states)} of {count} rollout workers; the others begin new episodes",
            stacklevel=2,
        )
    return states
