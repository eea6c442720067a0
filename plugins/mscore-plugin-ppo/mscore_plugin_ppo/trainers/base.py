"""The base of online trainers: it acts through a rollout manager, estimates advantages, and keeps checkpoints."""

import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from mscore import AtomicCheckpointIO, MinePolicy, MscoreError, random_state, tree_map
from mscore_plugin_ppo.learner.ranks import Ranks
from mscore_plugin_ppo.learner.values import ValueNormalizer
from mscore_plugin_ppo.rollouts.advantages import GAE, Steps
from mscore_plugin_ppo.rollouts.fragments import Fragments, follows, rows_first
from mscore_plugin_ppo.rollouts.manager import RolloutManager
from mscore_plugin_ppo.rollouts.versions import ModelVersion
from mscore_plugin_ppo.rollouts.worker import EnvGenerator, PolicyGenerator
from mscore_plugin_ppo.trainers.acting import make_manager, ray_needs, refuse_unknown

CHECKPOINT_KEY = "online"
"""Key of a checkpoint under which an online training keeps what it goes on from, beside the usual keys."""
_PREFIX = "mine_policy."


class BaseTrainer(ABC):
    """Trains a policy by what it does in environments; subclasses say how.

    A subclass implements :meth:`setup_model_and_optimizer` and :meth:`train`; :meth:`fit` runs it. In
    :meth:`train` there are ``self.model``, ``self.policy`` (the model without what wraps it),
    ``self.optimizer`` and ``self.device``, fragments come from
    :meth:`fetch_fragments_and_estimate_advantages`, and :meth:`broadcast_model_to_rollout_workers` lets the
    rollout workers act with the new weights.

    With ``num_workers`` of at least 1, :meth:`train` runs in as many processes of Ray Train's: on all machines
    of a cluster, each on its share of the fragments, with gradients that are averaged before the optimizer's
    step. The trainer is pickled for that, and what it has learned is in this one afterwards.

    Args:
        rollout_manager: who acts; None makes one that acts in the training process (``LocalRolloutManager``) or
            in actors on Ray (``RayRolloutManager``), to which ``kwargs`` go.
        policy_generator: makes the policy; it is called for the trainer and for whoever acts.
        env_generator: makes one environment, or an ``mscore.Environment``.
        num_workers: processes of Ray Train's that train; 0 trains in this one.
        num_readers: threads that gather minibatches while the one before is learned from; 0 gathers them
            when they are needed.
        num_cpus_per_reader: CPU cores that a reader may use; readers share threads where they ask for less
            than one each.
        num_gpus_per_worker: GPUs of each training process; 0 trains on the CPU.
        prefetch_batches: minibatches that the readers have ready, beside the next one.
        discount: of rewards per step.
        gae_lambda: of generalized advantage estimation.
        context_length: steps that a policy reads at once; longer fragments are read in several windows with
            the memory carried on, through which no gradient flows.
        use_normalized_vf: the value head estimates in normalized units (its ``normalizer``).
        inference_batch_size_per_gpu: fragments that are read at once where values are estimated again, as
            they are for fragments that an older policy collected.
        resume: a checkpoint to go on from.
        resume_optimizer: also go on with the optimizer's state.
        seed: of the order of minibatches, and of the environments' episodes.
        num_rollout_workers: actors on Ray that act, over all training processes; 0 acts in the training process.
        ray_address: of a running cluster; None for ``RAY_ADDRESS``, or else a Ray of this machine's own.
        storage_path: folder that all machines of a cluster see; Ray Train keeps notes in a temporary folder
            there. None takes one of this machine.
        **kwargs: parameters of ``LocalRolloutManager`` and ``RayRolloutManager``.

    Attributes:
        gae_actor: estimates advantages and value targets.
        ranks: this training process among the others.

    Raises:
        MscoreError: an unknown argument, or arguments that contradict one another.
    """

    model: torch.nn.Module
    policy: MinePolicy
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        rollout_manager: RolloutManager | None,
        policy_generator: PolicyGenerator,
        env_generator: EnvGenerator,
        num_workers: int = 0,
        num_readers: int = 0,
        num_cpus_per_reader: float = 0.1,
        num_gpus_per_worker: float = 0,
        prefetch_batches: int = 2,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        context_length: int = 64,
        use_normalized_vf: bool = False,
        inference_batch_size_per_gpu: int = 8,
        resume: str | Path | None = None,
        resume_optimizer: bool = True,
        seed: int = 0,
        num_rollout_workers: int = 0,
        ray_address: str | None = None,
        storage_path: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.rollout_manager = rollout_manager
        self.policy_generator = policy_generator
        self.env_generator = env_generator
        self.num_workers = num_workers
        self.num_readers = num_readers
        self.num_cpus_per_reader = num_cpus_per_reader
        self.num_gpus_per_worker = num_gpus_per_worker
        self.prefetch_batches = prefetch_batches
        self.discount = discount
        self.gae_lambda = gae_lambda
        self.context_length = context_length
        self.use_normalized_vf = use_normalized_vf
        self.inference_batch_size_per_gpu = inference_batch_size_per_gpu
        self.resume = resume
        self.resume_optimizer = resume_optimizer
        self.seed = seed
        self.num_rollout_workers = num_rollout_workers
        self.ray_address = ray_address
        self.storage_path = storage_path
        self.ranks = Ranks()
        self.should_stop = False
        """Set to end training; when, is up to :meth:`train`: ``PPOTrainer`` ends after its iteration."""
        self.stop_asked: Callable[[], bool] | None = None
        """Asks elsewhere whether training is to end."""
        self.gae_actor = GAE(discount, gae_lambda)
        self.scheduler: LRScheduler | None = None
        self.version = 0
        self.env_steps = 0
        """Steps taken in environments."""
        self.session = uuid.uuid4().hex
        self.order = np.random.default_rng(seed)
        refuse_unknown(kwargs, rollout_manager, num_workers, num_rollout_workers)
        self._rollout_arguments = kwargs
        self.start_timeout = float(kwargs.get("start_timeout", 120.0))
        """Seconds that starting a training process, an actor or an environment's process may take."""

    # --- what subclasses say ----------------------------------------------------------------------

    @abstractmethod
    def setup_model_and_optimizer(self) -> tuple[MinePolicy, torch.optim.Optimizer]:
        """Make the policy to train, and the optimizer of its parameters."""

    @abstractmethod
    def train(self) -> Any:
        """Train: fetch fragments, learn from them, broadcast, and so on. What it returns, ``fit`` returns."""

    # --- running ----------------------------------------------------------------------------------

    def fit(self) -> Any:
        """Train to the end.

        Returns:
            What :meth:`train` returns; with several processes, on rank 0.

        Raises:
            MscoreError: Ray is asked for and not installed, or does not have what is asked for; or what
                :meth:`train` raises.
        """
        if not (self.num_workers or self.num_rollout_workers):
            return self._train_func({})
        from mscore_plugin_ppo.cluster.connection import connected

        needs = ray_needs(self.num_workers, self.num_gpus_per_worker, self.num_rollout_workers, self._rollout_arguments)
        with connected(self.ray_address, *needs):
            if not self.num_workers:
                return self._train_func({})
            from mscore_plugin_ppo.cluster.training import train_on_ray

            return train_on_ray(self)

    def _train_func(self, config: dict[str, Any]) -> Any:
        """Set everything up and train: what runs in every training process."""
        self.device = self._find_device()
        policy, self.optimizer = self.setup_model_and_optimizer()
        self.policy = policy.to(self.device)
        self.model = self.policy
        self._join_ranks()
        self.values = ValueNormalizer(self.policy, self.use_normalized_vf)
        own_manager = self.rollout_manager is None
        if self.rollout_manager is None:
            self.rollout_manager = make_manager(
                self.policy_generator,
                self.env_generator,
                self._rollout_arguments,
                num_rollout_workers=self.num_rollout_workers,
                ranks=self.ranks,
                device=self.device,
                seed=self.seed,
            )
        try:
            if self.resume is not None:
                self._load(self.resume)
            self.broadcast_model_to_rollout_workers(new_version=self.version == 0)
            return self.train()
        finally:
            if own_manager:
                self.rollout_manager.close()

    def _join_ranks(self) -> None:
        """Begin where rank 0 begins, and step by averaged gradients."""
        if self.ranks.world == 1:
            return
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        self.ranks.broadcast([*self.policy.state_dict().values(), *parameters])
        self.optimizer.register_step_pre_hook(self.ranks.average_before_step)

    def _find_device(self) -> torch.device:
        if self.num_gpus_per_worker <= 0:
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise MscoreError(
                f"num_gpus_per_worker is {self.num_gpus_per_worker:g}, and torch finds no GPU here; 0 trains on the CPU"
            )
        return torch.device("cuda")

    def readers(self) -> ThreadPoolExecutor | None:
        """Threads that gather minibatches: as many as the readers' cores, at least one, at most one each."""
        if self.num_readers < 1:
            return None
        threads = min(self.num_readers, max(1, math.ceil(self.num_readers * self.num_cpus_per_reader)))
        return ThreadPoolExecutor(threads, thread_name_prefix="reader")

    # --- fragments --------------------------------------------------------------------------------

    def broadcast_model_to_rollout_workers(self, new_version: bool) -> int:
        """Let the rollout workers act with the weights that the policy has now; each process tells its own.

        Args:
            new_version: count the version up; fragments of earlier ones grow stale.

        Returns:
            How many workers have the weights.
        """
        assert self.rollout_manager is not None
        if new_version:
            self.version += 1
        message = ModelVersion(self.session, self.version, dict(self.policy.state_dict()), self.values.scale)
        return self.rollout_manager.update_model(message)

    def fetch_fragments_and_estimate_advantages(self, num_fragments: int) -> dict[str, Any]:
        """Fetch fragments, and estimate what their actions were worth.

        Args:
            num_fragments: how many, over all training processes; a multiple of the environments that are stepped
                together.

        Returns:
            This process's share: ``records``, the fragments (a list of :class:`Fragments` of one or more
            environments each), and (B, T) float32 tensors whose rows are the records' rows in order:
            ``rewards``, ``td_targets``, ``advantages``, ``old_vpreds`` (in the returns' units), ``old_logps`` (of
            the policy that acted); ``valid`` is bool.
        """
        assert self.rollout_manager is not None
        if num_fragments % self.ranks.world:
            raise MscoreError(f"{num_fragments} fragments cannot be shared evenly by {self.ranks.world} processes")
        records = self.rollout_manager.fetch_fragments(num_fragments // self.ranks.world)
        taken = sum(record.taken for record in records if record.uses == 1)
        self.env_steps += sum(self.ranks.gather(taken))
        steps = [one.steps if one.version == self.version else self._estimated_again(one) for one in records]
        advantages: list[Any] = [None] * len(records)
        targets: list[Any] = [None] * len(records)
        following: dict[str, int] = {}
        for index in range(len(records) - 1, -1, -1):
            record = records[index]
            later = following.get(record.worker)
            known = advantages[later][0] if later is not None and follows(records[later], record) else None
            advantages[index], targets[index] = self.gae_actor.estimate(steps[index], known)
            following[record.worker] = index
        return {
            "records": records,
            "rewards": self._stacked([one.rewards for one in steps]),
            "td_targets": self._stacked(targets),
            "advantages": self._stacked(advantages),
            "old_vpreds": self._stacked([one.values for one in steps]),
            "old_logps": torch.cat([one.logp for one in records]).to(self.device),
            "valid": self._stacked([one.valid for one in steps]),
        }

    def _stacked(self, arrays: Sequence[Any]) -> torch.Tensor:
        rows = [rows_first(array) for array in arrays]
        return (rows[0] if len(rows) == 1 else torch.cat(rows)).to(self.device)

    @torch.no_grad()
    def _estimated_again(self, record: Fragments) -> Steps:
        """An older policy's fragments with the value estimates of today's policy."""
        self.policy.eval()
        scale = self.values.scale
        batch = tree_map(lambda leaf: leaf.to(self.device), {**record.observation, "first": record.first})
        after = tree_map(lambda leaf: leaf.to(self.device), record.next_observation)
        values, last = [], []
        for start in range(0, len(record), self.inference_batch_size_per_gpu):
            rows = slice(start, start + self.inference_batch_size_per_gpu)
            state = tree_map(lambda leaf, rows=rows: leaf[rows].to(self.device), record.state)
            read = []
            for begin in range(0, record.length, self.context_length):
                window = _window(batch, rows, slice(begin, begin + self.context_length))
                latents, state = self.model(window, state)
                read.append(latents["vpred"].squeeze(-1))
            values.append(torch.cat(read, dim=1))
            ended = record.steps.terminated[-1] | record.steps.truncated[-1]
            next_window = _window(after, rows, slice(None))
            next_window["first"] = torch.from_numpy(ended[rows]).unsqueeze(1).to(self.device)
            latents, _ = self.model(next_window, state)
            last.append(latents["vpred"].reshape(-1))
        old = record.steps
        return Steps(
            rewards=old.rewards,
            values=np.ascontiguousarray(scale.denormalized(torch.cat(values).cpu().numpy()).T),
            terminated=old.terminated,
            truncated=old.truncated,
            final_values=old.final_values,
            valid=old.valid,
            next_values=scale.denormalized(torch.cat(last).cpu().numpy()),
        )

    # --- checkpoints ------------------------------------------------------------------------------

    def save_checkpoint(self, path: str | Path) -> None:
        """Write everything that training goes on from; the file is complete or not there at all.

        Every training process must call it; rank 0 writes.
        """
        checkpoint = self.checkpoint()
        if self.ranks.rank == 0:
            AtomicCheckpointIO().save_checkpoint(checkpoint, path)

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and plain data. Subclasses add their own under ``"online"``.

        What each training process has for itself is there as rank 0's, and in ``others`` as that of the others.
        """
        own, *others = self.ranks.gather(self.rank_state())
        schedulers = [] if self.scheduler is None else [self.scheduler.state_dict()]
        return {
            "state_dict": {_PREFIX + name: tensor for name, tensor in self.policy.state_dict().items()},
            "optimizer_states": [self.optimizer.state_dict()],
            "lr_schedulers": schedulers,
            "global_step": self.env_steps,
            "hyper_parameters": {},
            CHECKPOINT_KEY: {
                "version": self.version,
                "session": self.session,
                **own,
                "others": others,
            },
        }

    def rank_state(self) -> dict[str, Any]:
        """What this training process goes on from for itself."""
        assert self.rollout_manager is not None
        return {
            "order": self.order.bit_generator.state,
            "random": random_state.capture(),
            "rollouts": self.rollout_manager.state_dict(),
        }

    def load_rank_state(self, saved: dict[str, Any]) -> None:
        """Take back what :meth:`rank_state` gave."""
        assert self.rollout_manager is not None
        self.order.bit_generator.state = saved["order"]
        self.rollout_manager.load_state_dict(saved["rollouts"])
        random_state.restore(saved["random"])

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from what :meth:`checkpoint` gave; of another training's checkpoint only the weights are taken."""
        weights = {name.removeprefix(_PREFIX): tensor for name, tensor in checkpoint["state_dict"].items()}
        try:
            self.policy.load_state_dict(weights)
        except RuntimeError as error:
            raise MscoreError(f"resume: the weights in {self.resume} do not fit the policy: {error}") from error
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            return
        if self.resume_optimizer:
            self.optimizer.load_state_dict(checkpoint["optimizer_states"][0])
            if self.scheduler is not None and checkpoint["lr_schedulers"]:
                self.scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
        self.env_steps = checkpoint["global_step"]
        self.version, self.session = saved["version"], saved["session"]
        ranks = [saved, *saved["others"]]
        if self.ranks.rank < len(ranks):
            self.load_rank_state(ranks[self.ranks.rank])

    def _load(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise MscoreError(f"resume: there is no checkpoint at {path}")
        self.load_checkpoint(AtomicCheckpointIO().load_checkpoint(path, map_location=lambda storage, _: storage))


def _window(batch: dict[str, Any], rows: slice, steps: slice) -> dict[str, Any]:
    """Some rows and steps of a batch of observations."""
    return {key: _part(value, rows, steps) for key, value in batch.items()}


def _part(value: Any, rows: slice, steps: slice) -> Any:
    if isinstance(value, list):
        return [row[steps] for row in value[rows]]
    return tree_map(lambda leaf: leaf[rows, steps], value)
