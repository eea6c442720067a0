"""What runs in a rollout actor."""

import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from mscore_plugin_ppo.cluster.surroundings import Parcel
from mscore_plugin_ppo.rollouts.fragments import Fragments
from mscore_plugin_ppo.rollouts.versions import ModelVersion
from mscore_plugin_ppo.rollouts.worker import RolloutWorker


@dataclass(frozen=True)
class Collected:
    """What an actor hands over."""

    fragments: list[Fragments]
    health: dict[str, int]
    """Of its environments, since it was started."""
    warnings: list[str]
    """What was warned of meanwhile: nobody reads an actor's output."""


class RolloutActor:
    """A rollout worker in a process of its own, told with every request which weights are current.

    Args:
        parcel: policy generator, environment generator and ``WorkerSettings``.
        number: of the worker.
        threads: that torch computes with.
    """

    def __init__(self, parcel: Parcel, number: int, threads: int) -> None:
        self._parcel = parcel
        self._number = number
        self._threads = threads
        self._worker: RolloutWorker | None = None
        self._published = 0

    def pid(self) -> int:
        """Make everything that acting needs; the process's id."""
        self._ready()
        return os.getpid()

    def collect(self, version: ModelVersion, published: int, count: int) -> Collected:
        """Play some fragments of every environment with these weights.

        Args:
            version: the weights.
            published: tells them from those before, also where their version is the same.
            count: fragments of each environment.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            worker = self._ready()
            if published != self._published:
                worker.update(version)
                self._published = published
            fragments = [worker.collect() for _ in range(count)]
        said = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        return Collected(fragments, worker.environments.health(), said)

    def state_dict(self) -> dict[str, Any]:
        """Where the worker is."""
        return self._ready().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self._ready().load_state_dict(state)

    def _ready(self) -> RolloutWorker:
        if self._worker is None:
            torch.set_num_threads(self._threads)
            policy_generator, env_generator, settings = self._parcel.open()
            self._worker = RolloutWorker(policy_generator, env_generator, settings, self._number)
        return self._worker
