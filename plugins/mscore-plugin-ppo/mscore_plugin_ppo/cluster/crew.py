"""Actors that are asked all at once, waited for, and replaced when they die or hang."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from mscore import MscoreError
from mscore_plugin_ppo.cluster.actor import RolloutActor
from mscore_plugin_ppo.cluster.connection import why_not_started
from mscore_plugin_ppo.cluster.surroundings import Parcel

_LOST = (RayActorError, WorkerCrashedError, ObjectLostError, OutOfMemoryError)
"""What an answer is when whoever was to give it is gone."""

Request = Callable[["Member"], Any]
"""Sends a request to an actor, and returns the reference of its answer."""


class Member:
    """One actor's place, and what its actor was asked last.

    Args:
        number: of the worker.
        make: makes the actor. What an actor of Ray's is asked while Ray starts it again fails, what a new one is
            asked is kept until it is there: an actor that is lost is followed by a new one.
    """

    def __init__(self, number: int, make: Callable[[int], Any]) -> None:
        self.number = number
        self.actor = make(number)
        self.restarts = 0
        self.started = False
        self.answer: Any = None
        """Reference of the answer that is awaited; None if there is none."""
        self.deadline = 0.0
        self._make = make
        self._request: Request

    def ask(self, request: Request, seconds: float) -> None:
        """Send a request, to be answered within some seconds."""
        self._request = request
        self.answer = request(self)
        self.deadline = time.monotonic() + seconds

    def replace(self, seconds: float) -> None:
        """Make a new actor, and send it the last request."""
        ray.kill(self.actor)
        self.actor = self._make(self.number)
        self.ask(self._request, seconds)


class Crew:
    """Rollout actors that do the same at the same time.

    An actor that dies or does not answer in time is replaced, begins new episodes, and is asked again; the
    others' answers are kept meanwhile.

    Args:
        parcel: what an actor is made from.
        numbers: of the workers.
        cpus: CPU cores of each; at least one thread computes.
        gpus: GPUs of each.
        start_timeout: seconds that starting an actor may take.
        max_restarts: replacements of one actor in a row, without an answer in between, after which the run stops.

    Raises:
        MscoreError: the actors do not start; the message names them, and what Ray has and they ask for.
    """

    def __init__(
        self,
        parcel: Parcel,
        numbers: Sequence[int],
        cpus: float,
        gpus: float,
        start_timeout: float,
        max_restarts: int,
    ) -> None:
        self.failures: Counter[str] = Counter()
        self._start_timeout = start_timeout
        self._max_restarts = max_restarts
        self._needs = (cpus, gpus)
        remote: Any = ray.remote(RolloutActor)
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        shared, threads = ray.put(parcel), max(1, int(cpus))

        def make(number: int) -> Any:
            return remote.options(**options).remote(shared, number, threads)

        self.members = [Member(number, make) for number in numbers]
        try:
            self.ask(lambda member: member.actor.pid.remote(), start_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def is_busy(self) -> bool:
        """Whether answers are awaited."""
        return any(member.answer is not None for member in self.members)

    def ask(self, request: Request, seconds: float) -> list[Any]:
        """Ask all, and wait for all answers, in the order of the members."""
        self.send(request, seconds)
        return self.answers(seconds)

    def send(self, request: Request, seconds: float) -> None:
        """Ask all."""
        for member in self.members:
            member.ask(request, seconds)

    def answers(self, seconds: float) -> list[Any]:
        """Wait for all answers, in the order of the members.

        Args:
            seconds: that an answer may take.

        Raises:
            MscoreError: what an actor raised, or one is lost again and again.
        """
        answers: dict[int, Any] = {}
        waiting = {member.answer: member for member in self.members}
        while waiting:
            first = min(member.deadline for member in waiting.values())
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=max(0.0, first - time.monotonic()))
            for member in [waiting.pop(one) for one in ready]:
                try:
                    # What is ready is fetched at once, unless the machine that holds it is being lost.
                    answers[member.number] = ray.get(member.answer, timeout=seconds)
                except RayTaskError as error:
                    raise _raised(error, member.number) from None
                except GetTimeoutError:
                    waiting[self._replaced(member, "hung", f"gave no answer within {seconds:g} s", seconds)] = member
                except _LOST as error:
                    waiting[self._replaced(member, "died", f"died ({_reason(error)})", seconds)] = member
            for member in [] if ready else self._late(waiting):
                waiting[self._replaced(member, "hung", f"gave no answer within {seconds:g} s", seconds)] = member
        for member in self.members:
            member.answer, member.restarts, member.started = None, 0, True
        return [answers[member.number] for member in self.members]

    def _late(self, waiting: dict[Any, Member]) -> list[Member]:
        """Those whose time is over."""
        now = time.monotonic()
        late = [reference for reference, member in waiting.items() if now >= member.deadline]
        unstarted = [str(waiting[reference].number) for reference in late if not waiting[reference].started]
        if unstarted:
            what = f"rollout worker {', '.join(unstarted)}"
            raise MscoreError(why_not_started(what, self._start_timeout, *self._needs))
        return [waiting.pop(reference) for reference in late]

    def _replaced(self, member: Member, cause: str, reason: str, seconds: float) -> Any:
        """Replace an actor that is lost; the reference of its successor's answer."""
        self.failures[f"workers_{cause}"] += 1
        member.restarts += 1
        what = f"rollout worker {member.number} {reason}"
        if member.restarts > self._max_restarts:
            raise MscoreError(
                f"{what}, and so did {self._max_restarts} before it, none of which gave a fragment; look at the "
                "environment by itself, or raise `max_restarts`"
            )
        warnings.warn(f"{what}; it is replaced", stacklevel=2)
        member.replace(seconds + self._start_timeout)
        return member.answer

    def close(self) -> None:
        """End all actors."""
        if ray.is_initialized():
            for member in self.members:
                ray.kill(member.actor)


def _raised(error: RayTaskError, number: int) -> BaseException:
    """What an actor raised, as it was raised."""
    cause: BaseException = getattr(error, "cause", error)
    if not isinstance(cause, MscoreError):
        cause.add_note(f"in rollout worker {number}: {str(error).strip().splitlines()[-1]}")
    return cause


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:")
