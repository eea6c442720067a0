"""Who acts for a trainer: what a trainer asks of it, and the one that acts in the trainer's own process."""

import threading
from typing import Any, Protocol

import torch

from mscore import MscoreError
from mscore_plugin_ppo.rollouts.buffer import FragmentBuffer
from mscore_plugin_ppo.rollouts.fragments import Fragments
from mscore_plugin_ppo.rollouts.versions import ModelVersion
from mscore_plugin_ppo.rollouts.worker import (
    EnvGenerator,
    PolicyGenerator,
    RolloutWorker,
    WorkerSettings,
    states_of_workers,
)


class RolloutManager(Protocol):
    """What a trainer asks of whoever acts for it, here or elsewhere."""

    num_envs: int
    """Fragments come this many at a time."""
    fragment_length: int

    def update_model(self, version: ModelVersion) -> int:
        """Act with other weights from now on; how many workers do so."""
        ...

    def fetch_fragments(self, num_fragments: int) -> list[Fragments]:
        """Fragments to learn from, ``num_fragments`` rows in all, in the order in which they were collected."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where everything is, for a checkpoint: ``workers``, a list."""
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
        seed: from which the environments' episodes and the random numbers of acting are derived.
        device: where the policy acts.
        first_worker: number of this process's worker, where several processes train.
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
        first_worker: int = 0,
    ) -> None:
        self.num_envs = num_envs
        self.fragment_length = fragment_length
        self.buffer = FragmentBuffer(max_staleness, max_reuse)
        settings = WorkerSettings(
            num_envs, fragment_length, env_processes, step_timeout, start_timeout, max_restarts, seed, device
        )
        self.worker = RolloutWorker(policy_generator, env_generator, settings, first_worker)
        self.environments = self.worker.environments
        self._lock = threading.Lock()

    def update_model(self, version: ModelVersion) -> int:
        """Act with other weights from now on; another thread may call it while fragments are fetched.

        Raises:
            MscoreError: the weights are not those of the policy that acts.
        """
        with self._lock:
            self.worker.update(version)
            self.buffer.update(version.session, version.version)
        return 1

    def fetch_fragments(self, num_fragments: int) -> list[Fragments]:
        """Play until there are enough fragments, and hand them over.

        Raises:
            MscoreError: no weights were broadcast yet, or ``num_fragments`` is no multiple of ``num_envs``.
        """
        refuse_part_of_a_round(num_fragments, self.num_envs)
        while True:
            with self._lock:
                if len(self.buffer) >= num_fragments:
                    return self.buffer.take(num_fragments)
            fragments = self.worker.collect()
            with self._lock:
                self.buffer.add(fragments)

    def state_dict(self) -> dict[str, Any]:
        """Where the environments and the policy's memory are; fragments that wait are not kept."""
        return {"workers": [self.worker.state_dict()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        for saved in states_of_workers(state, 1):
            self.worker.load_state_dict(saved)

    def health(self) -> dict[str, int]:
        """Replacements of environments, by their cause, and fragments that were let go."""
        return {**self.environments.health(), "dropped": self.buffer.dropped}

    def close(self) -> None:
        """End the environments."""
        self.worker.close()


def refuse_part_of_a_round(num_fragments: int, num_envs: int) -> None:
    """Check that fragments are asked for as they come: one of each environment.

    Raises:
        MscoreError: they are not.
    """
    if num_fragments < 1 or num_fragments % num_envs:
        raise MscoreError(
            f"{num_fragments} fragments were asked for, and they come {num_envs} at a time, one of each "
            "environment; ask for a multiple (batch_size_per_gpu x batches_per_iteration), or change num_envs"
        )
