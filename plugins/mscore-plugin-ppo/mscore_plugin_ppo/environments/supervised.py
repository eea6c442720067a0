"""Environments in processes of their own, watched: one that dies, hangs or fails is replaced."""

import multiprocessing
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import gymnasium
import numpy as np

from mscore import Environment, MscoreError
from mscore_plugin_ppo.environments.history import EpisodeHistory, can_be_replayed
from mscore_plugin_ppo.environments.process import CLOSE, FAILURE, RESET, STEP, serve
from mscore_plugin_ppo.environments.transition import Transition
from mscore_plugin_ppo.rollouts.observations import batched

_STEADY = 100
"""Steps after which an environment that was replaced is sound again."""


class SupervisedEnvironments:
    """N environments of one factory, each in a process of its own.

    An environment whose process dies, raises or does not answer in time is replaced. While its successor
    starts, the others go on; its row's steps are not ``valid`` meanwhile, and the trajectory that was cut is
    for the learner a truncated one.

    Args:
        environment: the factory; it is pickled.
        num_envs: N.
        seed: from which every episode's seed is derived.
        step_timeout: seconds that a step may take.
        start_timeout: seconds that starting an environment and its first reset may take.
        max_restarts: replacements of one environment in a row, with fewer than 100 steps in between, after
            which the run stops.

    Raises:
        MscoreError: the factory cannot be pickled, or an environment fails again and again; the message has
            what it said last.
    """

    def __init__(
        self,
        environment: Environment,
        num_envs: int,
        seed: int,
        step_timeout: float = 60.0,
        start_timeout: float = 120.0,
        max_restarts: int = 5,
    ) -> None:
        self.num_envs = num_envs
        self.step_timeout = step_timeout
        self.start_timeout = start_timeout
        self.max_restarts = max_restarts
        self._environment = environment
        self._failures: Counter[str] = Counter()
        env = environment.make()  # tells the spaces; it is never stepped
        self.observation_space: gymnasium.Space[Any] = env.observation_space
        self.action_space: gymnasium.Space[Any] = env.action_space
        self._replayed = can_be_replayed(env)
        env.close()
        self._slots = [_Slot(index, EpisodeHistory(seed, index, self.action_space)) for index in range(num_envs)]
        self._shown: list[Any] = [None] * num_envs

    def reset(self) -> Any:
        """Start all processes, and begin an episode in each."""
        for slot in self._slots:
            slot.history.begin()
        return self._start_all()

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Play each episode again up to where it was."""
        histories = state["histories"]
        if len(histories) != self.num_envs or not self._replayed:
            warnings.warn("the environments cannot be brought back to where they were; they begin anew", stacklevel=2)
            return self.reset()
        for slot, saved in zip(self._slots, histories, strict=True):
            slot.history.load_state_dict(saved)
        return self._start_all()

    def state_dict(self) -> dict[str, Any]:
        """The history of each episode."""
        return {"histories": [slot.history.state_dict() for slot in self._slots]}

    def step(self, actions: Any) -> Transition:
        """Act in every environment that is there."""
        batch = gymnasium.vector.utils.batch_space(self.action_space, self.num_envs)
        present = []
        for slot, action in zip(self._slots, gymnasium.vector.utils.iterate(batch, actions), strict=True):
            if slot.starting:
                continue
            slot.history.actions.append(action)
            present.append(slot)
            slot.send((STEP, action, slot.history.following))
        reward = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated, began, valid = (np.zeros(self.num_envs, dtype=np.bool_) for _ in range(4))
        final: dict[int, tuple[Any, dict[str, Any]]] = {}
        for slot, answer in self._answers(present, self.step_timeout):
            row = slot.index
            self._shown[row], reward[row], terminated[row], truncated[row], last = answer
            valid[row] = True
            slot.steps += 1
            if last is not None:
                final[row], began[row] = last, True
                slot.history.begin()
        for slot in self._returned(wait_for_one=not valid.any()):
            began[slot.index] = True
        observation = batched(self.observation_space, self._shown)
        return Transition(observation, reward, terminated, truncated, began, valid, final)

    def health(self) -> dict[str, int]:
        """Replacements so far, by their cause."""
        return dict(self._failures)

    def close(self) -> None:
        """End all processes, by force where they do not answer."""
        for slot in self._slots:
            slot.send((CLOSE,))
        deadline = time.monotonic() + 2.0
        for slot in self._slots:
            slot.stop(max(0.0, deadline - time.monotonic()))

    @property
    def processes(self) -> list[SpawnProcess]:
        """The environments' processes, by index."""
        return [slot.process for slot in self._slots if slot.process is not None]

    def _start_all(self) -> Any:
        for slot in self._slots:
            self._start(slot)
        while waiting := [slot for slot in self._slots if slot.starting]:
            self._collect_started(waiting, self.start_timeout)
        return batched(self.observation_space, self._shown)

    def _returned(self, wait_for_one: bool) -> list["_Slot"]:
        """Environments that were being replaced and have begun their new episode."""
        starting = [slot for slot in self._slots if slot.starting]
        if not starting:
            return []
        back = self._collect_started(starting, 0.0)
        while wait_for_one and not back:
            back = self._collect_started([slot for slot in self._slots if slot.starting], 1.0)
        return back

    def _collect_started(self, slots: list["_Slot"], seconds: float) -> list["_Slot"]:
        """Those of some starting environments that are ready within some time; late ones are replaced."""
        back = []
        ready = wait([slot.connection for slot in slots], seconds)
        for slot in slots:
            if slot.connection in ready:
                for done, answer in self._answers([slot], self.start_timeout):
                    self._shown[done.index] = answer
                    done.starting = False
                    back.append(done)
            elif time.monotonic() - slot.started > self.start_timeout:
                self._replace(slot, "hung", f"did not start within {self.start_timeout:g} s")
        return back

    def _answers(self, slots: list["_Slot"], seconds: float) -> list[tuple["_Slot", Any]]:
        """The answers that come in time, in the order of the slots; whoever gives none is replaced."""
        missing: dict[Any, _Slot] = {slot.connection: slot for slot in slots}
        answers: dict[int, Any] = {}
        deadline = time.monotonic() + seconds
        while missing:
            ready = wait(list(missing), max(0.0, deadline - time.monotonic()))
            if not ready:
                for slot in missing.values():
                    self._replace(slot, "hung", f"gave no answer within {seconds:g} s")
                break
            for connection in ready:
                slot = missing.pop(connection)
                try:
                    kind, answer = slot.connection.recv()
                except (EOFError, OSError):
                    self._replace(slot, "died", f"ended with exit code {slot.exit_code()}")
                    continue
                if kind == FAILURE:
                    self._replace(slot, "raised", f"raised {answer}")
                else:
                    answers[slot.index] = answer
        return [(slot, answers[slot.index]) for slot in slots if slot.index in answers]

    def _replace(self, slot: "_Slot", cause: str, reason: str) -> None:
        self._failures[cause] += 1
        slot.restarts = 1 if slot.steps >= _STEADY else slot.restarts + 1
        what = f"environment {slot.index} {reason} (its episode began with seed {slot.history.seed})"
        if slot.restarts > self.max_restarts:
            raise MscoreError(
                f"{what}, and so did {self.max_restarts} before it, none of which made {_STEADY} steps; look at "
                "the environment by itself, or raise `max_restarts`"
            )
        warnings.warn(f"{what}; it is replaced", stacklevel=2)
        slot.stop(0.0)
        slot.history.begin()
        self._start(slot)

    def _start(self, slot: "_Slot") -> None:
        slot.start(self._environment)
        slot.send((RESET, slot.history.seed, list(slot.history.actions)))


