"""Acting in rollout actors on Ray."""

import threading
import warnings
from collections import Counter
from typing import Any

import ray

from mscore import MscoreError
from mscore_plugin_ppo.cluster.actor import Collected
from mscore_plugin_ppo.cluster.crew import Crew
from mscore_plugin_ppo.cluster.surroundings import Parcel
from mscore_plugin_ppo.rollouts.buffer import FragmentBuffer
from mscore_plugin_ppo.rollouts.fragments import Fragments
from mscore_plugin_ppo.rollouts.manager import refuse_part_of_a_round
from mscore_plugin_ppo.rollouts.versions import ModelVersion
from mscore_plugin_ppo.rollouts.worker import (
    EnvGenerator,
    PolicyGenerator,
    WorkerSettings,
    share_of_environments,
    states_of_workers,
)


class RayRolloutManager:
    """Acts in actors on Ray, each with a policy and environments of its own.

    Every request to an actor names the weights to act with, as one object of weights and label; so an actor
    that was replaced has the current ones too. At most one request is open per actor.

    In the synchronous mode the actors play when fragments are fetched, with the newest weights: what one
    actor gives is, to the last bit, what ``LocalRolloutManager`` gives. In the asynchronous mode they play for the
    next iteration while the trainer learns from this one, with the weights of before; no more is collected ahead.

    Args:
        policy_generator: makes the policy that acts; it is sent to the actors, as is what makes environments.
        env_generator: makes one environment, or an ``mscore.Environment``.
        num_rollout_workers: actors.
        num_cpus_per_rollout_worker: CPU cores of each; where it is at least 2, as many threads compute.
        num_gpus_per_rollout_worker: GPUs of each; 0 acts on the CPU.
        asynchronous: collect one iteration ahead.
        fragment_timeout: seconds that a fragment of all environments of an actor may take, after which the actor
            is replaced.
        num_envs: environments of all actors, which share them evenly.
        fragment_length: steps of a fragment.
        env_processes: each environment in a process of its own, where it is watched and replaced.
        step_timeout: seconds that a step of an environment's process may take.
        start_timeout: seconds that starting an actor, or an environment's process, may take.
        max_restarts: replacements of one actor, or of one environment, in a row after which the run stops.
        max_staleness: versions that fragments may lag behind; at least 1 in the asynchronous mode.
        max_reuse: how often a fragment is learned from.
        seed: from which each actor's episodes and random numbers are derived.
        first_worker: number of the first actor, where several processes train.

    Raises:
        MscoreError: the actors do not start, or the arguments contradict one another.
    """

    def __init__(
        self,
        policy_generator: PolicyGenerator,
        env_generator: EnvGenerator,
        *,
        num_rollout_workers: int = 1,
        num_cpus_per_rollout_worker: float = 1.0,
        num_gpus_per_rollout_worker: float = 0.0,
        asynchronous: bool = False,
        fragment_timeout: float = 300.0,
        num_envs: int = 8,
        fragment_length: int = 128,
        env_processes: bool = False,
        step_timeout: float = 60.0,
        start_timeout: float = 120.0,
        max_restarts: int = 5,
        max_staleness: int = 2,
        max_reuse: int = 1,
        seed: int = 0,
        first_worker: int = 0,
    ) -> None:
        if asynchronous and max_staleness < 1:
            raise MscoreError(
                f"max_staleness is {max_staleness}, and with `asynchronous` fragments lag 1 version behind; let it be "
                "at least 1"
            )
        self.num_envs = num_envs
        self.fragment_length = fragment_length
        self.asynchronous = asynchronous
        self.buffer = FragmentBuffer(max_staleness, max_reuse)
        self._fragment_timeout = fragment_timeout
        self._call_timeout = fragment_timeout + start_timeout
        device = "cuda" if num_gpus_per_rollout_worker else "cpu"
        share = share_of_environments(num_envs, num_rollout_workers, "rollout workers")
        settings = WorkerSettings(
            share, fragment_length, env_processes, step_timeout, start_timeout, max_restarts, seed, device
        )
        self.crew = Crew(
            Parcel.of((policy_generator, env_generator, settings)),
            range(first_worker, first_worker + num_rollout_workers),
            num_cpus_per_rollout_worker,
            num_gpus_per_rollout_worker,
            start_timeout,
            max_restarts,
        )
        self._published: tuple[Any, int] | None = None
        self._asked = 0
        """Fragments of each environment that the open requests are for."""
        self._lock = threading.Lock()
        self._health: dict[int, dict[str, int]] = {}
        self._health_of_lost: Counter[str] = Counter()

    def update_model(self, version: ModelVersion) -> int:
        """Act with other weights from the next request on; another thread may call it meanwhile.

        Returns:
            How many actors will have them.
        """
        weights = {name: tensor.detach().cpu() for name, tensor in version.weights.items()}
        reference = ray.put(ModelVersion(version.session, version.version, weights, version.value_scale))
        with self._lock:
            serial = 1 if self._published is None else self._published[1] + 1
            self._published = (reference, serial)
            self.buffer.update(version.session, version.version)
        return len(self.crew.members)

    def fetch_fragments(self, num_fragments: int) -> list[Fragments]:
        """Fragments of all actors, round by round; in the asynchronous mode those of the next iteration are asked for.

        Raises:
            MscoreError: no weights were broadcast yet, ``num_fragments`` is no multiple of the environments, an
                environment raised, or an actor is lost again and again.
        """
        refuse_part_of_a_round(num_fragments, self.num_envs)
        while True:
            with self._lock:
                missing = num_fragments - len(self.buffer)
                taken = None if missing > 0 else self.buffer.take(num_fragments)
            if taken is not None:
                break
            if not self.crew.is_busy:
                self._send(missing)
            self._receive()
        if self.asynchronous and not self.crew.is_busy:
            self._send(num_fragments - len(self.buffer))
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Where the actors are; fragments that wait are not kept."""
        self._settle()
        return {"workers": self.crew.ask(lambda member: member.actor.state_dict.remote(), self._call_timeout)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken. An actor that is lost meanwhile begins new episodes."""
        self._settle()
        numbers = [member.number for member in self.crew.members]
        states = dict(zip(numbers, states_of_workers(state, len(numbers)), strict=False))
        self.crew.ask(
            lambda member: (
                member.actor.load_state_dict.remote(states[member.number])
                if member.number in states
                else member.actor.pid.remote()
            ),
            self._call_timeout,
        )

    def health(self) -> dict[str, int]:
        """Replacements of actors and of environments, by their cause, and fragments that were let go."""
        environments: Counter[str] = Counter(self._health_of_lost)
        for one in self._health.values():
            environments.update(one)
        return {**environments, **self.crew.failures, "dropped": self.buffer.dropped}

    def close(self) -> None:
        """End the actors."""
        self.crew.close()

    def _send(self, fragments: int) -> None:
        """Ask every actor for its share of some fragments."""
        if self._published is None:
            raise MscoreError("there is no policy to act with yet; call broadcast_model_to_rollout_workers first")
        if fragments < 1:
            return
        count = -(-fragments // self.num_envs)
        # Looked up when the request is sent, so that an actor that is asked again gets what is current then.
        self.crew.send(lambda member: member.actor.collect.remote(*self._current(), count), self._time(count))
        self._asked = count

    def _current(self) -> tuple[Any, int]:
        assert self._published is not None
        return self._published

    def _receive(self) -> None:
        """Wait for what was asked for, and keep it."""
        answers: list[Collected] = self.crew.answers(self._time(self._asked))
        for member, answer in zip(self.crew.members, answers, strict=True):
            self._note(member.number, answer)
        with self._lock:
            for fragments in zip(*(answer.fragments for answer in answers), strict=True):
                for one in fragments:
                    self.buffer.add(one)

    def _note(self, number: int, answer: Collected) -> None:
        before = self._health.get(number, {})
        if any(answer.health.get(cause, 0) < count for cause, count in before.items()):
            self._health_of_lost.update(before)  # an actor that was replaced counts from 0
        self._health[number] = answer.health
        for text in answer.warnings:
            warnings.warn(f"rollout worker {number}: {text}", stacklevel=3)

    def _settle(self) -> None:
        """Let requests that are open come to their end."""
        if self.crew.is_busy:
            self._receive()

    def _time(self, count: int) -> float:
        return self._fragment_timeout * count
