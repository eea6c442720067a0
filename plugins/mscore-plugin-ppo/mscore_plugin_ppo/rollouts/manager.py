"""Who acts for a trainer: what a trainer asks of it, and the one that acts in the trainer's own process."""

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import torch

from mscore import Environment, MinePolicy, MscoreError, as_environment
from mscore_plugin_ppo.environments.in_process import InProcessEnvironments
from mscore_plugin_ppo.environments.supervised import SupervisedEnvironments
from mscore_plugin_ppo.rollouts.buffer import FragmentBuffer
from mscore_plugin_ppo.rollouts.collector import Collector
from mscore_plugin_ppo.rollouts.fragments import Fragments
from mscore_plugin_ppo.rollouts.versions import ModelVersion

EnvGenerator = Callable[[], gymnasium.Env[Any, Any]] | Environment
PolicyGenerator = Callable[[], MinePolicy]


class RolloutManager(Protocol):
    """What a trainer asks of whoever acts for it, here or elsewhere."""

    num_envs: int
    """Fragments come this many at a time."""
    fragment_length: int

    def update_model(self, version: ModelVersion) -> int:
        """Act with other weights from now on; how many workers have them."""
        ...

    def fetch_fragments(self, num_fragments: int) -> list[Fragments]:
        """Fragments to learn from, ``num_fragments`` rows in all, in the order in which they were collected."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where everything is, for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        ...

    def health(self) -> dict[str, int]:
        """How often something went wrong, by what."""
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...


class LocalRolloutManager:
    """Acts in the trainer's process: it plays when fragments are fetched, with the newest weights.

    Args:
        policy_generator: makes the policy that acts; its weights are replaced by the trainer's.
        env_generator: makes one environment, or an ``mscore.Environment``.
        num_envs: environments that are stepped together.
        fragment_length: steps of a fragment.
        env_processes: each environment in a process of its own, where it is watched and replaced.
        step_timeout: seconds that a step of an environment's process may take.
        start_timeout: seconds that starting an environment's process may take.
        max_restarts: replacements of one environment in a row after which the run stops.
        max_staleness: versions that fragments which are learned from again may lag behind.
        max_reuse: how often a fragment is learned from.
        seed: from which the environments' episodes are derived.
        device: where the policy acts.
    """

    def __init__(
        self,
        policy_generator: PolicyGenerator,
        env_generator: EnvGenerator,
        *,
        num_envs: int = 8,
        fragment_length: int = 128,
        env_processes: bool = False,
        step_timeout: float = 60.0,
        start_timeout: float = 120.0,
        max_restarts: int = 5,
        max_staleness: int = 2,
        max_reuse: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        environment = as_environment(env_generator)
        self.num_envs = num_envs
        self.fragment_length = fragment_length
        self.buffer = FragmentBuffer(max_staleness, max_reuse)
        self.environments: InProcessEnvironments | SupervisedEnvironments
        if env_processes:
            self.environments = SupervisedEnvironments(
                environment, num_envs, seed, step_timeout, start_timeout, max_restarts
            )
        else:
            self.environments = InProcessEnvironments(environment, num_envs, seed)
        self._collector = Collector(policy_generator(), self.environments, environment, fragment_length, device=device)
        self._own = list(self._collector.policy.state_dict().values())
        self._names = list(self._collector.policy.state_dict())
        self._version: ModelVersion | None = None

    def update_model(self, version: ModelVersion) -> int:
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
        self._version = version
        self.buffer.update(version.session, version.version)
        return 1

    def fetch_fragments(self, num_fragments: int) -> list[Fragments]:
        """Play until there are enough fragments, and hand them over.

        Raises:
            MscoreError: no weights were broadcast yet, or ``num_fragments`` is no multiple of ``num_envs``.
        """
        if self._version is None:
            raise MscoreError("there is no policy to act with yet; call broadcast_model_to_rollout_workers first")
        if num_fragments < 1 or num_fragments % self.num_envs:
            raise MscoreError(
                f"{num_fragments} fragments were asked for, and they come {self.num_envs} at a time, one of each "
                "environment; ask for a multiple (batch_size_per_gpu x batches_per_iteration), or change num_envs"
            )
        while len(self.buffer) < num_fragments:
            self.buffer.add(self._collector.collect(self._version))
        return self.buffer.take(num_fragments)

    def state_dict(self) -> dict[str, Any]:
        """Where the environments and the policy's memory are; fragments that wait are not kept."""
        return self._collector.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self._collector.load_state_dict(state)

    def health(self) -> dict[str, int]:
        """Replacements of environments, by their cause, and fragments that were let go."""
        return {**self.environments.health(), "dropped": self.buffer.dropped}

    def close(self) -> None:
        """End the environments."""
        self.environments.close()