class _Slot:
    """One environment's place: the process that fills it now."""

    def __init__(self, index: int, history: EpisodeHistory) -> None:
        self.index = index
        self.history = history
        self.process: SpawnProcess | None = None
        self.connection: Connection[Any, Any]
        self.starting = True
        self.started = 0.0
        self.steps = _STEADY
        self.restarts = 0

    def start(self, environment: Environment) -> None:
        """Start a process."""
        self.connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=serve, args=(theirs, environment), name=f"environment-{self.index}", daemon=True
        )
        try:
            self.process.start()
        except Exception as error:
            raise MscoreError(
                f"the environment cannot be handed to a process: {type(error).__name__}: {error}; what makes it must "
                "be picklable (a function of a module, a registered environment), or use `env_processes: false`"
            ) from error
        # Held open here, their end would hide from us that the process is gone.
        theirs.close()
        self.starting, self.started, self.steps = True, time.monotonic(), 0

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message; whether it arrived shows when the answer is awaited."""
        if self.process is None:
            return
        try:
            self.connection.send(message)
        except OSError:
            return

    def exit_code(self) -> int | None:
        """The process's exit code, which it has soon after its end of the connection is closed."""
        if self.process is None:
            return None
        self.process.join(1.0)
        return self.process.exitcode

    def stop(self, seconds: float) -> None:
        """End the process, by force after some seconds."""
        if self.process is None:
            return
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        self.process = None
