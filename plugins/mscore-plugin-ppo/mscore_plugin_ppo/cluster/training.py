"""Training by Ray Train: the same trainer in one or more processes."""

import contextlib
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer

from mscore import MinePolicy, MscoreError, random_state
from mscore_plugin_ppo.cluster.connection import why_not_started
from mscore_plugin_ppo.cluster.line import Line, News, Voice
from mscore_plugin_ppo.cluster.surroundings import Parcel
from mscore_plugin_ppo.learner.ranks import Ranks
from mscore_plugin_ppo.rollouts.randomness import seed_of_worker

if TYPE_CHECKING:
    from mscore_plugin_ppo.trainers.base import BaseTrainer

_POLL_SECONDS = 0.2
_LINE_SECONDS = 120.0
"""Time after which an answer of the line's, which has nothing to do, means that Ray itself is gone."""


@dataclass(frozen=True)
class Trained:
    """What rank 0 hands back."""

    returned: Any
    policy: MinePolicy
    env_steps: int
    version: int


def train_on_ray(trainer: "BaseTrainer") -> Any:
    """Train in ``trainer.num_workers`` processes of Ray Train's, and take over what rank 0 has learned.

    Ray must be connected. Setting ``trainer.should_stop`` here reaches the processes.

    Returns:
        What ``train`` returned on rank 0.

    Raises:
        MscoreError: what a process raised, or one died.
    """
    line: Any = ray.remote(Line).options(num_cpus=0).remote()
    gpus = trainer.num_gpus_per_worker
    scaling = ScalingConfig(
        num_workers=trainer.num_workers,
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus else {})},
    )
    config = {"parcel": Parcel.of(trainer), "line": line, "random": random_state.capture()}
    # Ray Train's own notes, which nobody needs afterwards.
    with tempfile.TemporaryDirectory(prefix="ray-train-", dir=trainer.storage_path) as folder:
        entry: Any = _train_in_worker
        torch_trainer = TorchTrainer(
            entry,
            train_loop_config=config,
            scaling_config=scaling,
            run_config=RunConfig(name=f"training-{trainer.session}", storage_path=os.path.abspath(folder)),
        )
        trained: Trained = _Fit(torch_trainer, trainer, line).result()
    trainer.policy, trainer.env_steps, trainer.version = trained.policy, trained.env_steps, trained.version
    return trained.returned


class _Fit(threading.Thread):
    """``TorchTrainer.fit`` beside the main thread, which goes on to hear signals: there Ray Train would take them."""

    def __init__(self, torch_trainer: Any, trainer: "BaseTrainer", line: Any) -> None:
        super().__init__(daemon=True, name="ray-train")
        self._torch_trainer = torch_trainer
        self._trainer = trainer
        self._line = line
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Train."""
        try:
            self._result = self._torch_trainer.fit()
        except BaseException as error:
            self._error = error

    def result(self) -> Trained:
        """Wait for the end, printing what rank 0 prints."""
        self.start()
        deadline = time.monotonic() + self._trainer.start_timeout
        while self.is_alive():
            self.join(_POLL_SECONDS)
            news = self._news()
            for text, is_error in news.said:
                print(text, end="", file=sys.stderr if is_error else sys.stdout, flush=True)
            missing = set(range(self._trainer.num_workers)) - news.started
            if missing and self.is_alive() and time.monotonic() > deadline:
                what = f"training process {', '.join(map(str, sorted(missing)))}"
                gpus = self._trainer.num_gpus_per_worker
                raise MscoreError(why_not_started(what, self._trainer.start_timeout, 1, gpus))
        if self._error is not None:
            raise _error_of(self._error) from None
        return self._result.return_value  # type: ignore[no-any-return]

    def _news(self) -> News:
        try:
            return ray.get(self._line.news.remote(self._trainer.should_stop), timeout=_LINE_SECONDS)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            raise MscoreError(
                f"the connection to Ray is lost ({type(error).__name__}); `resume` goes on from the last checkpoint"
            ) from error


def _error_of(error: BaseException) -> BaseException:
    """What went wrong, as the process that trains raised it: the cause before what it led to."""
    if not isinstance(error, WorkerGroupError):
        if isinstance(error, TrainingFailedError):
            return MscoreError(f"Ray Train could not train: {str(error).strip().splitlines()[-1]}")
        return error
    rank, cause = min(error.worker_failures.items(), key=lambda failure: (_remoteness(failure[1]), failure[0]))
    if isinstance(cause, MscoreError):
        return cause
    if _remoteness(cause) == 1:
        cause.add_note(f"in training process {rank}")
        return cause
    return MscoreError(
        f"training process {rank} was lost: {type(cause).__name__}: {str(cause).strip().splitlines()[0]}; "
        "`resume` goes on from the last checkpoint"
    )


def _remoteness(cause: BaseException) -> int:
    """How far an exception is from the mistake: another process's end shows as one of Ray's or of the connection."""
    if isinstance(cause, MscoreError):
        return 0
    if isinstance(cause, torch.distributed.DistError) or any(one in str(cause) for one in ("gloo", "NCCL")):
        return 3
    return 2 if type(cause).__module__.startswith("ray.") else 1


def _train_in_worker(config: dict[str, Any]) -> Trained | None:
    """What runs in each training process."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    trainer: BaseTrainer = config["parcel"].open()
    if rank == 0:
        random_state.restore(config["random"])
    else:
        torch.manual_seed(seed_of_worker(trainer.seed, rank))
    line = config["line"]
    line.start.remote(rank)
    trainer.ranks = Ranks(rank, world)
    trainer.stop_asked = lambda: bool(ray.get(line.is_stopping.remote(), timeout=_LINE_SECONDS))
    with contextlib.redirect_stdout(Voice(line, False)), contextlib.redirect_stderr(Voice(line, True)):
        returned = trainer._train_func({})
    if rank:
        return None
    return Trained(returned, trainer.policy.cpu(), trainer.env_steps, trainer.version)
